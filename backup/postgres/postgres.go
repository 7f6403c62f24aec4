// Package postgres backs up and restores a PostgreSQL cluster as a whole: its
// files, and the WAL that makes them consistent. Versions 15 to 18.
//
//	target, err := postgres.New(postgres.Config{Conn: "host=db1 user=backup passfile=/etc/holdfast/pgpass"})
//	point, err := repo.Backup(ctx, "db1", target, backup.BackupOptions{})
//	err = repo.Restore(ctx, point.ID, target, backup.Destination{Location: "/var/lib/postgresql/restored"}, backup.RestoreOptions{})
//
// Package logical beside it dumps single databases. Only this one can return
// to any moment: WAL cannot be applied to a dump.
//
// # What a backup is
//
// A base backup: nothing is installed at the server, and a standby will do as a
// source. It needs a role with REPLICATION and a line for the database
// "replication" in pg_hba.conf; [Preflight] looks whether that and the server's
// settings are as they should be.
//
// Every file is an item, under its path below the data directory; what is in a
// tablespace is below pg_tblspc/OID, as in PostgreSQL's own manifests. There is
// one of those, too (backup_manifest), with a checksum of every file, so that
// pg_verifybackup can be run on what is restored. Relation files are cut into
// pages, so that another full backup stores only what has changed.
//
// The checksum of every page is checked, where there are any. Pages that fail
// are warnings of the point, which is partial then: the rest of the cluster is
// there, and so are the pages as they are.
//
// # How files are read
//
// [Stream] takes what BASE_BACKUP sends over one connection. The server
// announces the checksum of every file in its manifest, and each is compared with
// what arrived: one difference, one file that is missing or too many, and there
// is no point.
//
// With the mode [backup.Incremental] or [backup.Differential], a server of
// version 17 or later whose summarize_wal is on sends only what has changed since
// the point before, whoever has read that: it is given that point's manifest
// (UPLOAD_MANIFEST), and its answers are put together at once with what the
// repository has. So the new point is as complete as any, and restored, checked
// and pruned like one. Everything is sent, and the point is a full one, where
// that cannot be: the log says why (summaries are missing or too old; another
// timeline; pages that failed; what the repository has is damaged). A server whose
// files were put back to an older state by other means than a restore, which
// begins a timeline, wants a full backup: it does not notice that itself.
//
// [Local] reads the data directory, between pg_backup_start and pg_backup_stop,
// with several readers, and leaves out what BASE_BACKUP leaves out. The
// directory has to be what the server of Conn works on, and no copy or standby
// of it: a replication slot that was just made has to be there. The role may
// have to be granted the two functions; an error says how. Links are followed to
// tablespaces alone. What vanishes or shrinks while it is read is mended by the
// WAL. A page that fails is read again, and is in order if it was changed since
// the backup began. If the server ends meanwhile, there is no point.
//
// [Parallel] reads in the same way, through SQL functions of the server and over
// several sessions: nothing is needed but a role that was granted five of them.
// It is for servers far away, where one connection is slow. What a server shows
// there is behind links, so links in the data directory are followed by it.
//
// With the mode [backup.Incremental] or [backup.Differential], Parallel, and
// on Linux Local, do not read files again whose size, times and, locally, inode
// are those of the point before. That is safe only if no write can go unseen, so it is done only with
// files that had not been touched for three seconds when that backup began,
// whose checkpoint waits for all writes that are under way, and on file systems
// whose times are those of the server's clock; where a tablespace lies on another
// one than the data directory, or the source is a standby, everything is read.
// A full backup reads everything.
//
// # WAL
//
// A base backup is of use only with the WAL written while it was taken. It is
// in the log "postgres/SYSTEM IDENTIFIER" of the repository, whose branches are
// timelines and whose positions are LSNs. Whatever of it the log does not have
// when the files are there is fetched from the server, which a temporary slot
// makes keep it, before the point exists; if a receiver fills the log, and is
// not far behind, that is nothing. So every point can be restored.
//
// # Restoring
//
// Destination.Location is the data directory to be: made if it does not exist,
// and refused if it is not empty. What is written there is the cluster of the
// backup, with settings that make PostgreSQL replay the WAL of the log when it
// is started: recovery.signal, and lines in postgresql.auto.conf. That WAL is
// put into a directory beside it first. Destination.Options:
//
//	tablespace:NAME  the directory for a tablespace, by its name or OID. Every
//	                 tablespace wants one: a point decides nothing about where
//	                 files go.
//	tablespaces      a directory for those that have none by name or OID: each
//	                 goes below it, under its OID.
//	target-time      recover to a moment, as RFC 3339 writes it, target-lsn to a
//	target-lsn       position, target-xid to a transaction, target-name to a
//	target-xid       restore point; one of them. Without any: to the end of the
//	target-name      log. target=consistent ends as soon as all is consistent:
//	target           at the end of the backup.
//	exclusive        "true" stops before the target and not behind it.
//	target-timeline  which timeline to follow: a number, "current" for that of
//	                 the backup, or "latest", the default.
//	action           what the server does at a target: "promote", the default,
//	                 "pause" or "shutdown". At the end it goes into operation.
//	wal-dir          where the WAL goes; Location with ".wal" behind it if not set.
//	overwrite        "true" allows a directory that holds this cluster, or what
//	                 a restore of it left: only what differs is written, and
//	                 what the backup does not have is deleted.
//	owner            UID:GID of all that is written. Only root can.
//	verify           "true" reads everything again at the end, and compares it
//	                 with the manifest.
//	dry-run          "true" reads and verifies all of the point and that the
//	                 log has the WAL, counts it in the progress, and writes nothing.
//
// A restore begins by making certain that the log has, without a gap, the WAL
// from the beginning of the backup to where it is consistent and on to the
// target, and that recovery ends there: for a transaction or a restore point
// that WAL is read to find it. Else an [UnreachableError] says what is missing
// and what can be reached. [PlanRestore] chooses the point, and [Windows] shows
// what there is. Only the WAL that recovery reads is put there, all of the
// log's if the action is to pause or to shut down.
//
// A directory that a server is running on is refused. Until the restore has succeeded, the directory has no
// pg_control, without which no server starts. A restore that was killed goes on
// with overwrite.
//
// Configuration that is not below the data directory, as Debian has it in
// /etc, is not in the backup. Settings that are come back as they were; look
// at archive_command before a restored cluster runs beside its original.
//
// # Proving
//
// [Prove] starts a restored cluster, waits until it has recovered, and checks
// its data. Nobody but its owner gets to it: it has no port, a socket in a fresh
// directory, and no line of its pg_hba.conf. What its configuration would have
// it do to others is set aside for as long as the proof takes: archiving,
// standbys, commands, subscriptions, libraries that work on their own (pg_cron
// and others; the rest of shared_preload_libraries stays, for WAL can need it),
// and a data_directory that is another one.
//
// Checked are, in every database that takes connections: tables, indexes and
// catalogs by the functions of amcheck, the extension, which is made in a
// transaction that is rolled back; that every row of every table can be read;
// the row that the backup wrote before it began ([Config].Watermark); queries of
// the user. What could not be checked is said in [Proof].NotDone. Measured are
// the time from the beginning of the restore until all that has passed, and the
// last transaction that was replayed, committed or not, to the microsecond, by
// the source's clock.
//
// At the end the server is stopped, also when ctx has ended. One whose prover
// was killed is ended by the next proof of the same directory. The cluster has
// recovered then, and is on a timeline of its own; its settings and data are as
// they were, and it can be put into operation. PostgreSQL does not run as root:
// root needs the option owner for what is restored, and has programs run by
// that owner.
//
// Whatever a point says, nothing is written outside of the directories that
// Destination names: all access goes through them, as [os.Root] does.
package postgres

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
)

