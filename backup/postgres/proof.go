package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// ErrUnproven is in the error of a [Prove] that found something wrong with the
// data of a cluster that came up.
var ErrUnproven = errors.New("the cluster is not what it should be")

// ProofConfig says which restored cluster to prove, how thoroughly, and with
// which programs.
type ProofConfig struct {
	Data string // the directory that a restore wrote; required
	Bin  string // directory of postgres and pg_ctl, of the cluster's version; empty: where the shell finds pg_ctl

	// Run is a directory with a short path, in which a directory for the socket
	// and the log is made; default: that of [os.TempDir].
	Run string

	// RunAs is who runs the programs, UID:GID, as PostgreSQL does not run as
	// root. Default: the owner of Data if this process is root, otherwise
	// whoever this process is. Only root can be another.
	RunAs string

	User string // a superuser of the cluster; default "postgres"

	// Settings are further settings of the server: less memory for a smaller
	// host. Those that keep a proof to itself cannot be changed.
	Settings map[string]string

	// Began is when the restore began, from which the RTO counts. Default: when
	// it did, as Restore noted.
	Began time.Time

	// Until is the moment of the disaster, or the one to return to, which the
	// RPO counts to. Default: the target-time of the restore, if it had any.
	Until time.Time

	// Amcheck says how tables and indexes are checked: "", the default, their
	// structure; "full" also that each row is in each index; "none" not at all.
	Amcheck string

	// Rows says how rows are counted: "exact", the default, reads every table;
	// "estimate" takes what the planner assumes; "none" counts nothing.
	Rows string

	Queries []Query // of the user

	Timeout time.Duration // of everything; default 4 hours
	Logger  *slog.Logger  // told of decisions; default: discards
}

// A Query is SQL that yields one value if the data is as it should be. It is
// run by the superuser, and can change nothing.
type Query struct {
	Database string // default "postgres"
	SQL      string
	Want     string // as text; default "t", true
}

// A Proof is what [Prove] found. Durations are of the clock of this host.
type Proof struct {
	Data     string
	System   string // system identifier
	Version  string // of the server: "17.2"
	Timeline uint32 // that it went into operation on

	Began      time.Time // of the restore, or of the proof if that is not known
	Started    time.Time // the server was
	Consistent time.Time // it let somebody in
	Recovered  time.Time // it had replayed all it should, and could be written to
	Checked    time.Time // all checks had passed; zero if not

	Backup     time.Time // when the backup began that was restored, by the clock of who made it; zero: not known
	From       LSN       // the WAL was replayed from here; 0: not known
	Replayed   LSN
	LastCommit time.Time // of what was replayed, by the clock of the source; zero: no transaction ended in it
	Until      time.Time // that the RPO counts to; zero: not known

	Databases []ProofDatabase
	Watermark string // what is known of it, in words
	Queries   int    // that said what they should

	Failures []ProofFailure // the first hundred
	NotDone  []string       // what was not checked, and why
}

// ProofDatabase is what was looked at in one database.
type ProofDatabase struct {
	Name    string
	Tables  []ProofTable
	Heaps   int // tables, toast and catalogs that amcheck has read
	Indexes int // B-trees that it has checked
}

// ProofTable is a table with how many rows it has; -1: there is no estimate.
type ProofTable struct {
	Name string
	Rows int64
}

// A ProofFailure is something that is wrong with the data.
type ProofFailure struct {
	Check    string // "amcheck", "rows", "watermark", "query"
	Database string
	Object   string // table, index or query
	What     string
}

// String is the failure in a line.
func (f ProofFailure) String() string {
	return fmt.Sprintf("%s: database %q: %s: %s", f.Check, f.Database, f.Object, f.What)
}

// Passed reports whether all checks were made, and nothing was wrong.
func (p Proof) Passed() bool { return !p.Checked.IsZero() }

// RTO is how long it took from the beginning of the restore until a cluster was
// there that had passed all checks; 0 if it has not.
func (p Proof) RTO() time.Duration {
	if !p.Passed() {
		return 0
	}
	return p.Checked.Sub(p.Began)
}

// Newest is up to when all that was committed is there, as far as is known:
// LastCommit, or Backup where nothing was committed since. It is zero if neither
// is known.
func (p Proof) Newest() time.Time {
	if p.Backup.After(p.LastCommit) {
		return p.Backup
	}
	return p.LastCommit
}

// RPO is from Newest to Until: what would be lost. Where nothing happened at the
// source since the backup it is too long. It is not known without either moment.
func (p Proof) RPO() (d time.Duration, known bool) {
	if p.Until.IsZero() || p.Newest().IsZero() {
		return 0, false
	}
	return max(p.Until.Sub(p.Newest()), 0), true
}

