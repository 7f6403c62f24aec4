package local

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// TestCrashAtEachStep has a process die at each step of each kind of change,
// and says what its successor must find.
func TestCrashAtEachStep(t *testing.T) {
	const old, young, gone = "old", "new", "gone"
	for _, c := range []struct{ job, step, found string }{
		{"put", "staged", old},
		{"put", "directories", old},
		{"put", "locked", old},
		{"put", "renamed", young},
		{"put", "synced", young},
		{"put fresh", "staged", gone},
		{"put fresh", "directories", gone},
		{"put fresh", "locked", gone},
		{"put fresh", "renamed", young},
		{"put retained", "retention", old},
		{"put retained", "renamed", young},
		{"delete", "locked", old},
		{"delete", "removed", gone},
	} {
		t.Run(c.job+" at "+c.step, func(t *testing.T) {
			dir := t.TempDir()
			s, err := NewBlobStore(Config{Dir: dir, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := t.Context()
			if c.job != "put fresh" {
				if _, err := s.Put(ctx, "deep/key", strings.NewReader(old), provider.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$")
			cmd.Env = append(os.Environ(), "HOLDFAST_TEST_CRASH="+c.job, "HOLDFAST_TEST_STEP="+c.step, "HOLDFAST_TEST_DIR="+dir)
			if out, err := cmd.CombinedOutput(); err == nil || bytes.Contains(out, []byte("survived")) {
				t.Fatalf("the child did not die at %s: %s", c.step, out)
			}

			b, info, err := provider.ReadAll(ctx, s, "deep/key", 100)
			if found := string(b); errors.Is(err, provider.ErrNotFound) && c.found != gone || err == nil && found != c.found {
				t.Errorf("found %q, %v; want %s", found, err, c.found)
			}
			if retained := !info.Retain.IsZero(); retained != (c.job == "put retained" && c.found == young) {
				t.Errorf("retention is %v", info.Retain)
			}
			n := 0
			for _, err := range s.List(ctx, "", provider.ListOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if want := map[string]int{old: 1, young: 1, gone: 0}[c.found]; n != want {
				t.Errorf("list yields %d objects, want %d", n, want)
			}
			if info.Retain.IsZero() {
				// The lock of the dead does not block, nor does a void retention.
				if _, err := s.Put(ctx, "deep/key", strings.NewReader("next"), provider.PutOptions{}); err != nil {
					t.Errorf("next put: %v", err)
				}
			}
			fresh, err := NewBlobStore(Config{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			defer fresh.Close()
			if _, err := fresh.Put(ctx, "other", strings.NewReader("x"), provider.PutOptions{}); err != nil {
				t.Error(err)
			}
			left, err := filepath.Glob(filepath.Join(dir, "staged", "*", "*"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range left {
				if filepath.Base(file) != "lock" {
					t.Errorf("left behind %s", file)
				}
			}
		})
	}
}

// TestCrashChild dies at a step if it is told to.
func TestCrashChild(t *testing.T) {
	job := os.Getenv("HOLDFAST_TEST_CRASH")
	if job == "" {
		return
	}
	s, err := NewBlobStore(Config{Dir: os.Getenv("HOLDFAST_TEST_DIR")})
	if err != nil {
		t.Fatal(err)
	}
	s.step = func(step string) {
		if step == os.Getenv("HOLDFAST_TEST_STEP") {
			p, err := os.FindProcess(os.Getpid())
			if err == nil {
				err = p.Kill()
			}
			time.Sleep(time.Minute) // until the signal arrives
			panic(err)
		}
	}
	o := provider.PutOptions{}
	if job == "put retained" {
		o.Retain = provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}
	}
	if job == "delete" {
		err = s.Delete(t.Context(), "deep/key", provider.DeleteOptions{})
	} else {
		_, err = s.Put(t.Context(), "deep/key", strings.NewReader("new"), o)
	}
	t.Fatalf("survived: %v", err)
}
