package durable_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
)

func newRoot(t *testing.T) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

// names lists the root, to see what a failure left behind.
func names(t *testing.T, root *os.Root) string {
	t.Helper()
	var all []string
	err := fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if path != "." {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestWriteFileReplacesWhole(t *testing.T) {
	root := newRoot(t)
	for _, content := range []string{"long content", "short", ""} {
		if err := durable.WriteFile(root, "f", []byte(content)); err != nil {
			t.Fatal(err)
		}
		if b, err := root.ReadFile("f"); err != nil || string(b) != content {
			t.Errorf("read %q, %v", b, err)
		}
	}
	if got := names(t, root); got != "f" {
		t.Errorf("left are %s", got)
	}
}

func TestCreateFileHasOneWinner(t *testing.T) {
	root := newRoot(t)
	var won atomic.Int32
	var winner string
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			me := fmt.Sprint("content of ", i)
			switch err := durable.CreateFile(root, "f", []byte(me)); {
			case err == nil:
				won.Add(1)
				winner = me // the race detector shows a second one
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b, err := root.ReadFile("f")
	if won.Load() != 1 || err != nil || string(b) != winner {
		t.Errorf("%d winners, the last was %q, the file has %q, %v", won.Load(), winner, b, err)
	}
	if got := names(t, root); got != "f" {
		t.Errorf("left are %s", got)
	}
}

func TestStageLeavesNothing(t *testing.T) {
	root := newRoot(t)
	boom := errors.New("disk on fire")
	err := durable.Stage(root, "f", func(f *os.File) error {
		f.WriteString("half of it")
		return boom
	})
	if !errors.Is(err, boom) || names(t, root) != "" {
		t.Errorf("%v, left are %q", err, names(t, root))
	}
	closed := durable.Stage(root, "f", func(f *os.File) error { return f.Close() })
	if closed == nil || names(t, root) != "" {
		t.Errorf("a sync that fails: %v, left are %q", closed, names(t, root))
	}
	if err := durable.WriteFile(root, "f", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := durable.Stage(root, "f", func(*os.File) error { return nil }); !errors.Is(err, fs.ErrExist) {
		t.Errorf("stage on a name that is taken: %v", err)
	}
	if b, err := root.ReadFile("f"); err != nil || string(b) != "x" {
		t.Errorf("which now has %q, %v", b, err)
	}
}

func TestPublishFailsWhole(t *testing.T) {
	root := newRoot(t)
	if err := root.Mkdir("d", 0o700); err != nil {
		t.Fatal(err)
	}
	for what, write := range map[string]func(*os.Root, string, []byte) error{"write": durable.WriteFile, "create": durable.CreateFile} {
		if err := write(root, "d", []byte("x")); err == nil {
			t.Errorf("%s over a directory: no error", what)
		}
		if err := write(root, "missing/f", []byte("x")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s in a missing directory: %v", what, err)
		}
	}
	if got := names(t, root); got != "d" {
		t.Errorf("left are %s", got)
	}
}

func TestMkdirAll(t *testing.T) {
	root := newRoot(t)
	for _, dir := range []string{".", "a", "a/b/c", "a/b", "a/b/c/d/e"} {
		if err := durable.MkdirAll(root, dir); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if got := names(t, root); got != "a a/b a/b/c a/b/c/d a/b/c/d/e" {
		t.Errorf("made %s", got)
	}
	if err := durable.WriteFile(root, "f", nil); err != nil {
		t.Fatal(err)
	}
	if err := durable.MkdirAll(root, "f/g"); err == nil {
		t.Error("a directory below a file")
	}
	if err := durable.MkdirAll(root, "../x"); err == nil {
		t.Error("a directory outside of the root")
	}
}

func TestRemove(t *testing.T) {
	root := newRoot(t)
	if err := durable.WriteFile(root, "f", nil); err != nil {
		t.Fatal(err)
	}
	if err := durable.Remove(root, "f"); err != nil || names(t, root) != "" {
		t.Errorf("%v, left are %s", err, names(t, root))
	}
	if err := durable.Remove(root, "f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("remove of a missing file: %v", err)
	}
}

func TestLockExcludesGoroutines(t *testing.T) {
	root := newRoot(t)
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				unlock, err := durable.Lock(t.Context(), root, "lock")
				if err != nil {
					t.Error(err)
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				inside.Add(-1)
				if err := unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d held the lock at once", most.Load())
	}
}

// TestLockExcludesProcesses has another process hold the lock, until it dies.
func TestLockExcludesProcesses(t *testing.T) {
	root := newRoot(t)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockChild$")
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_LOCK="+root.Name())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	word := make([]byte, 4)
	if _, err := out.Read(word); err != nil || !bytes.Equal(word, []byte("held")) {
		t.Fatalf("the child says %q, %v", word, err)
	}
	if unlock, err := durable.TryLock(root, "lock"); unlock != nil || err != nil {
		t.Errorf("lock that another process holds: taken %t, %v", unlock != nil, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := durable.Lock(ctx, root, "lock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for it until the deadline: %v", err)
	}
	cmd.Process.Kill()
	unlock, err := durable.Lock(t.Context(), root, "lock")
	if err != nil {
		t.Fatalf("after the death of its holder: %v", err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
}

func TestLockChild(t *testing.T) {
	dir := os.Getenv("HOLDFAST_TEST_LOCK")
	if dir == "" {
		return
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Lock(t.Context(), root, "lock"); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("held")
	time.Sleep(time.Minute) // until killed
}

func TestSymlinkCannotLeadOutside(t *testing.T) {
	root, outside := newRoot(t), t.TempDir()
	if err := os.Symlink(outside, root.Name()+"/d"); err != nil {
		t.Skip("cannot make a link here:", err)
	}
	if err := durable.WriteFile(root, "d/f", []byte("x")); err == nil {
		t.Error("wrote through a link that leads outside")
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside are %v, %v", entries, err)
	}
}

func ExampleWriteFile() {
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	root, err := os.OpenRoot(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer root.Close()

	fmt.Println(durable.MkdirAll(root, "state"))
	fmt.Println(durable.WriteFile(root, "state/epoch", []byte("7")))
	fmt.Println(errors.Is(durable.CreateFile(root, "state/epoch", []byte("8")), fs.ErrExist))
	b, err := root.ReadFile("state/epoch")
	fmt.Println(string(b), err)
	// Output:
	// <nil>
	// <nil>
	// true
	// 7 <nil>
}
