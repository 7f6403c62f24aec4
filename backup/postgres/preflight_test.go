package postgres_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// findings are what Preflight says of a server, by subject.
func findings(t *testing.T, conn string, r postgres.ReceiverConfig) map[string]postgres.Finding {
	t.Helper()
	all, err := postgres.Preflight(t.Context(), postgres.Config{Conn: conn}, r)
	if err != nil {
		t.Fatal(err)
	}
	order := []postgres.Severity{postgres.Blocks, postgres.Weakens, postgres.Advises}
	if !slices.IsSortedFunc(all, func(a, b postgres.Finding) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	}) {
		t.Errorf("not in the order of severity: %v", all)
	}
	by := map[string]postgres.Finding{}
	for _, f := range all {
		if f.What == "" || f.Why == "" || len(f.SQL) == 0 && f.Do == "" || f.Restart && len(f.SQL) == 0 {
			t.Errorf("incomplete: %+v", f)
		}
		if restarts := []string{"wal_level", "max_wal_senders", "max_replication_slots"}; f.Restart != slices.Contains(restarts, f.Subject) && f.Subject != "archive_command" {
			t.Errorf("Restart is %t: %s", f.Restart, f)
		}
		if _, twice := by[f.Subject]; twice {
			t.Errorf("%s is found twice", f.Subject)
		}
		by[f.Subject] = f
		for _, part := range append(f.SQL, f.What, f.Why, f.Do) {
			if !strings.Contains(f.String(), part) {
				t.Errorf("%q is not in %s", part, f)
			}
		}
	}
	return by
}

// expect compares what was found with what should be, and how bad that is.
func expect(t *testing.T, got map[string]postgres.Finding, want map[string]postgres.Severity) {
	t.Helper()
	for subject, severity := range want {
		if f, ok := got[subject]; !ok || f.Severity != severity {
			t.Errorf("%s: found %+v, want %s", subject, f, severity)
		}
	}
	for subject, f := range got {
		if _, ok := want[subject]; !ok {
			t.Errorf("found, and not wanted: %s", f)
		}
	}
}

// mend does what the findings say, as far as it is SQL.
func mend(t *testing.T, p *testenv.PG, found map[string]postgres.Finding) {
	t.Helper()
	restart := false
	for _, f := range found {
		p.SQL(t, f.SQL...)
		restart = restart || f.Restart
	}
	if restart {
		p.Stop(t)
		p.Start(t)
	}
}

func TestPreflight(t *testing.T) {
	for _, major := range []int{15, 17} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			p := testenv.Postgres(t, major, testenv.PostgresOptions{NoChecksums: true, Settings: map[string]string{"wal_level": "minimal", "max_wal_senders": "0",
				"max_replication_slots": "0", "full_page_writes": "off"}})
			p.SQL(t, `CREATE ROLE "back up" LOGIN`)
			conn := strings.Replace(p.Socket, "user=postgres", "user='back up'", 1)
			missing := postgres.ReceiverConfig{Spool: filepath.Join(p.Dir, "no", "spool")}
			tight := postgres.ReceiverConfig{Spool: filepath.Join(p.Dir, "spool"), Limit: 1 << 60} // which the receiver would make

			want := map[string]postgres.Severity{"wal_level": postgres.Blocks, "max_wal_senders": postgres.Blocks, "max_replication_slots": postgres.Blocks,
				"role back up": postgres.Blocks, "data_checksums": postgres.Weakens, "full_page_writes": postgres.Weakens, "fsync": postgres.Weakens,
				"max_slot_wal_keep_size": postgres.Advises, "spool": postgres.Blocks}
			if major >= 17 {
				want["summarize_wal"] = postgres.Advises
			}
			expect(t, findings(t, conn, missing), want)
			found := findings(t, conn, tight)
			want["spool"] = postgres.Weakens
			expect(t, found, want)
			mend(t, p, found)
			p.Stop(t)
			p.Run(t, "pg_checksums", "--enable", "-D", p.Data)
			p.Start(t)
			expect(t, findings(t, conn, postgres.ReceiverConfig{Spool: filepath.Join(p.Dir, "spool"), Limit: 1 << 20}), nil)

			if major == 15 && os.Getenv("HOLDFAST_LONG") == "" {
				return // the rest is the same on both
			}
			t.Run("archiving", func(t *testing.T) { brokenArchive(t, p, conn) })
			t.Run("slots", func(t *testing.T) { brokenSlots(t, p, conn) })
			t.Run("pg_hba.conf", func(t *testing.T) { brokenAccess(t, p, conn) })
		})
	}
}

