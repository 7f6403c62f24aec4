package backup_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

// copyTo replicates all points of a repository, as dr does.
func copyTo(ctx context.Context, r *backup.Repository, from, to provider.BlobStore) (replicate.Result, error) {
	return replicate.Copy(ctx, replicate.Config{Source: r, From: from, To: to, Parallel: 1,
		Hold: func(ctx context.Context, m []provider.Info) (replicate.Hold, error) { return r.Hold(ctx, to, m) }})
}

// mayPrune prunes a replica as soon as there is one.
func mayPrune(t *testing.T, s provider.BlobStore, o backup.PruneOptions) {
	t.Helper()
	r, err := backup.Open(t.Context(), config(s))
	if errors.Is(err, backup.ErrNoRepository) {
		return
	}
	if err == nil {
		_, err = r.Prune(t.Context(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// before calls f before each change of a store that it wraps.
type before struct {
	provider.BlobStore
	put func(key string)
}

func (b before) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	b.put(key)
	return b.BlobStore.Put(ctx, key, body, o)
}

// A destination that is pruned before every object that a copy stores loses
// nothing of it; without a hold it would.
func TestHoldBesidePrune(t *testing.T) {
	from := providertest.NewMemory()
	r := newRepo(t, from)
	want := map[string]file{"a": {content: random(1, 90_000)}, "b": {content: random(2, 70_000)}}
	p := mustBackup(t, r, "w", &tree{files: want}, backup.Full)

	run := func(held bool) error {
		to := providertest.NewMemory()
		c := replicate.Config{Source: r, From: from, Parallel: 1,
			To: before{to, func(string) { mayPrune(t, to, backup.PruneOptions{}) }}}
		if held {
			c.Hold = func(ctx context.Context, m []provider.Info) (replicate.Hold, error) { return r.Hold(ctx, to, m) }
		}
		if _, err := replicate.Copy(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		var got tree
		err := reopen(t, to).Restore(t.Context(), p.ID, &got, backup.Destination{}, backup.RestoreOptions{})
		if held {
			for range 2 {
				mayPrune(t, to, backup.PruneOptions{})
			}
			mustHold(t, reopen(t, to), p.ID, want)
			for _, prefix := range []string{"sessions/", "condemned/"} {
				if left := collect(t, to.List(t.Context(), prefix, provider.ListOptions{})); len(left) > 0 {
					t.Errorf("left over: %v", left)
				}
			}
		}
		return err
	}
	if err := run(true); err != nil {
		t.Error(err)
	}
	if err := run(false); err == nil {
		t.Error("without a hold nothing is lost, so this shows nothing")
	}
}

// A copy that sleeps for longer than prunes are patient stores no manifest,
// and the next one replaces the tombstone. One that shows that it is alive is
// waited for.
func TestHoldFenced(t *testing.T) {
	for _, alive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			from, to := providertest.NewMemory(), providertest.NewMemory()
			r := newRepo(t, from)
			want := map[string]file{"a": {content: random(1, 90_000)}}
			p := mustBackup(t, r, "w", &tree{files: want}, backup.Full)
			var hold *backup.Hold
			slept := false
			c := replicate.Config{Source: r, From: from, Parallel: 1,
				Hold: func(ctx context.Context, m []provider.Info) (_ replicate.Hold, err error) {
					hold, err = r.Hold(ctx, to, m)
					return hold, err
				}}
			c.To = before{to, func(key string) {
				if slept || !strings.HasPrefix(key, "points/") {
					return
				}
				slept = true
				for range 10 {
					time.Sleep(24 * time.Hour)
					if alive {
						if err := hold.Renew(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
				}
				mayPrune(t, to, backup.PruneOptions{})
			}}
			res, err := replicate.Copy(t.Context(), c)
			if arrived := len(res.Arrived) == 1; arrived != alive || (err == nil) != alive {
				t.Fatalf("alive: %t; arrived: %t, %v", alive, arrived, err)
			}
			if !alive {
				if got := collect(t, reopen(t, to).Points(t.Context(), "")); len(got) != 0 {
					t.Fatalf("points at the destination: %v", got)
				}
				if _, err := copyTo(t.Context(), r, from, to); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(30 * 24 * time.Hour)
			for range 2 {
				mayPrune(t, to, backup.PruneOptions{})
			}
			mustHold(t, reopen(t, to), p.ID, want)
			if left := collect(t, to.List(t.Context(), "sessions/", provider.ListOptions{})); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// A copy can be killed at every request at its destination, and prunes and
// the next copy put everything right.
func TestHoldCrashAtEveryRequest(t *testing.T) {
	from := providertest.NewMemory()
	r := newRepo(t, from)
	want := map[string]file{"a": {content: random(1, 90_000)}}
	p := mustBackup(t, r, "w", &tree{files: want}, backup.Full)
	f := providertest.NewFaulty(providertest.NewMemory(), nil)
	if _, err := copyTo(t.Context(), r, from, f); err != nil {
		t.Fatal(err)
	}
	calls := len(f.Calls())
	for n := 1; n <= calls; n++ {
		lost := func(c providertest.Call) (f providertest.Fault) {
			if c.N == n {
				f.After = providertest.ErrInjected
			}
			return f
		}
		for name, script := range map[string]providertest.Script{"before": providertest.CrashBefore(n), "after": providertest.CrashAfter(n), "lost reply": lost} {
			synctest.Test(t, func(t *testing.T) {
				to := providertest.NewMemory()
				res, err := copyTo(t.Context(), r, from, providertest.NewFaulty(to, script))
				for _, patience := range []time.Duration{0, time.Minute} {
					mayPrune(t, to, backup.PruneOptions{Patience: patience})
					time.Sleep(time.Hour)
				}
				if len(res.Arrived) > 0 {
					mustHold(t, reopen(t, to), p.ID, want)
				}
				if _, again := copyTo(t.Context(), r, from, to); again != nil {
					t.Fatalf("after %v: %v", err, again)
				}
				time.Sleep(8 * 24 * time.Hour)
				for range 2 {
					mayPrune(t, to, backup.PruneOptions{})
				}
				mustHold(t, reopen(t, to), p.ID, want)
				for _, prefix := range []string{"sessions/", "condemned/"} {
					if left := collect(t, to.List(t.Context(), prefix, provider.ListOptions{})); len(left) > 0 {
						t.Errorf("left over: %v", left)
					}
				}
			})
			if t.Failed() {
				t.Fatalf("%s at request %d of %d", name, n, calls)
			}
		}
	}
}

// A backup that fails is not waited for.
func TestFailedBackupEndsItsSession(t *testing.T) {
	s := providertest.NewMemory()
	r := newRepo(t, s)
	broken := errors.New("broken")
	target := treeOf(map[string]string{"a": random(1, 50_000), "b": random(2, 50_000)})
	target.during = func(path string) error {
		if path == "b" {
			return broken
		}
		return nil
	}
	if _, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{}); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	rep, err := r.Prune(t.Context(), backup.PruneOptions{})
	if err != nil || len(rep.Waiting) > 0 || rep.Pending.Packs > 0 {
		t.Errorf("%+v, %v", rep, err)
	}
}

// late calls f before the first deletion of a pack.
type late struct {
	provider.BlobStore
	f    func()
	once sync.Once
}

func (l *late) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	if strings.HasPrefix(key, "data/") {
		l.once.Do(l.f)
	}
	return l.BlobStore.Delete(ctx, key, o)
}

// A prune that sleeps just before it deletes a pack does not delete it after a
// copy has brought it again.
func TestHoldLateDelete(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	r := newRepo(t, from)
	want := map[string]file{"a": {content: random(1, 90_000)}}
	p := mustBackup(t, r, "w", &tree{files: want}, backup.Full)
	if _, err := copyTo(t.Context(), r, from, to); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, to).Forget(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	slept := false
	mayPrune(t, &late{BlobStore: to, f: func() {
		slept = true
		mayPrune(t, to, backup.PruneOptions{})
		if res, err := copyTo(t.Context(), r, from, to); !errors.Is(err, replicate.ErrLeaving) {
			t.Errorf("a copy brings what may still be deleted: %v, %v", res.Arrived, err)
		}
	}}, backup.PruneOptions{})
	if !slept {
		t.Fatal("nothing was deleted")
	}
	mayPrune(t, to, backup.PruneOptions{})
	if _, err := copyTo(t.Context(), r, from, to); err != nil {
		t.Fatal(err)
	}
	mustHold(t, reopen(t, to), p.ID, want)
}
