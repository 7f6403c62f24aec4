package backup_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func lockConfig(store provider.BlobStore) backup.Config {
	c := config(store)
	c.Lock = backup.Lock{Mode: provider.Governance, Keep: 10 * day, Ahead: 4 * day, Raw: time.Hour}
	return c
}

func mustExtend(t testing.TB, r *backup.Repository, o backup.ExtendOptions) backup.ExtendReport {
	t.Helper()
	rep, err := r.ExtendLocks(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// mustBeLocked checks that nothing that a point needs can be deleted for so
// long.
func mustBeLocked(t testing.TB, store provider.BlobStore, r *backup.Repository, id backup.PointID, least time.Duration) {
	t.Helper()
	keys := []string{"points/" + string(id)}
	for _, info := range collect(t, r.Objects(t.Context(), keys[0])) {
		keys = append(keys, info.Key)
	}
	p, err := r.Point(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range p.Logs {
		l, err := r.Log(n.Log)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range collect(t, l.Segments(t.Context(), n.Branch, n.From, 0)) {
			keys = append(keys, s.Key)
		}
	}
	for _, key := range keys {
		info, err := store.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(info.Retain.Until); info.Retain.IsZero() || left < least {
			t.Errorf("%s, which point %s needs, is locked for %v, want %v", key, id, left, least)
		}
	}
}

// For two months, nothing that a kept point needs can be deleted on any day;
// later points rely on old packs; and what only a point needs that is kept no
// more is told as locked garbage and then freed.
func TestExtendLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewBucket(providertest.BucketOptions{})
		r, err := backup.Init(t.Context(), lockConfig(store))
		if err != nil {
			t.Fatal(err)
		}
		l := logOf(t, r)
		mustAppend(t, l, 1, 0, 100, 200, 300, 400)
		kept := treeOf(map[string]string{"a": random(1, 3_000_000)})
		first := mustBackup(t, r, "w", kept, backup.Full)
		db := mustBackup(t, r, "db", need(1, 150), backup.Full)
		gone := mustBackup(t, r, "gone", treeOf(map[string]string{"a": random(2, 2_000_000)}), backup.Full)
		keep := backup.ExtendOptions{Keep: func(p backup.Point) bool { return p.ID != gone.ID }}
		mustCompact(t, l)
		points, extended, garbage := 2, int64(0), int64(0)
		for d := range 60 {
			time.Sleep(day)
			r := reopenWith(t, lockConfig(store))
			dry := keep
			dry.DryRun = true
			would := mustExtend(t, r, dry)
			rep := mustExtend(t, r, keep)
			if rep.Extended != would.Extended || rep.Points != points {
				t.Errorf("day %d: %+v, a dry run %+v", d, rep, would)
			}
			extended += rep.Extended.Bytes
			if rep.Extended.Objects == 0 && rep.Stored > 0 {
				t.Errorf("day %d: an index for nothing: %+v", d, rep)
			}
			r = reopenWith(t, lockConfig(store))
			mustBeLocked(t, store, r, first.ID, 10*day)
			mustBeLocked(t, store, r, db.ID, 10*day)
			if d == 14 { // locks end at the next whole second
				if err := r.Forget(t.Context(), gone.ID); err != nil {
					t.Fatalf("its locks are over: %v", err)
				}
			}
			if d == 20 {
				points++
				p := mustBackup(t, r, "w", kept, backup.Full)
				if p.Stats.BytesNew != 0 {
					t.Errorf("day %d: %d bytes were stored again", d, p.Stats.BytesNew)
				}
			}
			if pruned := mustPrune(t, r, backup.PruneOptions{}); d >= 14 {
				garbage += pruned.Deleted.Bytes
			}
		}
		if extended > 22*3_100_000 { // what is needed, every third day
			t.Errorf("%d bytes were extended in 60 runs", extended)
		}
		if garbage < 2_000_000 {
			t.Errorf("%d bytes were freed", garbage)
		}
		mustHold(t, reopenWith(t, lockConfig(store)), first.ID, kept.files)
		if n := len(collect(t, store.List(t.Context(), "index/", provider.ListOptions{}))); n > 20 {
			t.Errorf("%d indexes are left", n)
		}
	})
}

