package roles

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/failover"
)

// Quiesce is the action of a switchover's quiesce step: it fences the server,
// without stopping it, and leaves as [failover.EvidencePosition] a demotion
// token, SYSTEM/TIMELINE/LSN: no session has written, or can write, beyond it.
// Its Undo opens the server again.
func (s *Server) Quiesce() failover.Action { return quiesce{s} }

type quiesce struct{ s *Server }

func (q quiesce) Observe(ctx context.Context, c failover.Call) (failover.Observation, error) {
	ev, position, err := q.s.fenced(ctx)
	return failover.Observation{Done: ev.Confirmed && position != "", Evidence: withPosition(ev, position)}, err
}

func (q quiesce) Do(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	ev, position, err := q.s.shut(ctx, c.Epoch)
	return withPosition(ev, position), err
}

func (q quiesce) Undo(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	return nil, q.s.Unfence(ctx, c.Epoch)
}

func withPosition(fe failover.FenceEvidence, position string) failover.Evidence {
	return failover.Evidence{"method": fe.Method, failover.EvidenceConfirmed: fmt.Sprint(fe.Confirmed), "detail": fe.Detail, failover.EvidencePosition: position}
}

// CatchUp is the action of a switchover's final-sync step: it waits until the
// standby has replayed the WAL of the same system and timeline up to the
// demotion token of an earlier step, such as "quiesce", and leaves that token
// as its position: [failover.CheckPosition] proves that nothing is lost.
func (s *Server) CatchUp(step string) failover.Action {
	return failover.ActionFuncs{DoFunc: func(ctx context.Context, c failover.Call) (failover.Evidence, error) {
		token := c.Prior[step][failover.EvidencePosition]
		ev, err := s.reach(ctx, token)
		if err != nil {
			return ev, fmt.Errorf("catch up with %q of step %s: %w", token, step, err)
		}
		return ev, nil
	}}
}

func (s *Server) reach(ctx context.Context, token string) (failover.Evidence, error) {
	system, rest, ok1 := strings.Cut(token, "/")
	line, lsn, ok2 := strings.Cut(rest, "/")
	if !ok1 || !ok2 {
		return nil, fmt.Errorf("want SYSTEM/TIMELINE/LSN: %w", failover.ErrNoEffect)
	}
	c, standby, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if !standby {
		return nil, fmt.Errorf("%s is not in recovery: it is no standby", s)
	}
	for {
		row, err := c.row(ctx, `SELECT system_identifier, coalesce(r.received_tli, k.timeline_id), pg_last_wal_replay_lsn(), coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false)
			FROM pg_control_system(), pg_control_checkpoint() k LEFT JOIN pg_stat_wal_receiver r ON true`, lsn)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		if row[0] != system {
			return nil, fmt.Errorf("%s is system %s: another cluster: %w", s, row[0], failover.ErrNoEffect)
		}
		ev := failover.Evidence{"replayed": row[2], "timeline": row[1]}
		if row[1] == line && row[3] == "t" {
			ev[failover.EvidencePosition], ev[failover.EvidenceAge] = token, "0s"
			return ev, nil
		}
		if err := wait(ctx); err != nil {
			return ev, errors.Join(fmt.Errorf("%s has replayed %s on timeline %s", s, row[2], row[1]), err)
		}
	}
}
