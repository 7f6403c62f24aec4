// Package roles does with servers of PostgreSQL, versions 15 to 18, what
// package failover wants done at a site: ask a server how it is, fence it,
// promote a standby, prove that a switchover loses nothing, and make a standby
// of the old primary.
//
//	old, err := roles.New(roles.Config{Conn: "host=db1 user=holdfast dbname=postgres passfile=/etc/holdfast/pgpass"})
//	new, err := roles.New(roles.Config{Conn: "host=db2 user=holdfast dbname=postgres passfile=/etc/holdfast/pgpass"})
//	actions := map[string]failover.Action{
//		"quiesce":        old.Quiesce(),
//		"final-sync":     new.CatchUp("quiesce"),
//		"check-position": failover.CheckPosition("quiesce", "final-sync"),
//		"start":          failover.PromoteAction(new),
//		...
//
// A [Server] is a [failover.Fencer] and a [failover.Promoter]; its methods
// Writable, Streaming and Standby return probes.
//
// # Who connects
//
// Conn names the address of one server, never one that follows the primary;
// a superuser that no application uses; and a database that no application
// uses: here "the control database". Schema holdfast of it has what is
// remembered: table promotion has a row for each promotion, table fence what a
// fence has changed. Both are replicated, like all else.
//
// # What a fence is
//
// A setting such as default_transaction_read_only is none: clients set it
// off. A fence closes every database but the control database
// (ALLOW_CONNECTIONS false, which holds for superusers, too), takes CONNECT on
// the control database from all who have it, and LOGIN from other superusers
// except [Config].Admins. That is one transaction with the note of what was
// changed. Then it waits for connections that were half-way in, ends all that
// are there, and reads back. It is Confirmed if everything is closed and no
// session is left but those of Admins, and of Holdfast, in the control
// database. Physical replication goes on: a standby can catch up. The fence
// is in the catalog, so it holds when the server starts again. Statements that
// are prepared for two-phase commit stay as they are, and can be committed by
// nobody.
//
// With a [Machine], Fence stops the server behind that, and also one that does
// not answer; that it is stopped is a fence, too. A server that does not
// answer and that nothing has stopped is not fenced: there is no evidence, and
// nothing is assumed.
//
// # What a promotion is
//
// Promote asks a standby to come out of recovery, waits until it has, and in
// one transaction writes its row, with epoch and timeline, and takes back the
// fence that has come over from the old primary. Until then no application
// gets in. A row with a higher epoch refuses it: a run that was taken over
// promotes nothing.
//
// # What is not done
//
// A server is reached, or it is not: which of both sites is in charge is for
// the lease of package failover to say. Superusers, of whom there should be
// few, can take back any fence that is not a server that has been stopped.
package roles

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/failover"
)

// appName is what the sessions of this package are called. A fence lets them be.
const appName = "holdfast-roles"

// pause is between two looks at something that is waited for.
const pause = 20 * time.Millisecond

// Config says which server it is.
type Config struct {
	// Conn is a connection string or URL, as libpq takes it, of one server; the
	// package comment says of whom. A password belongs in a passfile, a
	// service file or PGPASSWORD, and is refused here.
	Conn string

	// Admins are superusers that may log in at a fenced server, to the control
	// database only: people, and who streams WAL if that is a superuser.
	Admins []string

	// Machine stops and starts the server; nil if nothing can.
	Machine Machine

	// Patience is how long Fence lets a server that it can stop take to close
	// itself first; 0 means 5 s.
	Patience time.Duration
}

// A Machine is what a server runs on: an instance, a unit of systemd, or
// [PgCtl]. Its methods are idempotent.
type Machine interface {
	// Stop returns nil once the server is known to be stopped.
	Stop(ctx context.Context) error
	// Stopped reports whether that is known now; an error means that it could
	// not tell.
	Stopped(ctx context.Context) (bool, error)
	// Start returns once the server takes connections.
	Start(ctx context.Context) error
}

// A Server is one PostgreSQL server in the roles that package failover knows.
// It can be used concurrently.
type Server struct {
	c    Config
	conn *pgconn.Config
}

