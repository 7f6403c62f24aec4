package roles

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// PgCtl is a [Machine] for a server that was started with pg_ctl on the host
// that this program runs on.
type PgCtl struct {
	Programs string   // directory of PostgreSQL's programs
	Data     string   // PGDATA
	Log      string   // file for what the server says; "" is Data with ".log" behind it
	Options  string   // for the server, as pg_ctl -o takes them: "-p 5433"
	As       []string // words before each program, who runs the server: {"runuser", "-u", "postgres", "--"}
}

var _ Machine = PgCtl{}

// command is one of PostgreSQL's programs.
func (p PgCtl) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	words := append(append([]string{}, p.As...), filepath.Join(p.Programs, name))
	words = append(words, args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// run runs one, and returns the end of what it says as the error.
func (p PgCtl) run(ctx context.Context, name string, args ...string) error {
	out, err := p.command(ctx, name, args...).CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		return errors.Join(fmt.Errorf("%s: %w: %s", name, err, text[max(0, len(text)-1000):]), ctx.Err())
	}
	return nil
}

// runs reports whether pg_ctl finds the server's main process alive.
func (p PgCtl) runs(ctx context.Context) (bool, error) {
	err := p.run(ctx, "pg_ctl", "status", "-D", p.Data)
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == 3 {
		return false, nil
	}
	return err == nil, err
}

// Stopped implements [Machine]. A server that has ended without removing its
// postmaster.pid is not known to be stopped: when its main process is killed,
// a session ends only when it next waits for something, and until then can
// commit. Nor is one whose data directory is not there.
func (p PgCtl) Stopped(ctx context.Context) (bool, error) {
	running, err := p.runs(ctx)
	if err != nil || running {
		return false, err
	}
	switch _, err := os.Stat(filepath.Join(p.Data, "postmaster.pid")); {
	case err == nil:
		return false, fmt.Errorf("the server of %s has crashed and left postmaster.pid: sessions may live on; start it and stop it", p.Data)
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return true, nil
}

// Stop implements [Machine]: a fast shutdown, for which the server sends all
// its WAL to the standbys that are connected.
func (p PgCtl) Stop(ctx context.Context) error {
	running, err := p.runs(ctx)
	if err == nil && running {
		err = p.run(ctx, "pg_ctl", "stop", "-D", p.Data, "-m", "fast", "-w", "-s", "-t", "3600") // ctx ends it
	}
	if err != nil {
		return err
	}
	stopped, err := p.Stopped(ctx)
	if err == nil && !stopped {
		err = fmt.Errorf("the server of %s runs again", p.Data)
	}
	return err
}

// Start implements [Machine].
func (p PgCtl) Start(ctx context.Context) error {
	running, err := p.runs(ctx)
	if err != nil || running {
		return err
	}
	log := p.Log
	if log == "" {
		log = p.Data + ".log"
	}
	return p.run(ctx, "pg_ctl", "start", "-D", p.Data, "-l", log, "-o", p.Options, "-w", "-s", "-t", "3600")
}
