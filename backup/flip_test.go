package backup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// readOnly refuses to change a store.
type readOnly struct{ provider.BlobStore }

func (readOnly) Put(context.Context, string, provider.Body, provider.PutOptions) (provider.Info, error) {
	return provider.Info{}, fs.ErrPermission
}

func (readOnly) Delete(context.Context, string, provider.DeleteOptions) error {
	return fs.ErrPermission
}

// A specimen is a repository with every kind of object there is, as small as
// they come.
type specimen struct {
	store  *providertest.Memory
	points map[backup.PointID]map[string]file
	tail   map[string]bool             // what nothing that comes later names, so that its loss does not show
	log    []leg                       // what can be read of logs
	users  map[string][]backup.PointID // of each pack, and segment
	keys   []string
	sample map[string]bool // objects of which some bytes are enough, also in the long form
}

// newSpecimen makes a specimen with the objects of some kinds.
func newSpecimen(t *testing.T, fill func(*specimen, *testing.T), want ...string) *specimen {
	s := &specimen{store: providertest.NewMemory(), points: map[backup.PointID]map[string]file{}, users: map[string][]backup.PointID{}, sample: map[string]bool{}, tail: map[string]bool{}}
	synctest.Test(t, func(t *testing.T) { fill(s, t) })
	s.keys = keysOf(t, s.store, "")
	kinds := map[string]bool{}
	var total int64
	for _, info := range collect(t, s.store.List(t.Context(), "", provider.ListOptions{})) {
		kinds[kindOfKey(info.Key)] = true
		total += info.Size
	}
	for _, k := range want {
		if !kinds[k] {
			t.Errorf("the repository has no object of kind %s", k)
		}
	}
	t.Logf("%d objects, %d bytes", len(s.keys), total)
	return s
}

func kindOfKey(key string) string {
	kind, rest, _ := strings.Cut(key, "/")
	if i := strings.LastIndex(rest, "."); kind == "condemned" && !strings.HasPrefix(rest[i+1:], "0") {
		return rest[i+1:]
	}
	return kind
}

// specimens are two, because every flip of a bit takes time that grows with
// what is there: one of points and pruning, one of keys, logs, and a sealed
// writer.
func specimens(t *testing.T) map[string]*specimen {
	return map[string]*specimen{
		"pruned": newSpecimen(t, (*specimen).fill, "format", "sessions", "data", "meta", "index", "points", "condemned", "awaited", "verdict", "time", "forgotten", "verified"),
		"wide":   newSpecimen(t, (*specimen).fillWide, "format", "keys", "data", "meta", "index", "points", "logs", "forgotten", "verified"),
	}
}