// Garbage is told with its bytes and the end of its lock, and deleted after.
func TestPruneLockedGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, store := range []provider.BlobStore{providertest.NewMemory(), providertest.NewBucket(providertest.BucketOptions{})} {
			c := lockConfig(store)
			c.PackSize = 1 << 20
			r, err := backup.Init(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			// Uploaded, and then no point: garbage, once its session is over.
			broken := treeOf(map[string]string{"a": random(3, 5_000_000), "b": "x"})
			broken.during = func(path string) error {
				if path == "b" {
					return errors.New("stop")
				}
				return nil
			}
			if _, err := r.Backup(t.Context(), "w", broken, backup.BackupOptions{}); err == nil {
				t.Fatal("no error")
			}
			mustBackup(t, r, "w", treeOf(map[string]string{"a": "b"}), backup.Full)
			time.Sleep(8 * day)
			rep := mustPrune(t, reopenWith(t, c), backup.PruneOptions{})
			var bytes int64
			for _, g := range rep.Locked {
				bytes += g.Size
				if left := g.Until.Sub(began); left < 14*day || left > 14*day+time.Minute {
					t.Errorf("%s is locked for %v", g.Key, left)
				}
			}
			if bytes < 2_000_000 || rep.Deleted.Packs != 0 {
				t.Errorf("locked %d bytes: %+v", bytes, rep)
			}
			mustExtend(t, reopenWith(t, c), backup.ExtendOptions{})
			time.Sleep(6*day + time.Hour)
			if rep := mustPrune(t, reopenWith(t, c), backup.PruneOptions{}); rep.Deleted.Bytes < bytes || len(rep.Locked) != 0 {
				t.Errorf("after the lock, of %d bytes: %+v", bytes, rep)
			}
		}
	})
}

// A run is killed, or a reply lost, at every request: the index claims nothing
// that is not so, and the next run ends with everything locked.
func TestExtendLocksCrash(t *testing.T) {
	fresh := func(t *testing.T) (*providertest.Bucket, backup.PointID) {
		store := providertest.NewBucket(providertest.BucketOptions{})
		r, err := backup.Init(t.Context(), lockConfig(store))
		if err != nil {
			t.Fatal(err)
		}
		mustAppend(t, logOf(t, r), 1, 0, 100, 200)
		mustBackup(t, r, "db", need(1, 50), backup.Full)
		p := mustBackup(t, r, "w", treeOf(map[string]string{"a": random(1, 100_000)}), backup.Full)
		time.Sleep(3 * day)
		return store, p.ID
	}
	attempt := func(t *testing.T, s provider.BlobStore) error {
		r, err := backup.Open(t.Context(), lockConfig(s))
		if err == nil {
			_, err = r.ExtendLocks(t.Context(), backup.ExtendOptions{})
		}
		return err
	}
	calls := 0
	synctest.Test(t, func(t *testing.T) {
		store, _ := fresh(t)
		f := providertest.NewFaulty(store, nil)
		if err := attempt(t, f); err != nil {
			t.Fatal(err)
		}
		calls = len(f.Calls())
	})
	for n := 1; n <= calls; n++ {
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			synctest.Test(t, func(t *testing.T) {
				store, id := fresh(t)
				if attempt(t, providertest.NewFaulty(store, script)) == nil && n < calls {
					t.Errorf("crash at request %d went unnoticed", n)
				}
				r := reopenWith(t, lockConfig(store))
				for key, claim := range backup.LockClaims(t.Context(), r) {
					if info, err := store.Stat(t.Context(), key); err != nil || info.Retain.Until.Unix() < claim {
						t.Errorf("crash at request %d: %s is said to be locked until %d, and is until %v, %v", n, key, claim, info.Retain.Until, err)
					}
				}
				mustExtend(t, r, backup.ExtendOptions{})
				if again := mustExtend(t, reopenWith(t, lockConfig(store)), backup.ExtendOptions{}); again.Extended.Objects != 0 || again.Stored != 0 {
					t.Errorf("crash at request %d: the run after the next still did %+v", n, again)
				}
				mustBeLocked(t, store, r, id, 13*day)
			})
		}
	}
}

