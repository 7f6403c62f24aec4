package postgres_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var momentsFlag = flag.Int("moments", 0, "to how many random times of each version TestMoments returns; 0: a few; of all versions with HOLDFAST_LONG=1")

// A past is a cluster with two bases, its WAL in a log as a receiver put it
// there, transactions from several connections all the while, and a promotion.
// Each transaction of the load has left its number in the table ledger.
type past struct {
	pg    *testenv.PG
	key   *age.X25519Identity
	store *providertest.Memory
	repo  *backup.Repository
	bases []backup.Point

	records []wal.Record    // of the whole way, by the server's own WAL
	load    map[string]bool // transactions of the load that were committed
	fork    wal.LSN         // where timeline 2 begins; 0: there is none
}

func newPast(t *testing.T, major int) *past {
	t.Helper()
	p := &past{key: ageKey(t), store: providertest.NewMemory(), load: map[string]bool{}}
	o := keep(nil)
	o.WALSegmentMB = 1
	if major >= 17 {
		o.Settings["summarize_wal"] = "on" // the second base is of what has changed
	}
	p.pg = testenv.Postgres(t, major, o)
	p.repo = walRepository(t, p.store, p.key)
	p.pg.SQL(t, "create table ledger (xid xid8)", "create table filler (n int, s text)")
	p.pg.Run(t, "pgbench", "-i", "-q", "-s", "1", p.pg.Socket)
	x := receive(t, postgres.ReceiverConfig{Conn: p.pg.Conn, Repositories: []*backup.Repository{p.repo}, Seal: 50 * time.Millisecond})
	stop := p.work(t)
	for range 2 {
		p.grow(t)
		p.bases = append(p.bases, p.base(t))
		if last := p.bases[len(p.bases)-1]; major >= 17 && len(p.bases) == 2 && (last.Mode != backup.Incremental || whole(t, p.repo, last) != "") {
			t.Errorf("the second base is %s, all of it: %q", last.Mode, whole(t, p.repo, last))
		}
		p.pg.SQL(t, fmt.Sprintf("select pg_create_restore_point('point %d')", len(p.bases)))
	}
	p.grow(t)
	stop()
	if major != 18 { // what there is of 18 makes no standby
		p.pg.Stop(t)
		signalStandby(t, p.pg)
		p.pg.Start(t)
		promoteStandby(t, p.pg)
		stop = p.work(t)
		p.grow(t)
		stop()
	}
	// What is idle writes nothing that a commit is to be behind.
	p.pg.SQL(t, "insert into filler values (0)", "insert into filler values (1)")
	reaches(t, x, p.pg)
	x.stop(t)
	for xid := range strings.FieldsSeq(p.pg.SQL(t, "select xid from ledger")) {
		p.load[xid] = true
	}
	p.pg.Stop(t)
	p.read(t)
	return p
}

// base makes a backup, an incremental one after the first, during which transactions are committed.
func (p *past) base(t *testing.T) backup.Point {
	t.Helper()
	var once sync.Once
	during := func(backup.Progress) {
		once.Do(func() {
			before, _ := p.pg.TryRun("psql", "-AtqXd", p.pg.Socket, "-c", "select count(*) + 5 from ledger")
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				if said, _ := p.pg.TryRun("psql", "-AtqXd", p.pg.Socket, "-c", "select count(*) > "+strings.TrimSpace(before)+" from ledger"); strings.TrimSpace(said) == "t" {
					return
				}
			}
			t.Error("there is no load during the backup")
		})
	}
	point, err := p.repo.Backup(t.Context(), "db", newTarget(t, postgres.Config{Conn: p.pg.Conn}), backup.BackupOptions{Mode: backup.Incremental, Progress: during})
	must(t, err)
	return point
}

