package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/durable"
)

const (
	runPrefix = "hfproof"
	maxSocket = 103 // bytes of a path to a socket, on all systems
	proofPort = 5432

	// proofMark is a file beside the socket that names the data directory, and
	// proofLock one that is locked for as long as the prover lives.
	proofMark, proofLock = "data", "lock"
)

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// fixedSettings are what keeps a proof to itself: nobody else gets in, nothing
// of it gets out, and nothing is run that the cluster's configuration names. An
// empty value here is filled in where the server is started, or is empty.
var fixedSettings = map[string]string{
	// Its configuration may say that the data are elsewhere: the original's.
	"data_directory": "", "hba_file": "", "ident_file": "", "external_pid_file": "",
	"listen_addresses": "", "port": strconv.Itoa(proofPort), "unix_socket_directories": "", "unix_socket_permissions": "0700", "unix_socket_group": "",
	"ssl": "off", // its key may not be here
	// WAL of the copy would be taken for the original's.
	"archive_mode": "off", "archive_command": "", "archive_library": "", "archive_cleanup_command": "", "recovery_end_command": "",
	"primary_conninfo": "", "primary_slot_name": "", "synchronous_standby_names": "",
	// A subscription would go on with the original's slot.
	"max_logical_replication_workers": "0",
	"hot_standby":                     "on", "recovery_target_action": "promote",
	"logging_collector": "off", "log_destination": "stderr",
	"session_preload_libraries": "", "local_preload_libraries": "", "shared_preload_libraries": "",
	"autovacuum": "off", "restart_after_crash": "off", "cluster_name": "holdfast proof",
}

// actors are libraries that begin to do something by themselves, such as the
// jobs of the original. Others of shared_preload_libraries stay: replaying WAL
// and opening tables may need them.
var actors = []string{"pg_cron", "pg_net", "pg_partman_bgw", "pg_squeeze", "pg_timetable", "pgautofailover", "repmgr", "bdr", "pglogical", "spock"}

// look sees what kind of directory it is, and who its owner is.
func (p *prover) look() error {
	text, err := os.ReadFile(filepath.Join(p.c.Data, "PG_VERSION"))
	if err != nil {
		return fmt.Errorf("it is no data directory of PostgreSQL: %w", err)
	}
	if p.version, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return fmt.Errorf("PG_VERSION is %.20q", text)
	}
	if _, err := os.Lstat(filepath.Join(p.c.Data, markerPath)); err == nil {
		return fmt.Errorf("its restore has not ended; restore it with overwrite=true")
	}
	if auto, err := os.ReadFile(filepath.Join(p.c.Data, "postgresql.auto.conf")); err == nil {
		p.note = readNote(auto)
	}
	if p.as == nil {
		p.as, err = ownerOf(p.c.Data)
	}
	return err
}

