package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// postgresStages is the story on PostgreSQL: what it has of its own is what a
// server does for itself, streaming to its standby above all.
var postgresStages = []stage{
	{"setup", "Set up two sites, a witness and a PostgreSQL server", (*story).setUpPostgres},
	{"config", "Judge the configuration, then check it against the world", (*story).checkConfig},
	{"full", "Base backup, and its way to the standby", (*story).fullBackup},
	{"standby", "The standby is restored from its repository and streams; WAL goes into both repositories", (*story).makeStandby},
	{"disaster", "Kill the primary server and remove its directory", (*story).killCluster},
	{"failover", "Connection and replication are lost; the standby takes over", (*story).failoverPostgres},
	{"records", "Count what the standby has, and what was lost", (*story).countRecords},
	{"return", "The old primary comes back as a standby", (*story).clusterReturns},
	{"failback", "Fail back without losing anything, proven by LSN", (*story).failbackPostgres},
	{"report", "Evidence", (*story).writeReport},
}

func (st *story) postgres() bool { return st.log.Settings.Postgres != "" }

func (st *story) clusters() (a, b cluster) { return cluster{st, primarySite}, cluster{st, standbySite} }

func (st *story) setUpPostgres(ctx context.Context) error {
	// What a run that was killed here had begun is of no use.
	a, b := st.clusters()
	if _, err := stopClusters(ctx, a); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(a.data()), os.RemoveAll(filepath.Join(st.dir, "client", "acknowledged.jsonl"))); err != nil {
		return err
	}
	if err := st.setUpSites(ctx); err != nil {
		return err
	}
	if err := errors.Join(a.prepare(), b.prepare()); err != nil {
		return err
	}
	if err := a.create(ctx); err != nil {
		return err
	}
	version, err := sqlRows(ctx, a.admin(), "SHOW server_version")
	if err != nil {
		return err
	}
	st.ok("%-16s PostgreSQL %s at %s", a.site, version[0][0], a.addr())
	dns, err := st.openDNS()
	if err != nil {
		return err
	}
	if err := registerHost(ctx, dns, a.site, a.addr()); err != nil {
		return err
	}
	alias := provider.RecordSet{Name: serviceName, Type: "CNAME", TTL: time.Second, Values: []string{hostOf(a.site)}}
	if err := setRecords(ctx, dns, alias); err != nil {
		return fmt.Errorf("set %s: %w", serviceName, err)
	}
	go st.insertRows(ctx, a.passfile())
	n, err := st.acknowledged(ctx, 3)
	st.ok("a client inserts into %s and keeps its own account: %d rows acknowledged", strings.TrimSuffix(serviceName, "."), n)
	return err
}

// insertRows is the client: one row after the other, at whoever the name leads
// to, each under its key until it is acknowledged.
func (st *story) insertRows(ctx context.Context, passfile string) {
	cl := &client{dir: filepath.Join(st.dir, "client"), names: &resolver{server: func() string { return st.fleet.addr(dnsProcess) }}}
	var conn *pgconn.PgConn
	at := ""
	insert := func(key string) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		addr, err := cl.names.lookup(ctx, serviceName)
		if err != nil {
			return err
		}
		if conn == nil || conn.IsClosed() || addr != at {
			if conn != nil {
				conn.Close(ctx)
			}
			_, port, _ := strings.Cut(addr, ":")
			if conn, err = pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%s user=app dbname=ledger sslmode=disable passfile='%s'", port, passfile)); err != nil {
				return err
			}
			at = addr
		}
		a := ack{Asked: clock()}
		r := conn.ExecParams(ctx, "INSERT INTO ledger (key, text) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET key = excluded.key RETURNING n",
			[][]byte{[]byte(key), []byte("42 units, paid, " + key)}, nil, nil, nil).Read()
		if r.Err != nil {
			return r.Err
		}
		a.Key, a.Acked, a.Time = key, clock(), time.Now().UTC()
		a.N, _ = strconv.Atoi(string(r.Rows[0][0]))
		return appendLine(filepath.Join(cl.dir, "acknowledged.jsonl"), a)
	}
	// Keys are in order: the one after the last that was acknowledged may be there
	// already, and is then acknowledged as it is.
	for i := st.acknowledgedNow() + 1; ctx.Err() == nil; {
		err := insert(fmt.Sprintf("order-%06d", i))
		if err == nil {
			i++
		}
		if ctx.Err() == nil {
			cl.account(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(st.log.Settings.Pace):
		}
	}
	if conn != nil {
		conn.Close(context.Background())
	}
}

