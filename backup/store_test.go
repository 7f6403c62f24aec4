package backup_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// The same bytes are stored once: within a point, across points, across
// workloads, at another offset, and by another process.
func TestDeduplication(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	data := random(1, 8<<20)
	mustBackup(t, r, "one", treeOf(map[string]string{"a": data, "b": data}), backup.Full)
	base := stored(t, store)
	if base > 8<<20*102/100 {
		t.Errorf("two copies of 8 MiB take %d bytes", base)
	}
	for name, target := range map[string]*tree{
		"again":   treeOf(map[string]string{"a": data, "b": data}),
		"other":   treeOf(map[string]string{"elsewhere": data}),
		"shifted": treeOf(map[string]string{"a": "inserted" + data}),
	} {
		before := stored(t, store)
		p := mustBackup(t, reopen(t, store), name, target, backup.Full)
		grown := stored(t, store) - before
		if grown > 2<<20 || (name != "shifted" && grown > 64<<10) {
			t.Errorf("%s: the repository grew by %d bytes", name, grown)
		}
		mustHold(t, r, p.ID, target.files)
	}
}

// In what an attacker reads there is nothing he knew before.
func TestNothingInTheClear(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	p, err := r.Backup(t.Context(), "workload-name", treeOf(map[string]string{"secret-path": strings.Repeat("secret content ", 20)}),
		backup.BackupOptions{Tags: map[string]string{"tag-key": "tag-value"}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Tags["tag-key"] != "tag-value" {
		t.Errorf("tags: %v", p.Tags)
	}
	for _, info := range collect(t, store.List(t.Context(), "", provider.ListOptions{})) {
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"secret", "workload-name", "tag-", "tree"} {
			if strings.Contains(string(b), s) || strings.Contains(info.Key, s) {
				t.Errorf("%s shows %q", info.Key, s)
			}
		}
	}
}

// A point stays whole when others are forgotten, whatever their modes.
func TestForget(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := treeOf(sample())
	full := mustBackup(t, r, "w", target, backup.Full)
	target.files["a/x"] = file{content: "changed", version: 1}
	inc := mustBackup(t, r, "w", target, backup.Incremental)
	if inc.Parent != full.ID || inc.Stats.BytesRead != 7 {
		t.Errorf("parent %s, read %d bytes; want %s, 7", inc.Parent, inc.Stats.BytesRead, full.ID)
	}
	for range 2 {
		if err := r.Forget(t.Context(), full.ID); err != nil {
			t.Fatal(err)
		}
	}
	mustHold(t, reopen(t, store), inc.ID, target.files)
	if _, err := r.View(t.Context(), full.ID); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("view of a forgotten point: %v, want ErrNotFound", err)
	}
	for _, id := range []backup.PointID{"", "../format", "20261123t084735.123z-9F86d081884c7d65", "20261399t084735.123z-9f86d081884c7d65", full.ID + "/x"} {
		if err := r.Forget(t.Context(), id); err == nil {
			t.Errorf("forget %q was accepted", id)
		}
		if _, err := r.Point(t.Context(), id); err == nil {
			t.Errorf("point %q was accepted", id)
		}
	}
}