// What was put on top of a key is not locked in its place, and that is told.
func TestExtendLocksShadowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewBucket(providertest.BucketOptions{})
		r, err := backup.Init(t.Context(), lockConfig(store))
		if err != nil {
			t.Fatal(err)
		}
		p := mustBackup(t, r, "w", treeOf(map[string]string{"a": "b"}), backup.Full)
		packs := collect(t, store.List(t.Context(), "data/", provider.ListOptions{}))
		time.Sleep(time.Minute) // or their order would be chance
		same := mustBackup(t, r, "same", treeOf(map[string]string{"a": "b"}), backup.Full)
		time.Sleep(time.Minute)
		mustAppend(t, logOf(t, r), 1, 0, 100, 200)
		db := mustBackup(t, r, "db", need(1, 50), backup.Full)
		time.Sleep(3 * day)
		key := "points/" + string(p.ID)
		put(t, store, key, []byte("rubbish"))
		rep, err := reopenWith(t, lockConfig(store)).ExtendLocks(t.Context(), backup.ExtendOptions{})
		if err == nil || len(rep.Bad) != 1 || rep.Bad[0].Key != key || rep.Extended.Objects < 3 || !slices.Equal(rep.Exposed, []backup.PointID{p.ID}) {
			t.Errorf("%+v, %v", rep, err)
		}
		// A pack exposes whoever needs it, and a piece of a log all that need the log.
		time.Sleep(3 * day)
		put(t, store, packs[0].Key, []byte("rubbish"))
		if rep, err := reopenWith(t, lockConfig(store)).ExtendLocks(t.Context(), backup.ExtendOptions{}); err == nil || !slices.Equal(rep.Exposed, []backup.PointID{p.ID, same.ID}) {
			t.Errorf("%+v, %v", rep, err)
		}
		time.Sleep(3 * day)
		for _, s := range collect(t, logOf(t, r).Segments(t.Context(), 1, 0, 0)) {
			put(t, store, s.Key, []byte("rubbish"))
		}
		if rep, err := reopenWith(t, lockConfig(store)).ExtendLocks(t.Context(), backup.ExtendOptions{}); err == nil || !slices.Equal(rep.Exposed, []backup.PointID{p.ID, same.ID, db.ID}) {
			t.Errorf("%+v, %v", rep, err)
		}
		if info, err := store.Stat(t.Context(), key); err != nil || !info.Retain.IsZero() {
			t.Errorf("the rubbish is locked: %+v, %v", info, err)
		}
	})
}

func TestExtendLocksNeeds(t *testing.T) {
	if _, err := newRepo(t, providertest.NewMemory()).ExtendLocks(t.Context(), backup.ExtendOptions{}); err == nil || !strings.Contains(err.Error(), "Lock is zero") {
		t.Errorf("without a Lock: %v", err)
	}
}

// The indexes are not believed when the store is asked: in a replica, whose
// packs have no locks, say.
func TestExtendLocksAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := providertest.NewMemory()
		p := mustBackup(t, newLocked(t, source), "w", treeOf(map[string]string{"a": random(1, 100_000)}), backup.Full)
		replica := copyStore(t, source)
		mustExtend(t, reopenWith(t, lockConfig(replica)), backup.ExtendOptions{Ask: true})
		mustBeLocked(t, replica, reopenWith(t, lockConfig(replica)), p.ID, 13*day)
	})
}

// What is attested is relied on as long as its lock lasts, whatever the
// indexes of its writer say.
func TestAttestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := providertest.NewMemory()
		holder := newLocked(t, store)
		target := treeOf(map[string]string{"a": random(1, 100_000)})
		cred, err := holder.Seal(t.Context(), "db1")
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := backup.Open(t.Context(), backup.Config{Store: store, Credential: cred, Lock: lockConfig(store).Lock})
		if err != nil {
			t.Fatal(err)
		}
		p := mustBackup(t, sealed, "w", target, backup.Full)
		mustExtend(t, reopenWith(t, lockConfig(store)), backup.ExtendOptions{}) // of packs not attested, too
		mustBeLocked(t, store, reopen(t, store), p.ID, 12*day)
		if rep, err := reopenWith(t, lockConfig(store)).Attest(t.Context(), backup.AttestOptions{}); err != nil || rep.Attested.Packs == 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if p := mustBackup(t, reopenWith(t, lockConfig(store)), "w", target, backup.Full); p.Stats.BytesNew != 0 {
			t.Errorf("after Attest, %d bytes were stored again", p.Stats.BytesNew)
		}
		time.Sleep(5 * day)
		if p := mustBackup(t, reopenWith(t, lockConfig(store)), "w", target, backup.Full); p.Stats.BytesNew != 100_000 {
			t.Errorf("%d bytes were stored again when the lock was used up", p.Stats.BytesNew)
		}
	})
}
