package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
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

// twice returns the bytes of chunks that are in more than one pack: what was
// stored again.
func twice(t testing.TB, s provider.BlobStore) (n int64) {
	t.Helper()
	r := reopen(t, s)
	seen := map[[32]byte]bool{}
	for _, info := range packsIn(t, s) {
		chunks, err := backup.ChunksIn(t.Context(), r, info)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chunks {
			if seen[c] {
				n += info.Size / int64(len(chunks))
			}
			seen[c] = true
		}
	}
	return n
}

func packsIn(t testing.TB, s provider.BlobStore) []provider.Info {
	t.Helper()
	return slices.Concat(collect(t, s.List(t.Context(), "data/", provider.ListOptions{})), collect(t, s.List(t.Context(), "meta/", provider.ListOptions{})))
}

// newBytes are what a scene's second tree has and its first has not.
const newBytes = 4 * 500_000

// killed is a store in which a backup of s.two was killed when so many packs
// were there that no index names.
func (s *scene) killed(t *testing.T, packs int, with ...func(*backup.Config)) *providertest.Memory {
	t.Helper()
	store := copyStore(t, s.store)
	var mu sync.Mutex
	left := packs
	c := config(providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if c.Op == "put" && isPack(c.Key) {
			if left--; left <= 0 {
				return providertest.Fault{After: providertest.ErrCrashed, Crash: true}
			}
		}
		return providertest.Fault{}
	}))
	c.PackSize, c.Uploads = 1<<20, 1
	for _, f := range with {
		f(&c)
	}
	before := len(packsIn(t, store))
	_, err := reopenWith(t, c).Backup(t.Context(), "w", s.two, backup.BackupOptions{})
	if n := len(packsIn(t, store)) - before; !errors.Is(err, providertest.ErrCrashed) || n < packs {
		t.Fatalf("killed with %d packs, want %d or more, if some were under way: %v", n, packs, err)
	}
	return store
}

// A backup goes on from packs that no index names, and is itself killed at
// every request, before and after that has its effect.
func TestCrashWhileAdopting(t *testing.T) {
	s := newScene(t)
	killed := s.killed(t, 2)
	attempt := func(store *providertest.Memory, script providertest.Script) (backup.Point, []providertest.Call, error) {
		f := providertest.NewFaulty(store, script)
		c := config(f)
		c.PackSize = 1 << 20
		r, err := backup.Open(t.Context(), c)
		if err != nil {
			return backup.Point{}, nil, err
		}
		p, err := r.Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		return p, f.Calls(), err
	}
	p, calls, err := attempt(copyStore(t, killed), nil)
	if err != nil || p.Stats.BytesNew == newBytes {
		t.Fatalf("undisturbed: %d bytes were new, %v", p.Stats.BytesNew, err)
	}
	for n := 1; n <= len(calls); n++ {
		lost := func(c providertest.Call) providertest.Fault {
			if c.N == n {
				return providertest.Fault{After: providertest.ErrInjected}
			}
			return providertest.Fault{}
		}
		for name, script := range map[string]providertest.Script{
			"crash before": providertest.CrashBefore(n), "crash after": providertest.CrashAfter(n), "lost reply": lost,
		} {
			if name != "crash before" && calls[n-1].Op != "put" {
				continue // as if the next had been the first to fail
			}
			store := copyStore(t, killed)
			p, _, err := attempt(store, script)
			what := fmt.Sprintf("%s at request %d", name, n)
			if name == "lost reply" && err != nil {
				t.Errorf("%s: %v", what, err)
			}
			s.survives(t, what, store, p, err)
			if t.Failed() {
				t.Fatal(what)
			}
		}
	}
}

// Beside the listing that every backup makes, adopting takes two requests
// for each pack and three for all; a backup that finds none left behind
// makes no request for it.
func TestAdoptingTakesFewRequests(t *testing.T) {
	s := newScene(t)
	count := func(store *providertest.Memory) map[string]int {
		n := &requests{BlobStore: store, n: map[string]int{}}
		c := config(n)
		c.PackSize = 1 << 20
		r := reopenWith(t, c)
		clear(n.n)
		mustBackup(t, r, "w", s.two, backup.Full)
		return n.n
	}
	quiet := count(copyStore(t, s.store))
	if quiet["list sessions"]+quiet["get sessions"]+quiet["get data"]+quiet["get meta"] > 0 {
		t.Errorf("nothing was left behind: %v", quiet)
	}
	killed := s.killed(t, 2)
	left := len(packsIn(t, killed)) - len(packsIn(t, s.store))
	after := count(killed)
	if after["list sessions"] != 1 || after["get sessions"] != 1 || after["get data"]+after["get meta"] != 2*left || after["list points"] != quiet["list points"]+1 {
		t.Errorf("%d packs were left behind: %v; without: %v", left, after, quiet)
	}
}

