package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
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
				if _, err := v.Chunk(ctx, c, nil); !errors.Is(err, backup.ErrSealed) {
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

// Keys that others rotate meanwhile change nothing about what is remembered.
func TestSealedParentAfterRotation(t *testing.T) {
	store := providertest.NewMemory()
	h := newSealedHost(t, store, newRepo(t, store))
	r := h.open(store)
	first := mustBackup(t, r, "web", h.target, backup.Incremental)
	h.want(first, "", h.all())
	if err := h.holder.Rotate(t.Context(), keyring().Recipients...); err != nil {
		t.Fatal(err)
	}
	second := mustBackup(t, r, "web", h.target, backup.Incremental)
	h.want(second, first.ID, 0)
	h.backup(backup.Incremental, second.ID, 0)
}
