// Package peer runs a part of a test in other processes: the test binary,
// started again, in the test that it is told to run. Questions and answers go
// to and fro as lines of JSON.
//
//	func TestRace(t *testing.T) {
//		p := peer.Start(t, "TestRacer", config)
//		err := cmp.Or(p.Ask(question), p.Answer(&answer))
//	}
//
//	func TestRacer(t *testing.T) {
//		peer.Serve(t, func(c config) func(question) (answer, error) { ... })
//	}
package peer

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	variable = "HOLDFAST_TEST_PEER"
	mark     = "peer: " // begins the lines that are answers
)

// A Process is another process of the same test binary.
type Process struct {
	in  *json.Encoder
	out *bufio.Scanner
}

// Start starts a process that runs the test of that name, which must call
// [Serve] and is given config as JSON. It ends with t.
func Start(t testing.TB, test string, config any) *Process {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), variable+"="+string(b))
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := cmp.Or(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	// It ends when nobody can ask any more, so also if this process is killed.
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return &Process{json.NewEncoder(in), bufio.NewScanner(out)}
}

// Ask sends a question and does not wait for its answer.
func (p *Process) Ask(question any) error { return p.in.Encode(question) }

// Answer waits for the answer to the oldest question that has none.
func (p *Process) Answer(answer any) error {
	if p.out.Scan() {
		if text, ok := strings.CutPrefix(p.out.Text(), mark); ok {
			return json.Unmarshal([]byte(text), answer)
		}
	}
	said := p.out.Text()
	for p.out.Scan() {
		said += "\n" + p.out.Text()
	}
	return fmt.Errorf("a process has ended; it said: %s", said)
}

// Serve is the whole of a test that [Start] runs: it answers questions until
// the process that asks is done. An error ends it. It skips the test where
// nobody has started it.
func Serve[C, Q, A any](t *testing.T, start func(C) func(Q) (A, error)) {
	config := os.Getenv(variable)
	if config == "" {
		t.Skip("runs in a process of its own")
	}
	var c C
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		t.Fatal(err)
	}
	answer := start(c)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var q Q
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			t.Fatal(err)
		}
		a, err := answer(q)
		if err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(mark + string(b) + "\n")
	}
}
