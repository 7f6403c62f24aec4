package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// A remoteSource is a data directory as SQL functions of its server show it,
// over several sessions at once.
type remoteSource struct {
	idle chan *pgconn.PgConn
	perm fs.FileMode // of directories; files are not told
}

// openRemote opens sessions; a server that has no more takes fewer.
func (t *Target) openRemote(ctx context.Context, sessions int) (*remoteSource, error) {
	r := &remoteSource{idle: make(chan *pgconn.PgConn, sessions)}
	for i := range sessions {
		conn, err := t.openSession(ctx)
		if err != nil && i > 0 && ctx.Err() == nil {
			t.c.Logger.Warn("fewer sessions read files than there should", "sessions", i, "error", err)
			break
		}
		if err != nil {
			r.close()
			return nil, err
		}
		r.idle <- conn
	}
	rows, err := r.ask(ctx, "SHOW data_directory_mode")
	if err != nil {
		r.close()
		return nil, err
	}
	mode, err := strconv.ParseUint(rows[0][0], 8, 9)
	if err != nil || mode == 0 {
		mode = 0o700
	}
	r.perm = fs.FileMode(mode)
	return r, nil
}

func (r *remoteSource) close() {
	for {
		select {
		case conn := <-r.idle:
			hangUp(conn)
		default:
			return
		}
	}
}

func (r *remoteSource) ask(ctx context.Context, sql string, args ...string) ([][]string, error) {
	var conn *pgconn.PgConn
	select {
	case conn = <-r.idle:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { r.idle <- conn }()
	return ask(ctx, conn, sql, args...)
}

// list follows no links but to tell of what kind something is: a server shows
// what is behind them.
func (r *remoteSource) list(ctx context.Context, dir string) ([]entry, error) {
	rows, err := r.ask(ctx, `SELECT name, s.size, extract(epoch FROM s.modification)::bigint, extract(epoch FROM s.change)::bigint, s.isdir
		FROM pg_catalog.pg_ls_dir($1, true, false) AS name, pg_catalog.pg_stat_file($1 || '/' || name, true) AS s WHERE s.size IS NOT NULL`, dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	var entries []entry
	for _, row := range rows {
		e := entry{name: row[0], perm: r.perm &^ 0o111}
		size, err1 := strconv.ParseInt(row[1], 10, 64)
		modified, err2 := strconv.ParseInt(row[2], 10, 64)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("list %s: %q", dir, row)
		}
		e.size, e.time = size, time.Unix(modified, 0)
		if row[4] == "t" {
			e.kind, e.perm = fs.ModeDir, r.perm
		}
		if changed, err := strconv.ParseInt(row[3], 10, 64); err == nil {
			e.state, e.moved = fmt.Sprintf("%x", changed), time.Unix(changed, 0)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (r *remoteSource) read(ctx context.Context, f *found, at int64, b []byte) (int, error) {
	var conn *pgconn.PgConn
	select {
	case conn = <-r.idle:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	defer func() { r.idle <- conn }()
	args := [][]byte{[]byte(f.path), []byte(strconv.FormatInt(at, 10)), []byte(strconv.Itoa(len(b)))}
	rows := conn.ExecParams(ctx, "SELECT pg_catalog.pg_read_binary_file($1, $2, $3, true)", args, nil, nil, []int16{1})
	n, gone := 0, true
	for rows.NextRow() {
		if v := rows.Values()[0]; v != nil {
			n, gone = copy(b, v), false
		}
	}
	_, err := rows.Close()
	if err == nil && gone {
		err = fs.ErrNotExist
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", f.path, err)
	}
	return n, nil
}

func (*remoteSource) done(*found) {}
