package backup_test

import (
	"context"
	"errors"
	"fmt"
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

// metaPackOf is the pack of the list of items that a point has stored.
func metaPackOf(t testing.TB, r *backup.Repository, id backup.PointID, but ...string) string {
	t.Helper()
	for _, info := range collect(t, r.Objects(t.Context(), "points/"+string(id))) {
		if strings.HasPrefix(info.Key, "meta/") && !slices.Contains(but, info.Key) {
			return info.Key
		}
	}
	t.Fatal("the point has no list of its own")
	return ""
}

// manyItems is a tree whose list has several pages.
func manyItems(seed int) *tree {
	files := map[string]string{}
	for i := range 8000 {
		files[fmt.Sprintf("directory-with-a-name-%d/file-%06d", seed, i)] = ""
	}
	for i := range 40 {
		files[fmt.Sprintf("directory-with-a-name-%d/file-%06d", seed, i*100)] = random(uint64(seed*1000+i), 5000)
	}
	return treeOf(files)
}

// A lossy scene is a repository with a sound point, two with the same damaged
// list, and garbage.
type lossy struct {
	store            *providertest.Memory
	kept, hurt, twin backup.PointID
	sound            map[string]file
	before           backup.CheckReport
}

func newLossy(t *testing.T) *lossy {
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	sound, damaged, garbage := manyItems(1), manyItems(2), manyItems(3)
	s := &lossy{store: store, sound: sound.files}
	s.kept = mustBackup(t, r, "w", sound, backup.Full).ID
	s.hurt = mustBackup(t, r, "w", damaged, backup.Full).ID
	s.twin = mustBackup(t, r, "w", damaged, backup.Full).ID // with the same list
	gone := mustBackup(t, r, "w", garbage, backup.Full)
	if err := r.Forget(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	list := metaPackOf(t, r, s.hurt)
	info, err := store.Stat(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	r = reopenWith(t, plain(store))
	for at := 1000; ; at += 200 { // until it is a page of the list, and not its root
		if int64(at) >= info.Size {
			t.Fatalf("no byte of %d is in a page that is a part of the list: %s", info.Size, s.before)
		}
		flip(t, store, list, at)
		s.before = mustCheck(t, r, backup.CheckOptions{ReadData: true})
		if d := s.before.Damaged; len(d) == 2 && d[0].Items > 0 && d[0].Items < int64(len(damaged.files)) {
			return s
		}
		flip(t, store, list, at)
	}
}

// asBefore checks that the sound point is whole, and that of the damaged ones as
// much is left as there was.
func (s *lossy) asBefore(t *testing.T, store *providertest.Memory) {
	t.Helper()
	r := reopenWith(t, plain(store))
	mustHold(t, r, s.kept, s.sound)
	after := mustCheck(t, r, backup.CheckOptions{ReadData: true})
	if d := after.Damaged; len(d) != 2 || d[0].Items != s.before.Damaged[0].Items || d[1].Items != s.before.Damaged[1].Items {
		t.Errorf("before %s\nafter %s", s.before, after)
	}
}

// A point with a damaged list stops a prune, unless it is named; then all that
// can be read of it stays, and so does every other point. A point that shares
// the damage and is not named still stops it, in whatever order they come.
func TestPruneMayLose(t *testing.T) {
	s := newLossy(t)
	store, kept, hurt, twin := s.store, s.kept, s.hurt, s.twin
	r := reopenWith(t, plain(store))
	packs := len(keysOf(t, store, "data/", "meta/"))
	for _, mayLose := range [][]backup.PointID{nil, {hurt}, {twin}, {kept}, {hurt, kept}} {
		for _, dry := range []bool{true, false} {
			_, err := r.Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01, MayLose: mayLose, DryRun: dry})
			if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), "PruneOptions.MayLose") {
				t.Errorf("may lose %v: %v", mayLose, err)
			}
		}
	}
	if n := len(keysOf(t, store, "data/", "meta/")); n != packs {
		t.Errorf("%d of %d packs are left", n, packs)
	}
	if _, err := r.Prune(t.Context(), backup.PruneOptions{MayLose: []backup.PointID{"x"}}); err == nil || !strings.Contains(err.Error(), "field MayLose") {
		t.Errorf("an id that is none: %v", err)
	}
	for range 2 {
		rep := mustPrune(t, r, backup.PruneOptions{MinGarbage: 0.01, MayLose: []backup.PointID{twin, hurt}})
		if !slices.Equal(rep.Lossy, []backup.PointID{hurt, twin}) || rep.Points != 3 {
			t.Errorf("prune: %+v", rep)
		}
	}
	if n := len(keysOf(t, store, "data/", "meta/")); n >= packs {
		t.Errorf("%d of %d packs are left", n, packs)
	}
	s.asBefore(t, store)
	// A manifest that cannot be read is another matter.
	flip(t, store, "points/"+string(hurt), -1)
	if _, err := r.Prune(t.Context(), backup.PruneOptions{MayLose: []backup.PointID{hurt, twin}}); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("with a damaged manifest: %v", err)
	}
}