// tidy ends what a proof of this directory has left that was killed, and
// nothing else.
func (p *prover) tidy(ctx context.Context) error {
	dirs, err := filepath.Glob(filepath.Join(globQuote(p.c.Run), runPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if mark, err := os.ReadFile(filepath.Join(dir, proofMark)); err != nil || string(mark) != p.c.Data {
			continue
		}
		if err := p.takeOver(ctx, dir); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(p.c.Data)
	if err != nil {
		return err
	}
	defer root.Close()
	return running(root)
}

var globSpecial = regexp.MustCompile(`[*?\[\\]`)

func globQuote(s string) string { return globSpecial.ReplaceAllString(s, `\$0`) }

// takeOver ends what is left in a directory of an earlier proof of the same
// data, if its prover is no more.
func (p *prover) takeOver(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	unlock, err := durable.TryLock(root, proofLock)
	if err != nil {
		return err
	}
	if unlock == nil {
		return errors.New("another proof of it is under way")
	}
	defer unlock()
	p.c.Logger.Info("an earlier proof was cut off", "data", p.c.Data, "directory", dir)
	if p.socketDir() == dir {
		if err := p.stop(ctx, dir, "immediate"); err != nil {
			return fmt.Errorf("end the server of an earlier proof: %w", err)
		}
	}
	return os.RemoveAll(dir)
}

// pidFile is a line of postmaster.pid, from 0 on.
func (p *prover) pidFile(line int) string {
	text, _ := os.ReadFile(filepath.Join(p.c.Data, "postmaster.pid"))
	if lines := strings.Split(string(text), "\n"); line < len(lines) {
		return strings.TrimSpace(lines[line])
	}
	return ""
}

// socketDir is where the server that has the data puts its socket.
func (p *prover) socketDir() string { return p.pidFile(4) }

// makeDir makes the directory for the socket, into which only the owner of the
// cluster comes, with what the server is to read instead of the cluster's own.
func (p *prover) makeDir() error {
	dir, err := os.MkdirTemp(p.c.Run, runPrefix)
	if err != nil {
		return fmt.Errorf("directory for the socket (ProofConfig.Run): %w", err)
	}
	p.dir = dir
	root, err := os.OpenRoot(dir)
	if err == nil {
		defer root.Close()
		p.unlock, err = durable.TryLock(root, proofLock)
	}
	if err == nil && p.unlock == nil {
		err = errors.New("somebody has locked it")
	}
	// Whoever gets to the socket is the owner, or root.
	hba := "local all all trust\n"
	for name, content := range map[string]string{proofMark: p.c.Data, "hba": hba, "ident": "", "conf": "", "log": ""} {
		if err == nil {
			err = writeFile(root, name, []byte(content))
		}
		if err == nil && os.Geteuid() == 0 {
			err = p.give(root, name)
		}
	}
	if err == nil && os.Geteuid() == 0 {
		err = p.give(root, ".")
	}
	if err != nil {
		if p.unlock != nil {
			p.unlock()
		}
		return errors.Join(err, os.RemoveAll(dir))
	}
	return nil
}

// give gives a file to the owner of the cluster, who runs the server, or has it
// run by a program in Bin.
func (p *prover) give(root *os.Root, name string) error {
	o, err := ownerOf(p.c.Data)
	if err != nil || o == nil {
		return err
	}
	return root.Lchown(name, o.user, o.group)
}

// command is a program of PostgreSQL, run by whoever may.
func (p *prover) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if p.c.Bin != "" {
		name = filepath.Join(p.c.Bin, name)
	}
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = p.dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") { // PGDATA, PGPORT and others are of the caller's own servers
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.WaitDelay = time.Second
	if p.as != nil {
		runAs(cmd, *p.as)
	}
	return cmd
}

// output runs a program, and makes what it complains of a part of the error.
func (p *prover) output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := p.command(ctx, name, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, tail(said.Bytes()))
	}
	return string(out), nil
}

// tail is the end of what a program has said.
func tail(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b[max(0, len(b)-2000):])), "\n")
	return strings.Join(lines[max(0, len(lines)-6):], "; ")
}

// settings are those of the server, which go before all of its files.
func (p *prover) settings(ctx context.Context) (map[string]string, error) {
	s := maps.Clone(p.c.Settings)
	if s == nil {
		s = map[string]string{}
	}
	maps.Copy(s, fixedSettings)
	s["data_directory"] = p.c.Data
	s["hba_file"], s["ident_file"] = filepath.Join(p.dir, "hba"), filepath.Join(p.dir, "ident")
	s["unix_socket_directories"] = `"` + strings.ReplaceAll(p.dir, `"`, `""`) + `"`
	if p.version >= 17 {
		s["event_triggers"] = "off"
	}
	if _, err := os.Stat(filepath.Join(p.c.Data, "postgresql.conf")); errors.Is(err, fs.ErrNotExist) {
		// It is elsewhere, as with Debian; what recovery insists on is in pg_control.
		s["config_file"] = filepath.Join(p.dir, "conf")
		if err := p.needed(ctx, s); err != nil {
			return nil, fmt.Errorf("the configuration was not below the data directory, and the backup has none: %w", err)
		}
		p.proof.NotDone = append(p.proof.NotDone, "libraries: postgresql.conf was not below the data directory, so shared_preload_libraries is not known (ProofConfig.Settings)")
		return s, nil
	}
	preload, err := p.output(ctx, "postgres", "-D", p.c.Data, "-c", "data_directory="+p.c.Data, "-C", "shared_preload_libraries")
	if err != nil {
		return nil, err
	}
	s["shared_preload_libraries"] = p.preload(preload)
	return s, nil
}

