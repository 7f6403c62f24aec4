package postgres_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/dr/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stores opens directories.
func stores(_ context.Context, s dr.Site) (provider.BlobStore, error) {
	return local.NewBlobStore(local.Config{Dir: strings.TrimPrefix(s.Bucket, "file://"), Create: true})
}

// planner protects a cluster, and a database in it, with two sites in a
// directory that the cluster's container sees.
func planner(t *testing.T, p *testenv.PG, key *age.X25519Identity, change func(*dr.Config, *dr.Parts)) *dr.Planner {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(p.Dir, "standby.key"), []byte(key.String()+"\n"), 0o600))
	text := strings.NewReplacer("DIR", p.Dir, "KEY", key.Recipient().String(), "CONN", p.Conn, "SOCKET", p.Socket).Replace(`
name: shop
sites:
  primary: {region: local-a, bucket: "file://DIR/a"}
  standby: {region: local-b, bucket: "file://DIR/b"}
targets:
  - name: db
    type: postgres
    source: CONN
    restore_to: DIR/standby
    every: 5m
    retention: 30d
    rpo: 15m
    rto: 1h
    options:
      watermark: shop
      query:orders@shop: SELECT count(*) > 0 FROM orders WHERE what = 'apples'
  - name: orders
    type: postgres-dump
    source: CONN
    every: 10m
    retention: 30d
    rpo: 15m
    rto: 1h
    options: {databases: "shop, postgres", from: shop, "query:orders": SELECT count(*) > 0 FROM orders WHERE what = 'apples'}
recipients:
  - {name: standby, key: KEY, home: standby, identity: "file:DIR/standby.key"}
drill: {scratch: DIR/scratch}
`)
	config, err := dr.ParseConfig([]byte(text))
	must(t, err)
	host := postgres.Config{Bin: p.Bin, Run: p.Dir, DrillServer: p.Conn}
	if os.Geteuid() == 0 { // the programs change users by themselves
		config.Workloads[0].Options["owner"] = fmt.Sprintf("%d:%d", p.UID, p.GID)
		host.RunAs = "0:0"
	}
	parts := dr.Parts{Stores: map[string]dr.StoreOpener{"file": stores}}
	postgres.Add(&parts, host)
	change(&config, &parts)
	planner, err := dr.New(config, parts)
	must(t, err)
	must(t, planner.Check(t.Context()))
	return planner
}

func runDue(t *testing.T, p *dr.Planner) {
	t.Helper()
	plan, err := p.Plan(t.Context())
	must(t, err)
	if _, err := p.Run(t.Context(), plan); err != nil {
		t.Fatalf("%v\n%v", err, plan)
	}
}