func brokenArchive(t *testing.T, p *testenv.PG, conn string) {
	p.SQL(t, "ALTER SYSTEM SET archive_mode = on")
	p.Stop(t)
	p.Start(t)
	found := findings(t, conn, postgres.ReceiverConfig{})
	expect(t, found, map[string]postgres.Severity{"archive_command": postgres.Weakens})
	mend(t, p, found)
	expect(t, findings(t, conn, postgres.ReceiverConfig{}), nil)

	p.SQL(t, "ALTER SYSTEM SET archive_mode = on", "ALTER SYSTEM SET archive_command = 'false'")
	p.Stop(t)
	p.Start(t)
	p.SQL(t, "SELECT pg_switch_wal()")
	eventually(t, "a failure", func() bool { return p.SQL(t, "SELECT failed_count > 0 FROM pg_stat_archiver") == "t" })
	found = findings(t, conn, postgres.ReceiverConfig{})
	expect(t, found, map[string]postgres.Severity{"archive_command": postgres.Weakens})
	p.SQL(t, "ALTER SYSTEM SET archive_command = 'true'", "SELECT pg_reload_conf()", "SELECT pg_switch_wal()")
	eventually(t, "archiving", func() bool {
		return p.SQL(t, "SELECT last_archived_time > last_failed_time FROM pg_stat_archiver") == "t"
	})
	expect(t, findings(t, conn, postgres.ReceiverConfig{}), nil)
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there is no %s", what)
		}
	}
}

func brokenSlots(t *testing.T, p *testenv.PG, conn string) {
	p.SQL(t, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "ALTER SYSTEM SET max_wal_senders = 2", "ALTER SYSTEM SET max_replication_slots = 3")
	p.Stop(t)
	p.Start(t)
	p.SQL(t, "SELECT pg_create_physical_replication_slot('holdfast', true)", "SELECT pg_create_physical_replication_slot('other', true)",
		"SELECT pg_create_physical_replication_slot('idle')", "CREATE TABLE filler (x text)")
	config, err := pgconn.ParseConfig(conn)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["replication"] = "true"
	sender, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		p.SQL(t, "SELECT pg_switch_wal()", "INSERT INTO filler SELECT 'x'", "CHECKPOINT")
	}
	eventually(t, "loss", func() bool {
		p.SQL(t, "SELECT pg_switch_wal()", "INSERT INTO filler SELECT 'x'", "CHECKPOINT")
		return p.SQL(t, "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'") == "2"
	})
	found := findings(t, conn, postgres.ReceiverConfig{})
	expect(t, found, map[string]postgres.Severity{"slot holdfast": postgres.Blocks, "slot other": postgres.Advises, "slot idle": postgres.Weakens,
		"max_wal_senders": postgres.Weakens, "max_replication_slots": postgres.Blocks})
	if err := sender.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Of a receiver with another slot, that one is not the receiver's.
	as := findings(t, conn, postgres.ReceiverConfig{Slot: "other"})
	if as["slot other"].Severity != postgres.Blocks || as["slot holdfast"].Severity != postgres.Advises {
		t.Errorf("of the slot other: %v", as)
	}
	mend(t, p, found)
	expect(t, findings(t, conn, postgres.ReceiverConfig{}), nil)
}

func brokenAccess(t *testing.T, p *testenv.PG, conn string) {
	hba := filepath.Join(p.Data, "pg_hba.conf")
	b, err := os.ReadFile(hba)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) < 2 || fields[1] != "replication" {
			kept = append(kept, line)
		}
	}
	write := func(text string) {
		if err := os.WriteFile(hba, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.SQL(t, "SELECT pg_reload_conf()")
	}
	write(strings.Join(kept, ""))
	eventually(t, "refusal", func() bool { return len(findings(t, conn, postgres.ReceiverConfig{})) > 0 })
	found := findings(t, conn, postgres.ReceiverConfig{})
	expect(t, found, map[string]postgres.Severity{"pg_hba.conf": postgres.Blocks})
	_, line, ok := strings.Cut(found["pg_hba.conf"].Do, "(for a socket: ")
	line, _, end := strings.Cut(line, ")")
	if !ok || !end {
		t.Fatalf("no line for a socket in %q", found["pg_hba.conf"].Do)
	}
	write(strings.Join(kept, "") + strings.Replace(line, "METHOD", "trust", 1) + "\n")
	eventually(t, "access", func() bool { return len(findings(t, conn, postgres.ReceiverConfig{})) == 0 })
}

func TestPreflightErrors(t *testing.T) {
	for conn, want := range map[string]string{"": "field Conn is required", "host=x password=hush": "field Conn", "host=127.0.0.1 port=1": "preflight"} {
		_, err := postgres.Preflight(t.Context(), postgres.Config{Conn: conn}, postgres.ReceiverConfig{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v, want %s", conn, err, want)
		}
	}
}