// preload leaves out what acts by itself.
func (p *prover) preload(list string) string {
	var kept []string
	for _, name := range strings.Split(strings.TrimSpace(list), ",") {
		name = strings.TrimSpace(name)
		plain := strings.TrimPrefix(strings.Trim(name, `"`), "$libdir/")
		if slices.Contains(actors, plain) {
			p.proof.NotDone = append(p.proof.NotDone, "libraries: "+plain+" was left out, as it would begin to work on its own")
		} else if name != "" {
			kept = append(kept, name)
		}
	}
	return strings.Join(kept, ",")
}

var controlLine = regexp.MustCompile(`(?m)^(max_\w+) setting:\s+(\d+)`)

// needed are settings that a server which recovers wants as high as those of
// the server that wrote the WAL.
func (p *prover) needed(ctx context.Context, s map[string]string) error {
	out, err := p.output(ctx, "pg_controldata", "-D", p.c.Data)
	if err != nil {
		return err
	}
	names := map[string]string{"max_prepared_xacts": "max_prepared_transactions", "max_locks_per_xact": "max_locks_per_transaction"}
	for _, m := range controlLine.FindAllStringSubmatch(out, -1) {
		name := m[1]
		if full, ok := names[name]; ok {
			name = full
		}
		if _, set := s[name]; !set {
			s[name] = m[2]
		}
	}
	return nil
}

// start starts the server, and returns when it lets somebody in: when its data
// are consistent.
func (p *prover) start(ctx context.Context) error {
	settings, err := p.settings(ctx)
	if err != nil {
		return err
	}
	var options strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		options.WriteString(" -c " + shell(name+"="+settings[name]))
	}
	patience := int(p.c.Timeout/time.Second) + 60 // ctx ends first
	// The program is not ended with ctx: it knows which process it started, and
	// ends by itself when that does.
	cmd := p.command(context.WithoutCancel(ctx), "pg_ctl", "start", "-w", "-s", "-t", strconv.Itoa(patience), "-D", p.c.Data, "-l", filepath.Join(p.dir, "log"), "-o", options.String())
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	p.proof.Started = time.Now().UTC()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	var exit error
	go func() {
		exit = cmd.Wait()
		close(p.ended)
	}()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.ended:
	}
	if exit != nil {
		return fmt.Errorf("the server does not come up: %s: %w", p.log(tail(said.Bytes())), exit)
	}
	p.proof.Consistent = time.Now().UTC()
	return nil
}

var wrong = regexp.MustCompile(`(FATAL|PANIC|ERROR|WARNING): .*`)

// log is what the server has said of what went wrong.
func (p *prover) log(otherwise string) string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	found := wrong.FindAllString(string(text), -1)
	if len(found) == 0 {
		return otherwise
	}
	return tail([]byte(strings.Join(found, "\n")))
}

// connect connects to a database as the superuser.
func (p *prover) connect(ctx context.Context, database string, params map[string]string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig("host=/ user=x sslmode=disable target_session_attrs=any")
	if err != nil {
		return nil, err
	}
	c.Host, c.Port, c.User, c.Database, c.Password, c.Fallbacks = p.dir, proofPort, p.c.User, database, "", nil
	c.RuntimeParams = map[string]string{"application_name": "holdfast", "statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
	maps.Copy(c.RuntimeParams, params)
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("database %q: %w", database, err)
	}
	return conn, nil
}

