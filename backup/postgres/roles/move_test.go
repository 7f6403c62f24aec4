package roles_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// run performs a plan of package failover with real servers. The clients
// follow to where it leads.
func run(t *testing.T, store provider.BlobStore, kind failover.Kind, from, to string, oldS, newS *roles.Server, l *load, newPG *testenv.PG, optional ...string) failover.Result {
	t.Helper()
	plan, err := failover.NewPlan(failover.PlanConfig{Kind: kind, Service: "db", From: from, To: to, Created: time.Now(), Settle: 10 * time.Millisecond})
	must(t, err)
	nothing := failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) { return nil, nil }}
	every := 50 * time.Millisecond
	c := failover.Config{Store: store, Backoff: 10 * time.Millisecond, Actions: map[string]failover.Action{
		"verify-reversed": failover.ProbeAction(every, newS.Streaming(time.Minute)),
		"verify-standby":  failover.ProbeAction(every, newS.Standby(1<<30)),
		"fence":           failover.FenceAction(oldS),
		"quiesce":         oldS.Quiesce(),
		"final-sync":      newS.CatchUp("quiesce"),
		"check-position":  failover.CheckPosition("quiesce", "final-sync"),
		"restore":         nothing,
		"start":           failover.PromoteAction(newS),
		"verify-private":  failover.ProbeAction(every, newS.Writable()),
		"traffic": failover.ActionFuncs{DoFunc: func(context.Context, failover.Call) (failover.Evidence, error) {
			l.at.Store(newPG)
			return nil, nil
		}},
		"verify-public": failover.ProbeAction(every, newS.Writable()),
		"notify":        nothing,
	}}
	r, err := failover.Run(t.Context(), c, plan)
	if err != nil || r.Outcome != failover.Completed {
		t.Fatalf("%s: %+v, %v", kind, r, err)
	}
	return r
}

// killed is what knows that a server has been killed.
type killed struct {
	roles.PgCtl
	pg   *testenv.PG
	gone bool
}

func (k *killed) Stop(context.Context) error {
	if !k.gone {
		return errors.New("out of reach")
	}
	return nil
}
func (k *killed) Stopped(context.Context) (bool, error) { return k.gone, nil }