// Packs are adopted for the workload whose backup has left them, and only
// those of which all is right. What is wrong, or may not be read, is stored
// again; a backup is not kept from its work by it.
func TestAdoptsOnlyWhatIsRight(t *testing.T) {
	s := newScene(t)
	killed := s.killed(t, 2)
	fresh := map[string]bool{}
	for _, info := range packsIn(t, killed) {
		fresh[info.Key] = true
	}
	for _, info := range packsIn(t, s.store) {
		delete(fresh, info.Key)
	}
	damage := func(change func([]byte) []byte) func(*testing.T, *providertest.Memory) provider.BlobStore {
		return func(t *testing.T, store *providertest.Memory) provider.BlobStore {
			for key := range fresh {
				b, _, err := provider.ReadAll(t.Context(), store, key, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				put(t, store, key, change(b))
			}
			return store
		}
	}
	for what, c := range map[string]struct {
		name  string
		mend  func(*testing.T, *providertest.Memory) provider.BlobStore
		again bool
	}{
		"undisturbed":      {name: "w"},
		"another workload": {name: "other", again: true},
		"half stored":      {name: "w", again: true, mend: damage(func(b []byte) []byte { return b[:len(b)/2] })},
		"a flipped bit":    {name: "w", again: true, mend: damage(func(b []byte) []byte { b[len(b)/2] ^= 1; return b })},
		"sessions may not be listed": {name: "w", again: true, mend: func(_ *testing.T, store *providertest.Memory) provider.BlobStore {
			return refusing{BlobStore: store, list: "sessions/"}
		}},
		"packs may not be read": {name: "w", again: true, mend: func(_ *testing.T, store *providertest.Memory) provider.BlobStore {
			return refusing{BlobStore: store, get: "data/"}
		}},
		"packs are cold": {name: "w", again: true, mend: func(_ *testing.T, store *providertest.Memory) provider.BlobStore {
			return providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
				if c.Op == "get" && isPack(c.Key) {
					return providertest.Fault{Before: provider.ErrCold}
				}
				return providertest.Fault{}
			})
		}},
	} {
		t.Run(what, func(t *testing.T) {
			store := copyStore(t, killed)
			seen := provider.BlobStore(store)
			if c.mend != nil {
				seen = c.mend(t, store)
			}
			conf := config(seen)
			conf.PackSize = 1 << 20
			p := mustBackup(t, backup.Fresh(reopen(t, store), conf), c.name, s.two, backup.Full)
			if (p.Stats.BytesNew == newBytes) != c.again {
				t.Errorf("%d bytes were new", p.Stats.BytesNew)
			}
			mustHold(t, reopen(t, store), p.ID, s.two.files)
		})
	}
}