// A configuration protects a cluster: what was backed up, with the WAL since,
// is proven by drills at the standby; damage makes them red.
func TestDrills(t *testing.T) {
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{WALSegmentMB: 1, Settings: map[string]string{"track_commit_timestamp": "on"}})
	space := filepath.Join(p.Dir, "space")
	must(t, os.Mkdir(space, 0o700))
	p.Own(t, space)
	p.SQL(t, "create tablespace room location '"+space+"'", "create database shop")
	shop := func(sql string) string {
		t.Helper()
		return strings.TrimSpace(p.Run(t, "psql", "-AtqXd", strings.Replace(p.Socket, "dbname=postgres", "dbname=shop", 1), "-v", "ON_ERROR_STOP=1", "-c", sql))
	}
	shop("create table orders (n int primary key, what text) tablespace room; insert into orders select n, 'pears' from generate_series(1, 2000) n")
	shop("insert into orders values (-1, 'apples')")
	var told []string
	key, err := age.GenerateX25519Identity()
	must(t, err)
	plan := planner(t, p, key, func(_ *dr.Config, parts *dr.Parts) { parts.Events = func(e dr.Event) { told = append(told, e.Text) } })
	runDue(t, plan)
	idle(t, plan)

	// What comes after the backup reaches both sites as WAL.
	receiver, err := postgres.Receiver(t.Context(), plan, "db", dr.PrimarySite, physical.ReceiverConfig{Seal: 10 * time.Millisecond})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- receiver.Run(ctx) }()
	defer func() { cancel(); <-done }()
	shop("insert into orders values (0, 'apples')")
	last := p.SQL(t, `select to_char(timestamp at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') from pg_last_committed_xact()`)
	reaches := func() {
		t.Helper()
		end := p.SQL(t, "select pg_current_wal_flush_lsn()")
		for late := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			s := receiver.Status()
			if len(s.Logs) == 2 && p.SQL(t, fmt.Sprintf("select '%v' >= '%s'::pg_lsn and '%v' >= '%[2]s'::pg_lsn", s.Logs[0].Durable, end, s.Logs[1].Durable)) == "t" {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("%s is not stored: %+v", end, s)
			}
		}
	}
	reaches()
	probe := postgres.Archived(receiver.Status, 1, time.Minute)
	eventually(t, "nothing is missing", func() bool {
		text, err := probe.Probe(t.Context())
		return err == nil && strings.Contains(text, " 0 bytes, 0s behind")
	})
	removed := func(workload string, proof dr.Proof) {
		t.Helper()
		if left, _ := os.ReadDir(filepath.Join(p.Dir, "scratch", workload)); len(left) > 0 || !proof.Removed {
			t.Errorf("left over: %v", left)
		}
		if left, _ := filepath.Glob(p.Dir + "/hfproof*"); len(left) > 0 {
			t.Errorf("left over: %v", left)
		}
		if n := p.SQL(t, "select count(*) from pg_database where datname like 'holdfast%'"); n != "0" {
			t.Errorf("%s databases are left over", n)
		}
	}
	proof, err := plan.Drill(t.Context(), "db")
	must(t, err)
	rpo, known := proof.RPO()
	if got := proof.Newest.Format("2006-01-02T15:04:05.000000Z"); !proof.Proves() || got != last || !known || rpo <= 0 || proof.RTO() != proof.Restore+proof.Check {
		t.Errorf("the last change is of %s, want %s: %+v", got, last, proof)
	}
	for _, want := range []string{"passed, RTO", `database "shop": 2 tables with 2003 rows`, "1 queries say what they should", "of the backup at"} {
		if !strings.Contains(proof.Findings, want) {
			t.Errorf("%q is not in\n%s", want, proof.Findings)
		}
	}
	removed("db", proof)
	windows(t, plan, proof)
	if text := strings.Join(told, "\n"); !strings.Contains(text, "drill passed; RTO ") || !strings.Contains(text, "RPO at most ") {
		t.Errorf("told: %s", text)
	}

	proof, err = plan.Drill(t.Context(), "orders")
	if err != nil || !proof.Proves() {
		t.Errorf("%v: %+v", err, proof)
	}
	removed("orders", proof)

	// Damage is found: a page of an index, and rows that are not there.
	index := shop("select pg_relation_filepath('orders_pkey')")
	damaged := planner(t, p, key, func(c *dr.Config, parts *dr.Parts) {
		parts.Checkers["postgres"] = damaging{parts.Checkers["postgres"].(dr.Examiner), index}
		c.Workloads[1].Options["query:orders"] = "SELECT count(*) > 5 FROM orders WHERE what = 'apples'"
	})
	if proof, err = damaged.Drill(t.Context(), "db"); err == nil || proof.Proves() || !strings.Contains(err.Error(), "orders_pkey") || !strings.Contains(proof.Findings, "WRONG amcheck") {
		t.Errorf("a damaged index: %v\n%s", err, proof.Findings)
	}
	removed("db", proof)
	if proof, err = damaged.Drill(t.Context(), "orders"); err == nil || proof.Proves() || !strings.Contains(err.Error(), "yields false") {
		t.Errorf("too few apples in the dump: %v, %+v", err, proof)
	}
	removed("orders", proof)
	shop("delete from orders where what = 'apples'")
	reaches()
	if proof, err = plan.Drill(t.Context(), "db"); err == nil || proof.Proves() || !strings.Contains(proof.Findings, "WRONG query") {
		t.Errorf("without apples: %v\n%s", err, proof.Findings)
	}
	removed("db", proof)
	if m, err := plan.Measure(t.Context(), time.Now().Add(-time.Hour)); err != nil || m[0].Drills != 4 || m[0].Proven != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	p.Stop(t)
	eventually(t, "the probe fails without a server", func() bool {
		_, err := probe.Probe(t.Context())
		return err != nil
	})
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// idle proves a cluster to which nothing has happened since it was backed up:
// what would be lost is what came since then, not since its last transaction.
func idle(t *testing.T, p *dr.Planner) {
	t.Helper()
	proof, err := p.Drill(t.Context(), "db")
	must(t, err)
	if rpo, known := proof.RPO(); !known || rpo <= 0 || rpo.Std() > proof.Began.Sub(proof.PointTime) {
		t.Errorf("RPO %v, %v; the point is %v old: %+v", rpo, known, proof.Began.Sub(proof.PointTime), proof)
	}
	plan, err := p.Plan(t.Context())
	must(t, err)
	if text := plan.String(); strings.Count(text, ", nothing has changed since, timeline 1, 1 point\n") != 2 {
		t.Errorf("the moments of an idle cluster:\n%s", text)
	}
}