// Config says which cluster to back up.
type Config struct {
	// Conn is a connection string or URL, as libpq takes it; what it leaves
	// open comes from PG* variables. It holds no password: that belongs in a
	// passfile, a service file or PGPASSWORD. It is required for a backup; a
	// target that only restores may leave it empty.
	Conn string

	// Checkpoint is how the server makes the checkpoint that a backup begins
	// with: "fast", at once, the default, or "spread", with as little load as
	// one of its own, which can take minutes.
	Checkpoint string

	// Watermark names a database in which every backup leaves a row before it
	// begins, in the table holdfast.watermark, so that [Prove] can see that what
	// was restored has it. The table is made if it is not there. What keeps the
	// row from being written, such as that the source is a standby, is logged and
	// noted, and the backup goes on. Default: no row is written anywhere.
	Watermark string

	// Data is the data directory of the cluster, if it is on this host and this
	// process may read it; empty if not.
	Data string

	// Reader is how the files are read. If it is empty, it is Local where Data
	// is what the server of Conn works on and the role may do what that takes,
	// and else Stream; which it was is told to Logger.
	Reader Reader

	// ManifestChecksums is the algorithm of the checksums of files in the
	// manifest: "SHA256" or "CRC32C", PostgreSQL's own default, which costs a
	// tenth. The content in the repository is identified by HMAC-SHA-256 in
	// any case. Default: SHA256 for what a server sends (Stream), where the sum
	// is what shows that it arrived as it was, and CRC32C where the manifest is
	// made here of what was read (Local, Parallel). CRC32C wants a server on a
	// little-endian machine.
	ManifestChecksums string

	Workers int          // how many files a restore writes, and how many pieces a backup reads, at once; default 4
	Logger  *slog.Logger // told of decisions; default: discards
}

