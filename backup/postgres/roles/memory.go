package roles

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/holdfast-go/holdfast/failover"
)

// errStale: what is recorded is of a later run.
var errStale = errors.New("the epoch is lower than what is recorded: this run has been overtaken")

// surely adds to errStale that nothing was changed, where that is so.
func surely(err error) error {
	if errors.Is(err, errStale) {
		return errors.Join(err, failover.ErrNoEffect)
	}
	return err
}

// makeTables makes what is remembered. It is believed, and acted on by a
// superuser, so nobody else may own it.
func (c session) makeTables(ctx context.Context) error {
	if super, err := c.value(ctx, "SELECT rolsuper FROM pg_roles WHERE rolname = session_user"); err != nil || super != "t" {
		return errors.Join(errors.New("the role of Conn must be a superuser: ALTER ROLE name SUPERUSER"), err)
	}
	for _, sql := range []string{
		"CREATE SCHEMA IF NOT EXISTS holdfast",
		`CREATE TABLE IF NOT EXISTS holdfast.fence (kind text, object oid, grantable boolean NOT NULL, epoch numeric(20) NOT NULL,
			position text, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (kind, object))`,
		`CREATE TABLE IF NOT EXISTS holdfast.promotion (timeline bigint PRIMARY KEY, epoch numeric(20) NOT NULL, system text NOT NULL,
			at timestamptz NOT NULL DEFAULT now())`,
	} {
		if _, err := c.rows(ctx, sql); err != nil {
			return err
		}
	}
	return c.trusted(ctx)
}

// trusted refuses a schema that somebody else has prepared.
func (c session) trusted(ctx context.Context) error {
	foreign, err := c.value(ctx, `SELECT count(*) FROM (
			SELECT nspowner AS owner FROM pg_namespace WHERE nspname = 'holdfast'
			UNION ALL SELECT relowner FROM pg_class WHERE relnamespace = to_regnamespace('holdfast')
			UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = to_regnamespace('holdfast')) o
		JOIN pg_roles r ON r.oid = o.owner WHERE NOT r.rolsuper`)
	if err == nil && foreign != "0" {
		err = errors.New("schema holdfast, or something in it, belongs to a role that is no superuser: drop it, or give it to one")
	}
	return err
}

// known reports whether there is anything remembered.
func (c session) known(ctx context.Context) (bool, error) {
	v, err := c.value(ctx, "SELECT to_regclass('holdfast.fence') IS NOT NULL AND to_regclass('holdfast.promotion') IS NOT NULL")
	if err != nil || v != "t" {
		return false, err
	}
	return true, c.trusted(ctx)
}

// overtaken fails with errStale if a promotion has a higher epoch.
func (c session) overtaken(ctx context.Context, epoch uint64) error {
	known, err := c.known(ctx)
	if err != nil || !known {
		return err
	}
	return c.compare(ctx, "SELECT max(epoch) FROM holdfast.promotion", epoch, "promoted")
}

// compare fails with errStale if the epoch that sql finds is higher.
func (c session) compare(ctx context.Context, sql string, epoch uint64, what string) error {
	v, err := c.value(ctx, sql)
	if err != nil || v == "" {
		return err
	}
	last, err := strconv.ParseUint(v, 10, 64)
	if err == nil && last > epoch {
		err = fmt.Errorf("%s in epoch %d, this is epoch %d: %w", what, last, epoch, errStale)
	}
	return err
}

// fenceEpoch is of the fence that is remembered.
const fenceEpoch = "SELECT max(epoch) FROM holdfast.fence"
