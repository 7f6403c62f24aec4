package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Severity says what a [Finding] does.
type Severity string

const (
	Blocks  Severity = "blocks"  // there is no backup, or no WAL is received, before it is mended
	Weakens Severity = "weakens" // it works, and is worth less than it should be, or will not work for long
	Advises Severity = "advises" // it could be better
)

// A Finding is something about a server, its settings or this host, that backups
// suffer from.
type Finding struct {
	Severity Severity
	Subject  string   // "wal_level", "role backup", "slot holdfast", "pg_hba.conf", "spool"
	What     string   // is the case
	Why      string   // it matters
	SQL      []string // statements that mend it, for a superuser, each by itself
	Restart  bool     // the server has to be restarted after the SQL
	Do       string   // what mends it where no SQL does
}

// String is the finding in a few lines, as a person reads it.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s: %s: %s", f.Severity, f.Subject, f.What, f.Why)
	for _, statement := range f.SQL {
		s += "\n    " + statement
	}
	if f.Restart {
		s += "\n    and restart the server"
	}
	if f.Do != "" {
		s += "\n    " + f.Do
	}
	return s
}

// Preflight looks for what keeps a cluster from being backed up, and its WAL
// from being received, before that is needed; r may be zero if nothing is
// received. It changes nothing. Findings come in the order of their severity;
// none means that nothing was found. An error says that the server could not be
// asked; settings that the role may not see are not judged.
func Preflight(ctx context.Context, c Config, r ReceiverConfig) ([]Finding, error) {
	t, err := New(c)
	if err != nil {
		return nil, err
	}
	if t.conn == nil {
		return nil, errors.New("postgres preflight: field Conn is required")
	}
	plain := t.conn.Copy()
	plain.Database = cmp.Or(plain.Database, "postgres")
	conn, err := pgconn.ConnectConfig(ctx, plain)
	if err != nil {
		return nil, fmt.Errorf("postgres preflight: %w", advised(err))
	}
	defer hangUp(conn)
	p := &preflight{conn: conn, c: c, database: plain.Database, user: plain.User, slot: cmp.Or(r.Slot, "holdfast")}
	for _, look := range []func(context.Context) error{p.readSettings, p.version, p.wal, p.senders, p.role, p.reader, p.durability, p.archiving, p.slots} {
		if err := look(ctx); err != nil {
			return nil, fmt.Errorf("postgres preflight: %w", err)
		}
	}
	p.replication(ctx, t)
	p.spool(r)
	slices.SortStableFunc(p.found, func(a, b Finding) int { return rank(a.Severity) - rank(b.Severity) })
	return p.found, nil
}

func rank(s Severity) int { return slices.Index([]Severity{Blocks, Weakens, Advises}, s) }

type preflight struct {
	conn     *pgconn.PgConn
	c        Config
	database string
	user     string
	slot     string
	settings map[string]string
	found    []Finding
}

func (p *preflight) add(f Finding) { p.found = append(p.found, f) }

// set is the SQL that gives a setting a value, and reset that for one that
// takes effect at once.
func set(name, value string) []string {
	return []string{"ALTER SYSTEM SET " + name + " = " + value + ";"}
}

func reset(name, value string) []string { return append(set(name, value), "SELECT pg_reload_conf();") }

func (p *preflight) rows(ctx context.Context, sql string) ([][]string, error) {
	return textRows(ctx, p.conn, sql)
}

func (p *preflight) readSettings(ctx context.Context) error {
	rows, err := p.rows(ctx, `SELECT name, setting FROM pg_catalog.pg_settings`)
	p.settings = map[string]string{}
	for _, r := range rows {
		p.settings[r[0]] = r[1]
	}
	return err
}

