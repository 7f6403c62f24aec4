package local_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/local"
)

// child runs this test binary again, to put into the store at dir. Its lines
// come out of the channel, which is closed when it ends.
func child(t *testing.T, dir string) (*exec.Cmd, <-chan string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBlobStoreChild$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_DIR="+dir)
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

// TestBlobStoreChild is what a child runs; without a directory there is
// nothing to do.
func TestBlobStoreChild(t *testing.T) {
	dir := os.Getenv("HOLDFAST_TEST_DIR")
	if dir != "" {
		putChild(t, openStore(t, local.Config{Dir: dir}))
	}
}

// openAt opens the store in a directory.
func openAt(t testing.TB, dir string) provider.BlobStore {
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestRacer(t *testing.T) { storetest.Racer(t, openAt) }

func TestRace(t *testing.T) { storetest.Race(t, storetest.Place{At: t.TempDir(), Open: openAt}) }

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
		cmd, lines := child(t, dir)
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
