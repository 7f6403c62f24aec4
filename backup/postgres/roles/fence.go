package roles

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/failover"
)

const (
	methodClosed  = "databases closed, connections ended"
	methodStopped = "server stopped"
)

// open is what a fence closes: kind, object, whether a grant can be handed on,
// the statement that closes it, and what it is. $1 are admins.
const open = `
SELECT 'database', oid, false, format('ALTER DATABASE %I ALLOW_CONNECTIONS false', datname), 'database ' || datname
	FROM pg_database WHERE datallowconn AND datname <> current_database()
UNION ALL
SELECT 'connect', a.grantee, bool_or(a.is_grantable), format('REVOKE CONNECT ON DATABASE %I FROM %s CASCADE', d.datname,
		CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(min(r.rolname)) END), 'CONNECT of ' || coalesce(min(r.rolname), 'PUBLIC')
	FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
	WHERE d.datname = current_database() AND a.privilege_type = 'CONNECT' AND NOT coalesce(r.rolsuper, false)
	GROUP BY d.datname, a.grantee
UNION ALL
SELECT 'role', oid, false, format('ALTER ROLE %I NOLOGIN', rolname), 'superuser ' || rolname
	FROM pg_roles WHERE rolsuper AND rolcanlogin AND rolname <> session_user AND rolname <> ALL ($1::text[])
ORDER BY 1, 2`

// strays are sessions that a fenced server must not have. A session of
// physical replication has no database, and runs no SQL.
const strays = `
FROM pg_stat_activity
WHERE datid <> 0 AND pid <> pg_backend_pid() AND backend_type <> 'autovacuum worker'
	AND NOT (datname = current_database() AND (usename = session_user AND application_name = '` + appName + `' OR usename = ANY ($1::text[])))`

// starting are the sessions that are being made. They look at whether their
// database is open, and are in pg_stat_activity only later; all that time they
// hold this lock.
const starting = `
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock' AND granted AND pid <> pg_backend_pid()`

// undo are the statements that open what is remembered as closed.
const undo = `
SELECT CASE f.kind
	WHEN 'database' THEN (SELECT format('ALTER DATABASE %I ALLOW_CONNECTIONS true', datname) FROM pg_database WHERE oid = f.object)
	WHEN 'role' THEN (SELECT format('ALTER ROLE %I LOGIN', rolname) FROM pg_roles WHERE oid = f.object)
	WHEN 'connect' THEN (SELECT format('GRANT CONNECT ON DATABASE %I TO %s', current_database(), grantee) || CASE WHEN f.grantable THEN ' WITH GRANT OPTION' ELSE '' END
		FROM (SELECT CASE f.object WHEN 0 THEN 'PUBLIC' ELSE (SELECT quote_ident(rolname) FROM pg_roles WHERE oid = f.object) END) g (grantee))
	END
FROM holdfast.fence f ORDER BY f.kind, f.object`

// Fence implements [failover.Fencer], as the package comment says.
func (s *Server) Fence(ctx context.Context, epoch uint64) (failover.FenceEvidence, error) {
	m := s.c.Machine
	if m == nil {
		ev, _, err := s.shut(ctx, epoch)
		return ev, err
	}
	soft, cancel := context.WithTimeout(ctx, s.c.Patience)
	ev, _, err := s.shut(soft, epoch)
	cancel()
	if errors.Is(err, errStale) {
		return ev, err
	}
	closed := ev.Detail
	if err != nil {
		closed = "it did not close itself: " + err.Error()
	}
	if err := m.Stop(ctx); err != nil {
		if ev.Confirmed { // the fence does not need it
			ev.Detail += "; stop: " + err.Error()
			return ev, nil
		}
		return failover.FenceEvidence{Method: methodStopped, Detail: closed}, fmt.Errorf("fence %s: stop: %w", s, err)
	}
	ev, err = s.stopped(ctx)
	ev.Detail += "; before, " + closed
	return ev, err
}

// Fenced implements [failover.Fencer].
func (s *Server) Fenced(ctx context.Context) (failover.FenceEvidence, error) {
	ev, _, err := s.fenced(ctx)
	return ev, err
}

