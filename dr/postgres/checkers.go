package postgres

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/backup"
	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/dr"
)

// clusters is the [dr.Examiner] of clusters.
type clusters struct{ c Config }

var _ dr.Examiner = clusters{}

// host puts into a configuration what this host has for a cluster.
func (c clusters) host(p physical.ProofConfig, location string) physical.ProofConfig {
	p.Data, p.Run, p.RunAs, p.Logger = location, c.c.Run, c.c.RunAs, c.c.Logger
	major, _ := os.ReadFile(filepath.Join(location, "PG_VERSION"))
	p.Bin = strings.ReplaceAll(c.c.Bin, "MAJOR", strings.TrimSpace(string(major)))
	return p
}

func (c clusters) Examine(ctx context.Context, w dr.Workload, _ backup.Point, d backup.Destination) (dr.Examination, error) {
	x, err := c.c.cluster(w)
	if err != nil {
		return dr.Examination{}, err
	}
	proof, err := physical.Prove(ctx, c.host(x.proof, d.Location))
	return dr.Examination{Newest: proof.Newest(), Text: proof.String(), Measured: measured(proof)}, err
}

func (c clusters) Check(ctx context.Context, w dr.Workload, p backup.Point, d backup.Destination) error {
	_, err := c.Examine(ctx, w, p, d)
	return err
}

// parts are the directories that a restore makes.
func (clusters) parts(d backup.Destination) []string {
	return []string{d.Location, d.Location + ".wal", d.Location + ".spaces"}
}

func (c clusters) Remove(ctx context.Context, d backup.Destination) error {
	if err := physical.EndProof(ctx, c.host(physical.ProofConfig{}, d.Location)); err != nil {
		return err
	}
	var errs []error
	for _, dir := range c.parts(d) {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

func (c clusters) Gone(_ context.Context, d backup.Destination) (bool, error) {
	for _, dir := range c.parts(d) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// dumps is the [dr.Checker] of dumps, whose restore has compared tables and
// rows already.
type dumps struct{ c Config }

// drillName is the database that a drill restores to.
func drillName(location string) string {
	return fmt.Sprintf("holdfast_drill_%x", sha256.Sum256([]byte(location)))[:31]
}

func (c dumps) connect(ctx context.Context, database string) (*pgx.Conn, error) {
	conf, err := pgx.ParseConfig(c.c.DrillServer)
	if err != nil {
		return nil, errors.New("Config.DrillServer of dr/postgres is no connection string")
	}
	if database != "" {
		conf.Database = database
	} else if conf.Database == "" {
		conf.Database = "postgres"
	}
	return pgx.ConnectConfig(ctx, conf)
}

func (c dumps) Check(ctx context.Context, w dr.Workload, _ backup.Point, d backup.Destination) error {
	conn, err := c.connect(ctx, drillName(d.Location))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, q := range optionsOf(w).queries() {
		var ok bool
		if err := conn.QueryRow(ctx, q.SQL).Scan(&ok); err != nil {
			return fmt.Errorf("query %q: %w", q.SQL, err)
		}
		if !ok {
			return fmt.Errorf("query %q yields false", q.SQL)
		}
	}
	return nil
}

// left are the databases of a drill: the one, or what a restore that was killed
// had only begun.
func (c dumps) left(ctx context.Context, conn *pgx.Conn, d backup.Destination) ([]string, error) {
	name := drillName(d.Location)
	rows, err := conn.Query(ctx, "SELECT datname FROM pg_database WHERE datname = $1 OR starts_with(datname, $1 || '.holdfast-')", name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (c dumps) Remove(ctx context.Context, d backup.Destination) error {
	conn, err := c.connect(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	names, err := c.left(ctx, conn, d)
	for _, name := range names {
		_, e := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
		err = errors.Join(err, e)
	}
	return err
}

func (c dumps) Gone(ctx context.Context, d backup.Destination) (bool, error) {
	conn, err := c.connect(ctx, "")
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	names, err := c.left(ctx, conn, d)
	return len(names) == 0, err
}