// A backup that is alive is adopted from, too, since nobody can know; both
// points are whole, and nothing is stored twice by the one that came later.
func TestAdoptsFromALivingBackup(t *testing.T) {
	s := newScene(t)
	store := copyStore(t, s.store)
	c := config(store)
	c.PackSize, c.Uploads = 1<<20, 1
	before := len(packsIn(t, store))
	var second backup.Point
	slow := &tree{files: s.two.files, during: func(at string) error {
		if at == "new3" && second.ID == "" {
			for end := time.Now().Add(time.Minute); len(packsIn(t, store)) == before && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			second = mustBackup(t, reopenWith(t, c), "w", &tree{files: s.two.files}, backup.Full)
		}
		return nil
	}}
	first := mustBackup(t, reopenWith(t, c), "w", slow, backup.Full)
	for _, p := range []backup.PointID{first.ID, second.ID} {
		mustHold(t, reopen(t, store), p, s.two.files)
	}
	if second.Stats.BytesNew >= first.Stats.BytesNew || len(packsIn(t, store)) < before+2 {
		t.Errorf("the second stored %d bytes, the first %d", second.Stats.BytesNew, first.Stats.BytesNew)
	}
	if rep, err := reopen(t, store).Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// Who has a cache goes on from what is noted there, whether he can read or not,
// and reads no pack for it. Nobody else takes such a note for true.
func TestAdoptsByNotes(t *testing.T) {
	s := newScene(t)
	credential, err := reopen(t, s.store).Seal(t.Context(), "sealed")
	if err != nil {
		t.Fatal(err)
	}
	other, err := reopen(t, s.store).Seal(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir()
	holder := func(c *backup.Config) { c.Cache = cache }
	sealed := func(by backup.Credential) func(*backup.Config) {
		return func(c *backup.Config) { c.Keyring, c.Writer, c.Credential, c.Cache = backup.Keyring{}, "", by, cache }
	}
	for what, w := range map[string]struct {
		before, after func(*backup.Config)
		again         bool
	}{
		"a holder":              {before: holder, after: holder},
		"a sealed writer":       {before: sealed(credential), after: sealed(credential)},
		"another sealed writer": {before: sealed(credential), after: sealed(other), again: true},
	} {
		store := s.killed(t, 2, w.before)
		c := config(createOnly{store, t})
		c.PackSize = 1 << 20
		w.after(&c)
		p := mustBackup(t, reopenWith(t, c), "w", s.two, backup.Full)
		if (twice(t, store) == 0) == w.again {
			t.Errorf("%s: %d bytes were new, %d stored twice", what, p.Stats.BytesNew, twice(t, store))
		}
		mustHold(t, reopen(t, store), p.ID, s.two.files)
	}
}

// What is condemned is not adopted, whoever has noted what is in it.
func TestAdoptsNothingCondemned(t *testing.T) {
	s := newScene(t)
	cache := t.TempDir()
	store := s.killed(t, 2, func(c *backup.Config) { c.Cache = cache })
	for info := range store.List(t.Context(), "sessions/", provider.ListOptions{}) {
		if id := backup.PointID(strings.TrimPrefix(info.Key, "sessions/")); id != s.first {
			if err := backup.GiveUp(t.Context(), reopen(t, store), id); err != nil {
				t.Fatal(err)
			}
		}
	}
	prune := func() (rep backup.PruneReport) {
		rep, err := reopen(t, store).Prune(t.Context(), backup.PruneOptions{MinGarbage: 1})
		if err != nil {
			t.Fatal(err)
		}
		return rep
	}
	var p backup.Point
	c := config(store)
	c.PackSize, c.Cache = 1<<20, cache
	slow := treeOf(map[string]string{"x": "another backup, which the prune waits for"})
	slow.during = func(string) error {
		if rep := prune(); rep.Pending.Packs == 0 {
			t.Errorf("nothing is condemned: %+v", rep)
		}
		p = mustBackup(t, reopenWith(t, c), "w", s.two, backup.Full)
		return nil
	}
	mustBackup(t, reopen(t, store), "other", slow, backup.Full)
	if p.Stats.BytesNew != newBytes {
		t.Errorf("%d bytes were new, all were condemned", p.Stats.BytesNew)
	}
	prune()
	prune()
	mustHold(t, reopen(t, store), p.ID, s.two.files)
}

// What was adopted stays, also if the session that wrote it is declared dead
// and a prune begins just then.
func TestAdoptsBesideAPrune(t *testing.T) {
	s := newScene(t)
	store := s.killed(t, 2)
	c := config(store)
	c.PackSize = 1 << 20
	var dead backup.PointID
	for info := range store.List(t.Context(), "sessions/", provider.ListOptions{}) {
		if id := backup.PointID(strings.TrimPrefix(info.Key, "sessions/")); id != s.first {
			dead = id
		}
	}
	prune := func() {
		if _, err := reopen(t, store).Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err != nil {
			t.Fatal(err)
		}
	}
	target := &tree{files: s.two.files, during: func(at string) error {
		if at == "a" {
			if err := backup.GiveUp(t.Context(), reopen(t, store), dead); err != nil {
				return err
			}
			prune()
		}
		return nil
	}}
	p := mustBackup(t, reopenWith(t, c), "w", target, backup.Full)
	if p.Stats.BytesNew == newBytes {
		t.Error("nothing was adopted: this tests nothing")
	}
	prune()
	prune()
	mustHold(t, reopen(t, store), p.ID, s.two.files)
}

// Under a lock, what was adopted is known to be locked as long as it is, so it
// is not stored again for that.
func TestAdoptsUnderALock(t *testing.T) {
	s := newScene(t)
	lock := func(c *backup.Config) {
		c.Lock = backup.Lock{Mode: provider.Governance, Keep: 10 * day, Ahead: 2 * day}
	}
	for _, locked := range []bool{true, false} {
		var before []func(*backup.Config)
		if locked {
			before = append(before, lock)
		}
		store := s.killed(t, 2, before...)
		c := config(store)
		c.PackSize = 1 << 20
		lock(&c)
		p := mustBackup(t, reopenWith(t, c), "w", s.two, backup.Full)
		if again := p.Stats.BytesNew >= newBytes; again == locked {
			t.Errorf("locked: %t, %d bytes were new", locked, p.Stats.BytesNew)
		}
	}
}

// A reply to the Put of a pack that was lost is settled by looking: the pack is
// not sent again. Where one may not look, it is.
func TestLostReplyIsNotSentAgain(t *testing.T) {
	s := newScene(t)
	for _, may := range []bool{true, false} {
		var mu sync.Mutex
		puts := map[string]int{}
		store := copyStore(t, s.store)
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "stat" && isPack(c.Key) && !may {
				return providertest.Fault{Before: fs.ErrPermission}
			}
			if c.Op == "put" && isPack(c.Key) {
				puts[c.Key]++
				return providertest.Fault{After: providertest.ErrInjected}
			}
			return providertest.Fault{}
		})
		c := config(f)
		c.PackSize = 1 << 20
		p, err := reopenWith(t, c).Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		if err != nil {
			t.Errorf("may look: %t: %v", may, err)
		}
		for key, n := range puts {
			if want := map[bool]int{true: 1, false: 2}[may]; n != want {
				t.Errorf("may look: %t: %s was sent %d times", may, key, n)
			}
		}
		s.survives(t, "lost replies", store, p, err)
	}
}