// work keeps transactions coming, of which one in ten is rolled back.
func (p *past) work(t *testing.T) (stop func()) {
	t.Helper()
	for name, end := range map[string]string{"commit.sql": "commit", "abort.sql": "rollback"} {
		script := "\\set aid random(1, 100000)\nbegin;\ninsert into ledger values (pg_current_xact_id());\n" +
			"update pgbench_accounts set abalance = abalance + 1 where aid = :aid;\n" + end + ";\n"
		must(t, os.WriteFile(filepath.Join(p.pg.Dir, name), []byte(script), 0o644))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.pg.TryRun("pgbench", "-n", "-c", "4", "-R", "200", "-T", "600", "-f", filepath.Join(p.pg.Dir, "commit.sql@9"), "-f", filepath.Join(p.pg.Dir, "abort.sql@1"), p.pg.Socket)
	}()
	stop = func() {
		p.pg.TryRun("psql", "-Xd", p.pg.Socket, "-c", "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pgbench'")
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// grow waits for transactions over a second or more.
func (p *past) grow(t *testing.T) {
	t.Helper()
	began := time.Now()
	before, _ := strconv.Atoi(p.pg.SQL(t, "select count(*) from ledger"))
	for end := time.Now().Add(time.Minute); time.Since(began) < time.Second || p.pg.SQL(t, fmt.Sprintf("select count(*) > %d from ledger", before+120)) != "t"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("there is no load")
		}
	}
}

var dumped = regexp.MustCompile(`^rmgr: (\S+)\s+len \(rec/tot\):\s*\d+/\s*\d+, tx:\s*(\d+), lsn: (\S+), prev \S+, desc: (\S*) ?(.*)$`)

// read reads the WAL that the server still has, by its own pg_waldump.
func (p *past) read(t *testing.T) {
	t.Helper()
	from, err := wal.ParseLSN(strings.TrimSpace(wal.LSN(p.bases[0].Logs[0].From).String()))
	must(t, err)
	if h, err := os.ReadFile(filepath.Join(p.pg.Data, "pg_wal", wal.HistoryName(2))); err == nil {
		switches, err := wal.ParseHistory(2, h)
		must(t, err)
		p.fork = switches[0].At
	}
	for timeline := uint32(1); timeline <= 2; timeline++ {
		files, _ := filepath.Glob(filepath.Join(p.pg.Data, "pg_wal", fmt.Sprintf("%08X????????????????", timeline)))
		slices.Sort(files)
		for len(files) > 0 && timeline == 1 {
			if _, start, err := wal.ParseSegmentName(filepath.Base(files[0]), mib); err != nil || start >= from {
				break
			}
			files = files[1:]
		}
		if len(files) == 0 {
			continue
		}
		for _, r := range p.dump(t, timeline, files) {
			if p.fork == 0 || (timeline == 2) == (r.LSN >= p.fork) {
				p.records = append(p.records, r)
			}
		}
	}
	if len(p.records) < 1000 {
		t.Fatalf("%d records", len(p.records))
	}
}

func (p *past) dump(t *testing.T, timeline uint32, files []string) (out []wal.Record) {
	t.Helper()
	if p.pg.Major == 18 {
		// Its package has no pg_waldump, and that of 17 refuses its WAL. What stands in
		// is our own reader, which was compared with theirs on 15 and 17.
		_, start, err := wal.ParseSegmentName(filepath.Base(files[0]), mib)
		must(t, err)
		s := wal.NewScanner(wal.Config{Start: start, SegmentSize: mib, Timeline: timeline})
		for _, f := range files {
			b, err := os.ReadFile(f)
			must(t, err)
			if s.Scan(b, func(r wal.Record) error { out = append(out, r); return nil }) != nil {
				break
			}
		}
		return out
	}
	// At the end of what was written it complains, and has said all.
	text, _ := p.pg.TryRun("pg_waldump", "-p", filepath.Join(p.pg.Data, "pg_wal"), filepath.Base(files[0]), filepath.Base(files[len(files)-1]))
	for line := range strings.Lines(text) {
		m := dumped.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("pg_waldump says %q", line)
		}
		r := wal.Record{LSN: lsn(t, m[3])}
		xid, err := strconv.ParseUint(m[2], 10, 32)
		must(t, err)
		r.XID = uint32(xid)
		switch m[1] + " " + m[4] {
		case "Transaction COMMIT":
			r.Kind = wal.Commit
		case "Transaction ABORT":
			r.Kind = wal.Abort
		case "XLOG RESTORE_POINT":
			r.Kind, r.Name = wal.RestorePoint, m[5]
		}
		if r.Kind == wal.Commit || r.Kind == wal.Abort {
			at, _, _ := strings.Cut(m[5], " UTC")
			r.Time, err = time.Parse("2006-01-02 15:04:05.999999", at)
			must(t, err)
		}
		out = append(out, r)
	}
	return out
}