// Several processes write at once, and share what they store as far as they
// can see it.
func TestConcurrentWriters(t *testing.T) {
	store := providertest.NewMemory()
	newRepo(t, store)
	var wg sync.WaitGroup
	var mu sync.Mutex
	want := map[backup.PointID]map[string]file{}
	for i := range 4 {
		r := reopen(t, store)
		for j := range 2 { // two at once in one process, too
			wg.Go(func() {
				target := treeOf(map[string]string{"shared": random(99, 3<<20), "own": random(uint64(10*i+j), 1<<20)})
				for range 2 {
					p, err := r.Backup(t.Context(), fmt.Sprintf("w%d.%d", i, j), target, backup.BackupOptions{Mode: backup.Incremental})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					want[p.ID] = target.files
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	r := reopen(t, store)
	if got := collect(t, r.Points(t.Context(), "")); len(got) != len(want) {
		t.Errorf("%d points, want %d", len(got), len(want))
	}
	for id, files := range want {
		mustHold(t, r, id, files)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// Objects lists what a point needs: a store with only that, and the
// manifest, restores it.
func TestObjectsSuffice(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := treeOf(sample())
	mustBackup(t, r, "other", treeOf(map[string]string{"x": random(50, 2<<20)}), backup.Full)
	mustBackup(t, r, "w", target, backup.Full)
	target.files["new"] = file{content: random(51, 1<<20)}
	p := mustBackup(t, reopen(t, store), "w", target, backup.Incremental)
	manifests := collect(t, r.Manifests(t.Context()))
	if len(manifests) != 3 {
		t.Fatalf("%d manifests, want 3", len(manifests))
	}
	last := manifests[2].Key
	dest := providertest.NewMemory()
	for _, info := range collect(t, r.Objects(t.Context(), last)) {
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := dest.Put(t.Context(), info.Key, provider.Bytes(b), provider.PutOptions{SHA256: info.SHA256}); err != nil || info.Size != int64(len(b)) || info.SHA256 == [32]byte{} {
			t.Errorf("%s: %d bytes, announced %d: %v", info.Key, len(b), info.Size, err)
		}
	}
	b, _, err := provider.ReadAll(t.Context(), store, last, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	put(t, dest, last, b)
	if stored(t, dest) > stored(t, store)-(1<<20) {
		t.Error("the other workload's packs were listed, too")
	}
	copied := reopen(t, dest)
	mustHold(t, copied, p.ID, target.files)
	if rep, err := copied.Check(t.Context(), backup.CheckOptions{ReadData: true, Replica: true}); err != nil || !rep.OK() {
		t.Errorf("check of the copy: %+v, %v", rep, err)
	}
	// The copied indexes name packs that were not copied. A backup into the
	// copy must not rely on them.
	everything := treeOf(sample())
	everything.files["new"], everything.files["x"] = target.files["new"], file{content: random(50, 2<<20)}
	mustHold(t, copied, mustBackup(t, copied, "other", everything, backup.Full).ID, everything.files)
	for _, err := range r.Objects(t.Context(), "points/../format") {
		if err == nil {
			t.Error("a key that is none of a manifest was accepted")
		}
	}
}

// generator is a target with one item of n bytes that do not repeat, made
// while they are read; on restore it counts.
type generator struct {
	n    int64
	got  int64
	peak atomic.Uint64
}

func (g *generator) Kind() string { return "generator" }

func (g *generator) Backup(ctx context.Context, s *backup.Session) error {
	return s.Add(ctx, backup.Item{Path: "stream"}, io.LimitReader(&noise{}, g.n))
}

func (g *generator) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		r, err := v.Open(ctx, it)
		if err != nil {
			return err
		}
		defer r.Close()
		if g.got, err = io.Copy(io.Discard, r); err != nil {
			return err
		}
	}
	return nil
}

// noise is cheap to make, does not compress, and never repeats: a random
// block, stamped with a counter in every kilobyte.
type noise struct {
	n     uint64
	block string
}

func (n *noise) Read(p []byte) (int, error) {
	if n.block == "" {
		n.block = random(77, 64<<10)
	}
	p = p[:copy(p, n.block)]
	for i := 0; i+8 <= len(p); i += 1 << 10 {
		n.n++
		binary.LittleEndian.PutUint64(p[i:], n.n*0x9e3779b97f4a7c15)
	}
	return len(p), nil
}

// sink is a store that keeps packs out of memory: their bytes are dropped.
type sink struct{ provider.BlobStore }

func (s sink) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "data/") {
		return provider.Info{Key: key, Size: b.Size()}, nil
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

// However much is backed up, the heap stays where it is.
func TestBoundedMemory(t *testing.T) {
	size := int64(256 << 20)
	if long() {
		size = 4 << 30
	}
	r := newRepo(t, sink{providertest.NewMemory()})
	g := &generator{n: size}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := r.Backup(t.Context(), "w", g, backup.BackupOptions{}); err != nil {
			t.Error(err)
		}
	}()
	var m runtime.MemStats
	for over := false; !over; {
		select {
		case <-done:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
		runtime.ReadMemStats(&m)
		g.peak.Store(max(g.peak.Load(), m.HeapInuse))
	}
	if peak := g.peak.Load(); peak > 160<<20 {
		t.Errorf("backing up %d MiB took %d MiB of heap", size>>20, peak>>20)
	}
}

// Whatever the target or the caller does, a failed backup leaves no point
// and no goroutine that goes on.
func TestCancel(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := &tree{files: map[string]file{}}
	for i := range 50 {
		target.files[fmt.Sprint(i)] = file{content: random(uint64(i), 60_000)}
	}
	before := runtime.NumGoroutine()
	for n := range 10 {
		ctx, cancel := context.WithCancel(t.Context())
		count := 0
		target.during = func(string) error {
			if count++; count > 5*n {
				cancel()
			}
			return nil
		}
		if _, err := r.Backup(ctx, "w", target, backup.BackupOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled after %d items: %v", 5*n, err)
		}
		cancel()
	}
	if got := collect(t, r.Points(t.Context(), "")); len(got) != 0 {
		t.Errorf("points: %v", got)
	}
	for i := 0; runtime.NumGoroutine() > before && i < 1000; i++ {
		runtime.Gosched()
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	target.during = nil
	p := mustBackup(t, r, "w", target, backup.Full)
	v, err := r.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for it, err := range v.Items(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		rd, err := v.Open(ctx, it)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.Copy(io.Discard, rd); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("reading after cancel: %v", err)
		}
		rd.Close()
		break
	}
}

// Of several Adds of one path the last counts, near to each other and far
// apart.
func TestAddAgain(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	target := &tree{files: map[string]file{}}
	var order []string
	for i := range 30_000 {
		p := fmt.Sprintf("file-%05d-%s", i, strings.Repeat("x", 100))
		target.files[p] = file{content: fmt.Sprint("first ", i)}
		order = append(order, p)
	}
	final := maps.Clone(target.files)
	first, near := order[0], order[5]
	target.order = append(append(order[:10:10], near), append(order[10:], first)...)
	seen := map[string]int{}
	target.during = func(p string) error {
		if seen[p]++; seen[p] == 2 {
			target.files[p] = file{content: "second"}
		}
		return nil
	}
	p := mustBackup(t, r, "w", target, backup.Full)
	final[first], final[near] = file{content: "second"}, file{content: "second"}
	mustHold(t, r, p.ID, final)
}

// What the target says wrongly is refused by name.
func TestBadInput(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	for name, files := range map[string]map[string]file{
		"empty path":  {"": {}},
		"zero byte":   {"a\x00b": {}},
		"long path":   {strings.Repeat("x", 9000): {}},
		"block size":  {"a": {block: 1000}},
		"small block": {"a": {block: 1024}},
	} {
		if _, err := r.Backup(t.Context(), "w", &tree{files: files}, backup.BackupOptions{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	ok := treeOf(map[string]string{"a": "b"})
	for name, o := range map[string]backup.BackupOptions{
		"mode": {Mode: "partial"}, "tag": {Tags: map[string]string{"a": "b\n"}}, "compression": {Compression: "gzip"}, "time": {Time: time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := r.Backup(t.Context(), "w", ok, o); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for _, name := range []string{"", "a\nb", strings.Repeat("n", 201), "\xff"} {
		if _, err := r.Backup(t.Context(), name, ok, backup.BackupOptions{}); err == nil {
			t.Errorf("name %q was accepted", name)
		}
	}
	for name, c := range map[string]backup.Config{
		"no store":   {Keyring: keyring()},
		"writer":     {Store: providertest.NewMemory(), Keyring: keyring(), Writer: "a b"},
		"pack size":  {Store: providertest.NewMemory(), Keyring: keyring(), PackSize: 5},
		"recipients": {Store: providertest.NewMemory(), Keyring: backup.Keyring{Identities: keyring().Identities}},
		"identities": {Store: providertest.NewMemory(), Keyring: backup.Keyring{Recipients: keyring().Recipients}},
	} {
		if _, err := backup.Init(t.Context(), c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// Points compressed in different ways share their content, in both directions.
func TestSnappy(t *testing.T) {
	lines := func(word string) string {
		return strings.Repeat(word+" is what the lines of this file say, again and again\n", 40_000)
	}
	files := map[string]string{"a": lines("one"), "b": random(1, 300<<10), "c": "short"}
	sizes := map[backup.Compression]int64{}
	for first, second := range map[backup.Compression]backup.Compression{backup.Zstd: backup.Snappy, backup.Snappy: backup.Zstd} {
		store := providertest.NewMemory()
		r := newRepo(t, store)
		one, err := r.Backup(t.Context(), "w", treeOf(files), backup.BackupOptions{Compression: first})
		if err != nil {
			t.Fatal(err)
		}
		sizes[first] = one.Stats.BytesStored
		files := maps.Clone(files)
		files["d"] = lines("two")
		two, err := r.Backup(t.Context(), "w", treeOf(files), backup.BackupOptions{Compression: second})
		if err != nil {
			t.Fatal(err)
		}
		if got, most := two.Stats.BytesNew, int64(len(files["d"])+4<<10); got > most {
			t.Errorf("%s after %s: %d bytes are new, want at most %d", second, first, got, most)
		}
		again := reopen(t, store)
		mustHold(t, again, two.ID, treeOf(files).files)
		if report, err := again.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !report.OK() {
			t.Errorf("%s after %s: %v, %v", second, first, report.Problems, err)
		}
	}
	if z, s := sizes[backup.Zstd], sizes[backup.Snappy]; z >= s || s > 1<<20 {
		t.Errorf("zstd stores %d bytes and Snappy %d, of 2.5 MB that repeat", z, s)
	}
}
