package logical

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience is for what only tidies up, and for programs to end by themselves.
const patience = 10 * time.Second

// A program is pg_dump or pg_restore.
type program struct {
	path    string
	version string // "17.11"
	major   int
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) ((\d+)[^\s]*)`)

// program finds one, and asks for its version.
func (t *Target) program(ctx context.Context, name string) (program, error) {
	path, err := exec.LookPath(filepath.Join(t.c.Bin, name))
	if err != nil {
		return program{}, fmt.Errorf("%s is needed: install PostgreSQL's client programs, or set Config.Bin to their directory: %w", name, err)
	}
	out, err := t.command(ctx, path, "--version").Output()
	if err != nil {
		return program{}, fmt.Errorf("%s --version: %w", path, err)
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return program{}, fmt.Errorf("%s --version: %.80q names no version of PostgreSQL", path, out)
	}
	major, err := strconv.Atoi(string(m[2]))
	return program{path, string(m[1]), major}, err
}

// command is a program that is asked to end, and then killed, when ctx ends.
func (t *Target) command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // what it says is read
	cmd.Cancel = func() error {
		if cmd.Process.Signal(os.Interrupt) != nil { // as on Windows
			return cmd.Process.Kill()
		}
		return nil
	}
	cmd.WaitDelay = t.grace
	return cmd
}

// complaints keeps what a program says of errors. Not the statements that it
// repeats, nor rows: there can be passwords in them.
type complaints struct {
	mu       sync.Mutex
	name     string
	rest     []byte
	text     []string
	errors   int
	harmless int // of them
}

const maxComplaint = 500

func (c *complaints) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rest = append(c.rest, b...)
	for {
		line, rest, ok := strings.Cut(string(c.rest), "\n")
		if !ok {
			c.rest = c.rest[:min(len(c.rest), 4*maxComplaint)]
			return len(b), nil
		}
		c.rest = []byte(rest)
		after, ok := strings.CutPrefix(line, c.name+": ")
		if ok && strings.HasPrefix(after, "error: ") {
			c.errors++
			if strings.HasPrefix(after, "error: could not execute query: ") && strings.Contains(after, "transaction_timeout") {
				c.harmless++ // pg_restore 17 and later set it everywhere, and servers before 17 do not know it
				continue
			}
		}
		if ok && len(c.text) < 5 && !strings.HasPrefix(after, "detail: Command was") && !strings.HasPrefix(after, "from TOC entry") {
			c.text = append(c.text, after[:min(len(after), maxComplaint)])
		}
	}
}

// onlyHarmless reports whether a program failed for nothing that matters.
func (c *complaints) onlyHarmless(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == 1 && c.errors > 0 && c.errors == c.harmless
}

// explain joins what a program said to how it ended.
func (c *complaints) explain(ctx context.Context, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%s: %w", c.name, cause)
	}
	if len(c.text) == 0 {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return fmt.Errorf("%s: %s: %w", c.name, strings.Join(c.text, "; "), err)
}
