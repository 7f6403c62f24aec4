package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A fileSource is the data directory of a running server. Paths are those of
// items, tablespaces being below pg_tblspc/OID.
type fileSource interface {
	// list returns what is in a directory: nothing if that is gone.
	list(ctx context.Context, dir string) ([]entry, error)

	// read fills b from a position of a file on, and returns less only at its
	// end. The error of a file that is gone wraps fs.ErrNotExist. Several may
	// read at once.
	read(ctx context.Context, f *found, at int64, b []byte) (int, error)

	// done says that nothing more is read of a file.
	done(f *found)

	close()
}

// An entry is what is in a directory.
type entry struct {
	name  string
	kind  fs.FileMode // the bits of fs.ModeType
	perm  fs.FileMode
	size  int64
	time  time.Time // of the last change to the content
	state string    // differs whenever time or anything else has been set; empty if unknown
	moved time.Time // when that was
}

// A found is a file or directory to be backed up, and what is read of it.
type found struct {
	entry
	path   string
	handle handle // of the source
}

// A walker backs up a cluster by its files, between pg_backup_start and
// pg_backup_stop, which a session of its own calls.
type walker struct {
	t       *Target
	src     *source
	name    Reader
	conn    *pgconn.PgConn
	files   fileSource
	slot    slot
	segment uint32 // pages of a file of a relation
	sums    string // algorithm of the manifest

	quiet  time.Time // what was not changed from here on can be told by its state; zero: nothing can
	start  position
	spaces []tablespace

	list     []*found
	manifest manifestWriter
	doubtful []badPage // that would be in order only if they were changed while they were read
}

// A badPage is one whose checksum is wrong, though it was read again.
type badPage struct {
	path   string
	number uint32
	lsn    wal.LSN
}