// expected are the transactions of the load that recovery to a target leaves,
// by the ledger, and the record that ends it.
func (p *past) expected(t *testing.T, first postgres.LSN, stops func(wal.Record) (before, after bool)) (xids []string, end wal.LSN) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range p.records {
		before, after := false, false
		if r.LSN >= first {
			before, after = stops(r)
		}
		if xid := fmt.Sprint(r.XID); !before && r.Kind == wal.Commit && p.load[xid] {
			seen[xid] = true
		}
		if before || after {
			end = r.LSN
			break
		}
	}
	// What was committed before the first record is in every base.
	all := map[string]bool{}
	for _, r := range p.records {
		all[fmt.Sprint(r.XID)] = true
	}
	for xid := range p.load {
		if seen[xid] || !all[xid] {
			xids = append(xids, xid)
		}
	}
	slices.Sort(xids)
	return xids, end
}

// A moment is a target, and what it means for recovery.
type moment struct {
	target postgres.RecoveryTarget
	stops  func(wal.Record) (before, after bool)
}

func ends(r wal.Record) bool { return r.Kind == wal.Commit || r.Kind == wal.Abort }

func atTime(at time.Time) moment {
	return moment{postgres.RecoveryTarget{Time: at}, func(r wal.Record) (bool, bool) { return ends(r) && r.Time.After(at), false }}
}

// moments are n random times, and one of each other kind of target.
func (p *past) moments(t *testing.T, n int, rng *rand.Rand) (out []moment) {
	var commits []wal.Record
	for _, r := range p.records {
		if r.Kind == wal.Commit && r.LSN > wal.LSN(p.bases[0].Logs[0].Consistent) && r.Time.After(p.bases[0].Ended) {
			commits = append(commits, r)
		}
	}
	if len(commits) < 200 {
		t.Fatalf("%d commits behind the first base", len(commits))
	}
	// When a base began is known to a fifth of a second.
	begin, end := p.bases[0].Ended.Add(time.Second/5), commits[len(commits)-2].Time
	for i := range n {
		// Spread, so that each base has its turn, and random.
		step := end.Sub(begin) / time.Duration(n)
		at := begin.Add(time.Duration(i)*step + time.Duration(rng.Int64N(int64(step)))).Truncate(time.Microsecond)
		switch second := p.bases[1].Ended.Add(time.Second / 5); {
		case i == 0:
			at = begin.Add(time.Duration(rng.Int64N(int64(p.bases[1].Time.Sub(begin))))).Truncate(time.Microsecond)
		case i == n-1:
			at = second.Add(time.Duration(rng.Int64N(int64(end.Sub(second))))).Truncate(time.Microsecond)
		case i%4 == 3:
			at = commits[rng.IntN(len(commits)-1)].Time // to the microsecond
		}
		out = append(out, atTime(at))
	}
	c := commits[rng.IntN(len(commits)-1)]
	out = append(out,
		moment{postgres.RecoveryTarget{Time: c.Time, Exclusive: true}, func(r wal.Record) (bool, bool) { return ends(r) && !r.Time.Before(c.Time), false }},
		moment{postgres.RecoveryTarget{LSN: c.LSN + 1}, func(r wal.Record) (bool, bool) { return false, r.LSN > c.LSN }},
		moment{postgres.RecoveryTarget{LSN: c.LSN, Exclusive: true}, func(r wal.Record) (bool, bool) { return r.LSN >= c.LSN, false }},
		moment{postgres.RecoveryTarget{XID: fmt.Sprint(c.XID)}, func(r wal.Record) (bool, bool) { return false, ends(r) && r.XID == c.XID }},
		moment{postgres.RecoveryTarget{XID: fmt.Sprint(c.XID), Exclusive: true}, func(r wal.Record) (bool, bool) { return ends(r) && r.XID == c.XID, false }},
		moment{postgres.RecoveryTarget{Name: "point 1"}, func(r wal.Record) (bool, bool) { return false, r.Kind == wal.RestorePoint && r.Name == "point 1" }},
		moment{postgres.RecoveryTarget{}, func(wal.Record) (bool, bool) { return false, false }})
	return out
}

