package roles

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/failover"
)

// timeline is that on which a primary writes.
const timeline = "('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint"

// Promote implements [failover.Promoter], as the package comment says. An
// error wraps [failover.ErrNoEffect] if the server, in recovery, has itself
// refused or the epoch is lower than one recorded there. A server that is out
// of recovery already, as one that was restored is, gets its row.
func (s *Server) Promote(ctx context.Context, epoch uint64) (failover.Evidence, error) {
	c, standby, err := s.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("promote: %w", err)
	}
	defer c.close()
	if standby {
		err = c.leaveRecovery(ctx, epoch)
	}
	if err == nil {
		err = c.transaction(ctx, func() error { return c.enthrone(ctx, epoch) })
	}
	if err != nil {
		return nil, fmt.Errorf("promote %s: %w", s, err)
	}
	o, err := c.promoted(ctx)
	if err == nil && !o.Done {
		err = errors.New("it does not say that it is promoted")
	}
	if err != nil {
		return nil, fmt.Errorf("promote %s: %w", s, err)
	}
	return o.Evidence, nil
}

// leaveRecovery asks the server to, and waits until it has.
func (c session) leaveRecovery(ctx context.Context, epoch uint64) error {
	if err := c.overtaken(ctx, epoch); err != nil {
		return surely(err)
	}
	sent, err := c.value(ctx, "SELECT pg_promote(false)")
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "42501" {
		return errors.Join(err, failover.ErrNoEffect)
	}
	// "recovery is not in progress" has been overtaken by somebody's promotion.
	if e, ok := errors.AsType[*pgconn.PgError](err); err != nil && (!ok || e.Code != "55000") {
		return err
	}
	if err == nil && sent != "t" {
		return errors.New("the server could not signal itself")
	}
	for {
		in, err := c.value(ctx, "SELECT pg_is_in_recovery()")
		if err != nil || in == "f" {
			return err
		}
		if err := wait(ctx); err != nil {
			return fmt.Errorf("it is still in recovery: %w", err)
		}
	}
}

// enthrone records the promotion and opens the server, in a transaction.
func (c session) enthrone(ctx context.Context, epoch uint64) error {
	if err := c.makeTables(ctx); err != nil {
		return err
	}
	if err := c.lift(ctx, epoch); err != nil {
		return err
	}
	_, err := c.rows(ctx, `INSERT INTO holdfast.promotion (epoch, system, timeline)
		SELECT $1::numeric, system_identifier::text, `+timeline+` FROM pg_control_system()
		ON CONFLICT (timeline) DO UPDATE SET epoch = excluded.epoch, at = now() WHERE promotion.epoch < excluded.epoch`, strconv.FormatUint(epoch, 10))
	return err
}

// Promoted implements [failover.Promoter]: the server is out of recovery,
// that is recorded for its timeline, and no fence is remembered.
func (s *Server) Promoted(ctx context.Context) (failover.Observation, error) {
	c, standby, err := s.connect(ctx)
	if err != nil {
		return failover.Observation{}, fmt.Errorf("promoted: %w", err)
	}
	defer c.close()
	if standby {
		return failover.Observation{Evidence: failover.Evidence{"recovery": "true"}}, nil
	}
	o, err := c.promoted(ctx)
	if err != nil {
		return o, fmt.Errorf("promoted: %s: %w", s, err)
	}
	return o, nil
}

func (c session) promoted(ctx context.Context) (failover.Observation, error) {
	o := failover.Observation{Evidence: failover.Evidence{"recovery": "false"}}
	known, err := c.known(ctx)
	if err != nil || !known {
		return o, err
	}
	row, err := c.row(ctx, `SELECT `+timeline+`, (SELECT max(epoch) FROM holdfast.promotion WHERE timeline = `+timeline+`),
		(SELECT count(*) FROM holdfast.fence), system_identifier, pg_current_wal_insert_lsn() FROM pg_control_system()`)
	if err != nil {
		return o, err
	}
	o.Done = row[1] != "" && row[2] == "0"
	o.Evidence["timeline"], o.Evidence["epoch"], o.Evidence["fenced"] = row[0], row[1], strconv.FormatBool(row[2] != "0")
	o.Evidence["system"], o.Evidence["wal"] = row[3], row[4]
	return o, nil
}
