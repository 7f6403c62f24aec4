// Package logical backs up databases of PostgreSQL as dumps, by pg_dump, and
// restores them, by pg_restore, into a database of any name.
//
//	target, err := logical.New(logical.Config{Conn: "host=db1 user=backup", Databases: []string{"shop"}})
//	point, err := repo.Backup(ctx, "shop", target, backup.BackupOptions{})
//	err = repo.Restore(ctx, point.ID, target, backup.Destination{
//		Location: "host=db2 user=postgres", Options: map[string]string{"database": "shop_copy"}}, backup.RestoreOptions{})
//
// # What it is for, and what not
//
// A dump is the content of one database at one moment, as SQL and rows. It goes
// into a server of a newer version, another system or another name, and a
// single database can be taken out of a cluster by it. It is no way back to a
// moment between two backups. WAL, the log that point-in-time recovery replays,
// says which bytes of which page of which file were changed; a database that
// was restored from a dump has other files with other pages and numbers, so no
// WAL can be applied to it. Point-in-time recovery needs a physical base backup
// and the WAL since: the kind "postgres", of package postgres. See the chapters
// "SQL Dump" and "Continuous Archiving and Point-in-Time Recovery" of
// PostgreSQL's documentation.
//
// # What is kept
//
// Of each database: all that pg_dump knows, large objects included, and what it
// leaves to whoever creates a database: encoding and locales, owner, comment,
// connection limit, privileges, settings (ALTER DATABASE and ALTER ROLE ... IN
// DATABASE), whether it is a template. Of the cluster: its roles with their
// attributes, memberships and settings, without passwords.
//
// Not kept: passwords of roles; tablespaces, which are directories of a host;
// subscriptions, which hold passwords and would begin to fetch; statistics, and
// the rows of materialized views, both of which a restore computes anew. A
// database that takes no connections is left out with a warning (of template0
// there is nothing to keep).
//
// # Consistency
//
// Each database is dumped in one snapshot, and the rows of each of its tables
// are counted in the same. Before the snapshot is taken, its tables are
// locked in ACCESS SHARE mode, which lets everything but changes of their
// shape go on: TRUNCATE and what rewrites a table are not of snapshots, and
// would let a dump see a table empty. Two databases have two snapshots.
// If one of several databases cannot be dumped it is left out with a warning;
// if none can, or the server cannot be reached any more, the backup fails.
// Every backup reads everything; what is stored is only what is new.
//
// # Passwords
//
// They are taken from where libpq takes them: PGPASSWORD, PGPASSFILE or
// ~/.pgpass, a keyword passfile, a service file. A connection string with a
// password in it is refused, so none is on a command line, in an error, in a
// log or in a plan.
//
// # Restoring
//
// Destination.Location is the connection string of a server, empty for
// [Config].Conn. Destination.Options:
//
//	from       which database of the point; may be left out if it has one.
//	database   what to call it; default: as it was called.
//	overwrite  "true" allows to replace a database of that name. Its clients
//	           are disconnected when the new one takes its place.
//	old        what becomes of the one that is replaced: "keep", the default,
//	           leaves it under another name, which is logged; "drop" drops it
//	           when the new one is in its place.
//	roles      "require", the default, wants all roles there that own something
//	           or have privileges; "create" makes those of the point that are
//	           missing, without passwords, and changes no other; they stay if
//	           the restore fails; "none" makes everything the restoring
//	           role's own, without privileges.
//	settings   "none" leaves the settings of database and new roles out;
//	           default "restore".
//	jobs       how many tables and indexes are restored at once, 1 to 64;
//	           default 1. With more than one the dump is put into a file in
//	           [Config].Spool first, which only its owner can read.
//
// Without overwrite a name that is taken is refused before anything is done.
// The dump goes into a new database, "NAME.holdfast-new-" and 12 digits. What
// is in it is compared with what was recorded: every table with its number of
// rows, and how many views, sequences, indexes, functions, triggers and large
// objects there are. Only then it gets its name, in one transaction with the
// other, which becomes "NAME.holdfast-old-" and digits. So the old database is
// there, whatever goes wrong; a client that connects in that very moment may be
// told once that there is none. A restore that fails drops what it made; what
// it or a crash could not drop is dropped by the next restore into the same
// name. If names of tablespaces are missing at the destination, everything goes
// into the default one.
//
// pg_restore runs without --single-transaction: the new database is dropped
// when anything fails, and one transaction needs a lock on every object, which
// large databases exceed.
//
// A dump is SQL that is executed with the rights of the restoring role. Whoever
// could write the point could have put anything into it: restore points of
// others with a role that is no superuser.
//
// # Versions
//
// Servers from 13 on. pg_dump must not be older than the server, pg_restore
// not older than the pg_dump that was used, and a server not older than the
// one the dump is of. Anything else is refused, with what to do.
package logical

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// Config says which databases to back up, and with which programs.
type Config struct {
	// Conn is a connection string of libpq, "host=db1 user=backup" or a URL,
	// without a password. Its dbname, default "postgres", is where databases
	// are listed and created; it does not say what to back up. Required for a
	// backup.
	Conn string

	// Databases are the names of those to back up. Empty means all that take
	// connections, those made since the last backup, too.
	Databases []string

	// Bin is the directory of pg_dump and pg_restore. Empty: they are found as
	// the shell finds them.
	Bin string

	// Spool is the directory for the file that a restore with several jobs
	// needs, as large as the dump. Empty: that of [os.TempDir].
	Spool string

	Logger *slog.Logger // told what a restore did to other databases; default: discards
}

// Target is a [backup.Target] of kind "postgres-dump".
type Target struct {
	c    Config
	conn conninfo

	// Seams for tests.
	listed func()                  // the tables are listed, and not yet locked
	step   func(name string) error // a restore is about to take this step; "snapshot": a dump has one
	grace  time.Duration           // for programs to end by themselves
}

var _ backup.Target = (*Target)(nil)

// New returns a target. It connects to nothing and starts no program.
func New(c Config) (*Target, error) {
	var errs []error
	conn, err := parseConninfo(c.Conn)
	if err != nil {
		errs = append(errs, fmt.Errorf("field Conn: %w", err))
	}
	for _, name := range c.Databases {
		if err := validName(name); err != nil {
			errs = append(errs, fmt.Errorf("field Databases: %w", err))
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("logical config: %w", errors.Join(errs...))
	}
	if c.Spool == "" {
		c.Spool = os.TempDir()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Target{c: c, conn: conn, listed: func() {}, step: func(string) error { return nil }, grace: patience}, nil
}

// Kind is "postgres-dump".
func (t *Target) Kind() string { return "postgres-dump" }

const maxName = 63 // bytes of a name; the server would cut it

func validName(name string) error {
	if name == "" || len(name) > maxName || strings.ContainsRune(name, 0) {
		return fmt.Errorf("name of a database %.80q: want 1 to %d bytes without a zero", name, maxName)
	}
	return nil
}

// failed describes what went wrong with a database.
func failed(op, database string, err error) error {
	return &provider.Error{Op: op, Provider: "postgres-dump", Key: database, Err: err}
}