// repository has a backup of a cluster, and restores it over another.
func repository(t *testing.T, source, over *testenv.PG) func(context.Context) error {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	must(t, err)
	repo, err := backup.Init(t.Context(), backup.Config{Store: providertest.NewMemory(),
		Keyring: backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	must(t, err)
	target, err := postgres.New(postgres.Config{Conn: source.Conn})
	must(t, err)
	p, err := repo.Backup(t.Context(), "db", target, backup.BackupOptions{})
	must(t, err)
	return func(ctx context.Context) error {
		return repo.Restore(ctx, p.ID, target, backup.Destination{Location: over.Data, Options: map[string]string{
			"overwrite": "true", "target": "consistent", "owner": fmt.Sprintf("%d:%d", over.UID, over.GID)}}, backup.RestoreOptions{})
	}
}

// withoutRewind has all programs but pg_rewind.
func withoutRewind(t *testing.T, pg *testenv.PG) string {
	t.Helper()
	dir := filepath.Join(pg.Dir, "few")
	must(t, os.Mkdir(dir, 0o755))
	must(t, os.Symlink(filepath.Join(pg.Bin, "pg_ctl"), filepath.Join(dir, "pg_ctl")))
	return dir
}

// The story of two servers, under load: the primary is killed, and the
// standby takes over, without losing a commit that it was synchronous for; the
// old primary comes back as its standby, and takes over again by a failback
// that loses nothing; and the other one comes back by a restore.
func TestFailoverAndBack(t *testing.T) {
	for _, major := range majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			a := cluster(t, major)
			query(t, a, "app", "create table t (n int); grant all on t to app")
			b := standby(t, a, "standby")
			store := providertest.NewMemory()
			gone := &killed{PgCtl: machine(a), pg: a}
			as, bs := server(t, a, gone), server(t, b, machine(b))
			caughtUp(t, a, b)
			a.SQL(t, "alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
			l := startLoad(t, a, 4)
			l.grows(t)

			// The server is gone, and nothing is known until it is.
			a.Kill9(t)
			if ev, err := as.Fence(t.Context(), 1); err == nil || ev.Confirmed {
				t.Fatalf("nobody knows that it is stopped: %+v, %v", ev, err)
			}
			for _, p := range []failover.Probe{as.Writable(), bs.Writable()} {
				if text, err := p.Probe(t.Context()); err == nil {
					t.Errorf("%s: %s", p, text)
				}
			}
			eventually(t, "the standby notices", func() bool { _, err := bs.Streaming(time.Minute).Probe(t.Context()); return err != nil })
			gone.gone = true
			first := run(t, store, failover.Failover, "a", "b", as, bs, l, b)
			l.grows(t)
			if missing := l.missing(t, b); len(missing) > 0 {
				t.Errorf("%d of %d commits are lost, for which the standby was synchronous", len(missing), l.count())
			}

			// The old primary, which ended in a crash, is made a standby.
			restore := repository(t, b, a)
			way, why, err := roles.Rejoin(t.Context(), roles.RejoinConfig{Machine: machine(a), Primary: b.Conn, Restore: restore})
			if want := map[bool]string{true: roles.Restored, false: roles.Rewound}[major == 18]; err != nil || way != want {
				t.Fatalf("%s (%s), %v; want %s\n%s", way, why, err, want, a.Log())
			}
			gone.gone = false
			eventually(t, "it streams: "+a.Log(), func() bool { _, err := as.Streaming(time.Minute).Probe(t.Context()); return err == nil })
			if _, err := as.Fence(t.Context(), first.Epoch); err == nil {
				t.Error("a standby is fenced")
			}
			l.grows(t)
			back := run(t, store, failover.Failback, "b", "a", bs, as, l, a)
			confirmed(t, bs)
			l.grows(t)
			if missing := l.missing(t, a); len(missing) > 0 {
				t.Errorf("%d of %d commits are lost by a failback", len(missing), l.count())
			}
			if got := a.SQL(t, "select timeline, epoch from holdfast.promotion order by 1"); got != fmt.Sprintf("2|%d\n3|%d", first.Epoch, back.Epoch) {
				t.Errorf("promotions:\n%s", got)
			}

			// Nothing is there that could rewind.
			few := machine(b)
			few.Programs = withoutRewind(t, b)
			if _, why, err := roles.Rejoin(t.Context(), roles.RejoinConfig{Machine: few, Primary: a.Conn}); err == nil || !strings.Contains(why, "pg_rewind") {
				t.Errorf("%s, %v", why, err)
			}
			restore = repository(t, a, b)
			for range 2 {
				if way, why, err := roles.Rejoin(t.Context(), roles.RejoinConfig{Machine: few, Primary: a.Conn, Restore: restore}); err != nil || way != roles.Restored || !strings.Contains(why, "pg_rewind") {
					t.Fatalf("%s (%s), %v\n%s", way, why, err, b.Log())
				}
			}
			l.stop()
			caughtUp(t, a, b)
			if missing := l.missing(t, b); len(missing) > 0 {
				t.Errorf("%d commits are not at the standby", len(missing))
			}
			if lag, err := bs.Lag(t.Context()); err != nil || lag.Bytes != 0 || lag.Age != 0 || !lag.Streaming {
				t.Errorf("%v, %v", lag, err)
			}
		})
	}
}