// recovered waits until the server goes into operation.
func (p *prover) recovered(ctx context.Context) error {
	conn, err := p.connect(ctx, "postgres", nil)
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "28000" {
		return fmt.Errorf("%w (name a superuser of the cluster in ProofConfig.User)", err)
	}
	if err != nil {
		return err
	}
	defer hangUp(conn)
	for {
		row, err := query(ctx, conn, "SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'ended' ELSE pg_get_wal_replay_pause_state() END", 1)
		switch {
		case err != nil && ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("the server does not recover: %s: %w", p.log("it says nothing"), err)
		case row[0] == "ended":
			p.proof.Recovered = time.Now().UTC()
			return p.facts(ctx, conn)
		case row[0] == "paused":
			return fmt.Errorf("recovery does not go on: %s (ProofConfig.Settings)", p.log("it was paused"))
		}
		if err := breathe(ctx); err != nil {
			return err
		}
	}
}

// breathe waits a little for something else to happen.
func breathe(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(20 * time.Millisecond):
		return nil
	}
}

// facts reads what the server is, and how far it came.
func (p *prover) facts(ctx context.Context, conn *pgconn.PgConn) (err error) {
	row, err := query(ctx, conn, `SELECT current_setting('server_version'), (SELECT system_identifier FROM pg_control_system()), coalesce(pg_last_wal_replay_lsn(), '0/0'),
		left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), to_char(pg_last_xact_replay_timestamp() AT TIME ZONE 'UTC', `+moment+`), rolsuper FROM pg_roles WHERE rolname = current_user`, 6)
	if err != nil {
		return err
	}
	if row[5] != "t" {
		return fmt.Errorf("role %q is no superuser (ProofConfig.User)", p.c.User)
	}
	p.proof.Version, p.proof.System = row[0], row[1]
	timeline, err := strconv.ParseUint(row[3], 16, 32)
	if err != nil {
		return err
	}
	p.proof.Timeline = uint32(timeline)
	if p.proof.Replayed, err = wal.ParseLSN(row[2]); err != nil {
		return err
	}
	if row[4] != "" {
		p.proof.LastCommit, err = time.Parse(time.RFC3339Nano, row[4])
	}
	return err
}

// cleanUp stops the server, and removes what was made for it.
func (p *prover) cleanUp(mode string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // whatever has become of the other
	defer cancel()
	if p.ended != nil {
		if err = p.stop(ctx, p.dir, mode); err != nil {
			// The directory is what the next proof knows the server by.
			return errors.Join(err, p.unlock())
		}
	}
	return errors.Join(os.RemoveAll(p.dir), p.unlock())
}

// stop stops the server whose socket is in a directory, and no other.
func (p *prover) stop(ctx context.Context, dir, mode string) error {
	for !p.gone(dir) {
		// A server that is only just starting has not written where it is.
		if p.socketDir() == dir {
			if _, err := p.output(ctx, "pg_ctl", "stop", "-w", "-s", "-t", "240", "-m", mode, "-D", p.c.Data); err != nil && ctx.Err() != nil {
				return errors.Join(context.Cause(ctx), err)
			}
			mode = "immediate" // if it has not worked
		}
		if err := breathe(ctx); err != nil {
			return err
		}
	}
	if at := p.socketDir(); at != "" && at != dir {
		return nil // somebody else has begun to use it
	}
	// Otherwise pg_ctl restart would take the options of the proof.
	if err := os.Remove(filepath.Join(p.c.Data, "postmaster.opts")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// gone reports whether the server whose socket is in a directory is no more,
// and will not come.
func (p *prover) gone(dir string) bool {
	if p.ended != nil { // it is not of an earlier proof
		select {
		case <-p.ended:
		default:
			return false
		}
	}
	return p.socketDir() != dir || p.dead()
}

// dead reports whether the server that postmaster.pid names is gone, as after a
// crash.
func (p *prover) dead() bool {
	root, err := os.OpenRoot(p.c.Data)
	if err != nil {
		return false
	}
	defer root.Close()
	return running(root) == nil
}