// makeStandby also starts the receiver, which has every commit in both
// repositories a second later.
func (st *story) makeStandby(ctx context.Context) error {
	a, b := st.clusters()
	if err := b.joins(ctx, a); err != nil {
		return err
	}
	// That is a proof: what was restored came up and went on.
	have, err := b.keys(ctx)
	if err != nil {
		return err
	}
	restored := st.log.Facts.Points[0].Point.ID
	if err := st.log.remember(func(f *facts) { f.Proof = &proofFact{Point: restored, At: time.Now().UTC(), Records: len(have)} }); err != nil {
		return err
	}
	st.ok("point %s is proven: it came up and has %d rows by now", restored, len(have))
	r, err := st.receiver(ctx)
	if err != nil {
		return err
	}
	row, err := sqlRows(ctx, a.admin(), "SELECT pg_current_wal_flush_lsn() - '0/0'")
	if err != nil {
		return err
	}
	end, err := strconv.ParseUint(row[0][0], 10, 64)
	for err == nil && uint64(r.Status().Acknowledged) < end {
		err = pauseFor(ctx, 20*time.Millisecond)
	}
	if err != nil {
		return errors.Join(err, r.Status().Err)
	}
	st.ok("WAL up to %v is in the repositories of both sites, %s behind", r.Status().Acknowledged, short(r.Status().Lag))
	return nil
}

// receiver starts one, which runs until the primary is gone, and from then on in
// vain.
func (st *story) receiver(ctx context.Context) (*postgres.Receiver, error) {
	var repos []*backup.Repository
	for _, site := range []string{primarySite, standbySite} {
		repo, err := st.openRepository(ctx, site)
		if err != nil {
			return nil, err
		}
		repos = append(repos, repo)
	}
	a, _ := st.clusters()
	r, err := postgres.NewReceiver(postgres.ReceiverConfig{Conn: a.admin(), Repositories: repos})
	if err == nil {
		go r.Run(ctx)
	}
	return r, err
}

// resumePostgres brings back what does not outlive the orchestrator: the client,
// the receiver, and servers that it stopped when it failed. A server that is
// fenced, or was killed, stays so.
func (st *story) resumePostgres(ctx context.Context) error {
	a, b := st.clusters()
	for _, c := range []cluster{a, b} {
		if !slices.Contains(st.log.Facts.StoppedClusters, c.site) {
			continue
		}
		if err := c.machine().Start(ctx); err != nil {
			return err
		}
	}
	if err := st.log.remember(func(f *facts) { f.StoppedClusters = nil }); err != nil {
		return err
	}
	if _, done := st.log.Done["setup"]; !done {
		return nil
	}
	go st.insertRows(ctx, a.passfile())
	_, made := st.log.Done["standby"]
	if _, gone := st.log.Done["disaster"]; gone || !made || st.log.Facts.KilledCluster != "" {
		return nil
	}
	_, err := st.receiver(ctx)
	return err
}

func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// killCluster kills every process of the primary server, which have no time to
// say anything, and removes what it had.
func (st *story) killCluster(ctx context.Context) error {
	a, _ := st.clusters()
	if st.log.Facts.KilledCluster == a.site {
		if _, err := stopClusters(ctx, a); err != nil { // an orchestrator died in between
			return err
		}
		st.ok("the PostgreSQL server of %s is gone", a.site)
		return os.RemoveAll(a.data())
	}
	pid, err := os.ReadFile(filepath.Join(a.data(), "postmaster.pid"))
	if err != nil {
		return err
	}
	rows, err := sqlRows(ctx, a.admin(), "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	if err := st.log.remember(func(f *facts) { f.Fault, f.FaultClock, f.KilledCluster = time.Now().UTC(), clock(), a.site }); err != nil {
		return err
	}
	crash("kill:before")
	if err := a.run(ctx, "pg_ctl", "kill", "KILL", first); err != nil {
		return err
	}
	for _, r := range rows {
		a.run(ctx, "pg_ctl", "kill", "KILL", r[0]) // most have noticed, and are gone
	}
	st.ok("kill -9 %-7s the PostgreSQL server of %s and its %d processes are gone", first, a.site, len(rows))
	if err := os.RemoveAll(a.data()); err != nil {
		return err
	}
	st.ok("its data directory is removed")
	return nil
}

