package local_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// child runs this test binary again, in the part that job names, on the store
// at dir. Its lines come out of the channel, which is closed when it ends.
func child(t *testing.T, job, dir string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBlobStoreChild$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_JOB="+job, "HOLDFAST_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1<<16)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			if line, ok := strings.CutPrefix(s.Text(), "> "); ok {
				lines <- line
			} else if strings.Contains(s.Text(), "FAIL") {
				lines <- "FAIL"
			}
		}
	}()
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, lines
}

// say is how a child tells its parent. One write, so that lines stay whole.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "> "+format+"\n", args...)
}

// TestBlobStoreChild is what a child runs; without a job there is nothing to
// do.
func TestBlobStoreChild(t *testing.T) {
	dir := os.Getenv("HOLDFAST_TEST_DIR")
	switch os.Getenv("HOLDFAST_TEST_JOB") {
	case "race":
		raceChild(t, openStore(t, local.Config{Dir: dir}))
	case "put":
		putChild(t, openStore(t, local.Config{Dir: dir}))
	}
}

const (
	processes   = 4
	perProcess  = 4
	createTurns = 30
	swapTurns   = 12 // of each goroutine
)

// TestProcessesRace races IfAbsent and IfMatch between processes, each with
// several goroutines.
func TestProcessesRace(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "counter", "0", provider.PutOptions{})
	created, swapped := map[string]string{}, map[string]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range processes {
		_, lines := child(t, "race", dir)
		wg.Go(func() {
			done := false
			for line := range lines {
				f := strings.Fields(line)
				mu.Lock()
				switch f[0] {
				case "created":
					if created[f[1]] != "" {
						t.Errorf("%s was created by %s and by %s", f[1], created[f[1]], f[2])
					}
					created[f[1]] = f[2]
				case "swapped":
					if swapped[f[1]] != "" {
						t.Errorf("version %s was replaced by %s and by %s", f[1], swapped[f[1]], f[2])
					}
					swapped[f[1]] = f[2]
				case "done":
					done = true
				default:
					t.Error(line)
				}
				mu.Unlock()
			}
			if !done {
				t.Error("a child did not finish")
			}
		})
	}
	wg.Wait()
	if len(created) != createTurns {
		t.Errorf("%d of %d keys were created", len(created), createTurns)
	}
	for key, by := range created {
		b, _, err := provider.ReadAll(t.Context(), s, key, 1000)
		if err != nil || string(b) != by {
			t.Errorf("%s holds %q, %v; its creator was %q", key, b, err, by)
		}
	}
	want := processes * perProcess * swapTurns
	b, _, err := provider.ReadAll(t.Context(), s, "counter", 1000)
	if err != nil || string(b) != strconv.Itoa(want) || len(swapped) != want {
		t.Errorf("counter is %q, %v after %d swaps, want %d", b, err, len(swapped), want)
	}
}

func raceChild(t *testing.T, s *local.BlobStore) {
	ctx := t.Context()
	var wg sync.WaitGroup
	for range perProcess {
		me := rand.Text()
		wg.Go(func() {
			for turn := range createTurns {
				key := fmt.Sprintf("created/%d", turn)
				_, err := s.Put(ctx, key, strings.NewReader(me), provider.PutOptions{IfAbsent: true})
				if err == nil {
					say("created %s %s", key, me)
				} else if !errors.Is(err, provider.ErrConflict) {
					t.Error(err)
				}
			}
			for done := 0; done < swapTurns; {
				b, info, err := provider.ReadAll(ctx, s, "counter", 100)
				n, convErr := strconv.Atoi(string(b))
				if err := errors.Join(err, convErr); err != nil {
					t.Error(err)
					return
				}
				_, err = s.Put(ctx, "counter", strings.NewReader(strconv.Itoa(n+1)), provider.PutOptions{IfMatch: info.Version})
				if err == nil {
					say("swapped %s %s", info.Version, me)
					done++
				} else if !errors.Is(err, provider.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	say("done")
}

// TestKilled kills a process at random moments while it puts. What it was told
// is stored must be there, and everything that is there must be whole.
func TestKilled(t *testing.T) {
	rounds := 6
	if os.Getenv("HOLDFAST_LONG") != "" {
		rounds = 150
	}
	dir := t.TempDir()
	openStore(t, local.Config{Dir: dir, Create: true})
	acknowledged := map[string]string{} // key to SHA-256
	leftovers := 0
	for range rounds {
		cmd, lines := child(t, "put", dir)
		killAt := 1 + mathrand.IntN(25)
		heard := 0
		for line := range lines {
			key, sum, ok := strings.Cut(line, " ")
			if !ok {
				t.Fatalf("child says %q", line)
			}
			acknowledged[key] = sum
			if heard++; heard == killAt {
				time.AfterFunc(time.Duration(mathrand.IntN(3000))*time.Microsecond, func() { cmd.Process.Kill() })
			}
		}
		if heard < killAt {
			t.Fatal("the child ended by itself")
		}
		leftovers += countStaged(t, dir)
		checkKilled(t, dir, acknowledged)
	}
	t.Logf("%d objects acknowledged, %d staged files left behind and removed", len(acknowledged), leftovers)
	if left := countStaged(t, dir); left > 0 {
		t.Errorf("%d staged files of dead processes are still there", left)
	}
}

func countStaged(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "staged", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		if filepath.Base(f) != "lock" {
			n++
		}
	}
	return n
}

func checkKilled(t *testing.T, dir string, acknowledged map[string]string) {
	t.Helper()
	s := openStore(t, local.Config{Dir: dir})
	ctx := t.Context()
	found := map[string]string{}
	for info, err := range s.List(ctx, "put/", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		r, got, err := s.Get(ctx, info.Key, provider.GetOptions{})
		if err != nil {
			t.Fatalf("listed, but cannot be read: %v", err)
		}
		_, err = io.Copy(io.Discard, r)
		r.Close()
		if err != nil {
			t.Errorf("%s is not whole: %v", info.Key, err)
		}
		found[info.Key] = hex.EncodeToString(got.SHA256[:])
	}
	for key, sum := range acknowledged {
		if found[key] != sum && !strings.HasPrefix(key, "put/same") {
			t.Errorf("%s was acknowledged with %s, is %q", key, sum, found[key])
		}
		if found[key] == "" {
			t.Errorf("%s was acknowledged and is gone", key)
		}
	}
	// The first put of a new handle sweeps up.
	put(t, s, "after", "x", provider.PutOptions{})
}

func putChild(t *testing.T, s *local.BlobStore) {
	var wg sync.WaitGroup
	for g := range 3 {
		wg.Go(func() {
			for {
				b := make([]byte, mathrand.IntN(300_000))
				rand.Read(b)
				key := fmt.Sprintf("put/%d/%s", g, rand.Text())
				if mathrand.IntN(3) == 0 {
					key = fmt.Sprintf("put/same%d", g)
				}
				if _, err := s.Put(context.Background(), key, provider.Bytes(b), provider.PutOptions{}); err != nil {
					t.Error(err)
					return
				}
				say("%s %x", key, sha256.Sum256(b))
			}
		})
	}
	wg.Wait()
}