// Target is a [backup.Target] of kind "postgres".
type Target struct {
	c    Config
	conn *pgconn.Config // nil: Conn is empty
}

var _ backup.Target = (*Target)(nil)

// New returns a target. It does not connect.
func New(c Config) (*Target, error) {
	t := &Target{c: c}
	var errs []error
	if c.Conn != "" {
		conn, err := parseConn(c.Conn)
		if err != nil {
			errs = append(errs, fmt.Errorf("field Conn: %w", err))
		}
		t.conn = conn
	}
	if c.Checkpoint != "" && c.Checkpoint != "fast" && c.Checkpoint != "spread" {
		errs = append(errs, fmt.Errorf("field Checkpoint is %q, want fast or spread", c.Checkpoint))
	}
	if c.Reader != "" && c.Reader != Stream && c.Reader != Parallel && c.Reader != Local {
		errs = append(errs, fmt.Errorf("field Reader is %q, want stream, parallel, local or nothing", c.Reader))
	}
	if c.Reader == Local && c.Data == "" {
		errs = append(errs, errors.New("field Data is empty, and field Reader is local: want the data directory"))
	}
	if s := c.ManifestChecksums; s != "" && s != sumSHA256 && s != sumCRC32C {
		errs = append(errs, fmt.Errorf("field ManifestChecksums is %q, want SHA256, CRC32C or nothing", s))
	}
	if c.Workers < 0 || c.Workers > 1024 {
		errs = append(errs, fmt.Errorf("field Workers is %d, want 0 to 1024", c.Workers))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("postgres config: %w", errors.Join(errs...))
	}
	if c.Workers == 0 {
		t.c.Workers = 4
	}
	if c.Logger == nil {
		t.c.Logger = slog.New(slog.DiscardHandler)
	}
	return t, nil
}

// Kind is "postgres".
func (t *Target) Kind() string { return "postgres" }

// sums is the algorithm of the manifest that comes of a reader.
func (t *Target) sums(r Reader) string {
	switch {
	case t.c.ManifestChecksums != "":
		return t.c.ManifestChecksums
	case r == Stream:
		return sumSHA256
	}
	return sumCRC32C
}

// LogName is the name of the log that has the WAL of a cluster, by its system
// identifier.
func LogName(system uint64) string { return fmt.Sprintf("postgres/%d", system) }

// parseConn reads a connection string. No error repeats it: there could be a
// password in it.
func parseConn(s string) (*pgconn.Config, error) {
	if key, ok := holdsSecret(s); ok {
		return nil, fmt.Errorf("it holds a %s, which others would see; put it into a passfile (~/.pgpass, or passfile=FILE), a service file or PGPASSWORD", key)
	}
	c, err := pgconn.ParseConfig(s)
	if err != nil {
		return nil, errors.New(`want "host=NAME user=NAME ..." or a URL "postgresql://..."` + reason(err))
	}
	return c, nil
}

// reason is what an error of pgconn says behind the connection string.
func reason(err error) string {
	if inner := errors.Unwrap(err); inner != nil {
		return ": " + inner.Error()
	}
	return ""
}

// holdsSecret finds a password in a connection string, which may be none.
func holdsSecret(s string) (key string, found bool) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok && (scheme == "postgres" || scheme == "postgresql") {
		authority, _, _ := strings.Cut(rest, "/")
		if user, _, ok := cutLast(authority, "@"); ok && strings.Contains(user, ":") {
			return "password", true
		}
		_, query, _ := strings.Cut(rest, "?")
		s = strings.ReplaceAll(query, "&", " ")
	}
	for _, key := range []string{"password", "sslpassword"} {
		for at := 0; ; {
			n := strings.Index(s[at:], key)
			if n < 0 {
				break
			}
			before, behind := s[:at+n], strings.TrimLeft(s[at+n+len(key):], " \t\r\n\f\v")
			if strings.HasPrefix(behind, "=") && (before == "" || strings.ContainsAny(before[len(before)-1:], " \t\r\n\f\v'?&")) {
				return key, true
			}
			at += n + len(key)
		}
	}
	return "", false
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