// openSession opens the session that a backup is of.
func (t *Target) openSession(ctx context.Context) (*pgconn.PgConn, error) {
	if t.conn == nil {
		return nil, errors.New("field Conn is empty; this target can only restore")
	}
	c := t.conn.Copy()
	if c.Database == "" {
		c.Database = "postgres"
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "holdfast"
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	// It has nothing to say for as long as files are read.
	if _, err := ask(ctx, conn, "SET idle_session_timeout = 0"); err != nil {
		hangUp(conn)
		return nil, err
	}
	_, err = ask(ctx, conn, "SET statement_timeout = 0")
	return conn, err
}

// ask runs a statement with arguments and returns the rows as text.
func ask(ctx context.Context, conn *pgconn.PgConn, sql string, args ...string) (rows [][]string, err error) {
	var values [][]byte
	for _, a := range args {
		values = append(values, []byte(a))
	}
	r := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	for _, row := range r.Rows {
		var text []string
		for _, v := range row {
			text = append(text, string(v))
		}
		rows = append(rows, text)
	}
	return rows, nil
}

// clock asks a server for its time.
func clock(ctx context.Context, conn *pgconn.PgConn) (time.Time, error) {
	row, err := query(ctx, conn, "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint", 1)
	if err != nil {
		return time.Time{}, err
	}
	us, err := strconv.ParseInt(row[0], 10, 64)
	return time.UnixMicro(us), err
}

// margin is how long a file must have been left alone before a backup began, to
// be skipped by the next one if its state is the same: longer than two clocks
// that were compared can be apart, and than the steps that times come in.
const margin = 3 * time.Second

// begin begins the backup at the server.
func (w *walker) begin(ctx context.Context, s *backup.Session) (position, error) {
	began, err := clock(ctx, w.conn)
	if err != nil {
		return position{}, err
	}
	if w.sameClock(ctx) && !w.src.standby {
		// The checkpoint that comes now waits for every write that is under
		// way: of what has been written before, nothing is still to come.
		w.quiet = began.Add(-margin)
	}
	fast := fmt.Sprint(w.t.c.Checkpoint != "spread")
	rows, err := ask(ctx, w.conn, "SELECT pg_catalog.pg_backup_start($1, $2::boolean)", label(s.Name()), fast)
	if err != nil {
		return position{}, fmt.Errorf("pg_backup_start: %w", w.advised(err))
	}
	if w.start.at, err = wal.ParseLSN(rows[0][0]); err != nil {
		return position{}, fmt.Errorf("pg_backup_start: %w", err)
	}
	if w.start.timeline, err = w.timeline(ctx); err != nil {
		return position{}, err
	}
	rows, err = ask(ctx, w.conn, `SELECT oid, spcname, pg_catalog.pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace
		WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY oid`)
	if err != nil {
		return position{}, err
	}
	for _, r := range rows {
		oid, err := parseTimeline(r[0])
		if err != nil {
			return position{}, err
		}
		w.spaces = append(w.spaces, tablespace{OID: oid, Name: r[1], Location: r[2]})
	}
	return w.start, nil
}

func (w *walker) startsOver(context.Context, *backup.Session, error) bool { return false }
func (w *walker) whole() string                                           { return "" }

// timeline is the one that the server is on.
func (w *walker) timeline(ctx context.Context) (uint32, error) {
	row, err := query(ctx, w.src.conn, "IDENTIFY_SYSTEM", 2)
	if err != nil {
		return 0, err
	}
	return parseTimeline(row[1])
}

// sameClock reports whether files get the time of the server's clock, which
// network file systems need not: the slot has just been made.
func (w *walker) sameClock(ctx context.Context) bool {
	if w.slot.name == "" {
		return false
	}
	now, err := clock(ctx, w.conn)
	if err != nil {
		return false
	}
	entries, err := w.files.list(ctx, "pg_replslot/"+w.slot.name)
	for _, e := range entries {
		if err == nil && e.name == "state" && e.state != "" {
			return !e.moved.Before(now.Add(-time.Since(w.slot.made)-time.Second)) && !e.moved.After(now.Add(time.Second))
		}
	}
	return false
}

// read makes items of all files.
func (w *walker) read(ctx context.Context, s *backup.Session) error {
	if err := w.all(ctx, s); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

func (w *walker) all(ctx context.Context, s *backup.Session) error {
	if err := w.walk(ctx, "."); err != nil {
		return err
	}
	slices.SortFunc(w.list, func(a, b *found) int { return backup.ComparePaths(a.path, b.path) })
	rest, err := w.unchanged(ctx, s)
	if err != nil {
		return err
	}
	if err := w.content(ctx, s, rest); err != nil {
		return err
	}
	return w.control(ctx, s)
}

// walk lists what is below a directory.
func (w *walker) walk(ctx context.Context, dir string) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	entries, err := w.files.list(ctx, dir)
	if err != nil {
		return err
	}
	initial := unlogged(entries)
	for _, e := range entries {
		if leftOut(dir, e.name, initial) {
			continue
		}
		f := &found{entry: e, path: strings.TrimPrefix(dir+"/"+e.name, "./")}
		if err := checkPath(f.path); err != nil {
			return fmt.Errorf("the data directory has %w", err)
		}
		if err := w.take(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

// take notes what was found, and goes into directories.
func (w *walker) take(ctx context.Context, f *found) error {
	oid, rest, inside := tablespacePath(f.path)
	inside = inside && rest == ""
	at := slices.IndexFunc(w.spaces, func(s tablespace) bool { return s.OID == oid })
	switch {
	case f.path == "pg_wal":
		return w.emptyWAL(f)
	case f.path == controlPath:
		return nil // comes last
	case inside && at < 0:
		return nil // of a tablespace that was made meanwhile: it is in the WAL
	case inside && strings.HasPrefix(w.spaces[at].Location, "/"):
		return w.walkSpace(ctx, f.path)
	case f.kind.IsRegular():
		w.list = append(w.list, f)
		return nil
	case !f.kind.IsDir():
		w.t.c.Logger.Warn("left out: it is no file and no directory", "path", f.path)
		return nil
	}
	w.list = append(w.list, f)
	if slices.Contains(emptied, f.path) {
		return nil
	}
	return w.walk(ctx, f.path)
}

// emptyWAL makes the directories of pg_wal, which can be a link.
func (w *walker) emptyWAL(f *found) error {
	names := []string{"pg_wal", "pg_wal/archive_status"}
	if w.src.version >= 170000 {
		names = append(names, "pg_wal/summaries")
	}
	for _, name := range names {
		d := &found{entry: f.entry, path: name}
		if d.kind = fs.ModeDir; d.perm&0o700 != 0o700 || f.kind&fs.ModeSymlink != 0 {
			d.perm = 0o700
		}
		w.list = append(w.list, d)
	}
	return nil
}

// walkSpace lists a tablespace: what is of this version of the server.
func (w *walker) walkSpace(ctx context.Context, dir string) error {
	entries, err := w.files.list(ctx, dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.kind.IsDir() && strings.HasPrefix(e.name, fmt.Sprintf("PG_%d_", w.src.version/10000)) {
			f := &found{entry: e, path: dir + "/" + e.name}
			w.list = append(w.list, f)
			if err := w.walk(ctx, f.path); err != nil {
				return err
			}
		}
	}
	return nil
}

// item describes what was found.
func (w *walker) item(f *found) (backup.Item, meta) {
	m := meta{Type: typeFile, Mode: uint32(f.perm), ModTime: f.time.UTC(), Sum: unknown(w.sums).String()}
	if f.kind.IsDir() {
		m.Type, m.Sum = typeDir, ""
	} else if !w.quiet.IsZero() && f.time.Before(w.quiet) && f.moved.Before(w.quiet) {
		m.State = f.state
	}
	it := backup.Item{Path: f.path}
	if m.Type == typeFile && isRelation(f.path) {
		it.BlockSize = relationBlock
	}
	return it, m
}

// content reads files.
func (w *walker) content(ctx context.Context, s *backup.Session, files []*found) error {
	p := readPieces(ctx, files, w.t.c.Workers, w.piece)
	defer func() {
		p.close() // before: somebody may be reading yet
		for _, f := range files {
			w.files.done(f)
		}
	}()
	for _, f := range files {
		if err := w.add(ctx, s, p, f); err != nil {
			return err
		}
		w.files.done(f)
	}
	return nil
}

func (w *walker) add(ctx context.Context, s *backup.Session, p *pieceReader, f *found) error {
	it, m := w.item(f)
	r := &fileReader{ctx: ctx, p: p, f: f}
	var sum fileSum
	it.Meta = m.encode()
	err := s.Add(ctx, it, newSummed(r, it, w.sums, func(s fileSum) {
		sum = s
		if len(r.bad) > 0 {
			spoil(it.Meta) // what has a page that fails is read next time, too
		}
	}))
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, b := range r.bad {
		w.bad(s, b)
	}
	w.manifest.add(f.path, m.ModTime, sum)
	return nil
}

// piece reads a piece of a file, and checks its pages.
func (w *walker) piece(ctx context.Context, c *piece) {
	c.n, c.err = w.files.read(ctx, c.f, c.at, c.buf)
	if c.err != nil || !w.src.sums || !isRelation(c.f.path) {
		return
	}
	size := w.src.block
	first := segmentOf(c.f.path)*w.segment + uint32(c.at/int64(size))
	for at := 0; at+size <= c.n; at += size {
		page, number := c.buf[at:at+size], first+uint32(at/size)
		if !pageFails(page, number) {
			continue
		}
		if w.again(ctx, c, int64(at), page, number) {
			c.bad = append(c.bad, badPage{path: c.f.path, number: number - segmentOf(c.f.path)*w.segment, lsn: pageLSN(page)})
		}
		if c.err != nil {
			return
		}
	}
}

// again reads a page that fails a few times more, as it may have been read
// while it was written. It reports whether it always fails.
func (w *walker) again(ctx context.Context, c *piece, at int64, page []byte, number uint32) bool {
	for range 3 {
		fresh := make([]byte, len(page))
		n, err := w.files.read(ctx, c.f, c.at+at, fresh)
		if errors.Is(err, fs.ErrNotExist) || err == nil && n < len(page) {
			return false // it is gone, and of no interest any more
		}
		if err != nil {
			c.err = err
			return false
		}
		copy(page, fresh)
		if !pageFails(page, number) {
			return false
		}
	}
	return true
}

// segmentOf is the number of a file of a relation.
func segmentOf(path string) uint32 {
	_, segment, _ := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ".")
	n, _ := strconv.ParseUint(segment, 10, 32)
	return uint32(n)
}

// maxDoubtful bounds what is remembered of pages that fail.
const maxDoubtful = 10_000

// bad takes note of a page that fails. What was changed since the backup began
// is in the WAL as a whole, and replaced when that is replayed; whether it was
// is known at the end.
func (w *walker) bad(s *backup.Session, b badPage) {
	if b.lsn >= w.start.at && len(w.doubtful) < maxDoubtful {
		w.doubtful = append(w.doubtful, b)
		return
	}
	s.Warn(b.path, fmt.Errorf("page %d does not match its checksum", b.number))
}

// control reads pg_control, as it is when everything else has been read.
func (w *walker) control(ctx context.Context, s *backup.Session) error {
	f := &found{path: controlPath, entry: entry{perm: 0o600, time: time.Now()}}
	defer w.files.done(f)
	entries, err := w.files.list(ctx, "global")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.name == "pg_control" {
			f.entry = e
		}
	}
	b, err := w.wholeControl(ctx, f)
	if err != nil {
		return err
	}
	if got := controlSystem(b); got != w.src.system {
		return fmt.Errorf("%s is of the cluster %d, and the server's is %d", controlPath, got, w.src.system)
	}
	return w.small(ctx, s, f, b)
}

// wholeControl reads pg_control until it is not being written meanwhile.
func (w *walker) wholeControl(ctx context.Context, f *found) ([]byte, error) {
	for try := 1; ; try++ {
		b := make([]byte, 64<<10)
		n, err := w.files.read(ctx, f, 0, b)
		if err != nil {
			return nil, err
		}
		if controlWhole(b[:n]) {
			return b[:n], nil
		}
		if try == 50 {
			return nil, fmt.Errorf("%s does not match its checksum", controlPath)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// small adds a file whose content is here.
func (w *walker) small(ctx context.Context, s *backup.Session, f *found, content []byte) error {
	it, m := w.item(f)
	m.State = ""
	it.Meta = m.encode()
	return s.Add(ctx, it, newSummed(bytes.NewReader(content), it, w.sums, func(sum fileSum) { w.manifest.add(f.path, m.ModTime, sum) }))
}

// end ends the backup at the server, and adds what that yields.
func (w *walker) end(ctx context.Context, s *backup.Session) (position, error) {
	rows, err := ask(ctx, w.conn, "SELECT lsn, labelfile FROM pg_catalog.pg_backup_stop(false)")
	if err != nil {
		return position{}, fmt.Errorf("pg_backup_stop: %w", w.advised(err))
	}
	stop := position{}
	if stop.at, err = wal.ParseLSN(rows[0][0]); err != nil {
		return stop, fmt.Errorf("pg_backup_stop: %w", err)
	}
	if stop.timeline, err = w.timeline(ctx); err != nil {
		return stop, err
	}
	text := rows[0][1]
	if !strings.Contains(text, fmt.Sprintf("START WAL LOCATION: %v ", w.start.at)) || !strings.Contains(text, fmt.Sprintf("\nSTART TIMELINE: %d\n", w.start.timeline)) {
		return stop, fmt.Errorf("pg_backup_stop: the label is not of a backup from %v on, on timeline %d: %.500q", w.start.at, w.start.timeline, text)
	}
	for _, b := range w.doubtful {
		if b.lsn > stop.at {
			s.Warn(b.path, fmt.Errorf("page %d does not match its checksum", b.number))
		}
	}
	label := &found{path: labelPath, entry: entry{perm: 0o600, time: time.Now()}}
	if err := w.small(ctx, s, label, []byte(text)); err != nil {
		return stop, err
	}
	manifest := w.manifest.finish(w.src, w.start, stop.at)
	m := meta{Type: typeFile, Mode: 0o600, ModTime: time.Now().UTC(), Sum: unknown(w.sums).String()}
	it := backup.Item{Path: manifestPath, Meta: m.encode()}
	return stop, s.Add(ctx, it, newSummed(bytes.NewReader(manifest), it, w.sums, func(fileSum) {}))
}

// advised says what a role lacks.
func (w *walker) advised(err error) error {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return fmt.Errorf("%w (in the database %q: %s)", err, w.database(), strings.Join(grant(w.t.conn.User, functions(w.name)), " "))
	}
	return err
}

func (w *walker) tablespaces(context.Context) []tablespace { return w.spaces }

func (w *walker) database() string {
	if w.t.conn.Database != "" {
		return w.t.conn.Database
	}
	return "postgres"
}

// close ends the backup at the server, if it has not ended.
func (w *walker) close() {
	if w.files != nil {
		w.files.close()
	}
	if w.conn.IsBusy() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		w.conn.CancelRequest(ctx)
		w.conn.Conn().Close()
	}
	hangUp(w.conn)
}