// windows sees the moments that a cluster can be restored to, and what drills
// have measured in the plans of that.
func windows(t *testing.T, p *dr.Planner, proof dr.Proof) {
	t.Helper()
	plan, err := p.Plan(t.Context())
	must(t, err)
	f := plan.Forecasts[0]
	if len(f.Windows) != 2 || len(f.NotSurveyed) > 0 || !f.RTO.Known || f.RTO.Basis != "measured in 2 of the latest drills" {
		t.Fatalf("%+v", f)
	}
	for i, site := range []string{dr.PrimarySite, dr.StandbySite} {
		if w := f.Windows[i]; w.Site != site || !w.Until.Equal(proof.Newest) || !w.Until.After(w.Since) || w.Points != 1 || w.Of != "timeline 1" {
			t.Errorf("%+v, want it to %v", w, proof.Newest)
		}
	}
	proofs, err := p.Proofs(t.Context(), "db")
	must(t, err)
	slowest := 0.0
	for _, x := range proofs {
		wal := x.Measured["wal_bytes"]
		if wal <= 0 || wal > 16<<20 || x.Measured["replay_seconds"] <= 0 {
			t.Errorf("measured %v", x.Measured)
		}
		if rate := (float64(x.Bytes) + wal) / x.Restore.Std().Seconds(); slowest == 0 || rate < slowest {
			slowest = rate
		}
	}
	for target, want := range map[physical.RecoveryTarget]bool{{}: true, {Time: proof.Newest.Add(-time.Microsecond)}: true, {Time: proof.Newest.Add(time.Second)}: false} {
		r, err := postgres.PlanRestore(t.Context(), p, dr.StandbySite, "db", target)
		if (err == nil) != want {
			t.Fatalf("%+v: %v", target, err)
		}
		if err == nil && (r.Point != proof.Point || !r.Verified.Equal(proof.Began) || r.Rates != [2]float64{slowest, 30 << 20}) {
			t.Errorf("%+v: %v; want rate %v, proven %v", target, r, slowest, proof.Began)
		}
	}
	if _, err := postgres.PlanRestore(t.Context(), p, dr.StandbySite, "orders", physical.RecoveryTarget{}); err == nil || !strings.Contains(err.Error(), "no workload") {
		t.Errorf("a dump: %v", err)
	}
}

// damaging damages what was restored before it is looked at.
type damaging struct {
	dr.Examiner
	file string
}

func (c damaging) Examine(ctx context.Context, w dr.Workload, p backup.Point, d backup.Destination) (dr.Examination, error) {
	f, err := os.OpenFile(filepath.Join(d.Location, c.file), os.O_RDWR, 0)
	if err != nil {
		return dr.Examination{}, err
	}
	if _, err := f.WriteAt([]byte("damage"), 3*8192+5000); err != nil {
		return dr.Examination{}, err
	}
	if err := f.Close(); err != nil {
		return dr.Examination{}, err
	}
	return c.Examiner.Examine(ctx, w, p, d)
}

// What is wrong with a workload is said with the names of its fields.
func TestOptions(t *testing.T) {
	var parts dr.Parts
	postgres.Add(&parts, postgres.Config{})
	for _, c := range []struct {
		w    dr.Workload
		want []string
	}{
		{dr.Workload{Type: "postgres", Source: "host=db1", RestoreTo: "host=db2", Secrets: map[string]dr.Secret{"password": "env:X"},
			Options: map[string]string{"checkpoint": "slow", "workers": "many", "overwrite": "yes", "owner": "postgres", "amcheck": "x", "rows": "y", "query:a": "", "databases": "shop"}},
			[]string{"options.checkpoint", "options.workers", "options.overwrite", "options.owner", "options.amcheck", "options.rows", "options.query:a", "options.databases is unknown", "secrets.password", "passfile", "restore_to"}},
		{dr.Workload{Type: "postgres", Source: "hunter2"}, []string{"Conn"}},
		{dr.Workload{Type: "postgres-dump", Source: "host=db1", Options: map[string]string{"watermark": "x", "databases": "a,,b"}}, []string{"options.watermark is unknown"}},
		{dr.Workload{Type: "postgres-dump", Source: "host=db1", Options: map[string]string{"databases": "a,,b"}}, []string{"Databases"}},
	} {
		_, err := parts.Targets[c.w.Type](t.Context(), c.w)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q is not in %v", want, err)
			}
		}
	}
	if parts.Checkers["postgres-dump"] != nil {
		t.Error("there is a checker of dumps, and no server for it")
	}
	// A directory is where something is restored to, or where it lives then.
	target, err := parts.Targets["postgres"](t.Context(), dr.Workload{Type: "postgres", Source: "/srv/pg", Options: map[string]string{"standby_conn": "hunter2"}})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("standby_conn is not looked at: %v, %v", target, err)
	}
	if _, err := parts.Targets["postgres"](t.Context(), dr.Workload{Type: "postgres", Source: "/srv/pg"}); err != nil {
		t.Error(err)
	}
}