func (s *Server) fenced(ctx context.Context) (ev failover.FenceEvidence, position string, err error) {
	if s.c.Machine != nil {
		if ev, err := s.stopped(ctx); err == nil && ev.Confirmed {
			return ev, "", nil
		}
	}
	c, standby, err := s.connect(ctx)
	if err != nil {
		return failover.FenceEvidence{Method: methodClosed, Detail: "it does not answer, which proves nothing"}, "", err
	}
	defer c.close()
	if ev, err = s.look(ctx, c, standby); err != nil || !ev.Confirmed {
		return ev, "", err
	}
	position, err = c.value(ctx, "SELECT max(position) FROM holdfast.fence WHERE kind = 'fence'")
	return ev, position, err
}

func (s *Server) stopped(ctx context.Context) (failover.FenceEvidence, error) {
	ev := failover.FenceEvidence{Method: methodStopped, Detail: "the server is not known to be stopped"}
	ok, err := s.c.Machine.Stopped(ctx)
	if err == nil && ok {
		ev.Confirmed, ev.Detail = true, "the server is stopped"
	}
	return ev, err
}

// shut closes the server to everybody. The position is where its WAL ends: no
// session can write beyond it.
func (s *Server) shut(ctx context.Context, epoch uint64) (ev failover.FenceEvidence, position string, err error) {
	ev.Method = methodClosed
	c, standby, err := s.connect(ctx)
	if err != nil {
		ev.Detail = "it does not answer, which proves nothing"
		return ev, "", fmt.Errorf("fence: %w", err)
	}
	defer c.close()
	if standby {
		ev.Detail = "it is a standby"
		return ev, "", fmt.Errorf("fence %s: it is a standby, at which nothing can be written: %w", s, failover.ErrNoEffect)
	}
	var closed int
	err = c.transaction(ctx, func() error {
		closed, err = s.shutAll(ctx, c, epoch)
		return err
	})
	if err == nil {
		err = s.end(ctx, c)
	}
	if err == nil {
		position, err = s.mark(ctx, c)
	}
	if err == nil {
		ev, err = s.look(ctx, c, false)
		ev.Detail = fmt.Sprintf("closed %d objects for epoch %d, its WAL ends at %s; %s", closed, epoch, position, ev.Detail)
	}
	if err != nil {
		return ev, "", fmt.Errorf("fence %s: %w", s, surely(err))
	}
	return ev, position, nil
}

// shutAll closes what is open, and remembers it, in a transaction.
func (s *Server) shutAll(ctx context.Context, c session, epoch uint64) (closed int, err error) {
	if err := c.overtaken(ctx, epoch); err != nil {
		return 0, err
	}
	if err := c.makeTables(ctx); err != nil {
		return 0, err
	}
	if err := c.compare(ctx, fenceEpoch, epoch, "fenced"); err != nil {
		return 0, err
	}
	const remember = `INSERT INTO holdfast.fence (kind, object, grantable, epoch) VALUES ($1::text, $2::oid, $3::boolean, $4::numeric)
		ON CONFLICT (kind, object) DO UPDATE SET epoch = excluded.epoch`
	number := strconv.FormatUint(epoch, 10)
	if _, err := c.rows(ctx, remember, "fence", "0", "f", number); err != nil {
		return 0, err
	}
	found, err := c.rows(ctx, open, array(s.c.Admins))
	if err != nil {
		return 0, err
	}
	for _, o := range found {
		if _, err := c.rows(ctx, remember, o[0], o[1], o[2], number); err != nil {
			return 0, err
		}
		if _, err := c.rows(ctx, o[3]); err != nil {
			return 0, fmt.Errorf("close %s: %w", o[4], err)
		}
	}
	return len(found), nil
}

// end ends every session, of which no new one can come.
func (s *Server) end(ctx context.Context, c session) error {
	if err := c.started(ctx); err != nil {
		return err
	}
	for {
		left, err := c.rows(ctx, "SELECT pid, pg_terminate_backend(pid)"+strays, array(s.c.Admins))
		if err != nil || len(left) == 0 {
			return err
		}
		if err := wait(ctx); err != nil {
			return fmt.Errorf("%d sessions do not end: %w", len(left), err)
		}
	}
}

// started waits until every session that is being made now is there, or was
// refused.
func (c session) started(ctx context.Context) error {
	first, err := c.rows(ctx, starting)
	if err != nil {
		return err
	}
	waiting := map[string]bool{}
	for _, r := range first {
		waiting[r[0]] = true
	}
	for len(waiting) > 0 {
		if err := wait(ctx); err != nil {
			return fmt.Errorf("%d sessions are being made: %w", len(waiting), err)
		}
		now, err := c.rows(ctx, starting)
		if err != nil {
			return err
		}
		still := map[string]bool{}
		for _, r := range now {
			if waiting[r[0]] {
				still[r[0]] = true
			}
		}
		waiting = still
	}
	return nil
}