// Prove starts a restored cluster where nobody but the owner of its directory
// can reach it, has it recover, checks its data, and stops it again. The
// package comment says how. The Proof says how far it came, with an error, too;
// there is an error exactly if it has not passed. [ErrUnproven] is in it if the
// cluster came up and its data is wrong.
func Prove(ctx context.Context, c ProofConfig) (Proof, error) {
	p, err := newProver(c)
	if err != nil {
		return Proof{}, fmt.Errorf("postgres proof config: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.c.Timeout, fmt.Errorf("the proof took longer than %v (ProofConfig.Timeout)", p.c.Timeout))
	defer cancel()
	if err := p.run(ctx); err != nil {
		p.proof.Checked = time.Time{}
		return p.proof, fmt.Errorf("postgres proof of %s: %w", p.c.Data, err)
	}
	return p.proof, nil
}

// EndProof ends the server that a proof of c.Data has left whose process was
// killed, and no other; a proof that is under way is an error. Without such a
// server, or without a cluster, it does nothing.
func EndProof(ctx context.Context, c ProofConfig) error {
	p, err := newProver(c)
	if err != nil {
		return fmt.Errorf("postgres proof config: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(p.c.Data, "postmaster.pid")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	err = p.look()
	if err == nil {
		err = p.tidy(ctx)
	}
	if err != nil {
		return fmt.Errorf("postgres proof of %s: %w", p.c.Data, err)
	}
	return nil
}

// A prover makes one Proof.
type prover struct {
	c     ProofConfig
	as    *owner // nil: who this process is
	note  note   // of the restore
	proof Proof

	dir     string // for socket and log; "" if there is none
	unlock  func() error
	ended   chan struct{} // pg_ctl start has
	version int           // major
}

func newProver(c ProofConfig) (*prover, error) {
	var errs []error
	bad := func(field string, err error) { errs = append(errs, fmt.Errorf("field %s: %w", field, err)) }
	if c.Data == "" {
		bad("Data", errors.New("it is empty, want the directory of a restored cluster"))
	}
	var err error
	if c.Data, err = directory(c.Data); err != nil {
		bad("Data", err)
	}
	if c.Run, err = directory(cmp.Or(c.Run, os.TempDir())); err != nil {
		bad("Run", err)
	} else if n := len(filepath.Join(c.Run, runPrefix+"0123456789", ".s.PGSQL.5432")); n > maxSocket {
		bad("Run", fmt.Errorf("%s: its path is %d bytes too long for a socket in it", c.Run, n-maxSocket))
	}
	p := &prover{}
	if c.RunAs != "" {
		var o options
		if err := o.setOwner(c.RunAs); err != nil {
			bad("RunAs", err)
		}
		p.as = o.owner
	}
	for field, v := range map[string][]string{"Amcheck": {c.Amcheck, "", "full", "none"}, "Rows": {c.Rows, "", "exact", "estimate", "none"}} {
		if err := oneOf(v[0], v[1:]); err != nil {
			bad(field, err)
		}
	}
	for name := range c.Settings {
		if !settingName.MatchString(name) {
			bad("Settings", fmt.Errorf("%q is no name of a setting", name))
		} else if _, kept := fixedSettings[name]; kept {
			bad("Settings", fmt.Errorf("%s keeps the proof to itself, and cannot be changed", name))
		}
	}
	for i, q := range c.Queries {
		if q.SQL == "" {
			bad("Queries", fmt.Errorf("the query number %d has no SQL", i+1))
		}
	}
	if c.Timeout < 0 {
		bad("Timeout", errors.New("it is negative"))
	}
	c.User, c.Rows, c.Timeout = cmp.Or(c.User, "postgres"), cmp.Or(c.Rows, "exact"), cmp.Or(c.Timeout, 4*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	p.c = c
	return p, errors.Join(errs...)
}

func oneOf(v string, words []string) error {
	for _, w := range words {
		if v == w {
			return nil
		}
	}
	return fmt.Errorf("it is %q, want one of %q", v, words)
}

func (p *prover) run(ctx context.Context) (err error) {
	began := time.Now().UTC()
	if err := p.look(); err != nil {
		return err
	}
	p.proof = Proof{Data: p.c.Data, Began: p.c.Began, Until: p.c.Until}
	if p.proof.Began.IsZero() {
		p.proof.Began = cmp.Or(p.note.Began, began)
	}
	if p.proof.Until.IsZero() {
		p.proof.Until = p.note.Until
	}
	p.proof.Backup, p.proof.From = p.note.Backup, p.note.From
	if err := p.tidy(ctx); err != nil {
		return err
	}
	if err := p.makeDir(); err != nil {
		return err
	}
	mode := "immediate"
	defer func() {
		if e := p.cleanUp(mode); e != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", e))
		}
	}()
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.recovered(ctx); err != nil {
		return err
	}
	if err := p.check(ctx); err != nil {
		return err
	}
	p.proof.Checked = time.Now().UTC()
	mode = "fast"
	return nil
}
