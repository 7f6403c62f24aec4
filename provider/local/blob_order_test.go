package local

import (
	"errors"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// TestPutOrder pins the order that the comment of Put promises.
func TestPutOrder(t *testing.T) {
	s, err := NewBlobStore(Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(t.Context(), "other", strings.NewReader("x"), provider.PutOptions{}); err != nil {
		t.Fatal(err) // so that the directory for staging is there
	}
	var mu sync.Mutex
	var got []string
	defer durable.Observe(func(op string, root *os.Root, name string) {
		mu.Lock()
		defer mu.Unlock()
		if root != s.root {
			return
		}
		if path.Dir(path.Dir(name)) == stageDir {
			name = "staged"
		}
		got = append(got, op+" "+name)
	})()
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"put", func() error {
			_, err := s.Put(t.Context(), "a/b/c", strings.NewReader("x"), provider.PutOptions{
				Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Second)},
			})
			return err
		}, []string{
			"sync staged", "sync data", "sync data/d-a",
			"sync staged", "rename data/d-a/d-b/r-c", "sync data/d-a/d-b",
			"rename data/d-a/d-b/o-c", "sync data/d-a/d-b",
		}},
		{"conflict", func() error {
			if _, err := s.Put(t.Context(), "a/b/c", strings.NewReader("y"), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
				t.Errorf("put on a key that is taken: %v", err)
			}
			return nil
		}, []string{"sync data/d-a/d-b"}},
		{"delete", func() error { return s.Delete(t.Context(), "other", provider.DeleteOptions{}) },
			[]string{"remove data/o-other", "sync data"}},
	} {
		got = nil
		if err := c.do(); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v\nwant %q", c.name, got, err, c.want)
		}
	}
}

// TestSyncFails: what may not outlive a power failure is not there for others
// to rely on, and above all not for the caller who looks again.
func TestSyncFails(t *testing.T) {
	s, err := NewBlobStore(Config{Dir: t.TempDir(), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	broken := errors.New("input/output error")
	works := s.syncDir
	fails := func(dir string) error {
		if dir == dataDir+"/d-points" {
			return broken
		}
		return works(dir)
	}
	s.syncDir = fails
	if _, err := provider.PutOnce(ctx, s, "points/1", []byte("manifest"), provider.PutOptions{}); !errors.Is(err, broken) {
		t.Errorf("PutOnce says %v of a name that could not be synced", err)
	}
	if _, err := s.Stat(ctx, "points/1"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("an object that may not last is there: %v", err)
	}
	// One that another process renamed and had no time to sync.
	s.syncDir = works
	if _, err := provider.PutOnce(ctx, s, "points/1", []byte("manifest"), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s.syncDir = fails
	if _, err := s.Put(ctx, "points/1", strings.NewReader("manifest"), provider.PutOptions{IfAbsent: true}); !errors.Is(err, broken) || errors.Is(err, provider.ErrConflict) {
		t.Errorf("put on a name that cannot be synced: %v", err)
	}
}
