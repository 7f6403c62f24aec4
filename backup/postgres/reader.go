package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
)

// A Reader is a way to read the files of a cluster; see the package comment.
type Reader string

// The readers.
const (
	Stream   Reader = "stream"   // what BASE_BACKUP sends, over one connection
	Parallel Reader = "parallel" // what functions of the server return, over several
	Local    Reader = "local"    // Config.Data
)

// A reader reads a cluster into a session: begin, read, end, in this order.
type reader interface {
	begin(ctx context.Context, s *backup.Session) (position, error) // where replaying begins
	read(ctx context.Context, s *backup.Session) error
	startsOver(ctx context.Context, s *backup.Session, err error) bool // read has failed so that the session starts over, from begin on
	whole() string                                                     // why all was read, though changes were asked for
	end(ctx context.Context, s *backup.Session) (position, error)      // where the result is consistent
	tablespaces(ctx context.Context) []tablespace
	close()
}

// reader chooses how a server is read. The slot, which was just made, is
// where a data directory shows that it is this server's.
func (t *Target) reader(ctx context.Context, src *source, slot slot) (r reader, name Reader, err error) {
	name = t.c.Reader
	if name == "" && t.c.Data == "" {
		name = Stream
	}
	if name == Stream {
		return &streamReader{t: t, src: src}, name, nil
	}
	if name == Parallel {
		files, err := t.openRemote(ctx, t.c.Workers)
		if err != nil {
			return nil, "", err
		}
		w, err := t.newWalker(ctx, src, slot, Parallel, files)
		if err != nil {
			files.close()
			return nil, "", err
		}
		return w, Parallel, nil
	}
	w, err := t.localReader(ctx, src, slot)
	if err == nil {
		return w, Local, nil
	}
	if name == Local || ctx.Err() != nil {
		return nil, "", err
	}
	t.c.Logger.Warn("the data directory is not read here, but over the connection", "reason", err)
	return &streamReader{t: t, src: src}, Stream, nil
}

// localReader reads Data, if it is what the server works on.
func (t *Target) localReader(ctx context.Context, src *source, slot slot) (w *walker, err error) {
	files, err := openLocal(t.c.Data)
	if err != nil {
		return nil, fmt.Errorf("field Data: %w", err)
	}
	defer func() {
		if err != nil {
			files.close()
		}
	}()
	if err := files.belongs(ctx, src, slot); err != nil {
		return nil, err
	}
	return t.newWalker(ctx, src, slot, Local, files)
}

// belongs reports whether a data directory is the one that a server works on,
// and no copy or standby of it: the server has just made a slot there.
func (l *localSource) belongs(ctx context.Context, src *source, slot slot) error {
	f := &found{path: controlPath}
	defer l.done(f)
	b := make([]byte, 8)
	if n, err := l.read(ctx, f, 0, b); err != nil || n < len(b) {
		return fmt.Errorf("field Data: %s is no data directory that can be read: %w", l.data.Name(), errors.Join(err, errors.New("want "+controlPath)))
	}
	if got := controlSystem(b); got != src.system {
		return fmt.Errorf("field Data: %s is of the cluster %d, and Conn leads to %d", l.data.Name(), got, src.system)
	}
	if slot.name == "" {
		return fmt.Errorf("field Data: whether %s is what the server works on shows in a replication slot, and none could be made", l.data.Name())
	}
	if _, err := l.data.Stat("pg_replslot/" + slot.name); err != nil {
		return fmt.Errorf("field Data: %s is of the same cluster, but not what the server of Conn works on (of a standby, or a copy): %w", l.data.Name(), err)
	}
	return nil
}

// newWalker opens the session of a backup that reads files itself.
func (t *Target) newWalker(ctx context.Context, src *source, slot slot, name Reader, files fileSource) (*walker, error) {
	conn, err := t.openSession(ctx)
	if err != nil {
		return nil, err
	}
	w := &walker{t: t, src: src, name: name, conn: conn, slot: slot, files: files, sums: t.sums(name)}
	if err := w.prepare(ctx); err != nil {
		hangUp(conn)
		return nil, err
	}
	return w, nil
}

