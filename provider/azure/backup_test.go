package azure_test

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
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

// A repository lives in a container, over a network that loses one reply in
// thirty: made, backed up to, checked, restored from, pruned.
func TestRepository(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	config := backup.Config{Store: open(t, server, server.NewContainer(t), n.through(server)), Writer: "w", PackSize: 2 << 20,
		Keyring: backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}}
	var replies atomic.Int32
	loses := func(*http.Response) error {
		if replies.Add(1)%30 == 0 {
			return errLost
		}
		return nil
	}
	n.spoil.Store(&loses)

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
	if err := repo.Forget(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	pruned, err := repo.Prune(ctx, backup.PruneOptions{MinGarbage: 0.01})
	if err != nil || pruned.Deleted.Bytes == 0 {
		t.Errorf("prune: %+v, %v", pruned, err)
	}
	check(1)
	got := things{}
	if err := repo.Restore(ctx, second.ID, got, backup.Destination{}, backup.RestoreOptions{}); err != nil || !maps.Equal(got, data) {
		t.Errorf("restore: %v, the same: %v", err, maps.Equal(got, data))
	}
	if replies.Load() < 90 {
		t.Errorf("only %d requests were made", replies.Load())
	}
}

// A lease and a journal live in a container: of many who ask one gets the
// lease, and a run is written down to its end.
func TestFailover(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	ctx := t.Context()
	var held atomic.Int32
	var g sync.WaitGroup
	for range 6 {
		store := open(t, server, container, nil)
		g.Go(func() {
			l, err := failover.OpenLease(ctx, failover.LeaseConfig{Store: store, Service: "race", Holder: "h", TTL: time.Hour})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.TryAcquire(ctx); err == nil {
				held.Add(1)
			}
		})
	}
	g.Wait()
	if held.Load() != 1 {
		t.Errorf("%d hold the lease", held.Load())
	}

	plan, err := failover.NewPlan(failover.PlanConfig{Kind: failover.Failover, Service: "shop", From: "east", To: "west",
		Created: time.Now().UTC(), Settle: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var fenced atomic.Bool
	confirmed := failover.Evidence{failover.EvidenceConfirmed: "true"}
	actions := map[string]failover.Action{}
	for _, step := range plan.Steps {
		actions[step.Action] = failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) { return nil, nil }}
	}
	actions["fence"] = failover.ActionFuncs{
		DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) {
			fenced.Store(true)
			return confirmed, nil
		},
		ObserveFunc: func(context.Context, failover.Call) (failover.Observation, error) {
			return failover.Observation{Done: fenced.Load(), Evidence: confirmed}, nil
		},
	}
	result, err := failover.Run(ctx, failover.Config{Store: open(t, server, container, nil), Actions: actions}, plan)
	if err != nil {
		t.Fatalf("%+v: %v", result, err)
	}
	loaded, err := failover.Load(ctx, open(t, server, container, nil), plan.ID)
	if err != nil || loaded.Outcome != failover.Completed {
		t.Errorf("%v, loaded %v, %v", result.Outcome, loaded.Outcome, err)
	}
}