// A promotion breaks off at every statement, and is repeated; overtaken runs
// promote nothing.
func TestPromote(t *testing.T) {
	t.Parallel()
	pg := cluster(t, 17)
	query(t, pg, "app", "create table t (n int); grant all on t to app")
	as := server(t, pg, nil)
	b := standby(t, pg, "standby")
	bs := server(t, b, nil)
	before := catalog(t, pg)
	// A position that is not reached, of another timeline, or of another cluster.
	q := as.Quiesce()
	if o, err := q.Observe(t.Context(), failover.Call{Epoch: 5}); err != nil || o.Done {
		t.Errorf("%+v, %v", o, err)
	}
	ev, err := q.Do(t.Context(), failover.Call{Epoch: 5})
	must(t, err)
	token := ev[failover.EvidencePosition]
	if o, err := q.Observe(t.Context(), failover.Call{Epoch: 5}); err != nil || !o.Done || o.Evidence[failover.EvidencePosition] != token {
		t.Errorf("%+v, %v", o, err)
	}
	catch := func(ctx context.Context, token string) (failover.Evidence, error) {
		return bs.CatchUp("quiesce").Do(ctx, failover.Call{Prior: map[string]failover.Evidence{"quiesce": {failover.EvidencePosition: token}}})
	}
	if ev, err := catch(t.Context(), token); err != nil || ev[failover.EvidencePosition] != token || ev[failover.EvidenceAge] != "0s" {
		t.Errorf("%v, %v", ev, err)
	}
	parts := strings.SplitN(token, "/", 3)
	for _, wrong := range []string{"", "1/2", "1/" + parts[1] + "/" + parts[2], parts[0] + "/2/" + parts[2], parts[0] + "/1/FF/0"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if ev, err := catch(ctx, wrong); err == nil {
			t.Errorf("%q: %v", wrong, ev)
		}
		cancel()
	}
	eventually(t, "the fence comes over", func() bool { return b.SQL(t, "select count(*) from holdfast.fence where position is not null") == "1" })
	if _, err := login(t.Context(), b, "app", "app"); err == nil {
		t.Error("the standby is open")
	}
	if o, err := bs.Promoted(t.Context()); err != nil || o.Done {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := bs.Fence(t.Context(), 5); !errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("a standby is fenced: %v", err)
	}
	if ev, err := bs.Fenced(t.Context()); err != nil || ev.Confirmed {
		t.Errorf("a standby is fenced: %+v, %v", ev, err)
	}

	cuts := 0
	for n := int64(1); ; n++ {
		cut, done := bs.Cut(n, n%2 == 0)
		_, err := cut.Promote(t.Context(), 6)
		if err != nil && !done() {
			t.Fatalf("write %d: %v", n, err)
		}
		if errors.Is(err, failover.ErrNoEffect) {
			t.Errorf("write %d: sure of no effect: %v", n, err)
		}
		o, perr := bs.Promoted(t.Context())
		if perr != nil || err == nil && !o.Done {
			t.Fatalf("write %d: %+v, %v", n, o, perr)
		}
		if c, err := login(t.Context(), b, "app", "app"); (err == nil) != o.Done {
			t.Fatalf("write %d: promoted %t, and an application: %v", n, o.Done, err)
		} else if err == nil {
			c.Close(t.Context())
		}
		if err == nil && n > 4 { // only the end of the session was cut, or nothing; at first there is another way to connect
			break
		}
		cuts++
	}
	if cuts < 15 {
		t.Errorf("only %d cuts", cuts)
	}
	for range 2 {
		if ev, err := bs.Promote(t.Context(), 6); err != nil || ev["timeline"] != "2" || ev["epoch"] != "6" {
			t.Errorf("%v, %v", ev, err)
		}
	}
	if got := b.SQL(t, "select timeline, epoch from holdfast.promotion"); got != "2|6" {
		t.Errorf("promotions: %s", got)
	}
	if after := catalog(t, b); after != before {
		t.Errorf("not as before the fence:\n%s\n\nbefore:\n%s", after, before)
	}
	confirmed(t, as)
	if _, err := bs.Promote(t.Context(), 5); err == nil || errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("an earlier run promotes what accepts writes: %v", err)
	}
	if _, err := bs.Fence(t.Context(), 5); !errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("an earlier run fences the new primary: %v", err)
	}
	if _, err := bs.Lag(t.Context()); err == nil {
		t.Error("a primary has a lag")
	}
	if ev, err := bs.Fence(t.Context(), 6); err != nil || !ev.Confirmed {
		t.Errorf("%+v, %v", ev, err)
	}
	if o, err := bs.Promoted(t.Context()); err != nil || o.Done {
		t.Errorf("promoted, and fenced since: %+v, %v", o, err)
	}
	// A standby of that one refuses an earlier run, and is sure of it.
	must(t, bs.Unfence(t.Context(), 6))
	c := standby(t, b, "third")
	eventually(t, "it is there", func() bool { return c.SQL(t, "select count(*) from holdfast.promotion") == "1" })
	if _, err := server(t, c, nil).Promote(t.Context(), 5); !errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("an earlier run promotes: %v", err)
	}
	if c.SQL(t, "select pg_is_in_recovery()") != "t" {
		t.Error("it was promoted")
	}
}