func (p *preflight) number(name string) int64 {
	n, err := strconv.ParseInt(p.settings[name], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

func (p *preflight) version(context.Context) error {
	if p.number("server_version_num") < oldest*10000 {
		p.add(Finding{Severity: Blocks, Subject: "version", What: "the server is of version " + p.settings["server_version"],
			Why: fmt.Sprintf("base backups are taken from version %d on", oldest), Do: "upgrade it; package logical can dump its databases"})
	}
	return nil
}

func (p *preflight) wal(context.Context) error {
	if p.settings["wal_level"] == "minimal" {
		p.add(Finding{Severity: Blocks, Subject: "wal_level", What: "it is minimal", Why: "what is left out of such WAL cannot be recovered, and no base backup is possible",
			SQL: set("wal_level", "'replica'"), Restart: true})
	}
	if p.settings["summarize_wal"] == "off" { // from 17 on
		p.add(Finding{Severity: Advises, Subject: "summarize_wal", What: "it is off", Why: "the server cannot tell what has changed since the last backup, and reads everything",
			SQL: reset("summarize_wal", "on")})
	}
	return nil
}

// wanted are the connections for replication that a base backup and a receiver
// take beside each other.
const wanted = 2

func (p *preflight) senders(ctx context.Context) error {
	rows, err := p.rows(ctx, `SELECT (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()), (SELECT count(*) FROM pg_catalog.pg_replication_slots),
		(SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name = `+literal(p.slot)+`)`)
	if err != nil {
		return err
	}
	busy, _ := strconv.ParseInt(rows[0][0], 10, 64)
	slots, _ := strconv.ParseInt(rows[0][1], 10, 64)
	if limit := p.number("max_wal_senders"); limit-busy < wanted {
		f := Finding{Severity: Weakens, Subject: "max_wal_senders", What: fmt.Sprintf("%d of %d connections for replication are free", limit-busy, limit),
			Why: "a base backup takes one, and a receiver of WAL another", SQL: set("max_wal_senders", fmt.Sprint(max(10, busy+wanted))), Restart: true}
		if limit-busy < 1 {
			f.Severity = Blocks
		}
		p.add(f)
	}
	// A backup takes a temporary slot, which keeps the WAL that it needs.
	need := int64(wanted)
	if rows[0][2] != "0" {
		need--
	}
	if limit := p.number("max_replication_slots"); limit-slots < need {
		p.add(Finding{Severity: Blocks, Subject: "max_replication_slots", What: fmt.Sprintf("%d of %d are free", limit-slots, limit),
			Why: "a base backup and a receiver take a slot each, by which the server keeps the WAL they need", SQL: set("max_replication_slots", fmt.Sprint(max(10, slots+wanted))), Restart: true})
	}
	return nil
}

func (p *preflight) role(ctx context.Context) error {
	rows, err := p.rows(ctx, `SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = current_user AND NOT rolreplication AND NOT rolsuper`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		p.add(Finding{Severity: Blocks, Subject: "role " + r[0], What: "it may not replicate", Why: "base backups and WAL come over the replication protocol",
			SQL: []string{"ALTER ROLE " + pgx.Identifier{r[0]}.Sanitize() + " REPLICATION;"}})
	}
	return nil
}

// reader is about what the role may call to read files.
func (p *preflight) reader(ctx context.Context) error {
	r := p.c.Reader
	if r == "" && p.c.Data != "" {
		r = Local
	}
	missing, err := lacking(ctx, p.conn, r)
	if err != nil || len(missing) == 0 {
		return err
	}
	f := Finding{Severity: Blocks, Subject: "functions", What: "role " + p.user + " may not call " + strings.Join(missing, ", ") + ` in the database "` + p.database + `"`,
		Why: "the reader " + string(r) + " calls them", SQL: grant(p.user, missing)}
	if p.c.Reader == "" {
		f.Severity, f.Why = Weakens, "the data directory is not read directly without, but over the connection, which is slower"
	}
	p.add(f)
	return nil
}

// durability is about what a backup inherits from the server.
func (p *preflight) durability(context.Context) error {
	if p.settings["data_checksums"] == "off" {
		p.add(Finding{Severity: Weakens, Subject: "data_checksums", What: "pages have none", Why: "a page that the disk has damaged is backed up as if it were whole",
			Do: "stop the server, run pg_checksums --enable -D with its data directory, and start it"})
	}
	if p.settings["full_page_writes"] == "off" {
		p.add(Finding{Severity: Weakens, Subject: "full_page_writes", What: "it is off", Why: "a crash can leave pages half written, and no standby can be backed up",
			SQL: reset("full_page_writes", "on")})
	}
	if p.settings["fsync"] == "off" {
		p.add(Finding{Severity: Weakens, Subject: "fsync", What: "it is off", Why: "a crash of the host can destroy the cluster, and WAL that was received is then ahead of it",
			SQL: reset("fsync", "on")})
	}
	return nil
}

func (p *preflight) archiving(ctx context.Context) error {
	if p.settings["archive_mode"] == "off" || p.settings["archive_mode"] == "" {
		return nil // the receiver needs none
	}
	if command, ok := p.settings["archive_command"]; (command == "" || command == "(disabled)") && ok && p.settings["archive_library"] == "" {
		p.add(Finding{Severity: Weakens, Subject: "archive_command", What: "archive_mode is on, and there is no command", Why: "the server keeps all WAL until its disk is full",
			SQL: set("archive_mode", "off"), Restart: true, Do: "or set archive_command, if something beside the receiver is to have the WAL"})
		return nil
	}
	rows, err := p.rows(ctx, `SELECT last_failed_wal, failed_count FROM pg_catalog.pg_stat_archiver
		WHERE last_failed_time > coalesce(last_archived_time, '-infinity')`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		p.add(Finding{Severity: Weakens, Subject: "archive_command", What: fmt.Sprintf("it fails, %s times, the last time for %s", r[1], r[0]), Why: "the server keeps all WAL until its disk is full",
			Do: "mend the command; the server's log has what it says"})
	}
	return nil
}

func (p *preflight) slots(ctx context.Context) error {
	rows, err := p.rows(ctx, `SELECT slot_name, slot_type, active, coalesce(wal_status, ''), temporary,
		pg_catalog.pg_size_pretty(CASE WHEN pg_is_in_recovery() THEN 0 ELSE pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn) END)
		FROM pg_catalog.pg_replication_slots ORDER BY slot_name`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		name, kind, active, status, kept := r[0], r[1], r[2] == "t", r[3], r[5]
		drop := []string{"SELECT pg_drop_replication_slot(" + literal(name) + ");"}
		switch mine := name == p.slot; {
		case mine && kind != "physical":
			p.add(Finding{Severity: Blocks, Subject: "slot " + name, What: "it is a logical one", Why: "the receiver wants a physical slot of this name",
				Do: "give the receiver another name in ReceiverConfig.Slot"})
		case status == "lost" && mine:
			p.add(Finding{Severity: Blocks, Subject: "slot " + name, What: "the server has removed WAL that it should have kept", Why: "the log of WAL has a gap, unless it has come by another way",
				SQL: drop, Do: "then start the receiver, which makes the slot again, and take a new base backup"})
		case status == "lost":
			p.add(Finding{Severity: Advises, Subject: "slot " + name, What: "it is lost", Why: "it is of no use any more, and takes the place of another", SQL: drop})
		case status == "unreserved":
			p.add(Finding{Severity: Weakens, Subject: "slot " + name, What: "the server is about to remove WAL that it should keep", Why: "whoever needs it will have a gap",
				Do: "let its receiver catch up, or raise max_slot_wal_keep_size"})
		case !active && r[4] != "t" && !mine:
			p.add(Finding{Severity: Weakens, Subject: "slot " + name, What: "nobody reads it, and the server keeps " + kept + " of WAL for it", Why: "the server's disk fills up",
				SQL: drop, Do: "unless somebody is to come back for it"})
		}
	}
	if p.number("max_slot_wal_keep_size") < 0 {
		p.add(Finding{Severity: Advises, Subject: "max_slot_wal_keep_size", What: "there is no limit", Why: "while no receiver runs, its slot fills the server's disk; with a limit the log has a gap instead, and a new base backup is needed",
			SQL: reset("max_slot_wal_keep_size", "'64GB'"), Do: "choose what the disk has room for"})
	}
	return nil
}

// replication tries the connection that a backup takes.
func (p *preflight) replication(ctx context.Context, t *Target) {
	if slices.ContainsFunc(p.found, func(f Finding) bool {
		return f.Severity == Blocks && (f.Subject == "max_wal_senders" || strings.HasPrefix(f.Subject, "role "))
	}) {
		return // it would say the same
	}
	conn, err := t.connect(ctx)
	if err == nil {
		hangUp(conn)
		return
	}
	f := Finding{Severity: Blocks, Subject: "replication", What: err.Error(), Why: "base backups and WAL come over a connection for replication", Do: "see what the server's log says"}
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "28000" && strings.Contains(e.Message, "pg_hba.conf") {
		f.Subject, f.What = "pg_hba.conf", "it has no line for replication by "+t.conn.User+" from here"
		f.Do = fmt.Sprintf("add the line\n    host replication %s ADDRESS scram-sha-256\n    with the address of this host (for a socket: local replication %s METHOD), and SELECT pg_reload_conf();", hbaName(t.conn.User), hbaName(t.conn.User))
	}
	p.add(f)
}

// hbaName is a name as pg_hba.conf has it.
func hbaName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// spool looks whether there is room for what is received.
func (p *preflight) spool(r ReceiverConfig) {
	if r.Spool == "" {
		return
	}
	limit := cmp.Or(r.Limit, 1<<30)
	dir := r.Spool
	info, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) { // the receiver makes it
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", dir)
	}
	if err != nil {
		p.add(Finding{Severity: Blocks, Subject: "spool", What: err.Error(), Why: "what is received is kept there until it is stored", Do: "make the directory"})
		return
	}
	if free, ok := freeSpace(dir); ok && free < limit {
		p.add(Finding{Severity: Weakens, Subject: "spool", What: fmt.Sprintf("%d MiB are free, and ReceiverConfig.Limit is %d MiB", free>>20, limit>>20),
			Why: "when the disk is full, the receiver stops, and the server keeps its WAL", Do: "free some space, or lower the limit"})
	}
}

// literal writes a string in SQL.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