// A backup that is cancelled, whose store then fails, is like one that was
// killed.
func TestCancelledResendsNothing(t *testing.T) {
	s := newScene(t)
	for n := range 4 {
		for _, index := range []bool{true, false} {
			store := copyStore(t, s.store)
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			puts := 0
			f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
				mu.Lock()
				defer mu.Unlock()
				if c.Op == "put" && isPack(c.Key) {
					if puts++; puts == n+1 {
						cancel()
						return providertest.Fault{After: context.Canceled}
					}
				}
				if !index && ctx.Err() != nil && c.Op == "put" && strings.HasPrefix(c.Key, "index/") {
					return providertest.Fault{Before: providertest.ErrInjected}
				}
				return providertest.Fault{}
			})
			c := config(f)
			c.PackSize = 1 << 20
			p, err := reopenWith(t, c).Backup(ctx, "w", s.two, backup.BackupOptions{})
			cancelled := ctx.Err() != nil
			cancel()
			if cancelled && err == nil {
				t.Errorf("cancelled at pack %d, and made a point", n)
			}
			s.survives(t, fmt.Sprintf("cancelled at pack %d, index: %t", n, index), store, p, err)
		}
	}
}

// A pack is noted before it is stored, no longer than until an index names it,
// and only for the size that it has in the store.
func TestNotesComeFirst(t *testing.T) {
	s := newScene(t)
	cache := t.TempDir()
	notes := func(key string) int {
		found, _ := filepath.Glob(filepath.Join(cache, "*", "own", "*", path.Base(key)))
		return len(found)
	}
	store := s.killed(t, 2, func(c *backup.Config) {
		c.Cache = cache
		c.Store = providertest.NewFaulty(c.Store, func(c providertest.Call) providertest.Fault {
			if c.Op == "put" && isPack(c.Key) && notes(c.Key) != 1 {
				t.Errorf("%s is being stored and not noted", c.Key)
			}
			return providertest.Fault{}
		})
	})
	var noted []string
	for _, info := range packsIn(t, store) {
		if notes(info.Key) > 0 {
			noted = append(noted, info.Key)
		}
	}
	if len(noted) < 2 {
		t.Fatalf("%v are noted", noted)
	}
	b, _, err := provider.ReadAll(t.Context(), store, noted[0], 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	put(t, store, noted[0], b[:len(b)/2])
	c := config(store)
	c.PackSize, c.Cache = 1<<20, cache
	p := mustBackup(t, reopenWith(t, c), "w", s.two, backup.Full)
	mustHold(t, reopen(t, store), p.ID, s.two.files)
	for n, key := range noted {
		if notes(key) != map[bool]int{true: 1, false: 0}[n == 0] {
			t.Errorf("%d notes of %s are left", notes(key), key)
		}
	}
}
