package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A position is where a backup begins or ends.
type position struct {
	at       wal.LSN
	timeline uint32
}

// A tablespace is one beside the data directory.
type tablespace struct {
	OID      uint32 `json:"oid"`
	Name     string `json:"name,omitempty"` // if known
	Location string `json:"location"`       // relative if it lies below the data directory
}

// A baseStream is the answer to BASE_BACKUP, of PostgreSQL 15 and later: two
// results, then one copy of archives and the manifest, each announced by a
// message, then a result again. See "Streaming Replication Protocol" in
// PostgreSQL's documentation.
//
// It reads one archive after the other: next, then Read until io.EOF.
type baseStream struct {
	conn        *pgconn.PgConn
	stop        func() bool // of what breaks the connection when ctx is over
	ctx         context.Context
	start, end  position
	tablespaces []tablespace
	warnings    []string // of the server: pages that fail
	corrupt     bool     // it has found some

	data   []byte // of the present archive, not read yet
	coming *part  // announced, and not begun
	over   bool   // all parts have come
	done   bool   // the server is ready again
}

// A part is an archive, or the manifest.
type part struct {
	manifest bool
	name     string // of an archive
	location string // of a tablespace; empty for the data directory
}

// startBase sends BASE_BACKUP, and returns when the server has made its
// checkpoint. The stream is to be closed.
func startBase(ctx context.Context, conn *pgconn.PgConn, command string) (*baseStream, error) {
	b := &baseStream{conn: conn, ctx: ctx}
	b.stop = context.AfterFunc(ctx, func() { conn.Conn().SetDeadline(time.Unix(1, 0)) })
	if err := b.begin(command); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

func (b *baseStream) begin(command string) error {
	b.conn.Frontend().Send(&pgproto3.Query{String: command})
	if err := b.conn.Frontend().Flush(); err != nil {
		return b.broken(err)
	}
	rows, err := b.result()
	if err != nil {
		return err
	}
	if b.start, err = parsePosition(rows); err != nil {
		return err
	}
	if rows, err = b.result(); err != nil {
		return err
	}
	for _, row := range rows {
		if len(row) < 2 || row[0] == "" {
			continue // the data directory
		}
		oid, err := parseTimeline(row[0])
		if err != nil {
			return fmt.Errorf("BASE_BACKUP: tablespace %q", row[0])
		}
		b.tablespaces = append(b.tablespaces, tablespace{OID: oid, Location: row[1]})
	}
	m, err := b.receive()
	if err != nil {
		return err
	}
	if _, ok := m.(*pgproto3.CopyOutResponse); !ok {
		return unexpected(m)
	}
	return nil
}

// receive returns the next message that is of the backup.
func (b *baseStream) receive() (pgproto3.BackendMessage, error) {
	for {
		m, err := b.conn.Frontend().Receive()
		if err != nil {
			return nil, b.broken(err)
		}
		switch m := m.(type) {
		case *pgproto3.NoticeResponse:
			if len(b.warnings) < 1000 {
				b.warnings = append(b.warnings, m.Message)
			}
		case *pgproto3.ParameterStatus:
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("BASE_BACKUP: %w", b.advised(pgconn.ErrorResponseToPgError(m)))
		default:
			return m, nil
		}
	}
}

func (b *baseStream) advised(err *pgconn.PgError) error {
	if len(b.warnings) > 0 {
		return fmt.Errorf("%w (it warned: %s)", advised(err), strings.Join(b.warnings[:min(5, len(b.warnings))], "; "))
	}
	return advised(err)
}

// broken is an error of the connection, or why it was broken.
func (b *baseStream) broken(err error) error {
	if b.ctx.Err() != nil {
		return context.Cause(b.ctx)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the server has closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("BASE_BACKUP: %w", err)
}

func unexpected(m pgproto3.BackendMessage) error {
	return fmt.Errorf("BASE_BACKUP: unexpected message %T", m)
}

// result reads a set of rows.
func (b *baseStream) result() (rows [][]string, err error) {
	for {
		m, err := b.receive()
		if err != nil {
			return nil, err
		}
		switch m := m.(type) {
		case *pgproto3.RowDescription:
		case *pgproto3.DataRow:
			var row []string
			for _, v := range m.Values {
				row = append(row, string(v))
			}
			rows = append(rows, row)
		case *pgproto3.CommandComplete:
			return rows, nil
		default:
			return nil, unexpected(m)
		}
	}
}

func parsePosition(rows [][]string) (p position, err error) {
	if len(rows) != 1 || len(rows[0]) < 2 {
		return p, errors.New("BASE_BACKUP: the server tells no position")
	}
	if p.at, err = wal.ParseLSN(rows[0][0]); err == nil {
		p.timeline, err = parseTimeline(rows[0][1])
	}
	if err != nil {
		return p, fmt.Errorf("BASE_BACKUP: %w", err)
	}
	return p, nil
}

// next goes on to the next part; io.EOF when there is none. The last part has
// to be read to its end before.
func (b *baseStream) next() (part, error) {
	if b.coming == nil && !b.over {
		if err := b.message(); err != nil {
			return part{}, err
		}
		if len(b.data) > 0 {
			return part{}, errors.New("BASE_BACKUP: data before an archive is announced")
		}
	}
	if b.over {
		return part{}, io.EOF
	}
	p := *b.coming
	b.coming = nil
	return p, nil
}

// Read reads the present part.
func (b *baseStream) Read(p []byte) (int, error) {
	for len(b.data) == 0 {
		if b.coming != nil || b.over {
			return 0, io.EOF
		}
		if err := b.message(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// message takes one message of the copy in.
func (b *baseStream) message() error {
	m, err := b.receive()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return b.copied(m.Data)
	case *pgproto3.CopyDone:
		b.over = true
		return b.finish()
	}
	return unexpected(m)
}

func (b *baseStream) copied(data []byte) error {
	if len(data) == 0 {
		return errors.New("BASE_BACKUP: empty message")
	}
	switch kind, rest := data[0], data[1:]; kind {
	case 'n':
		f := bytes.Split(rest, []byte{0})
		if len(f) < 2 {
			return errors.New("BASE_BACKUP: an archive without a name")
		}
		b.coming = &part{name: string(f[0]), location: string(f[1])}
	case 'm':
		b.coming = &part{manifest: true}
	case 'd':
		b.data = rest
	case 'p':
	default:
		return fmt.Errorf("BASE_BACKUP: message of unknown type %q", kind)
	}
	return nil
}

// finish reads what follows the copy. A server that has found pages with a
// wrong checksum says so by an error, when it has sent everything.
func (b *baseStream) finish() error {
	rows, err := b.result()
	if err != nil {
		return err
	}
	if b.end, err = parsePosition(rows); err != nil {
		return err
	}
	for {
		m, err := b.receive()
		if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "XX001" {
			b.corrupt = true
			continue
		}
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			b.done = true
			return nil
		}
		if _, ok := m.(*pgproto3.CommandComplete); !ok {
			return unexpected(m)
		}
	}
}

// close ends the backup at the server, too, if it is not at its end.
func (b *baseStream) close() {
	b.stop()
	if !b.done {
		// Asked to, a server ends at once; of a connection that is gone it
		// hears only when it next sends something.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
		defer cancel()
		b.conn.CancelRequest(ctx)
		b.conn.Conn().Close()
	}
	hangUp(b.conn)
}
