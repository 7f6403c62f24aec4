package logical

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/provider"
)

// create is the statement that makes a database with these properties.
func (p properties) create(name string, owner bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE DATABASE %s TEMPLATE template0 ENCODING %s LC_COLLATE %s LC_CTYPE %s", ident(name), text(p.Encoding), text(p.Collate), text(p.Ctype))
	switch p.Provider {
	case "i":
		b.WriteString(" LOCALE_PROVIDER icu ICU_LOCALE " + text(p.Locale))
		if p.ICURules != "" {
			b.WriteString(" ICU_RULES " + text(p.ICURules))
		}
	case "b":
		b.WriteString(" LOCALE_PROVIDER builtin BUILTIN_LOCALE " + text(p.Locale))
	}
	if p.Tablespace != "" && p.Tablespace != "pg_default" {
		b.WriteString(" TABLESPACE " + ident(p.Tablespace))
	}
	if owner {
		b.WriteString(" OWNER " + ident(p.Owner))
	}
	return b.String()
}

// finish are the statements that give it the others.
func (p properties) finish(name string, o options) (all []string) {
	db := ident(name)
	if p.Comment != "" {
		all = append(all, "COMMENT ON DATABASE "+db+" IS "+text(p.Comment))
	}
	if p.Privileges == nil || o.roles == "none" {
		all = append(all, "GRANT CONNECT, TEMPORARY ON DATABASE "+db+" TO PUBLIC") // as every database has
	} else {
		all = append(all, "REVOKE ALL ON DATABASE "+db+" FROM "+ident(p.Owner))
		for _, g := range p.Privileges {
			to, with := "PUBLIC", ""
			if g.Role != "" {
				to = ident(g.Role)
			}
			if g.Grantable {
				with = " WITH GRANT OPTION"
			}
			if slices.Contains([]string{"CREATE", "CONNECT", "TEMPORARY"}, g.Privilege) {
				all = append(all, "GRANT "+g.Privilege+" ON DATABASE "+db+" TO "+to+with)
			}
		}
	}
	for _, s := range p.Settings {
		switch {
		case o.withoutSettings:
		case s.Role == "":
			all = append(all, "ALTER DATABASE "+db+" SET "+s.assignment())
		case o.roles != "none":
			all = append(all, "ALTER ROLE "+ident(s.Role)+" IN DATABASE "+db+" SET "+s.assignment())
		}
	}
	if p.Connections >= 0 {
		all = append(all, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", db, p.Connections))
	}
	return all
}

// swap gives the new database its name, and the one that has it another, in one
// transaction. A database cannot be renamed while somebody is connected: whoever
// is, is disconnected, and whoever comes waits for the transaction.
func (r *restorer) swap(ctx context.Context) error {
	aside := ""
	if r.replaced != 0 {
		kind := isOld
		if r.o.drop {
			kind = isDrop
		}
		aside = ourName(r.o.database, kind)
	}
	away, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.disconnect(away) }()
	err := r.rename(ctx, aside)
	stop()
	alone := <-done
	if err != nil {
		err = r.outcome(ctx, err)
	}
	if err != nil {
		return errors.Join(err, alone)
	}
	r.fresh = ""
	if aside != "" && !r.o.drop {
		r.t.c.Logger.Info("the database that was replaced is kept under another name", "database", r.o.database, "old", aside)
	}
	return nil
}

func (r *restorer) rename(ctx context.Context, aside string) error {
	tx, err := r.home.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	now, err := number(ctx, tx.Conn(), r.o.database)
	if err != nil {
		return err
	}
	if now != r.replaced {
		return fmt.Errorf("another database has this name now than when the restore began: %w", provider.ErrConflict)
	}
	if aside != "" {
		if _, err := tx.Exec(ctx, "ALTER DATABASE "+ident(r.o.database)+" RENAME TO "+ident(aside)); err != nil {
			return classed(err)
		}
	}
	if _, err := tx.Exec(ctx, "ALTER DATABASE "+ident(r.fresh)+" RENAME TO "+ident(r.o.database)); err != nil {
		return classed(err)
	}
	if r.inv.Properties.Template { // not before: a template cannot be dropped
		if _, err := tx.Exec(ctx, "ALTER DATABASE "+ident(r.o.database)+" IS_TEMPLATE true"); err != nil {
			return classed(err)
		}
	}
	if err := r.t.step("commit"); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	return r.t.step("committed")
}

// disconnect ends the sessions in the database that is replaced, until ctx
// ends.
func (r *restorer) disconnect(ctx context.Context) (last error) {
	if r.replaced == 0 {
		return nil
	}
	q, err := r.conn.dial(ctx, r.conn.home(r.o.database))
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer hangUp(q)
	for {
		// Those of the server itself end by themselves.
		_, err = q.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE datid = $1 AND usesysid IS NOT NULL`, r.replaced)
		if ctx.Err() != nil {
			return last
		}
		if last = nil; err != nil {
			last = fmt.Errorf("disconnect clients: %w", classed(err))
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// outcome finds out what became of a swap that has failed: its reply may be all
// that was lost. The session that made it holds a lock, so that whoever gets
// the lock knows that this session has ended, one way or the other.
func (r *restorer) outcome(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*patience)
	defer cancel()
	now, err := number(ctx, r.home, r.o.database)
	for err != nil { // the session is lost
		var q *pgx.Conn
		if q, err = r.conn.dial(ctx, r.conn.home(r.o.database)); err == nil {
			if err = alone(ctx, q, r.o.database); err == nil {
				hangUp(r.home)
				r.home = q
				now, err = number(ctx, q, r.o.database)
				continue
			}
			hangUp(q)
		}
		select {
		case <-ctx.Done():
			return errors.Join(cause, fmt.Errorf("whether it is in its place is not known: %w", err))
		case <-time.After(patience / 20):
		}
	}
	if now != r.number {
		return cause
	}
	return nil
}

// dropOld drops the database that was replaced, if it is to be dropped. The
// restore is done by then, so that what is left of the other is no error.
func (r *restorer) dropOld(ctx context.Context) error {
	if r.replaced == 0 || !r.o.drop {
		return nil
	}
	if _, err := leftovers(ctx, r.home, r.o.database); err != nil {
		r.t.c.Logger.Warn("the database that was replaced is not dropped; the next restore does it", "database", r.o.database, "err", err)
	}
	return nil
}
