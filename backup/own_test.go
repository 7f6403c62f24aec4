package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A sealedHost is a host that can only back up: a credential and a cache.
type sealedHost struct {
	t          testing.TB
	store      provider.BlobStore
	holder     *backup.Repository
	credential backup.Credential
	dir        string
	log        bytes.Buffer
	target     *tree
}

func newSealedHost(t testing.TB, store provider.BlobStore, holder *backup.Repository) *sealedHost {
	t.Helper()
	c, err := holder.Seal(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	target := many()
	target.listed = true
	target.files["paged"] = file{content: random(8, 100*4096), block: 4096} // its list of chunks is a page of its own
	return &sealedHost{t: t, store: store, holder: holder, credential: c, dir: t.TempDir(), target: target}
}

// open is what a new process does.
func (h *sealedHost) open(s provider.BlobStore) *backup.Repository {
	h.t.Helper()
	r, err := backup.Open(h.t.Context(), backup.Config{Store: s, Credential: h.credential, Cache: h.dir, Logger: slog.New(slog.NewTextHandler(&h.log, nil))})
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

// backup is one by a new process, which holders can restore, and says what
// was read.
func (h *sealedHost) backup(mode backup.Mode, parent backup.PointID, read int64) backup.Point {
	h.t.Helper()
	p := mustBackup(h.t, h.open(h.store), "web", h.target, mode)
	h.want(p, parent, read)
	return p
}

func (h *sealedHost) want(p backup.Point, parent backup.PointID, read int64) {
	h.t.Helper()
	if p.Parent != parent || p.Stats.BytesRead != read {
		h.t.Errorf("compared with %q and read %d bytes, want %q and %d", p.Parent, p.Stats.BytesRead, parent, read)
	}
	if (p.Parent == "") != (p.Mode == backup.Full) {
		h.t.Errorf("mode %q with the parent %q", p.Mode, p.Parent)
	}
	mustHold(h.t, h.holder, p.ID, h.target.files)
}

// all is how much there is to read.
func (h *sealedHost) all() (n int64) {
	for _, f := range h.target.files {
		n += int64(len(f.content))
	}
	return n
}

// change gives some file so many new bytes.
func (h *sealedHost) change(path string, n int) {
	f := h.target.files[path]
	f.version++
	f.content = random(uint64(1000+f.version), n)
	h.target.files[path] = f
}

func (h *sealedHost) checks() {
	h.t.Helper()
	rep, err := h.holder.Check(h.t.Context(), backup.CheckOptions{ReadData: true})
	if err != nil || !rep.OK() {
		h.t.Errorf("check: %+v, %v", rep, err)
	}
}

// A sealed writer that has a cache reads what has changed and nothing else,
// in each of its processes, with a credential of the store that reads no
// pack. Its points are complete, say what they were compared with, and name
// the ones before.
func TestSealedWriterSkipsWhatIsUnchanged(t *testing.T) {
	store := &counting{BlobStore: createOnly{providertest.NewMemory(), t}}
	h := newSealedHost(t, store, newRepo(t, store.BlobStore.(createOnly).BlobStore))
	first := h.backup(backup.Incremental, "", h.all())
	h.change("b/new", 5000)
	h.change("paged", 70*4096)
	second := h.backup(backup.Incremental, first.ID, 5000+70*4096)
	r := h.open(store)
	before := store.gets.Load()
	third := mustBackup(t, r, "web", h.target, backup.Incremental)
	if n := store.gets.Load() - before; n != 2 {
		t.Errorf("%d reads for an unchanged backup, want 2: the parent's manifest, and the index of its run", n)
	}
	h.want(third, second.ID, 0)
	if third.Stats.BytesNew != 0 || third.Stats.Items != int64(len(h.target.files)) || third.Stats.Bytes != h.all() {
		t.Errorf("stats: %+v", third.Stats)
	}
	h.change("big", 100_000)
	for i, read := range []int64{100_000, 0} { // one process
		p := mustBackup(t, r, "web", h.target, backup.Incremental)
		h.want(p, third.ID, read)
		if third = p; i == 1 && p.Packs.Packs == 0 {
			t.Errorf("the point says that it needs nothing: %+v", p.Packs)
		}
	}
	seen, err := h.holder.Point(t.Context(), third.ID)
	if err != nil || seen.Parent != third.Parent || seen.Mode != backup.Incremental || seen.Writer != "web1" {
		t.Errorf("the holder sees %+v, %v", seen, err)
	}
	h.checks()
	points := collect(t, store.List(t.Context(), "points/", provider.ListOptions{}))
	if err := store.BlobStore.(createOnly).BlobStore.Delete(t.Context(), points[1].Key, provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	rep, err := h.holder.Check(t.Context(), backup.CheckOptions{})
	if err != nil || len(rep.Omitted) != 1 || rep.Omitted[0].ID != second.ID {
		t.Errorf("a point in the middle was hidden, and is not missed: %+v, %v", rep.Omitted, err)
	}
}

// Differential compares with the newest full point of that name and kind.
func TestSealedWriterDifferential(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	full := h.backup(backup.Differential, "", h.all())
	h.change("x", 3000)
	h.backup(backup.Differential, full.ID, 3000)
	h.change("y", 200)
	third := h.backup(backup.Differential, full.ID, 3200)
	h.backup(backup.Incremental, third.ID, 0)
	next := h.backup(backup.Full, "", h.all())
	h.backup(backup.Differential, next.ID, 0)
}

// What was remembered of one name, kind or writer is no parent for another.
func TestSealedParentIsOfTheSameNameKindAndWriter(t *testing.T) {
	store := providertest.NewMemory()
	holder := newRepo(t, store)
	h := newSealedHost(t, store, holder)
	first := h.backup(backup.Incremental, "", h.all())
	r := h.open(store)
	h.want(mustBackup(t, r, "other", h.target, backup.Incremental), "", h.all())
	p, err := r.Backup(t.Context(), "web", kinded{h.target}, backup.BackupOptions{Mode: backup.Incremental})
	if err != nil || p.Parent != "" {
		t.Errorf("of another kind: parent %q, %v", p.Parent, err)
	}
	mustBackup(t, holder, "web", h.target, backup.Full) // newer, and somebody else's
	h.backup(backup.Incremental, first.ID, 0)

	// The credential is renewed: another writer, though of the same name.
	again := *h
	if again.credential, err = holder.Seal(t.Context(), "web1"); err != nil {
		t.Fatal(err)
	}
	p = again.backup(backup.Incremental, "", h.all())
	if p.Stats.BytesNew != 0 { // the holder has stored the same
		t.Errorf("%d bytes stored again", p.Stats.BytesNew)
	}
	again.backup(backup.Incremental, p.ID, 0)
}

type kinded struct{ *tree }

func (kinded) Kind() string { return "other" }

// A point that is not in the store as it was written is no parent, whatever
// the cache remembers.
func TestPointThatIsNotThereIsNoParent(t *testing.T) {
	for what, undo := range map[string]func(h *sealedHost, p backup.Point){
		"forgotten": func(h *sealedHost, p backup.Point) {
			if err := h.holder.Forget(h.t.Context(), p.ID); err != nil {
				h.t.Fatal(err)
			}
		},
		"another's": func(h *sealedHost, p backup.Point) {
			other := mustBackup(h.t, h.holder, "web", treeOf(map[string]string{"x": "y"}), backup.Full)
			h.replace(p.ID, h.manifest(other.ID))
		},
		"flipped": func(h *sealedHost, p backup.Point) {
			b := h.manifest(p.ID)
			b[len(b)/2] ^= 1
			h.replace(p.ID, b)
		},
		"empty": func(h *sealedHost, p backup.Point) { h.replace(p.ID, nil) },
		"a tombstone": func(h *sealedHost, p backup.Point) {
			err := h.store.Delete(h.t.Context(), "points/"+string(p.ID), provider.DeleteOptions{})
			if err == nil {
				err = backup.GiveUp(h.t.Context(), h.holder, p.ID)
			}
			if err != nil {
				h.t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			store := providertest.NewMemory()
			h := newSealedHost(t, store, newRepo(t, store))
			first := h.backup(backup.Incremental, "", h.all())
			h.change("x", 3000)
			second := h.backup(backup.Incremental, first.ID, 3000)
			undo(h, second)
			h.change("y", 200)
			h.backup(backup.Incremental, first.ID, 3200)
			undo(h, first)
		})
	}
}

func (h *sealedHost) manifest(id backup.PointID) []byte {
	h.t.Helper()
	b, _, err := provider.ReadAll(h.t.Context(), h.store, "points/"+string(id), 1<<30)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *sealedHost) replace(id backup.PointID, b []byte) {
	h.t.Helper()
	put(h.t, h.store, "points/"+string(id), b)
}

// When all its points are forgotten, everything is read.
func TestSealedWriterWithoutPoints(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	p := h.backup(backup.Incremental, "", h.all())
	if err := h.holder.Forget(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	h.backup(backup.Incremental, "", h.all())
}

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
	fenced := errors.New("see below")
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
			c.checks()
			if t.Failed() {
				t.Fatalf("crash %s request %d", name, n)
			}
		}
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// Whatever is done to any file of its cache, a sealed writer makes a point
// that is whole, and at worst reads everything.
func TestCorruptCacheCostsASealedWriterReading(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	h.backup(backup.Incremental, first.ID, 0)
	paths, _ := cacheFiles(t, h.dir)
	kinds := map[string]bool{}
	for _, p := range paths {
		rel, _ := filepath.Rel(h.dir, p)
		kinds[strings.Split(filepath.ToSlash(rel), "/")[1]] = true
	}
	if want := []string{"index", "manifests", "own", "pages"}; !slices.Equal(slices.Sorted(maps.Keys(kinds)), want) {
		t.Fatalf("the cache has %v, want %v", slices.Sorted(maps.Keys(kinds)), want)
	}
	other, err := os.ReadFile(paths[len(paths)-1])
	if err != nil {
		t.Fatal(err)
	}
	harms := map[string]func(path string, b []byte) error{
		"gone":      func(path string, _ []byte) error { return os.Remove(path) },
		"empty":     func(path string, _ []byte) error { return os.WriteFile(path, nil, 0o600) },
		"flipped":   func(path string, b []byte) error { b[len(b)/2] ^= 1; return os.WriteFile(path, b, 0o600) },
		"short":     func(path string, b []byte) error { return os.WriteFile(path, b[:len(b)-1], 0o600) },
		"long":      func(path string, b []byte) error { return os.WriteFile(path, append(b, 0), 0o600) },
		"another":   func(path string, _ []byte) error { return os.WriteFile(path, other, 0o600) },
		"directory": func(path string, _ []byte) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	}
	for what, harm := range harms {
		t.Run(what, func(t *testing.T) {
			everything := *h
			everything.t, everything.dir = t, copyDir(t, h.dir)
			for _, path := range paths {
				rel, _ := filepath.Rel(h.dir, path)
				one := everything
				one.dir = copyDir(t, h.dir)
				for _, c := range []sealedHost{one, everything} {
					b, err := os.ReadFile(path)
					if err == nil {
						err = harm(filepath.Join(c.dir, rel), b)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				p := mustBackup(t, one.open(store), "web", one.target, backup.Incremental)
				if p.Stats.BytesRead > 0 && !strings.Contains(rel, "pages") && !strings.Contains(rel, "own") {
					t.Errorf("%s: read %d bytes", rel, p.Stats.BytesRead)
				}
				if p.Stats.BytesNew != 0 {
					t.Errorf("%s: stored %d bytes again", rel, p.Stats.BytesNew)
				}
				mustHold(t, h.holder, p.ID, h.target.files)
				if err := h.holder.Forget(t.Context(), p.ID); err != nil { // the caches of others are as old as before
					t.Fatal(err)
				}
			}
			p := mustBackup(t, everything.open(store), "web", everything.target, backup.Incremental)
			if p.Parent != "" || p.Stats.BytesRead != h.all() {
				t.Errorf("everything is damaged: compared with %q, read %d bytes, want all", p.Parent, p.Stats.BytesRead)
			}
			mustHold(t, h.holder, p.ID, h.target.files)
			if what != "directory" { // which nobody dares to remove
				next := mustBackup(t, everything.open(store), "web", everything.target, backup.Incremental)
				if next.Parent != p.ID || next.Stats.BytesRead != 0 {
					t.Errorf("the cache did not recover: compared with %q, read %d bytes", next.Parent, next.Stats.BytesRead)
				}
				mustHold(t, h.holder, next.ID, h.target.files)
			}
		})
	}
}

// A cache that cannot be written to is a line in the log for each thing, and
// costs reading.
func TestSealedWriterWithoutRoomForACache(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.dir = filepath.Join(h.dir, "file")
	if err := os.WriteFile(h.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.backup(backup.Incremental, "", h.all())
	h.backup(backup.Incremental, "", h.all())
	if !strings.Contains(h.log.String(), "not kept") {
		t.Errorf("nothing is said of it: %s", h.log.String())
	}
}

// An old cache, as of a host that was put back, knows old points only: they
// are compared with, and what has changed since is read.
func TestOldCacheComparesWithAnOldPoint(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	old := copyDir(t, h.dir)
	h.change("x", 3000)
	second := h.backup(backup.Incremental, first.ID, 3000)
	h.change("y", 200)
	h.backup(backup.Incremental, second.ID, 200)
	h.dir = old
	p := h.backup(backup.Incremental, first.ID, 3200)
	if p.Stats.BytesNew != 0 {
		t.Errorf("%d bytes stored again", p.Stats.BytesNew)
	}
	h.backup(backup.Incremental, p.ID, 0)
	if err := os.RemoveAll(h.dir); err != nil {
		t.Fatal(err)
	}
	h.backup(backup.Incremental, "", h.all())
	h.checks()
}

// Of a parent of which some pages are gone, the rest is compared with; it is
// said in the log, once.
func TestMissingPagesCostTheirItemsOnly(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	for i := range 4000 {
		h.target.files[fmt.Sprintf("z/%s-%d", strings.Repeat("long-names-", 25), i)] = file{content: "small"}
	}
	first := h.backup(backup.Incremental, "", h.all())
	paths, _ := cacheFiles(t, h.dir)
	pages := slices.DeleteFunc(paths, func(p string) bool { return !strings.Contains(filepath.ToSlash(p), "/pages/") })
	if len(pages) < 5 {
		t.Fatalf("%d pages", len(pages))
	}
	partly := 0
	for _, gone := range pages {
		c := *h
		c.dir = copyDir(t, h.dir)
		c.log.Reset()
		rel, _ := filepath.Rel(h.dir, gone)
		if err := os.Remove(filepath.Join(c.dir, rel)); err != nil {
			t.Fatal(err)
		}
		p := mustBackup(t, c.open(store), "web", c.target, backup.Incremental)
		mustHold(t, h.holder, p.ID, h.target.files)
		switch {
		case p.Parent == "": // its root
		case p.Parent == first.ID && p.Stats.BytesRead > 0 && p.Stats.BytesRead < h.all():
			partly++
			if n := strings.Count(c.log.String(), "CacheSize"); n != 1 {
				t.Errorf("said %d times: %s", n, c.log.String())
			}
		default:
			t.Errorf("without %s: compared with %q, read %d bytes of %d", rel, p.Parent, p.Stats.BytesRead, h.all())
		}
		if err := h.holder.Forget(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	if partly < len(pages)-2 {
		t.Errorf("%d of %d pages were dispensable", partly, len(pages))
	}
}

// Chunks that are in no pack any more, or in none that may be relied on, are
// read and stored again, and those only.
func TestSealedWriterReadsWhatIsNotInTheStore(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	data := collect(t, store.List(t.Context(), "data/", provider.ListOptions{}))
	h.change("x", 3000)
	second := h.backup(backup.Incremental, first.ID, 3000)
	for _, info := range data {
		if err := store.Delete(t.Context(), info.Key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h.holder = reopen(t, store) // the indexes list them still
	third := h.backup(backup.Incremental, second.ID, h.all()-3000)
	h.backup(backup.Incremental, third.ID, 0)
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

// The parent of a sealed writer shows items, no content, and asks the store
// for nothing.
func TestSealedParentHasNoContent(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	looked := false
	r := h.open(createOnly{store, t})
	_, err := r.Backup(t.Context(), "web", lookingTarget(func(ctx context.Context, s *backup.Session) error {
		v := s.Parent()
		if v == nil || v.Point().ID != first.ID || v.Point().Packs != first.Packs || v.Point().Stored.IsZero() || v.Point().Sealed {
			t.Fatalf("parent: %+v", v)
		}
		items := 0
		for it, err := range v.Items(ctx) {
			if err != nil {
				return err
			}
			if items++; it.Path != "paged" && it.Path != "big" {
				continue
			}
			looked = true
			rc, err := v.Open(ctx, it)
			if err == nil {
				_, err = io.ReadAll(rc)
				rc.Close()
			}
			if !errors.Is(err, backup.ErrSealed) {
				t.Errorf("open %s: %v, want ErrSealed", it.Path, err)
			}
			for c, err := range v.Chunks(ctx, it) {
				if err != nil {
					return err
				}
				if _, err := v.Chunk(ctx, c); !errors.Is(err, backup.ErrSealed) {
					t.Errorf("chunk of %s: %v, want ErrSealed", it.Path, err)
				}
				if at := h.target.files[it.Path].content[c.Offset:][:c.Size]; !v.Matches(c, []byte(at)) {
					t.Errorf("chunk of %s at %d does not match", it.Path, c.Offset)
				}
			}
		}
		if items != len(h.target.files) {
			t.Errorf("%d items, want %d", items, len(h.target.files))
		}
		return nil
	}), backup.BackupOptions{Mode: backup.Incremental})
	if err != nil || !looked {
		t.Errorf("%v, looked: %t", err, looked)
	}
	if _, err := r.View(t.Context(), first.ID); !errors.Is(err, backup.ErrSealed) {
		t.Errorf("view: %v, want ErrSealed", err)
	}
}

type lookingTarget func(context.Context, *backup.Session) error

func (lookingTarget) Kind() string { return "tree" }

func (f lookingTarget) Backup(ctx context.Context, s *backup.Session) error { return f(ctx, s) }

func (lookingTarget) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.ErrUnsupported
}

// What one sealed writer does in several processes at once, with one cache,
// is as sound as one after the other.
func TestTwoProcessesOfASealedWriter(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.backup(backup.Incremental, "", h.all())
	var wg sync.WaitGroup
	for i := range 3 {
		r := h.open(store)
		mine := &tree{files: maps.Clone(h.target.files), listed: true}
		wg.Go(func() {
			for round := range 3 {
				mine.files[fmt.Sprintf("b/%d", i)] = file{content: random(uint64(100*i+round), 2000), version: 100*i + round + 1}
				p, err := r.Backup(t.Context(), "web", mine, backup.BackupOptions{Mode: backup.Incremental})
				if err != nil || p.Mode != backup.Incremental || p.Stats.BytesRead > 3*2000 {
					t.Errorf("%v: mode %s, read %d", err, p.Mode, p.Stats.BytesRead)
					return
				}
				mustHold(t, h.holder, p.ID, mine.files)
			}
		})
	}
	wg.Wait()
	h.checks()
}

// Attested and rewritten by prunes, what a sealed writer has stored serves it
// as before; what was pruned with a forgotten point is read again.
func TestSealedWriterAfterAttestAndPrune(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	first := h.backup(backup.Incremental, "", h.all())
	big := h.target.files["big"]
	delete(h.target.files, "big")
	second := h.backup(backup.Incremental, first.ID, 0)
	prune := func(reads int64) {
		t.Helper()
		for range 2 {
			if _, err := h.holder.Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err != nil {
				t.Fatal(err)
			}
		}
		p := h.backup(backup.Incremental, second.ID, reads)
		if err := h.holder.Forget(t.Context(), p.ID); err != nil {
			t.Fatal(err)
		}
	}
	prune(0)
	if _, err := h.holder.Attest(t.Context(), backup.AttestOptions{}); err != nil {
		t.Fatal(err)
	}
	prune(0)
	if err := h.holder.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	before := collect(t, store.List(t.Context(), "data/", provider.ListOptions{}))
	prune(0)
	after := collect(t, store.List(t.Context(), "data/", provider.ListOptions{}))
	if slices.EqualFunc(before, after, func(a, b provider.Info) bool { return a.Key == b.Key }) {
		t.Error("the prune has rewritten nothing, so nothing was tried")
	}
	h.target.files["big"] = big
	prune(int64(len(big.content)))
	h.checks()
}

// A plan that is waiting condemns packs of the parent: the session reads what
// is in them, stores it again, and the plan is carried out.
func TestSealedWriterBesideAPlan(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	gone := h.target.files["big"]
	first := h.backup(backup.Full, "", h.all())
	delete(h.target.files, "big")
	second := h.backup(backup.Incremental, first.ID, 0)
	if _, err := h.holder.Attest(t.Context(), backup.AttestOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := h.holder.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	// A session that stays open keeps the plan waiting.
	r := h.open(store)
	_, err := r.Backup(t.Context(), "slow", lookingTarget(func(ctx context.Context, s *backup.Session) error {
		rep, err := h.holder.Prune(ctx, backup.PruneOptions{MinGarbage: 0.01, Patience: time.Hour})
		if err != nil || rep.Pending.Packs == 0 {
			t.Fatalf("prune: %+v, %v", rep, err)
		}
		h.backup(backup.Incremental, second.ID, 0)
		h.target.files["big"] = gone
		newest := collect(t, h.holder.Points(ctx, "web"))
		p := h.backup(backup.Incremental, newest[len(newest)-1].ID, int64(len(gone.content)))
		if p.Stats.BytesNew != int64(len(gone.content)) {
			t.Errorf("%d bytes are new: the condemned pack was relied on", p.Stats.BytesNew)
		}
		return nil
	}), backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := h.holder.Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(collect(t, store.List(t.Context(), "condemned/", provider.ListOptions{}))); n > 0 {
		t.Errorf("%d objects of plans are left", n)
	}
	for _, p := range collect(t, h.holder.Points(t.Context(), "web")) {
		want := maps.Clone(h.target.files)
		if p.Stats.Items < int64(len(want)) {
			delete(want, "big")
		}
		mustHold(t, reopen(t, store), p.ID, want)
	}
	h.checks()
}

// What the cache keeps of a sealed writer's points is in the clear nowhere.
func TestSealedCacheTellsNothing(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	h.target.files["payroll"] = file{content: "salaries of everybody"}
	if _, err := h.open(store).Backup(t.Context(), "web-of-ours", h.target, backup.BackupOptions{Tags: map[string]string{"project": "zephyr"}}); err != nil {
		t.Fatal(err)
	}
	paths, _ := cacheFiles(t, h.dir)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"payroll", "salaries", "web-of-ours", "zephyr", "a-rather-long-name"} {
			if bytes.Contains(b, []byte(secret)) || strings.Contains(p, secret) {
				t.Errorf("%s tells %s", p, secret)
			}
		}
		if fi, err := os.Stat(p); err != nil || fi.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, fi.Mode(), err)
		}
	}
}