// What a prune leaves that was killed while it deleted is reported, and removed
// when somebody says that it is gone.
func TestPruneGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r := manyPoints(t, 2)
		ids := collect(t, r.Points(t.Context(), ""))
		if err := r.Forget(t.Context(), ids[0].ID); err != nil {
			t.Fatal(err)
		}
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			return providertest.Fault{Crash: c.Op == "delete" && strings.HasPrefix(c.Key, "data/")}
		})
		if _, err := reopenWith(t, plain(f)).Prune(t.Context(), backup.PruneOptions{MinGarbage: 1}); err == nil {
			t.Fatal("a killed prune succeeded")
		}
		time.Sleep(time.Hour)
		rep := mustPrune(t, r, backup.PruneOptions{MinGarbage: 1})
		if len(rep.Interrupted) != 1 || rep.Deleted.Packs == 0 {
			t.Fatalf("prune: %+v", rep)
		}
		check := mustCheck(t, r, backup.CheckOptions{ReadData: true})
		if !check.OK() || !slices.Equal(check.Interrupted, rep.Interrupted) || !strings.Contains(check.String(), rep.Interrupted[0]+": a prune is deleting packs, or was killed") {
			t.Errorf("check: %s", check)
		}
		key := rep.Interrupted[0]
		plan, _, _ := strings.Cut(key, ".deleting-")
		for _, bad := range []string{"", plan, plan + ".closed", plan + ".deleting-", key + "0", key[:len(key)-1] + "X", "points/" + string(ids[1].ID), "x" + key} {
			if _, err := r.Prune(t.Context(), backup.PruneOptions{Gone: []string{bad}}); err == nil || !strings.Contains(err.Error(), "field Gone") {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if _, err := r.Prune(t.Context(), backup.PruneOptions{Gone: []string{key}, DryRun: true}); err != nil {
			t.Error(err)
		}
		if _, err := store.Stat(t.Context(), key); err != nil {
			t.Errorf("a dry run removed it: %v", err)
		}
		rep = mustPrune(t, r, backup.PruneOptions{Gone: []string{key}})
		if left := keysOf(t, store, "condemned/"); len(left) > 0 || len(rep.Interrupted) > 0 {
			t.Errorf("left are %v: %+v", left, rep)
		}
		if check := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !check.OK() || check.Whole != 1 {
			t.Errorf("check: %s", check)
		}
		mustPrune(t, r, backup.PruneOptions{Gone: []string{key}}) // again
	})
}

// everyRequest calls try with each request of a prune that fails: killed before
// it or after it, or its reply lost. run is the prune.
func everyRequest(t *testing.T, base *providertest.Memory, step int, run func(provider.BlobStore) error, after func(name string, store *providertest.Memory)) {
	t.Helper()
	calls := 0
	try := func(script providertest.Script) (*providertest.Memory, error) {
		store := copyStore(t, base)
		f := providertest.NewFaulty(store, script)
		err := run(f)
		calls = max(calls, len(f.Calls()))
		return store, err
	}
	store, err := try(nil)
	if err != nil || calls < 10 {
		t.Fatalf("undisturbed: %v after %d requests", err, calls)
	}
	after("undisturbed", store)
	all := calls
	for n := 1; n <= all; n += step {
		for name, script := range map[string]providertest.Script{"killed before": providertest.CrashBefore(n), "killed after": providertest.CrashAfter(n),
			"lost reply": func(c providertest.Call) (f providertest.Fault) {
				if c.N == n {
					f.After = providertest.ErrInjected
				}
				return f
			}, "refused": func(c providertest.Call) (f providertest.Fault) {
				if c.N == n {
					f.Before = providertest.ErrInjected
				}
				return f
			}} {
			store, _ := try(script)
			after(fmt.Sprintf("%s request %d of %d", name, n, all), store)
			if t.Failed() {
				t.Fatalf("%s request %d of %d", name, n, all)
			}
		}
	}
}