var (
	_ failover.Fencer   = (*Server)(nil)
	_ failover.Promoter = (*Server)(nil)
)

// New returns a Server. It does not connect.
func New(c Config) (*Server, error) {
	var errs []error
	s := &Server{c: c}
	if c.Conn == "" {
		errs = append(errs, errors.New("field Conn is empty, want a connection string"))
	} else if _, err := postgres.New(postgres.Config{Conn: c.Conn}); err != nil {
		errs = append(errs, err) // repeats nothing of it
	} else if s.conn, err = pgconn.ParseConfig(c.Conn); err == nil {
		for _, f := range s.conn.Fallbacks {
			if f.Host != s.conn.Host || f.Port != s.conn.Port {
				errs = append(errs, errors.New("field Conn names several hosts: want one, whose role this is"))
				break
			}
		}
		if s.conn.ValidateConnect != nil {
			errs = append(errs, errors.New("field Conn: target_session_attrs must be any: a server is asked in every role"))
		}
	}
	if c.Patience < 0 {
		errs = append(errs, fmt.Errorf("field Patience is %v, want 0 or more", c.Patience))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("roles config: %w", errors.Join(errs...))
	}
	if c.Patience == 0 {
		s.c.Patience = 5 * time.Second
	}
	// What anybody has set for the role or the database must not matter.
	for name, value := range map[string]string{
		"application_name": appName, "search_path": "pg_catalog", "default_transaction_read_only": "off",
		"synchronous_commit": "local", // a standby that has gone keeps nobody from fencing
		"statement_timeout":  "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0", "default_transaction_isolation": "read committed",
	} {
		s.conn.RuntimeParams[name] = value
	}
	return s, nil
}

// String names the server: "postgres HOST:PORT".
func (s *Server) String() string { return fmt.Sprintf("postgres %s:%d", s.conn.Host, s.conn.Port) }

// A session is a connection to the control database.
type session struct{ conn *pgconn.PgConn }

// connect opens one and finds out whether the server is in recovery.
func (s *Server) connect(ctx context.Context) (c session, standby bool, err error) {
	return s.connectAs(ctx, s.conn)
}

func (s *Server) connectAs(ctx context.Context, config *pgconn.Config) (c session, standby bool, err error) {
	conn, err := pgconn.ConnectConfig(ctx, config.Copy())
	if err != nil {
		return c, false, fmt.Errorf("%s: %w", s, err)
	}
	c = session{conn}
	in, err := c.value(ctx, "SELECT pg_is_in_recovery()")
	if err != nil {
		c.close()
		return session{}, false, fmt.Errorf("%s: %w", s, err)
	}
	return c, in == "t", nil
}

func (c session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c.conn.Close(ctx)
}

// rows runs one statement. NULL is "".
func (c session) rows(ctx context.Context, sql string, args ...string) ([][]string, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	r := c.conn.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	out := make([][]string, len(r.Rows))
	for i, row := range r.Rows {
		for _, v := range row {
			out[i] = append(out[i], string(v))
		}
	}
	return out, nil
}

// row runs a statement that yields one row.
func (c session) row(ctx context.Context, sql string, args ...string) ([]string, error) {
	rows, err := c.rows(ctx, sql, args...)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows, want 1, of %s", len(rows), sql)
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

func (c session) value(ctx context.Context, sql string, args ...string) (string, error) {
	row, err := c.row(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	return row[0], nil
}

// transaction runs f in one, alone among those of this package.
func (c session) transaction(ctx context.Context, f func() error) error {
	if _, err := c.rows(ctx, "BEGIN"); err != nil {
		return err
	}
	_, err := c.rows(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('holdfast roles', 0))")
	if err == nil {
		err = f()
	}
	if err != nil {
		return err // the session is closed, and with it what it did
	}
	_, err = c.rows(ctx, "COMMIT")
	return err
}

// wait returns when ctx ends, with its error, or after a pause.
func wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pause):
		return nil
	}
}

// array is a literal of type text[].
func array(words []string) string {
	var quoted []string
	for _, w := range words {
		quoted = append(quoted, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(w)+`"`)
	}
	return "{" + strings.Join(quoted, ",") + "}"
}