// detectPostgres waits until neither the server answers nor its standby hears
// of it, several times in a row.
func (st *story) detectPostgres(ctx context.Context, a, b *roles.Server) error {
	if !st.log.Facts.DetectedAt.IsZero() {
		return nil // by an orchestrator that died
	}
	_, stop := st.wait("the server does not answer, the standby hears nothing")
	defer stop()
	var first time.Time
	for failed := 0; failed < threshold; {
		_, err1 := a.Writable().Probe(ctx)
		_, err2 := b.Streaming(st.log.Settings.Restore).Probe(ctx)
		switch {
		case err1 == nil || err2 == nil:
			failed, first = 0, time.Time{}
		case failed == 0:
			first = time.Now().UTC()
			fallthrough
		default:
			failed++
		}
		if err := pauseFor(ctx, st.log.Settings.Interval); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	st.ok("lost, say connection and replication, %d times in a row: %s after the fault", threshold, short(now.Sub(st.log.Facts.Fault)))
	return st.log.remember(func(f *facts) {
		f.FirstFailed, f.DetectedAt, f.Detected = first, now, fmt.Sprintf("two signals, %d failures in a row", threshold)
	})
}

// move are the actions that both ways have in common.
func (st *story) move(from, to cluster, operation string) (a, b *roles.Server, actions map[string]failover.Action, err error) {
	a, err1 := from.server()
	b, err2 := to.server()
	traffic, err3 := st.traffic()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, nil, nil, err
	}
	const every = 100 * time.Millisecond
	public := probeFunc{"postgres " + serviceName, func(ctx context.Context) (string, error) {
		r := resolver{server: func() string { return st.fleet.addr(dnsProcess) }}
		addr, err := r.lookup(ctx, serviceName)
		if err == nil && addr != to.addr() {
			err = fmt.Errorf("the name leads to %s", addr)
		}
		if err != nil {
			return "", err
		}
		_, err = sqlRows(ctx, to.conn("app", "ledger"), "SELECT 1")
		return to.site + " answers at " + addr, err
	}}
	return a, b, map[string]failover.Action{
		"verify-standby":  failover.ProbeAction(every, b.Standby(64<<20)),
		"verify-reversed": failover.ProbeAction(every, b.Streaming(st.log.Settings.Restore)),
		"fence":           failover.FenceAction(a),
		"quiesce":         a.Quiesce(),
		"final-sync":      b.CatchUp("quiesce"),
		"check-position":  failover.CheckPosition("quiesce", "final-sync"),
		"start":           failover.PromoteAction(registered{b, to}),
		"verify-private":  failover.ProbeAction(every, b.Writable()),
		"traffic":         traffic,
		"verify-public":   failover.ProbeAction(every, public),
		"notify":          st.notification(operation),
	}, nil
}

// registered is a server whose promotion makes the zone say where it is.
type registered struct {
	*roles.Server
	c cluster
}

func (r registered) Promote(ctx context.Context, epoch uint64) (failover.Evidence, error) {
	ev, err := r.Server.Promote(ctx, epoch)
	if err == nil {
		err = r.c.register(ctx, r.c.site, r.c.addr())
	}
	return ev, err
}

func (r registered) Promoted(ctx context.Context) (failover.Observation, error) {
	o, err := r.Server.Promoted(ctx)
	if err == nil && o.Done {
		o.Done = r.c.register(ctx, r.c.site, r.c.addr()) == nil
	}
	return o, err
}

func (st *story) failoverPostgres(ctx context.Context) error {
	from, to := st.clusters()
	a, b, actions, err := st.move(from, to, "failover")
	if err != nil {
		return err
	}
	if err := st.detectPostgres(ctx, a, b); err != nil {
		return err
	}
	// Nothing is restored: it is there. How old is the newest row?
	actions["restore"] = failover.ActionFuncs{DoFunc: func(ctx context.Context, _ failover.Call) (failover.Evidence, error) {
		lag, err := b.Lag(ctx)
		if err != nil {
			return nil, err
		}
		at, n, err := to.newest(ctx)
		age := time.Since(at)
		return failover.Evidence{failover.EvidenceAge: age.String(), failover.EvidencePosition: lag.Replayed.String(),
			"words": fmt.Sprintf("%d rows are there, the newest %s old; %s", n, short(age), lag)}, err
	}}
	_, err = st.perform(ctx, "failover", failover.Config{Actions: actions}, func(id string) (failover.Plan, error) {
		return failover.NewPlan(failover.PlanConfig{Kind: failover.Failover, Service: service, From: from.site, To: to.site, ID: id, Created: time.Now(),
			Fault: st.log.Facts.FirstFailed, Budget: st.objectives().Failover, Settle: settle, Timeouts: st.timeouts(), Expected: "what had not been streamed"})
	})
	if err != nil {
		return err
	}
	_, err = st.acknowledged(ctx, st.acknowledgedNow()+3)
	return err
}

func (st *story) acknowledgedNow() int {
	acks, _ := st.acks()
	return len(acks)
}