// A prune of damaged lists that is interrupted anywhere has lost nothing, and
// the next one ends it.
func TestPruneMayLoseCrash(t *testing.T) {
	s := newLossy(t)
	step := 16
	if long() {
		step = 1
	}
	o := backup.PruneOptions{MinGarbage: 0.01, MayLose: []backup.PointID{s.hurt, s.twin}}
	packs := 0
	everyRequest(t, s.store, step, func(store provider.BlobStore) error {
		r, err := backup.Open(t.Context(), plain(store))
		if err == nil {
			_, err = r.Prune(t.Context(), o)
		}
		return err
	}, func(name string, store *providertest.Memory) {
		s.asBefore(t, store)
		r := reopenWith(t, plain(store))
		rep := mustPrune(t, r, o)
		if len(rep.Interrupted) > 0 {
			o := o
			o.Gone = rep.Interrupted
			mustPrune(t, r, o)
		}
		s.asBefore(t, store)
		if n := len(keysOf(t, store, "data/", "meta/")); packs == 0 {
			packs = n
		} else if n != packs {
			t.Errorf("%s: %d packs are left, want %d", name, n, packs)
		}
		if left := keysOf(t, store, "condemned/"); len(left) > 0 {
			t.Errorf("%s: left are %v", name, left)
		}
	})
}

// killedWhileDeleting leaves a repository of one point, and what a prune leaves
// that was killed while it deleted.
func killedWhileDeleting(t *testing.T) (store *providertest.Memory, r *backup.Repository, record string) {
	t.Helper()
	store, r = manyPoints(t, 2)
	if err := r.Forget(t.Context(), collect(t, r.Points(t.Context(), ""))[0].ID); err != nil {
		t.Fatal(err)
	}
	f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
		return providertest.Fault{Crash: c.Op == "delete" && strings.HasPrefix(c.Key, "data/")}
	})
	if _, err := reopenWith(t, plain(f)).Prune(t.Context(), backup.PruneOptions{MinGarbage: 1}); err == nil {
		t.Fatal("a killed prune succeeded")
	}
	for _, key := range keysOf(t, store, "condemned/") {
		if strings.Contains(key, ".deleting-") {
			record = key
		}
	}
	if record == "" {
		t.Fatal("the killed prune has left no record")
	}
	return store, r, record
}

// A prune that was told of a record is interrupted anywhere: told again, the
// next one ends it.
func TestPruneGoneCrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base, _, record := killedWhileDeleting(t)
		o := backup.PruneOptions{MinGarbage: 1, Gone: []string{record}}
		everyRequest(t, base, 1, func(store provider.BlobStore) error {
			r, err := backup.Open(t.Context(), plain(store))
			if err == nil {
				_, err = r.Prune(t.Context(), o)
			}
			return err
		}, func(name string, store *providertest.Memory) {
			r := reopenWith(t, plain(store))
			mustBeSound(t, r)
			o := o
			for range 2 { // of the second may be what the first was interrupted at
				o.Gone = append(o.Gone, mustPrune(t, r, o).Interrupted...)
			}
			if left := keysOf(t, store, "condemned/"); len(left) > 0 {
				t.Errorf("%s: left are %v", name, left)
			}
			if n := len(keysOf(t, store, "data/")); n != 1 {
				t.Errorf("%s: %d packs of content", name, n)
			}
			mustBeSound(t, r)
		})
	})
}

// What a prune that still runs has recorded stays when another record is said to
// be gone, and with it what keeps a copy from bringing the packs again.
func TestPruneGoneLeavesOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r, record := killedWhileDeleting(t)
		deleting, proceed := make(chan struct{}), make(chan struct{})
		var once sync.Once
		slow := providertest.NewFaulty(store, func(c providertest.Call) (f providertest.Fault) {
			if c.Op == "delete" && strings.HasPrefix(c.Key, "data/") {
				f.Wait = func(context.Context) error {
					once.Do(func() { close(deleting) })
					<-proceed
					return nil
				}
			}
			return f
		})
		running := reopenWith(t, plain(slow))
		done := make(chan error)
		go func() {
			_, err := running.Prune(t.Context(), backup.PruneOptions{MinGarbage: 1})
			done <- err
		}()
		<-deleting
		rep := mustPrune(t, r, backup.PruneOptions{MinGarbage: 1, Gone: []string{record}})
		if len(rep.Interrupted) != 1 || rep.Interrupted[0] == record {
			t.Errorf("interrupted are %v, want the one that runs and not %s", rep.Interrupted, record)
		}
		plan, _, _ := strings.Cut(record, ".deleting-")
		for _, key := range append(rep.Interrupted, plan, plan+".verdict") {
			if _, err := store.Stat(t.Context(), key); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
		close(proceed)
		if err := <-done; err != nil {
			t.Errorf("the prune that was running: %v", err)
		}
		mustPrune(t, r, backup.PruneOptions{MinGarbage: 1})
		if left := keysOf(t, store, "condemned/"); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
		mustBeSound(t, r)
	})
}