func (s *specimen) fill(t *testing.T) {
	r, err := backup.Init(t.Context(), plain(s.store))
	if err != nil {
		t.Fatal(err)
	}
	one := treeOf(map[string]string{"a": "alpha", "b": strings.Repeat("beta ", 50)})
	two := treeOf(map[string]string{"a": "alpha", "c": "gamma"})
	for _, target := range []*tree{one, two} {
		p := mustBackup(t, r, "w", target, backup.Full)
		s.points[p.ID] = target.files
		for _, info := range collect(t, r.Objects(t.Context(), "points/"+string(p.ID))) {
			s.users[info.Key] = append(s.users[info.Key], p.ID)
		}
		time.Sleep(time.Minute)
	}
	killed := func() { // a backup that is killed before it commits
		t.Helper()
		f := providertest.NewFaulty(s.store, func(c providertest.Call) providertest.Fault {
			return providertest.Fault{Crash: c.Op == "put" && !strings.HasPrefix(c.Key, "sessions/")}
		})
		if _, err := reopenWith(t, plain(f)).Backup(t.Context(), "w", treeOf(map[string]string{"x": "never"}), backup.BackupOptions{}); err == nil {
			t.Fatal("a killed backup succeeded")
		}
	}
	killed()
	time.Sleep(time.Hour)
	if rep, err := r.Prune(t.Context(), backup.PruneOptions{Patience: time.Minute, MinGarbage: 1}); err != nil || len(rep.Fenced) != 1 {
		t.Fatalf("a tombstone was wanted: %+v, %v", rep, err)
	}
	third := mustBackup(t, r, "w", treeOf(map[string]string{"d": "delta"}), backup.Full)
	if err := r.Forget(t.Context(), third.ID); err != nil {
		t.Fatal(err)
	}
	s.tail["forgotten/"+string(third.ID)] = true
	f := providertest.NewFaulty(s.store, func(c providertest.Call) providertest.Fault {
		return providertest.Fault{Crash: c.Op == "delete" || c.Op == "put" && strings.HasPrefix(c.Key, "index/")} // after the verdict
	})
	if _, err := reopenWith(t, plain(f)).Prune(t.Context(), backup.PruneOptions{MinGarbage: 1}); err == nil {
		t.Fatal("a killed prune succeeded")
	}
	if err := backup.LeaveTime(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	killed()
	rep := mustCheck(t, r, backup.CheckOptions{ReadData: true})
	if !rep.OK() {
		t.Fatalf("before any damage: %s", rep)
	}
}

// A corner is one worker's copy of the specimen.
type corner struct {
	*specimen
	store *providertest.Memory
	r     *backup.Repository // that was opened before the damage
}

func newCorner(t *testing.T, s *specimen) corner {
	store := copyStore(t, s.store)
	return corner{s, store, reopenWith(t, plain(store))}
}

// examine checks and restores the damaged repository: exactly the points that
// do not restore are reported, with the object, and they are points that
// used it. A brief one does not read the content if the object has none of it,
// and does not restore points that have nothing to do with the object: then
// the others are all that the check may name.
func (c corner) examine(ctx context.Context, key string, missing, brief bool) error {
	conf := plain(readOnly{c.store})
	conf.Workers = 1
	r := backup.Fresh(c.r, conf)
	if key == "format" || strings.HasPrefix(key, "keys/") {
		var err error
		if r, err = backup.Open(ctx, conf); err != nil {
			return fmt.Errorf("open: %w", err)
		}
	}
	kind, _, _ := strings.Cut(key, "/")
	rep, err := r.Check(ctx, backup.CheckOptions{ReadData: !brief || kind == "data" || kind == "meta" || kind == "logs" || kind == "verified"})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	harmed := map[backup.PointID]bool{}
	for _, d := range rep.Damaged {
		harmed[d.ID] = true
		if d.Reason == "" || !d.Everything && len(d.Lost)+len(d.Logs) == 0 {
			return fmt.Errorf("it is not said what is lost of %s: %s", d.ID, rep)
		}
	}
	if err := c.expected(rep, harmed, key, missing); err != nil {
		return fmt.Errorf("%w: %s", err, rep)
	}
	switch kind {
	case "sessions", "condemned", "verified":
		return nil // no restore looks at them
	case "logs":
		return c.readable(ctx, r, rep)
	}
	for id, want := range c.points {
		if brief && !harmed[id] && key != "points/"+string(id) && kind != "format" && kind != "keys" && kind != "index" && !slices.Contains(c.users[key], id) {
			continue
		}
		var got tree
		err := r.Restore(ctx, id, &got, backup.Destination{}, backup.RestoreOptions{})
		gone := missing && key == "points/"+string(id)
		switch {
		case gone && errors.Is(err, provider.ErrNotFound):
		case (err != nil) != harmed[id]:
			return fmt.Errorf("restoring %s gives %v, and the check says %s", id, err, rep)
		case err != nil && !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrFormat):
			return fmt.Errorf("restoring %s: the error is no ErrDamaged: %w", id, err)
		case err == nil && len(got.restored) != len(want):
			return fmt.Errorf("%s: %d items, want %d", id, len(got.restored), len(want))
		}
		for p, f := range want {
			if err == nil && got.restored[p] != f.content {
				return fmt.Errorf("%s: %s was restored wrongly and nobody said so", id, p)
			}
		}
	}
	return nil
}