// prepare finds out whether the role may do what a backup does.
func (w *walker) prepare(ctx context.Context) error {
	row, err := query(ctx, w.conn, "SHOW segment_size", 1)
	if err != nil {
		return err
	}
	size, err := parseSize(row[0])
	if err != nil {
		return err
	}
	w.segment = uint32(size / uint64(w.src.block))
	missing, err := lacking(ctx, w.conn, w.name)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("role %s may not run what reader %q needs; in the database %q: %s", w.t.conn.User, w.name, w.database(), strings.Join(grant(w.t.conn.User, missing), " "))
	}
	return nil
}

// functions are those that readers call, which not everybody may.
func functions(r Reader) []string {
	both := []string{"pg_backup_start(text, boolean)", "pg_backup_stop(boolean)"}
	switch r {
	case Local:
		return both
	case Parallel:
		return append(both, "pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)", "pg_read_binary_file(text, bigint, bigint, boolean)")
	}
	return nil
}

// lacking are the functions that the present role may not call, in the
// database that it is connected to.
func lacking(ctx context.Context, conn *pgconn.PgConn, r Reader) (missing []string, err error) {
	for _, f := range functions(r) {
		rows, err := ask(ctx, conn, "SELECT pg_catalog.has_function_privilege($1, 'EXECUTE')", "pg_catalog."+f)
		if err != nil {
			return nil, err
		}
		if len(rows) != 1 || rows[0][0] != "t" {
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// grant is the SQL that allows a role what it lacks.
func grant(role string, missing []string) (sql []string) {
	for _, f := range missing {
		sql = append(sql, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+pgx.Identifier{role}.Sanitize()+";")
	}
	return sql
}

// A streamReader reads what BASE_BACKUP sends: all, or of a server that knows,
// what has changed since the point before.
type streamReader struct {
	t      *Target
	src    *source
	stream *baseStream
	since  *earlier // nil: all
	why    error    // all is read though changes were asked for
}

func (r *streamReader) begin(ctx context.Context, s *backup.Session) (p position, err error) {
	var why error
	if r.since, why, err = r.earlier(ctx, s); err != nil {
		return p, err
	}
	if r.since != nil {
		r.stream, err = startBase(ctx, r.src.conn, r.t.command(s.Name(), ", INCREMENTAL"))
		if err == nil {
			r.t.c.Logger.Info("the server sends what has changed", "point", s.Name(), "since", r.since.b.Start)
			return r.stream.start, nil
		}
		if why = err; !refused(err) || ctx.Err() != nil {
			return p, err
		}
		if err := r.reconnect(ctx); err != nil {
			return p, err
		}
	}
	if why != nil {
		r.all(s, why)
	}
	if r.stream, err = startBase(ctx, r.src.conn, r.t.command(s.Name(), "")); err != nil {
		return p, err
	}
	return r.stream.start, nil
}

// all gives up telling changes.
func (r *streamReader) all(s *backup.Session, why error) {
	r.t.c.Logger.Warn("the server sends everything, and not just what has changed", "point", s.Name(), "reason", why)
	r.why, r.since = why, nil
	s.StartOver()
}

func (r *streamReader) read(ctx context.Context, s *backup.Session) error {
	return (&reading{t: r.t, src: r.src, s: s, stream: r.stream, since: r.since, sums: r.t.sums(Stream), read: map[string]fileSum{}}).all(ctx)
}

// startsOver is for when the earlier backup turns out to be damaged.
func (r *streamReader) startsOver(ctx context.Context, s *backup.Session, err error) bool {
	if r.since == nil || ctx.Err() != nil || !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, errUnfit) {
		return false
	}
	r.all(s, err)
	r.stream.close()
	r.stream = nil
	if err := r.reconnect(ctx); err != nil {
		r.t.c.Logger.Warn("no new connection", "error", err) // which begin finds, too
	}
	return true
}

func (r *streamReader) whole() string {
	if r.why == nil {
		return ""
	}
	return r.why.Error()
}

func (r *streamReader) end(context.Context, *backup.Session) (position, error) {
	return r.stream.end, nil
}

func (r *streamReader) tablespaces(ctx context.Context) []tablespace {
	r.t.nameSpaces(ctx, r.stream.tablespaces)
	return r.stream.tablespaces
}

func (r *streamReader) close() {
	if r.stream != nil {
		r.stream.close()
	}
}