// newest is when the newest row was written before the fault, and how many there are.
func (c cluster) newest(ctx context.Context) (at time.Time, n int, err error) {
	rows, err := sqlRows(ctx, c.conn("app", "ledger"), "SELECT coalesce(extract(epoch FROM max(at)), 0), count(*) FROM ledger WHERE at <= $1::timestamptz", c.log.Facts.Fault.Format(time.RFC3339Nano))
	if err != nil {
		return at, 0, err
	}
	seconds, err1 := strconv.ParseFloat(rows[0][0], 64)
	n, err2 := strconv.Atoi(rows[0][1])
	return time.UnixMicro(int64(seconds * 1e6)), n, errors.Join(err1, err2)
}

// compareRows holds the client's own account against the rows of the standby.
func (st *story) compareRows(loss *lossFact) error {
	ctx := context.Background()
	_, b := st.clusters()
	acks, err := st.acks() // read first: what is acknowledged later is there, too
	if err != nil {
		return err
	}
	have, err := b.keys(ctx)
	if err != nil {
		return err
	}
	at, n, err := b.newest(ctx)
	if err != nil {
		return err
	}
	loss.Restored, loss.RPO, loss.Lost = n, max(0, st.log.Facts.Fault.Sub(at)), []string{}
	for _, a := range acks {
		lost := !have[a.Key]
		if lost || a.Acked <= st.log.Facts.FaultClock { // dying takes a moment, in which some more are acknowledged
			loss.Promised++
		}
		if lost {
			loss.Lost, loss.RPO = append(loss.Lost, a.Key), max(loss.RPO, a.Time.Sub(at))
		}
	}
	loss.Compared = "the client's own account against the table, by key"
	st.ok("%d rows were acknowledged by %s, %d of them are not at %s", loss.Promised, primarySite, len(loss.Lost), b.site)
	return nil
}

func (st *story) clusterReturns(ctx context.Context) error {
	a, b := st.clusters()
	if err := a.joins(ctx, b); err != nil {
		return err
	}
	_, err := sqlRows(ctx, a.conn("app", "ledger"), "INSERT INTO ledger (key, text) VALUES ('stray-000001', '')")
	if err == nil {
		return errors.New("a write to the old primary was not refused")
	}
	st.ok("a write to it is refused: %v", err)
	return st.log.remember(func(f *facts) { f.FencedReply = err.Error() })
}

func (st *story) failbackPostgres(ctx context.Context) error {
	to, from := st.clusters()
	_, _, actions, err := st.move(from, to, "failback")
	if err != nil {
		return err
	}
	_, err = st.perform(ctx, "failback", failover.Config{Actions: actions}, func(id string) (failover.Plan, error) {
		return failover.NewPlan(failover.PlanConfig{Kind: failover.Failback, Service: service, From: from.site, To: to.site, ID: id, Created: time.Now(),
			Budget: st.objectives().Failover, Settle: settle, Timeouts: st.timeouts(), Expected: "none"})
	})
	if err != nil {
		return err
	}
	if _, err := st.acknowledged(ctx, st.acknowledgedNow()+3); err != nil {
		return err
	}
	acks, err := st.acks()
	if err != nil {
		return err
	}
	have, err := to.keys(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, k := range st.log.Facts.Loss.Lost {
		known[k] = true
	}
	for _, a := range acks {
		if !have[a.Key] && !known[a.Key] {
			return fmt.Errorf("%s was acknowledged as row %d and is not there, nor was it reported as lost", a.Key, a.N)
		}
	}
	st.ok("%d rows at home, %d acknowledged in all, %d of them lost as counted before, no other", len(have), len(acks), len(known))
	if err := st.log.remember(func(f *facts) { f.Final = &finalFact{Records: len(have), Promised: len(acks)} }); err != nil {
		return err
	}
	return from.joins(ctx, to)
}

// stopClusters ends those servers that run, whatever they are at.
func stopClusters(ctx context.Context, which ...cluster) (stopped []string, err error) {
	for _, c := range which {
		if _, err := os.Stat(filepath.Join(c.data(), "postmaster.pid")); err != nil || c.run(ctx, "pg_ctl", "status", "-D", c.data()) != nil {
			continue // or it was killed
		}
		stopped = append(stopped, c.site)
		err = errors.Join(err, c.run(ctx, "pg_ctl", "stop", "-D", c.data(), "-m", "immediate", "-w", "-s"))
	}
	return stopped, err
}

// leaveClusters stops the servers at the end, and notes which ran.
func (st *story) leaveClusters(ctx context.Context) error {
	a, b := st.clusters()
	stopped, err := stopClusters(ctx, a, b)
	return errors.Join(err, st.log.remember(func(f *facts) { f.StoppedClusters = stopped }))
}
