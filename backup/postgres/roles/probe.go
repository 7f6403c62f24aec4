package roles

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/failover"
)

type probe struct {
	name string
	ask  func(ctx context.Context) (string, error)
}

func (p probe) Probe(ctx context.Context) (string, error) { return p.ask(ctx) }
func (p probe) String() string                            { return p.name }

// Writable asks, over a connection, whether the server is a primary that
// accepts writes and is not fenced.
func (s *Server) Writable() failover.Probe {
	return probe{"writable " + s.String(), func(ctx context.Context) (string, error) {
		plain := s.conn.Copy()
		delete(plain.RuntimeParams, "default_transaction_read_only") // as the server has it for others
		c, standby, err := s.connectAs(ctx, plain)
		if err != nil {
			return "", err
		}
		defer c.close()
		if standby {
			return "in recovery", errors.New("it is in recovery: it accepts no writes")
		}
		if readOnly, err := c.value(ctx, "SHOW transaction_read_only"); err != nil || readOnly != "off" {
			return "read-only", errors.Join(errors.New("default_transaction_read_only is on"), err)
		}
		known, err := c.known(ctx)
		if err != nil {
			return "", err
		}
		if known {
			n, err := c.value(ctx, "SELECT count(*) FROM holdfast.fence")
			if err != nil {
				return "", err
			}
			if n != "0" {
				return "fenced", errors.New("it is fenced")
			}
		}
		return "it accepts writes", nil
	}}
}

// Streaming asks a standby whether it receives WAL from its primary, and has
// heard of it within maxAge: the second signal, which does not depend on
// anybody else's way to the primary. An idle primary says something every
// half of its wal_sender_timeout, 30 s unless that is set, and each
// wal_receiver_status_interval of the standby, 10 s: maxAge must be more.
func (s *Server) Streaming(maxAge time.Duration) failover.Probe {
	return probe{fmt.Sprintf("streaming to %s", s), func(ctx context.Context) (string, error) {
		l, err := s.Lag(ctx)
		switch text := l.String(); {
		case err != nil:
			return "", err
		case !l.Streaming:
			return text, errors.New("it receives nothing from its primary")
		case l.Silence > maxAge:
			return text, fmt.Errorf("it has heard nothing from its primary for %v, more than %v", l.Silence.Round(time.Millisecond), maxAge)
		default:
			return text, nil
		}
	}}
}

// Standby asks whether the server is in recovery, can be promoted, and has no
// more than maxBytes of what it has heard of the primary's WAL left to replay.
func (s *Server) Standby(maxBytes int64) failover.Probe {
	return probe{"standby " + s.String(), func(ctx context.Context) (string, error) {
		l, err := s.Lag(ctx)
		switch text := l.String(); {
		case err != nil:
			return "", err
		case l.Paused:
			return text, errors.New("its recovery is paused")
		case l.Bytes > maxBytes:
			return text, fmt.Errorf("it is %d bytes behind, more than %d", l.Bytes, maxBytes)
		default:
			return text, nil
		}
	}}
}

// Lag is how far a standby is behind, as far as it knows.
type Lag struct {
	Streaming bool // it is connected to its primary
	Paused    bool // by pg_wal_replay_pause

	Primary  postgres.LSN // the end of the primary's WAL, as it said last; 0 if not connected
	Received postgres.LSN // written down by the standby
	Replayed postgres.LSN // what queries see, and a promotion begins with at least

	// Bytes are from Replayed to Primary, or to Received if that is further or
	// all that is known.
	Bytes int64

	// Age is how old the newest replayed commit is, if something is left to
	// replay; 0 if nothing is. Silence is since when the primary has said
	// nothing: what it committed in that time is not known. Loss by a failover
	// now is what was committed in the last Age+Silence, or less.
	Age, Silence time.Duration
}

// String is such as "128 bytes, 1.5s behind; heard 20ms ago".
func (l Lag) String() string {
	heard := "not connected"
	if l.Streaming {
		heard = fmt.Sprintf("heard %v ago", l.Silence.Round(time.Millisecond))
	}
	return fmt.Sprintf("%d bytes, %v behind, replayed %v; %s", l.Bytes, l.Age.Round(time.Millisecond), l.Replayed, heard)
}

// Lag asks a standby. A server that is none is an error.
func (s *Server) Lag(ctx context.Context) (l Lag, err error) {
	c, standby, err := s.connect(ctx)
	if err != nil {
		return l, err
	}
	defer c.close()
	if !standby {
		return l, fmt.Errorf("%s is not in recovery: it is no standby", s)
	}
	row, err := c.row(ctx, `SELECT coalesce(r.status = 'streaming', false), pg_is_wal_replay_paused(), coalesce(r.latest_end_lsn, '0/0') - '0/0',
			coalesce(pg_last_wal_receive_lsn(), '0/0') - '0/0', coalesce(pg_last_wal_replay_lsn(), '0/0') - '0/0',
			coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0), coalesce(extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time), 0)
		FROM (SELECT) one LEFT JOIN pg_stat_wal_receiver r ON true`)
	if err != nil {
		return l, fmt.Errorf("%s: %w", s, err)
	}
	l.Streaming, l.Paused = row[0] == "t", row[1] == "t"
	for i, p := range []*postgres.LSN{&l.Primary, &l.Received, &l.Replayed} {
		n, err := strconv.ParseUint(row[2+i], 10, 64)
		if err != nil {
			return l, fmt.Errorf("%s: position: %w", s, err)
		}
		*p = postgres.LSN(n)
	}
	for i, p := range []*time.Duration{&l.Age, &l.Silence} {
		f, err := strconv.ParseFloat(row[5+i], 64)
		if err != nil {
			return l, fmt.Errorf("%s: age: %w", s, err)
		}
		*p = max(0, time.Duration(f*float64(time.Second)))
	}
	if end := max(l.Primary, l.Received); end > l.Replayed {
		l.Bytes = int64(end - l.Replayed)
	} else {
		l.Age = 0
	}
	return l, nil
}