// mark remembers where the WAL ends. That it commits makes durable, and sends
// to standbys, what sessions with synchronous_commit=off have left.
func (s *Server) mark(ctx context.Context, c session) (string, error) {
	if _, err := c.rows(ctx, "UPDATE holdfast.fence SET at = now() WHERE kind = 'fence'"); err != nil {
		return "", err
	}
	return c.value(ctx, `UPDATE holdfast.fence SET position = (SELECT system_identifier FROM pg_control_system()) || '/' ||
			('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::bigint || '/' || pg_current_wal_flush_lsn()
		WHERE kind = 'fence' RETURNING position`)
}

// look reads back whether the fence holds.
func (s *Server) look(ctx context.Context, c session, standby bool) (failover.FenceEvidence, error) {
	ev := failover.FenceEvidence{Method: methodClosed}
	if standby {
		ev.Detail = "it is a standby, which is no fence: it can be promoted"
		return ev, nil
	}
	known, err := c.known(ctx)
	if err != nil {
		return ev, err
	}
	if !known {
		ev.Detail = "nobody has fenced it"
		return ev, nil
	}
	found, err := c.rows(ctx, open, array(s.c.Admins))
	if err != nil {
		return ev, err
	}
	if len(found) > 0 {
		var names []string
		for _, o := range found {
			names = append(names, o[4])
		}
		ev.Detail = "open: " + strings.Join(names, ", ")
		return ev, nil
	}
	if err := c.started(ctx); err != nil {
		return ev, err
	}
	left, err := c.rows(ctx, "SELECT pid, datname, usename, backend_type"+strays, array(s.c.Admins))
	if err != nil {
		return ev, err
	}
	if len(left) > 0 {
		ev.Detail = fmt.Sprintf("nothing is open, but %d sessions are there: %q", len(left), left[:min(3, len(left))])
		return ev, nil
	}
	epoch, err := c.value(ctx, fenceEpoch)
	ev.Confirmed = err == nil && epoch != ""
	ev.Detail = fmt.Sprintf("read back: fenced in epoch %s, no database but the control database is open, nobody may connect to that but Holdfast%s, no other session is there",
		epoch, and(s.c.Admins))
	if !ev.Confirmed {
		ev.Detail = "nobody has fenced it"
	}
	return ev, err
}

func and(admins []string) string {
	if len(admins) == 0 {
		return ""
	}
	return fmt.Sprintf(" and %q", admins)
}

// Unfence implements [failover.Fencer]: what the fence has closed is opened
// again, and nothing else. A server that a [Machine] has stopped is started. An
// epoch lower than that of the fence is refused.
func (s *Server) Unfence(ctx context.Context, epoch uint64) error {
	if m := s.c.Machine; m != nil {
		stopped, err := m.Stopped(ctx)
		if err == nil && stopped {
			err = m.Start(ctx)
		}
		if err != nil {
			return fmt.Errorf("unfence %s: start: %w", s, err)
		}
	}
	c, standby, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("unfence: %w", err)
	}
	defer c.close()
	if standby {
		return fmt.Errorf("unfence %s: it is a standby", s)
	}
	err = c.transaction(ctx, func() error { return c.lift(ctx, epoch) })
	if err != nil {
		return fmt.Errorf("unfence %s: %w", s, err)
	}
	return nil
}

// lift takes back what is remembered, in a transaction.
func (c session) lift(ctx context.Context, epoch uint64) error {
	if known, err := c.known(ctx); err != nil || !known {
		return err
	}
	if err := c.overtaken(ctx, epoch); err != nil {
		return err
	}
	if err := c.compare(ctx, fenceEpoch, epoch, "fenced"); err != nil {
		return err
	}
	statements, err := c.rows(ctx, undo)
	if err != nil {
		return err
	}
	for _, u := range statements {
		if u[0] == "" { // the object has gone
			continue
		}
		if _, err := c.rows(ctx, u[0]); err != nil {
			return err
		}
	}
	_, err = c.rows(ctx, "DELETE FROM holdfast.fence")
	return err
}
