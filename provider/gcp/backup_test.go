package gcp_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// things are a target in memory.
type things map[string]string

func (things) Kind() string { return "things" }

func (f things) Backup(ctx context.Context, s *backup.Session) error {
	for _, p := range slices.SortedFunc(maps.Keys(f), backup.ComparePaths) {
		if err := s.Add(ctx, backup.Item{Path: p}, strings.NewReader(f[p])); err != nil {
			return err
		}
	}
	return nil
}

func (f things) Restore(ctx context.Context, v *backup.View, _ backup.Destination) error {
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		r, err := v.Open(ctx, it)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return err
		}
		f[it.Path] = string(b)
	}
	return nil
}

// A repository lives in a bucket, over a network that loses one reply in nine:
// made, backed up to, checked, restored from, pruned. In a bucket with versions
// and retention what is forgotten stays until its time has come.
func TestRepository(t *testing.T) {
	for name, lock := range map[string]backup.Lock{"plain": {}, "locked": {Mode: provider.Governance, Keep: 24 * time.Hour}} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name == "locked")
			id, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			config := backup.Config{Store: p.open(t, nil), Writer: "w", Lock: lock, PackSize: 2 << 20, Keyring: backup.Keyring{
				Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}}
			var n atomic.Int32
			loses := func(r *http.Response) error {
				if n.Add(1)%9 == 0 {
					return errLost
				}
				return nil
			}
			p.spoil.Store(&loses)

			ctx := t.Context()
			if _, err := backup.Init(ctx, config); err != nil {
				t.Fatal(err)
			}
			repo, err := backup.Open(ctx, config)
			if err != nil {
				t.Fatal(err)
			}
			data := things{"a": string(noise(5 << 20)), "b": "b", "text": strings.Repeat("text ", 10_000)}
			first, err := repo.Backup(ctx, "shop", data, backup.BackupOptions{})
			if err != nil {
				t.Fatal(err)
			}
			data["a"], data["c"] = string(noise(1<<20)), "c"
			second, err := repo.Backup(ctx, "shop", data, backup.BackupOptions{Mode: backup.Incremental})
			if err != nil {
				t.Fatal(err)
			}
			check := func(points int) {
				t.Helper()
				rep, err := repo.Check(ctx, backup.CheckOptions{ReadData: true})
				if err != nil || len(rep.Problems) > 0 || len(rep.Damaged) > 0 || rep.Whole != points {
					t.Errorf("check: %v, %d points whole, %v, %v", err, rep.Whole, rep.Problems, rep.Damaged)
				}
			}
			check(2)
			err = repo.Forget(ctx, first.ID)
			if name == "locked" {
				if !errors.Is(err, provider.ErrLocked) {
					t.Errorf("forget a point that is locked: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := repo.Prune(ctx, backup.PruneOptions{MinGarbage: 0.01}); err != nil {
				t.Errorf("prune: %v", err)
			}
			check(1)
			got := things{}
			if err := repo.Restore(ctx, second.ID, got, backup.Destination{}, backup.RestoreOptions{}); err != nil || !maps.Equal(got, data) {
				t.Errorf("restore: %v, the same: %v", err, maps.Equal(got, data))
			}
			if n.Load() < 90 {
				t.Errorf("only %d requests were made", n.Load())
			}
		})
	}
}

// machine is a site that accepts writes or does not.
type machine struct{ writable bool }

func (m *machine) Fence(context.Context, uint64) (failover.FenceEvidence, error) {
	m.writable = false
	return failover.FenceEvidence{Method: "stopped", Confirmed: true}, nil
}

func (m *machine) Fenced(context.Context) (failover.FenceEvidence, error) {
	return failover.FenceEvidence{Method: "stopped", Confirmed: !m.writable}, nil
}

func (m *machine) Unfence(context.Context, uint64) error { m.writable = true; return nil }

func (m *machine) Promote(context.Context, uint64) (failover.Evidence, error) {
	m.writable = true
	return nil, nil
}

func (m *machine) Promoted(context.Context) (failover.Observation, error) {
	return failover.Observation{Done: m.writable}, nil
}

// A lease and a journal live in a bucket: of many who ask one gets the lease,
// and a run is written down to its end.
func TestFailover(t *testing.T) {
	p := newPlace(t, false)
	store, ctx := p.open(t, nil), t.Context()
	if err := failover.CheckStore(ctx, store); err != nil {
		t.Fatal(err)
	}
	var got atomic.Int32
	var g sync.WaitGroup
	for range 6 {
		g.Go(func() {
			l, err := failover.OpenLease(ctx, failover.LeaseConfig{Store: p.open(t, nil), Service: "race", Holder: "h", TTL: time.Hour})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.TryAcquire(ctx); err == nil {
				got.Add(1)
			}
		})
	}
	g.Wait()
	if got.Load() != 1 {
		t.Errorf("%d hold the lease", got.Load())
	}

	plan, err := failover.NewPlan(failover.PlanConfig{Kind: failover.Failover, Service: "shop", From: "east", To: "west",
		Created: time.Now().UTC(), Settle: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	nothing := failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) { return nil, nil }}
	actions := map[string]failover.Action{}
	for _, step := range plan.Steps {
		actions[step.Action] = nothing
	}
	east, west := &machine{writable: true}, &machine{}
	actions["fence"], actions["start"] = failover.FenceAction(east), failover.PromoteAction(west)
	result, err := failover.Run(ctx, failover.Config{Store: store, Actions: actions}, plan)
	if err != nil {
		t.Fatalf("%+v: %v", result, err)
	}
	loaded, err := failover.Load(ctx, p.open(t, nil), plan.ID)
	if err != nil || loaded.Outcome != result.Outcome || loaded.Outcome != failover.Completed {
		t.Errorf("%v, loaded %v, %v", result.Outcome, loaded.Outcome, err)
	}
}