// At each of many moments a restored cluster has exactly the transactions that
// the ledger has: every commit before the first record of a commit (or of a
// rollback, which ends recovery, too) that is later. PlanRestore says which
// base leads there. What is restored is clean by PostgreSQL's own programs.
func TestMoments(t *testing.T) {
	long := os.Getenv("HOLDFAST_LONG") != ""
	for _, major := range versions {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			times, others := 2, 1 // of each kind
			switch {
			case *momentsFlag > 0:
				times, others = *momentsFlag, 7
			case !long && major != 17:
				t.Skip("with HOLDFAST_LONG=1, or -moments 20")
			case long && major == 17:
				times, others = 4, 7
			}
			t.Parallel()
			p := newPast(t, major)
			seed := uint64(time.Now().UnixNano())
			all := p.moments(t, times, rand.New(rand.NewPCG(seed, 0)))
			for i := range 7 - others {
				at := times + int(seed+uint64(i))%(7-i)
				all = slices.Delete(all, at, at+1)
			}
			used := map[backup.PointID]int{}
			for i, m := range all {
				plan := p.returnTo(t, m, i)
				used[plan.Point]++
				if t.Failed() {
					t.Fatalf("seed %d, target %+v", seed, m.target)
				}
			}
			t.Logf("%d moments, %d records; bases %v, fork %v", len(all), len(p.records), used, p.fork)
			if len(used) != 2 {
				t.Errorf("of two bases, %d were used", len(used))
			}
			if major == 17 {
				t.Run("refused", p.refused)
				t.Run("planned", p.planned)
				if long {
					t.Run("astray", p.astray)
				}
			}
		})
	}
}

// returnTo restores the cluster as it was at a moment, over what was restored
// before, and compares.
func (p *past) returnTo(t *testing.T, m moment, i int) *postgres.RestorePlan {
	t.Helper()
	plan, err := postgres.PlanRestore(t.Context(), p.repo, "db", m.target, postgres.PlanOptions{})
	if err != nil {
		t.Fatalf("%+v: %v", m.target, err)
	}
	t.Logf("%+v\n%s", m.target, plan)
	dir := filepath.Join(p.pg.Dir, "restored")
	options := map[string]string{"owner": ids(p.pg), "overwrite": fmt.Sprint(i > 0)}
	for k, v := range plan.Options {
		options[k] = v
	}
	restore(t, p.repo, backup.Point{ID: plan.Point}, dir, options)
	r := verified(t, p.pg, dir)
	got := strings.Fields(r.SQL(t, "select xid from ledger order by xid::text collate \"C\""))
	want, end := p.expected(t, plan.From, m.stops)
	if !slices.Equal(got, want) {
		t.Errorf("%d transactions, want %d, up to %v: has %v too many, lacks %v", len(got), len(want), end, without(got, want), without(want, got))
	}
	if end != 0 && (plan.Consistent > end+1<<10 || plan.To < end) {
		t.Errorf("recovery ends at %v, planned: %v to %v", end, plan.Consistent, plan.To)
	}
	inOrder(t, r)
	stopped(t, r)
	return plan
}

