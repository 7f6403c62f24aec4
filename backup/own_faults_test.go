package backup_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Whatever happens to the manifest, whatever is remembered: the parent is the
// newest point there is. Nothing is remembered too late, if the process dies
// just after it was stored.
func TestSealedParentAfterFaults(t *testing.T) {
	manifest := func(f providertest.Fault) providertest.Script {
		return func(c providertest.Call) providertest.Fault {
			if c.Op == "put" && strings.HasPrefix(c.Key, "points/") {
				return f
			}
			return providertest.Fault{}
		}
	}
	fenced := errors.New("a tombstone is put there first")
	for what, f := range map[string]providertest.Fault{
		"not stored":                 {Before: providertest.ErrInjected},
		"stored, and the reply lost": {After: providertest.ErrInjected},
		"killed before":              {Before: providertest.ErrCrashed, Crash: true},
		"killed after":               {After: providertest.ErrCrashed, Crash: true},
		"fenced":                     {Before: fenced},
	} {
		t.Run(what, func(t *testing.T) {
			store := providertest.NewMemory()
			h := newSealedHost(t, store, newRepo(t, store))
			first := h.backup(backup.Incremental, "", h.all())
			h.change("x", 3000)
			s := provider.BlobStore(providertest.NewFaulty(store, manifest(f)))
			if f.Before == fenced {
				s = fencing{store, h}
			}
			_, err := h.open(s).Backup(t.Context(), "web", h.target, backup.BackupOptions{Mode: backup.Incremental})
			if (err == nil) != (f.After == providertest.ErrInjected) {
				t.Errorf("%v", err)
			}
			if f.Before == fenced && !errors.Is(err, backup.ErrFenced) {
				t.Errorf("%v, want ErrFenced", err)
			}
			newest, read := first.ID, int64(3000)
			for p := range h.holder.Points(t.Context(), "web") {
				if p.ID != first.ID {
					newest, read = p.ID, 0
				}
			}
			if (newest != first.ID) != (f.After != nil) {
				t.Errorf("newest is %s", newest)
			}
			h.backup(backup.Incremental, newest, read)
			h.checks()
		})
	}
}

// fencing puts a tombstone before the manifest.
type fencing struct {
	provider.BlobStore
	h *sealedHost
}

func (f fencing) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "points/") {
		if err := backup.GiveUp(ctx, f.h.holder, backup.PointID(strings.TrimPrefix(key, "points/"))); err != nil {
			return provider.Info{}, err
		}
	}
	return f.BlobStore.Put(ctx, key, b, o)
}

// A sealed writer is killed at every request of an incremental backup, before
// and after the request has its effect. The next one, with the cache as it
// was left, makes a point that is whole.
func TestSealedCrashAtEveryRequest(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.target = treeOf(map[string]string{"a": random(1, 300_000), "b": "bee"})
	first := h.backup(backup.Incremental, "", h.all())
	h.change("b", 1000)
	attempt := func(script providertest.Script) (*sealedHost, int, error) {
		s := copyStore(t, store)
		c := *h
		c.store, c.holder, c.dir = s, reopen(t, s), copyDir(t, h.dir)
		f := providertest.NewFaulty(s, script)
		r, err := backup.Open(t.Context(), backup.Config{Store: createOnly{f, t}, Credential: h.credential, Cache: c.dir})
		if err == nil {
			_, err = r.Backup(t.Context(), "web", c.target, backup.BackupOptions{Mode: backup.Incremental})
		}
		return &c, len(f.Calls()), err
	}
	_, calls, err := attempt(nil)
	if err != nil || calls < 10 {
		t.Fatalf("undisturbed: %v after %d requests", err, calls)
	}
	for n := 1; n <= calls; n++ {
		for name, script := range map[string]providertest.Script{"before": providertest.CrashBefore(n), "after": providertest.CrashAfter(n)} {
			c, _, err := attempt(script)
			if !errors.Is(err, providertest.ErrCrashed) {
				t.Fatalf("crash %s request %d: %v", name, n, err)
			}
			newest, read := first.ID, int64(1000)
			for p := range c.holder.Points(t.Context(), "web") {
				if p.ID != first.ID {
					newest, read = p.ID, 0
				}
			}
			c.backup(backup.Incremental, newest, read)
			if n := twice(t, c.store); n > 0 {
				t.Errorf("%d bytes were stored twice", n)
			}
			c.checks()
			if t.Failed() {
				t.Fatalf("crash %s request %d", name, n)
			}
		}
	}
}

// A credential that may not list packs relies on none, so there is nothing to
// compare with; one that may not look at points finds no parent. Both back
// up.
func TestSealedWriterThatMayNotLook(t *testing.T) {
	for what, f := range map[string]refusing{
		"list packs":  {list: "data/"},
		"list points": {list: "points/"},
		"get points":  {get: "points/"},
	} {
		t.Run(what, func(t *testing.T) {
			store := providertest.NewMemory()
			h := newSealedHost(t, store, newRepo(t, store))
			h.backup(backup.Incremental, "", h.all())
			f.BlobStore = store
			p, err := h.open(f).Backup(t.Context(), "web", h.target, backup.BackupOptions{Mode: backup.Incremental})
			if what == "list points" && errors.Is(err, fs.ErrPermission) {
				return // no link to the point before: not new
			}
			if err != nil {
				t.Fatal(err)
			}
			h.want(p, "", h.all())
		})
	}
}

// refusing refuses to list or to get what is below a prefix.
type refusing struct {
	provider.BlobStore
	list, get string
}

func (r refusing) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if r.list != "" && prefix == r.list {
		return func(yield func(provider.Info, error) bool) { yield(provider.Info{}, fs.ErrPermission) }
	}
	return r.BlobStore.List(ctx, prefix, o)
}

func (r refusing) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if r.get != "" && strings.HasPrefix(key, r.get) {
		return nil, provider.Info{}, fs.ErrPermission
	}
	return r.BlobStore.Get(ctx, key, o)
}

// An error of the store is not taken for the absence of a parent.
func TestSealedParentReportsErrors(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.backup(backup.Incremental, "", h.all())
	for _, op := range []string{"list", "get"} {
		once := false
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			if c.Op == op && strings.HasPrefix(c.Key, "points/") && !once {
				once = true
				return providertest.Fault{Before: providertest.ErrInjected}
			}
			return providertest.Fault{}
		})
		_, err := h.open(f).Backup(t.Context(), "web", h.target, backup.BackupOptions{Mode: backup.Incremental})
		if !errors.Is(err, providertest.ErrInjected) {
			t.Errorf("%s of points fails: %v", op, err)
		}
	}
}
