package logical

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/backup"
)

// Backup implements [backup.Target].
func (t *Target) Backup(ctx context.Context, s *backup.Session) error {
	err := t.backup(ctx, s)
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func (t *Target) backup(ctx context.Context, s *backup.Session) error {
	if len(t.conn) == 0 {
		return errors.New("logical config: field Conn is required for a backup")
	}
	home, err := t.conn.dial(ctx, t.conn.home(""))
	if err != nil {
		return err
	}
	defer hangUp(home)
	server, err := serverVersion(ctx, home)
	if err != nil {
		return err
	}
	tool, err := t.program(ctx, "pg_dump")
	if err != nil {
		return err
	}
	if tool.major < server/10000 {
		return fmt.Errorf("%s is of version %s and the server of %d: install the client programs of PostgreSQL %d, and name their directory in Config.Bin: %w",
			tool.path, tool.version, server/10000, server/10000, errors.ErrUnsupported)
	}
	roles, err := readCluster(ctx, home)
	if err != nil {
		return fmt.Errorf("read roles: %w", classed(err))
	}
	if err := addJSON(ctx, s, globalsPath, roles); err != nil {
		return err
	}
	names, err := t.names(ctx, home, s)
	if err != nil {
		return err
	}
	return t.dumpAll(ctx, s, home, dumper{t, tool, server}, names)
}

// dumpAll dumps all databases it can.
func (t *Target) dumpAll(ctx context.Context, s *backup.Session, home *pgx.Conn, d dumper, names []string) error {
	var errs []error
	for _, name := range names {
		added, err := d.dump(ctx, s, name)
		if err == nil {
			continue
		}
		err = failed("dump", name, err)
		if added || ctx.Err() != nil {
			return err // of the session
		}
		if perr := home.Ping(ctx); perr != nil {
			return errors.Join(err, fmt.Errorf("the server is lost: %w", perr))
		}
		errs = append(errs, err)
	}
	if len(errs) == len(names) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		s.Warn(databases, err)
	}
	return nil
}

// names are the databases to dump.
func (t *Target) names(ctx context.Context, home *pgx.Conn, s *backup.Session) ([]string, error) {
	type database struct {
		Name  string
		Open  bool
		Limit int
	}
	all, err := query[database](ctx, home, `SELECT datname::text, datallowconn, datconnlimit FROM pg_catalog.pg_database
		WHERE datname <> 'template0' ORDER BY datname COLLATE "C"`)
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", classed(err))
	}
	names := slices.Clone(t.c.Databases)
	slices.Sort(names)
	names = slices.Compact(names)
	for _, d := range all {
		switch {
		case len(t.c.Databases) > 0:
		case isOurs(d.Name): // being restored, or replaced by a restore
		case !d.Open || d.Limit == invalidLimit:
			s.Warn(itemPath(d.Name, "dump"), fmt.Errorf("database %q takes no connections, and is left out", d.Name))
		default:
			names = append(names, d.Name)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("there is no database that takes connections")
	}
	return names, nil
}

const invalidLimit = -2 // of a database that was not dropped to its end

func serverVersion(ctx context.Context, q *pgx.Conn) (int, error) {
	var s string
	if err := q.QueryRow(ctx, `SELECT current_setting('server_version_num')`).Scan(&s); err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(s)
	if err == nil && n/10000 < oldestServer {
		err = fmt.Errorf("the server is of version %d, want %d or later: %w", n/10000, oldestServer, errors.ErrUnsupported)
	}
	return n, err
}

// A dumper dumps databases of one server.
type dumper struct {
	t      *Target
	tool   program
	server int
}

// dump adds one database. added says that all is read of it, so that an error
// is of the session.
func (d dumper) dump(ctx context.Context, s *backup.Session, name string) (added bool, err error) {
	q, err := d.t.conn.dial(ctx, name)
	if err != nil {
		return false, err
	}
	defer hangUp(q) // ends the transaction
	var v inventory
	m := meta{Format: format, Database: name, Server: d.server, Tool: d.tool.version}
	snapshot, err := d.snapshot(ctx, q, &v, &m)
	if err != nil {
		return false, err
	}
	if err := d.t.step("snapshot"); err != nil {
		return false, err
	}
	r, err := d.start(ctx, q, snapshot, &v, name)
	if err != nil {
		return false, err
	}
	defer r.stop()
	b, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	if err := s.Add(ctx, backup.Item{Path: itemPath(name, "dump"), Meta: b}, r); err != nil {
		return r.err == nil, err
	}
	return true, addJSON(ctx, s, itemPath(name, "inventory"), v)
}

