package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A replicationConn is a connection to a walsender, for commands.
type replicationConn struct {
	*pgconn.PgConn
}

func connectReplication(ctx context.Context, c *pgconn.Config, name string) (*replicationConn, error) {
	c = c.Copy()
	c.RuntimeParams = maps.Clone(c.RuntimeParams)
	if c.RuntimeParams == nil {
		c.RuntimeParams = map[string]string{}
	}
	c.RuntimeParams["replication"] = "true"
	c.RuntimeParams["application_name"] = name
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = 15 * time.Second
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	return &replicationConn{conn}, nil
}

// row runs a command and returns its only row; nil if there is none.
func (c *replicationConn) row(ctx context.Context, command string) ([][]byte, error) {
	results, err := c.Exec(ctx, command).ReadAll()
	if err != nil {
		word, _, _ := strings.Cut(command, " ")
		return nil, fmt.Errorf("%s: %w", word, err)
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, nil
	}
	return results[0].Rows[0], nil
}

// An identity is what a server says of itself.
type identity struct {
	system   uint64
	timeline uint32
	end      LSN
	segment  uint64        // size of WAL segments
	block    uint64        // size of WAL pages
	timeout  time.Duration // after which it gives up on a silent receiver; 0: never
	version  int           // major
}

func (c *replicationConn) identify(ctx context.Context) (id identity, err error) {
	version, _, _ := strings.Cut(c.ParameterStatus("server_version"), ".")
	if id.version, err = strconv.Atoi(strings.TrimRightFunc(version, func(r rune) bool { return r < '0' || r > '9' })); err != nil || id.version < 15 || id.version > 18 {
		return id, fmt.Errorf("server has version %q: want 15 to 18", c.ParameterStatus("server_version"))
	}
	row, err := c.row(ctx, "IDENTIFY_SYSTEM")
	if err != nil {
		return id, err
	}
	if len(row) < 3 {
		return id, errors.New("IDENTIFY_SYSTEM: the answer is not that of a PostgreSQL server")
	}
	system, err1 := strconv.ParseUint(string(row[0]), 10, 64)
	timeline, err2 := strconv.ParseUint(string(row[1]), 10, 32)
	end, err3 := wal.ParseLSN(string(row[2]))
	if err := errors.Join(err1, err2, err3); err != nil {
		return id, fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	id.system, id.timeline, id.end = system, uint32(timeline), end
	if id.segment, err = c.size(ctx, "wal_segment_size"); err != nil {
		return id, err
	}
	block, err := c.setting(ctx, "wal_block_size")
	if err != nil {
		return id, err
	}
	if id.block, err = strconv.ParseUint(block, 10, 17); err != nil {
		return id, fmt.Errorf("SHOW wal_block_size: %w", err)
	}
	if id.timeout, err = c.duration(ctx, "wal_sender_timeout"); err != nil {
		return id, err
	}
	return id, wal.CheckSegmentSize(id.segment)
}

func (c *replicationConn) setting(ctx context.Context, name string) (string, error) {
	row, err := c.row(ctx, "SHOW "+name)
	if err != nil || len(row) == 0 {
		return "", errors.Join(fmt.Errorf("SHOW %s", name), err)
	}
	return string(row[0]), nil
}

func (c *replicationConn) size(ctx context.Context, name string) (uint64, error) {
	s, err := c.setting(ctx, name)
	if err != nil {
		return 0, err
	}
	for unit, factor := range map[string]uint64{"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30} {
		if n, err := strconv.ParseUint(strings.TrimSuffix(s, unit), 10, 32); err == nil && strings.HasSuffix(s, unit) {
			return n * factor, nil
		}
	}
	return 0, fmt.Errorf("SHOW %s: %q is no size", name, s)
}

func (c *replicationConn) duration(ctx context.Context, name string) (time.Duration, error) {
	s, err := c.setting(ctx, name)
	if err != nil || s == "0" {
		return 0, err
	}
	// A whole number of days is written so; all else is as in Go.
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(strings.Replace(s, "min", "m", 1))
}

// history asks for the .history file of a timeline.
func (c *replicationConn) history(ctx context.Context, timeline uint32) ([]byte, error) {
	row, err := c.row(ctx, fmt.Sprintf("TIMELINE_HISTORY %d", timeline))
	if err == nil && len(row) < 2 {
		err = errors.New("TIMELINE_HISTORY: no file in the answer")
	}
	if err != nil {
		return nil, err
	}
	return row[1], nil
}

// slot returns where the slot begins to keep WAL, making it if it is not
// there. kept is 0 if it keeps none, since it was lost.
func (c *replicationConn) slot(ctx context.Context, name string) (kept LSN, made bool, err error) {
	row, err := c.row(ctx, "READ_REPLICATION_SLOT "+name)
	if err != nil {
		return 0, false, err
	}
	if len(row) < 2 || row[0] == nil {
		if _, err := c.row(ctx, fmt.Sprintf("CREATE_REPLICATION_SLOT %s PHYSICAL RESERVE_WAL", name)); err != nil {
			return 0, false, err
		}
		kept, _, err = c.slot(ctx, name)
		return kept, true, err
	}
	if row[1] == nil {
		return 0, false, nil
	}
	kept, err = wal.ParseLSN(string(row[1]))
	return kept, false, err
}

// start begins to stream, after which the connection takes no other command.
func (c *replicationConn) start(ctx context.Context, slot string, from LSN, timeline uint32) (*walStream, error) {
	c.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION SLOT %s PHYSICAL %v TIMELINE %d", slot, from, timeline)})
	if err := c.Frontend().Flush(); err != nil {
		return nil, fmt.Errorf("START_REPLICATION: %w", err)
	}
	for {
		m, err := c.ReceiveMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("START_REPLICATION: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			h, err := c.Hijack()
			if err != nil {
				return nil, err
			}
			h.Frontend.SetMaxBodyLen(4 << 20)
			return &walStream{h}, nil
		case *pgproto3.ErrorResponse:
			return nil, fmt.Errorf("START_REPLICATION: %w", pgconn.ErrorResponseToPgError(m))
		case *pgproto3.RowDescription, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return nil, errEndOfTimeline // it ended where we want to begin
		}
	}
}

var errEndOfTimeline = errors.New("the timeline ends here")

// A walStream is a connection that WAL comes on. One goroutine may receive,
// and another send.
type walStream struct {
	c *pgconn.HijackedConn
}

// close ends the connection, with a word of farewell that keeps it out of the
// server's log. It unblocks receive.
func (s *walStream) close() {
	s.c.Frontend.Send(&pgproto3.Terminate{})
	s.c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	s.c.Frontend.Flush()
	s.c.Conn.Close()
}

// A walMessage is what the server sends: WAL, or a sign of life.
type walMessage struct {
	from  LSN
	data  []byte // nil: a keepalive
	end   LSN    // of the server's WAL
	at    time.Time
	reply bool // the server wants to hear from us
}

// receive waits for a message. errEndOfTimeline when all of the timeline has
// come.
func (s *walStream) receive() (walMessage, error) {
	for {
		m, err := s.c.Frontend.Receive()
		if err != nil {
			return walMessage{}, err
		}
		switch m := m.(type) {
		case *pgproto3.CopyData:
			return parseWAL(m.Data)
		case *pgproto3.CopyDone:
			return walMessage{}, errEndOfTimeline
		case *pgproto3.ErrorResponse:
			return walMessage{}, pgconn.ErrorResponseToPgError(m)
		case *pgproto3.NoticeResponse, *pgproto3.ParameterStatus:
		default:
			return walMessage{}, fmt.Errorf("the server sent %T where WAL belongs", m)
		}
	}
}

func parseWAL(b []byte) (m walMessage, err error) {
	switch {
	case len(b) == 18 && b[0] == 'k':
		m = walMessage{end: LSN(binary.BigEndian.Uint64(b[1:])), at: serverTime(b[9:]), reply: b[17] != 0}
	case len(b) > 25 && b[0] == 'w':
		m = walMessage{from: LSN(binary.BigEndian.Uint64(b[1:])), end: LSN(binary.BigEndian.Uint64(b[9:])), at: serverTime(b[17:]), data: append([]byte(nil), b[25:]...)}
	default:
		return m, fmt.Errorf("the server sent %d bytes that are no message of replication", len(b))
	}
	return m, nil
}

const year2000 = 946684800

func serverTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + year2000*1e6).UTC()
}

// A report says how far the receiver is.
type report struct {
	written, flushed LSN
	answer           bool // wanted, to know that the server is there
}

// tell sends a report. Nothing is ever applied here, which is what a position
// of 0 says.
func (s *walStream) tell(r report) error {
	b := []byte{'r'}
	b = binary.BigEndian.AppendUint64(b, uint64(r.written))
	b = binary.BigEndian.AppendUint64(b, uint64(r.flushed))
	b = binary.BigEndian.AppendUint64(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(time.Now().UnixMicro()-year2000*1e6))
	if r.answer {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	s.c.Frontend.Send(&pgproto3.CopyData{Data: b})
	if err := s.c.Conn.SetWriteDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return err
	}
	return s.c.Frontend.Flush()
}

// done answers the end of a timeline.
func (s *walStream) done() error {
	s.c.Frontend.Send(&pgproto3.CopyDone{})
	return s.c.Frontend.Flush()
}
