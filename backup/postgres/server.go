package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// oldest is the first version whose BASE_BACKUP tells what is in its stream.
const oldest = 15

// A source is a server with a connection for replication.
type source struct {
	conn     *pgconn.PgConn
	system   uint64
	timeline uint32
	version  int    // as server_version_num: 170011
	segment  uint64 // bytes of a WAL file
	block    int    // bytes of a page
	sums     bool   // pages have checksums
	standby  bool
}

// connect opens a connection for replication.
func (t *Target) connect(ctx context.Context) (*pgconn.PgConn, error) {
	if t.conn == nil {
		return nil, errors.New("postgres: Conn is empty; this target can only restore")
	}
	c := t.conn.Copy()
	c.RuntimeParams["replication"] = "true"
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "holdfast"
	}
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", advised(err))
	}
	return conn, nil
}

// open connects to a server, and finds out whether it can be backed up.
func (t *Target) open(ctx context.Context) (*source, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &source{conn: conn}
	if err := s.identify(ctx); err != nil {
		conn.Close(ctx)
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return s, nil
}

func (s *source) identify(ctx context.Context) error {
	version := s.conn.ParameterStatus("server_version")
	row, err := query(ctx, s.conn, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return err
	}
	if s.system, err = strconv.ParseUint(row[0], 10, 64); err != nil {
		return fmt.Errorf("IDENTIFY_SYSTEM: system identifier %q", row[0])
	}
	if s.timeline, err = parseTimeline(row[1]); err != nil {
		return fmt.Errorf("IDENTIFY_SYSTEM: %w", err)
	}
	show := func(name string) string {
		var row []string
		if err == nil {
			row, err = query(ctx, s.conn, "SHOW "+name, 1)
		}
		if err != nil {
			return ""
		}
		return row[0]
	}
	number := func(name string) int {
		text := show(name)
		n, perr := strconv.Atoi(text)
		if err == nil {
			err = perr
		}
		return n
	}
	s.version, s.block = number("server_version_num"), number("block_size")
	s.sums = show("data_checksums") == "on"
	size := show("wal_segment_size")
	level := show("wal_level")
	s.standby = s.conn.ParameterStatus("in_hot_standby") == "on"
	switch {
	case err != nil:
		return err
	case s.version < oldest*10000:
		return tooOld(version)
	case level == "minimal":
		return errors.New("wal_level is minimal, with which no base backup is possible; ALTER SYSTEM SET wal_level = replica, and restart the server")
	}
	if s.segment, err = parseSize(size); err == nil {
		err = wal.CheckSegmentSize(s.segment)
	}
	return err
}

func tooOld(version string) error {
	return fmt.Errorf("the server is of version %s, want %d or later; package logical can dump it", version, oldest)
}

// query runs a command of the replication protocol that yields one row of so
// many columns, or more.
func query(ctx context.Context, conn *pgconn.PgConn, sql string, columns int) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", sql, advised(err))
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("%s: the server answers in no known form", sql)
	}
	var row []string
	for _, b := range results[0].Rows[0] {
		row = append(row, string(b))
	}
	return row, nil
}

func parseTimeline(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("timeline %.40q", s)
	}
	return uint32(n), nil
}

// parseSize reads a size as SHOW writes it: 16MB.
func parseSize(s string) (uint64, error) {
	digits := strings.TrimRight(s, "kMGTB")
	n, err := strconv.ParseUint(digits, 10, 32)
	units := map[string]uint64{"": 1, "B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}
	unit, ok := units[s[len(digits):]]
	if err != nil || !ok {
		return 0, fmt.Errorf("size %.40q", s)
	}
	return n * unit, nil
}

// advised adds to an error of the server what to do about it.
func advised(err error) error {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	advice := ""
	switch {
	case e.Code == "42501":
		advice = "the role must be allowed to replicate: ALTER ROLE name REPLICATION"
	case e.Code == "28000" && strings.Contains(e.Message, "pg_hba.conf"):
		advice = `pg_hba.conf wants a line for it: "host replication ROLE ADDRESS scram-sha-256"; then SELECT pg_reload_conf()`
	case e.Code == "53300" && strings.Contains(e.Message, "max_wal_senders"):
		advice = "the server has no connection for replication left: raise max_wal_senders (it is 0 where wal_level is minimal: set that to replica), and restart the server"
	default:
		return err
	}
	return fmt.Errorf("%w (%s)", err, advice)
}

// nameSpaces finds out what tablespaces are called. Only a connection that is
// not for replication tells, which the role may not be allowed: they are then
// known by their OIDs.
func (t *Target) nameSpaces(ctx context.Context, spaces []tablespace) {
	if len(spaces) == 0 {
		return
	}
	conn, err := pgconn.ConnectConfig(ctx, t.conn.Copy())
	if err != nil {
		t.c.Logger.Info("the names of tablespaces are not known", "error", err)
		return
	}
	defer hangUp(conn)
	for i := range spaces {
		row, err := query(ctx, conn, fmt.Sprintf("SELECT spcname FROM pg_tablespace WHERE oid = %d", spaces[i].OID), 1)
		if err == nil {
			spaces[i].Name = row[0]
		}
	}
}

// close ends the connection.
func (s *source) close() { hangUp(s.conn) }

// hangUp closes a connection that is idle or broken.
func hangUp(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx)
}