// expected compares a report with what damage to a kind of object means.
func (c corner) expected(rep backup.CheckReport, harmed map[backup.PointID]bool, key string, missing bool) error {
	i := slices.IndexFunc(rep.Problems, func(p backup.Problem) bool { return p.Key == key })
	for id := range harmed {
		if key != "points/"+string(id) && !slices.Contains(c.users[key], id) {
			return fmt.Errorf("%s is called damaged and did not use it", id)
		}
	}
	for _, p := range rep.Problems {
		if p.Repairable && len(p.Points) > 0 {
			return fmt.Errorf("%s is called repairable though points are lost", p.Key)
		}
	}
	kind := kindOfKey(key)
	switch {
	case missing && kind == "index":
		if rep.OK() && len(c.users[key]) > 0 && !c.tail[key] {
			return errors.New("packs without an index are not noticed")
		}
		for _, p := range rep.Problems {
			if !p.Repairable {
				return errors.New("a lost index is repairable")
			}
		}
		return nil
	case missing && (kind == "data" || kind == "meta"):
		if len(c.users[key]) != len(harmed) {
			return fmt.Errorf("%d points used it, %d are called damaged", len(c.users[key]), len(harmed))
		}
		if len(harmed) == 0 {
			return nil // nobody needed it
		}
	case missing && kind == "forgotten":
		if id := backup.PointID(strings.TrimPrefix(key, "forgotten/")); !c.tail[key] && (len(rep.Omitted) != 1 || rep.Omitted[0].ID != id) {
			return errors.New("what it excused is no omission")
		}
		return nil
	case missing && kind == "points":
		// R11: a later one of the same writer names it, except the last.
		id := backup.PointID(strings.TrimPrefix(key, "points/"))
		if _, ok := c.points[id]; ok && !c.tail[key] && (len(rep.Omitted) != 1 || rep.Omitted[0].ID != id) {
			return errors.New("it is not missed")
		}
		return nil
	case missing && kind == "logs":
		if c.tail[key] {
			return nil // what nothing follows
		}
		if rep.OK() || len(harmed) != len(c.users[key]) {
			return fmt.Errorf("%d points need it, %d are called damaged", len(c.users[key]), len(harmed))
		}
		return nil
	case missing && kind != "format" && kind != "keys":
		// What is not there cannot be told from what never was: a session
		// that ended and was tidied, a generation, state. Of a point it is
		// told by the heads of its writer.
		return nil
	}
	if i < 0 {
		return errors.New("it is not named")
	}
	switch kind {
	case "logs":
		if len(harmed) != len(c.users[key]) || !strings.HasSuffix(key, "/start") && (len(rep.LostLogs) != 1 || rep.LostLogs[0].Key != key) {
			return fmt.Errorf("%d points need it, %d are called damaged", len(c.users[key]), len(harmed))
		}
	case "format", "keys", "index", "sessions", "condemned", "awaited", "time", "verified":
		if p := rep.Problems[i]; !p.Repairable || len(harmed) > 0 {
			return errors.New("it is repairable and harms no point")
		}
	case "verdict", "forgotten": // to be looked at by a person, see condemned.go and links.go
		if len(harmed) > 0 {
			return errors.New("it harms no point")
		}
	case "points":
		if len(harmed) != 1 {
			return errors.New("it is one point")
		}
	}
	return nil
}

// briefly is how many flips there are for one whose examination is not brief.
const briefly = 8

// Every byte of every object matters: flip one, and Check names the object
// and exactly the points that do not restore any more. The long form flips
// one bit of each byte of every object of the first specimen, and in the second
// of every object that has another form than those of the first: keys, logs,
// and what a sealed writer has written, with the index that attests it. Of what
// is left there, and in the short form of everything, it tries some bytes of
// every region: of magic, length, each field of the header, every 40 bytes of
// what follows, signature and trailer.
func TestEveryByteFlipped(t *testing.T) {
	for name, s := range specimens(t) {
		if !t.Failed() {
			t.Run(name, s.flipBytes)
		}
	}
}