// snapshot locks the tables, so that nothing happens to them that snapshots do
// not see, and then takes and exports a snapshot. What was made meanwhile has
// to be locked first, too.
func (d dumper) snapshot(ctx context.Context, q *pgx.Conn, v *inventory, m *meta) (id string, err error) {
	for range snapshotTries {
		before, err := tables(ctx, q)
		if err != nil {
			return "", fmt.Errorf("list tables: %w", classed(err))
		}
		d.t.listed()
		if _, err := q.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY").ReadAll(); err != nil {
			return "", err
		}
		err = lock(ctx, q, before)
		if err == nil {
			if err = q.QueryRow(ctx, `SELECT pg_export_snapshot(), now()`).Scan(&id, &m.Taken); err != nil {
				return "", fmt.Errorf("export a snapshot: %w", classed(err))
			}
			if v.Tables, err = tables(ctx, q); err == nil && slices.Equal(before, v.Tables) {
				m.Taken = m.Taken.UTC()
				return id, d.describe(ctx, q, v, m)
			}
		}
		if err != nil && !hasCode(err, codeNoTable) {
			return "", err
		}
		if _, err := q.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("tables were made or dropped each of %d times that all of them should have been locked; back up when nobody does", snapshotTries)
}

func (d dumper) describe(ctx context.Context, q *pgx.Conn, v *inventory, m *meta) (err error) {
	if v.Properties, err = readProperties(ctx, q); err != nil {
		return fmt.Errorf("read properties: %w", classed(err))
	}
	m.Encoding = v.Properties.Encoding
	if err := v.needs(ctx, q); err != nil {
		return fmt.Errorf("read roles and extensions that are needed: %w", classed(err))
	}
	return nil
}

// lock takes the simple protocol, in which a LOCK takes no snapshot.
func lock(ctx context.Context, q *pgx.Conn, all []table) error {
	for some := range slices.Chunk(all, 200) {
		var names []string
		for _, t := range some {
			names = append(names, "ONLY "+t.String())
		}
		if _, err := q.PgConn().Exec(ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN ACCESS SHARE MODE").ReadAll(); err != nil {
			return fmt.Errorf("lock tables: %w", classed(err))
		}
	}
	return nil
}

// A dump is what pg_dump writes. It ends well if the program does, and if all
// rows could be counted.
type dump struct {
	ctx      context.Context
	cancel   context.CancelCauseFunc
	conn     conninfo // of the program
	cmd      *exec.Cmd
	out      io.ReadCloser
	said     *complaints
	counting sync.WaitGroup
	ended    bool
	err      error // that it could not be read to its end
}

// start begins to dump, and counts meanwhile.
func (d dumper) start(ctx context.Context, q *pgx.Conn, snapshot string, v *inventory, name string) (*dump, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	conn := d.t.conn.with("dbname", name).with("application_name", "holdfast pg_dump "+rand.Text()[:12])
	r := &dump{ctx: ctx, cancel: cancel, conn: conn, said: &complaints{name: "pg_dump"}}
	r.cmd = d.t.command(ctx, d.tool.path, "--format=custom", "--compress=0", "--no-password", "--no-subscriptions",
		"--snapshot="+snapshot, "--dbname="+conn.String())
	r.cmd.Stderr = r.said
	var err error
	if r.out, err = r.cmd.StdoutPipe(); err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("start %s: %w", d.tool.path, err)
	}
	r.counting.Go(func() {
		objects, err := count(ctx, q, v.Tables)
		if v.Objects = objects; err != nil {
			cancel(err)
		}
	})
	return r, nil
}

func (r *dump) Read(b []byte) (int, error) {
	if r.ended {
		if r.err == nil {
			return 0, io.EOF
		}
		return 0, r.err
	}
	n, err := r.out.Read(b)
	if err == nil || n > 0 {
		return n, nil // if it is not nil, it comes again
	}
	r.ended = true
	if werr := r.cmd.Wait(); err != io.EOF || werr != nil {
		r.err = r.said.explain(r.ctx, errors.Join(werr, ended(err)))
	}
	r.counting.Wait()
	if cause := context.Cause(r.ctx); cause != nil && r.err == nil {
		r.err = cause
	}
	if r.err != nil {
		return 0, r.err
	}
	return 0, io.EOF
}

// ended is err, unless it is how reading ends well.
func ended(err error) error {
	if err == io.EOF {
		return nil
	}
	return err
}

// stop ends what is under way.
func (r *dump) stop() {
	r.cancel(errors.New("stopped"))
	if !r.ended {
		r.ended = true
		r.err = r.said.explain(r.ctx, r.cmd.Wait())
	}
	r.counting.Wait()
	if r.err != nil {
		r.disconnect()
	}
}

// disconnect ends the session of a program that has ended badly: the server
// notices only when it next writes to it, and the session holds locks meanwhile.
func (r *dump) disconnect() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), patience)
	defer cancel()
	q, err := r.conn.dial(ctx, r.conn.get("dbname"))
	if err != nil {
		return
	}
	defer hangUp(q)
	// That it cannot be ended is nothing that a caller could mend.
	_, _ = q.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()`,
		r.conn.get("application_name"))
}

func addJSON(ctx context.Context, s *backup.Session, path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.Add(ctx, backup.Item{Path: path}, bytes.NewReader(b))
}