// astray restores to before the fork. Who pauses there and promotes has not
// left the timeline behind the fork. A server that was told to follow it
// says so nevertheless, as that of other tools may: it is received, backed up
// and restored all the same.
func (p *past) astray(t *testing.T) {
	dir := filepath.Join(p.pg.Dir, "astray")
	options := map[string]string{"owner": ids(p.pg), "target-name": "point 1", "action": "pause"}
	restore(t, p.repo, p.bases[0], dir, options)
	p.pg.Own(t, dir, dir+".wal")
	r := p.pg.Second(t, dir)
	eventually(t, "pause", func() bool { return r.SQL(t, "select pg_get_wal_replay_pause_state()") == "paused" })
	r.SQL(t, "select pg_wal_replay_resume()")
	eventually(t, "end of recovery", func() bool { return r.SQL(t, "select pg_is_in_recovery()") == "f" })
	inOrder(t, r)
	r.Stop(t)

	options["action"], options["overwrite"] = "promote", "true"
	restore(t, p.repo, p.bases[0], dir, options)
	name := filepath.Join(dir, "postgresql.auto.conf")
	b, err := os.ReadFile(name)
	must(t, err)
	led := strings.Replace(string(b), "recovery_target_timeline = 'current'", "summarize_wal = off\nrecovery_target_timeline = '2'", 1)
	if led == string(b) {
		t.Fatalf("settings without the timeline:\n%s", b)
	}
	must(t, os.WriteFile(name, []byte(led), 0o600))
	p.pg.Own(t, dir, dir+".wal")
	r = p.pg.Second(t, dir)
	eventually(t, "end of recovery", func() bool { return r.SQL(t, "select pg_is_in_recovery()") == "f" })
	if text := r.SQL(t, "select pg_read_file('pg_wal/00000003.history')"); strings.Count(text, "0/") != 2 {
		t.Errorf("the history names one timeline:\n%s", text)
	}
	want := r.SQL(t, "select count(*) from ledger")
	x := receive(t, postgres.ReceiverConfig{Conn: r.Conn, Repositories: []*backup.Repository{p.repo}, Seal: 50 * time.Millisecond})
	r.SQL(t, "create table beyond as select 1 as n")
	point := backUp(t, p.repo, newTarget(t, postgres.Config{Conn: r.Conn}))
	r.SQL(t, "insert into beyond values (2)")
	reaches(t, x, r)
	x.stop(t)
	r.Stop(t)
	for _, from := range []backup.Point{p.bases[0], point} {
		again := filepath.Join(p.pg.Dir, "again"+string(from.ID))
		restore(t, p.repo, from, again, map[string]string{"owner": ids(p.pg)})
		r := verified(t, p.pg, again)
		if got := r.SQL(t, "select count(*), (select sum(n) from beyond) from ledger"); got != want+"|3" {
			t.Errorf("from %s: %s, want %s|3", from.ID, got, want)
		}
		stopped(t, r)
	}
}

// inOrder sees that a cluster comes of timelines in the order in which it says
// it left them, and that its summarizer is on its own.
func inOrder(t *testing.T, p *testenv.PG) {
	t.Helper()
	timeline, _ := strconv.ParseUint(p.SQL(t, "select substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)"), 16, 32)
	text := p.SQL(t, fmt.Sprintf("select pg_read_file('pg_wal/%s')", wal.HistoryName(uint32(timeline))))
	last := wal.LSN(0)
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) > 1 {
			if at := lsn(t, f[1]); at < last {
				t.Errorf("%s: it leaves timeline %s before it began\n%s", wal.HistoryName(uint32(timeline)), f[0], text)
			} else {
				last = at
			}
		}
	}
	if p.Major >= 17 && p.SQL(t, "show summarize_wal") == "on" {
		p.SQL(t, "checkpoint")
		eventually(t, "summary of the new timeline", func() bool {
			return p.SQL(t, "select summarized_tli from pg_get_wal_summarizer_state()") == fmt.Sprint(timeline)
		})
	}
}

func without(a, b []string) (out []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}
