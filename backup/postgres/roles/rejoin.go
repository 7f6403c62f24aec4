package roles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres"
)

// RejoinConfig says whose standby an old primary is to be.
type RejoinConfig struct {
	Machine PgCtl // of the old primary

	// Primary is the connection string of the new primary, for a role that
	// is a superuser: pg_rewind reads its files, and the standby streams from
	// it. It holds no password; the server must find the passfile it names.
	Primary string

	Slot string // of physical replication at the new primary, which must be there; "" for none

	// Restore makes Machine.Data the cluster of the newest backup, over what is
	// there: [backup.Repository.Restore] with the options overwrite=true,
	// owner, and target=consistent, as the log may have more of the old timeline
	// than the new primary. It is the way that is taken where pg_rewind cannot do it: it is not
	// installed, pages have no checksums and wal_log_hints is off, WAL is not
	// there any more, the directory has gone. nil: then that is an error.
	Restore func(ctx context.Context) error
}

// The ways of [Rejoin].
const (
	Rewound  = "pg_rewind"
	Restored = "restore"
)

// Rejoin makes the old primary a standby of the new one, and starts it: by
// pg_rewind, which copies what differs, or else by Restore. It returns which
// way was taken, and why not the first. What the old primary has committed and
// the new one does not have is gone then, so take a backup of it before, if
// there may be such. It can be repeated after a failure; while it has not
// succeeded, the directory may be of no use.
func Rejoin(ctx context.Context, c RejoinConfig) (way, why string, err error) {
	if err := rejoinable(ctx, c); err != nil {
		return "", "", fmt.Errorf("rejoin %s: %w", c.Machine.Data, err)
	}
	way = Rewound
	if rewind := c.rewind(ctx); rewind != nil {
		way, why = Restored, rewind.Error()
		if err = ctx.Err(); err == nil {
			err = c.restore(ctx)
		}
		if err != nil {
			return "", why, fmt.Errorf("rejoin %s: %w; before, %s", c.Machine.Data, err, why)
		}
	}
	if err = c.configure(); err == nil {
		err = c.Machine.Start(ctx)
	}
	if err != nil {
		return way, why, fmt.Errorf("rejoin %s: %w", c.Machine.Data, err)
	}
	return way, why, nil
}

// rejoinable makes sure that the new primary is one, and that the old server
// does not run. A checkpoint writes the new timeline to where pg_rewind of
// version 15 looks for it.
func rejoinable(ctx context.Context, c RejoinConfig) error {
	if _, err := postgres.New(postgres.Config{Conn: c.Primary}); err != nil || c.Primary == "" {
		return errors.Join(errors.New("field Primary wants the connection string of the new primary"), err)
	}
	config, err := pgconn.ParseConfig(c.Primary)
	if err != nil {
		return errors.New("field Primary: want a connection string")
	}
	s := &Server{conn: config}
	session, standby, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer session.close()
	if standby {
		return fmt.Errorf("%s is in recovery: it is no primary", s)
	}
	if _, err := session.rows(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	if _, err := os.Stat(filepath.Join(c.Machine.Data, "PG_VERSION")); err != nil {
		return nil // nothing that could run
	}
	running, err := c.Machine.runs(ctx)
	if err == nil && running {
		err = c.Machine.Stop(ctx)
	}
	return err
}

// rewind also writes standby.signal and primary_conninfo.
func (c RejoinConfig) rewind(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(c.Machine.Data, "PG_VERSION")); err != nil {
		return fmt.Errorf("there is no cluster: %w", err)
	}
	if _, err := exec.LookPath(filepath.Join(c.Machine.Programs, "pg_rewind")); err != nil {
		return err
	}
	return c.Machine.run(ctx, "pg_rewind", "-D", c.Machine.Data, "--source-server="+c.Primary, "--write-recovery-conf")
}

// restore turns the recovery that a restore prepares into that of a standby.
// The file is renamed, as it belongs to who runs the server.
func (c RejoinConfig) restore(ctx context.Context) error {
	if c.Restore == nil {
		return errors.New("there is no Restore")
	}
	if err := c.Restore(ctx); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return os.Rename(filepath.Join(c.Machine.Data, "recovery.signal"), filepath.Join(c.Machine.Data, "standby.signal"))
}

// configure appends what a standby needs: of two lines for one setting, the
// last one counts. A file of the server is appended to, not made.
func (c RejoinConfig) configure() error {
	f, err := os.OpenFile(filepath.Join(c.Machine.Data, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `''`)
	_, err = fmt.Fprintf(f, "# Of a standby by Holdfast:\nprimary_conninfo = '%s'\nprimary_slot_name = '%s'\nrecovery_target_timeline = 'latest'\n",
		quote.Replace(c.Primary), quote.Replace(c.Slot))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