func (s *specimen) flipBytes(t *testing.T) {
	type job struct {
		key   string
		at    int
		brief bool
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // what each looks at is small, and gone at once
	jobs := make(chan job)
	var wg sync.WaitGroup
	var mu sync.Mutex
	failures := 0
	for range runtime.GOMAXPROCS(0) {
		c := newCorner(t, s)
		wg.Go(func() {
			for j := range jobs {
				b, _, err := provider.ReadAll(t.Context(), s.store, j.key, 1<<20)
				if err == nil {
					bad := slices.Clone(b)
					bad[j.at] ^= 1 << (j.at % 8)
					_, err = c.store.Put(t.Context(), j.key, provider.Bytes(bad), provider.PutOptions{})
				}
				if err == nil {
					err = c.examine(t.Context(), j.key, false, j.brief)
				}
				if _, perr := c.store.Put(t.Context(), j.key, provider.Bytes(b), provider.PutOptions{}); err == nil {
					err = perr
				}
				if err != nil {
					mu.Lock()
					failures++
					t.Errorf("bit %d of byte %d of %d of %s: %v", j.at%8, j.at, len(b), j.key, err)
					mu.Unlock()
				}
			}
		})
	}
	rnd := rand.New(rand.NewPCG(1, 0))
	tried := 0
	for _, key := range s.keys {
		b, _, err := provider.ReadAll(t.Context(), s.store, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for i, at := range someBytes(rnd, b, long() && !s.sample[key]) {
			if i%every != 0 {
				continue
			}
			mu.Lock()
			enough := failures > 10
			mu.Unlock()
			if enough {
				break
			}
			tried++
			jobs <- job{key, at, tried%briefly != 0}
		}
	}
	close(jobs)
	wg.Wait()
	t.Logf("%d bytes flipped", tried)
}

// someBytes chooses the bytes to flip: all of them if there is time, else
// some of the magic, the length, the header, and of what follows it: sections,
// frames, directory, trailer, signature.
func someBytes(rnd *rand.Rand, b []byte, all bool) (out []int) {
	regions := []int{0, len(b)}
	if bytes.HasPrefix(b, []byte("holdfast")) {
		head := 12 + int(binary.BigEndian.Uint32(b[8:]))
		regions = []int{0, 8, 12, head}
		for _, name := range []string{`"v"`, `"kind"`, `"salt"`, `"session"`, `"enc"`, `"writer"`, `"format"`, `"cert"`} {
			if i := bytes.Index(b[:head], []byte(name)); i > 12 {
				regions = append(regions, i)
			}
		}
		for i := head; i < len(b)-64; i += 40 {
			regions = append(regions, i)
		}
		if n := len(b) - 64; n > head {
			regions = append(regions, n) // a signature, or the end of a pack
		}
		regions = append(regions, len(b)-4, len(b))
	} else {
		for i := 0; i < len(b); i += len(b)/16 + 1 {
			regions = append(regions, i)
		}
	}
	slices.Sort(regions)
	regions = slices.Compact(regions)
	if all {
		for i := range b {
			out = append(out, i)
		}
		return out
	}
	for i, from := range regions[:len(regions)-1] {
		out = append(out, from, from+rnd.IntN(regions[i+1]-from))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Every object is deleted, and cut short, in turn.
func TestEveryObjectLost(t *testing.T) {
	for name, s := range specimens(t) {
		if !t.Failed() {
			t.Run(name, s.loseObjects)
		}
	}
}

func (s *specimen) loseObjects(t *testing.T) {
	for i, key := range s.keys {
		if i%every != 0 {
			continue
		}
		b, _, err := provider.ReadAll(t.Context(), s.store, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c := newCorner(t, s)
		if err := c.store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := c.examine(t.Context(), key, true, false); err != nil {
			t.Errorf("%s deleted: %v", key, err)
		}
		for _, n := range []int{0, 1, 11, 12, 13, len(b) / 2, len(b) - 5, len(b) - 4, len(b) - 1} {
			put(t, c.store, key, b[:n])
			if err := c.examine(t.Context(), key, false, false); err != nil {
				t.Errorf("%s cut to %d bytes: %v", key, n, err)
			}
		}
	}
}
