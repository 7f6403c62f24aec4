package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
)

// findPostgres returns the directory of PostgreSQL's programs: the one given
// or, for "auto", the newest one that a package manager has installed.
func findPostgres(dir string) (string, error) {
	if dir == "auto" {
		var found []string
		for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin"} {
			dirs, _ := filepath.Glob(pattern)
			found = append(found, dirs...)
		}
		major := func(dir string) int {
			base := filepath.Base(filepath.Dir(dir))
			n, _ := strconv.Atoi(base[strings.LastIndexAny(base, "@-")+1:])
			return n
		}
		slices.SortFunc(found, func(a, b string) int { return major(b) - major(a) })
		if len(found) == 0 {
			return "", errors.New("no PostgreSQL found; give the directory of its programs: -postgres DIR")
		}
		dir = found[0]
	}
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err != nil {
			return "", fmt.Errorf("-postgres: %w", err)
		}
	}
	return filepath.Abs(dir)
}

// findOwner finds out who is to run PostgreSQL, which refuses root: a name or
// UID:GID. The result is UID:GID; "" is whoever runs this program.
func findOwner(name string) (string, error) {
	if name == "" {
		if os.Geteuid() == 0 {
			return "", errors.New("PostgreSQL does not run as root: say who shall run it with -postgres-user NAME, or run this as another user")
		}
		return "", nil
	}
	if uid, gid, ok := strings.Cut(name, ":"); ok {
		_, err1 := strconv.ParseUint(uid, 10, 31)
		_, err2 := strconv.ParseUint(gid, 10, 31)
		if err1 != nil || err2 != nil || uid == "0" {
			return "", fmt.Errorf("-postgres-user %s: want a name or UID:GID, not of root", name)
		}
		return name, nil
	}
	u, err := user.Lookup(name)
	if err == nil && (runtime.GOOS == "windows" || u.Uid == "0") {
		err = errors.New("want a user that is not root")
	}
	if err != nil {
		return "", fmt.Errorf("-postgres-user: %w", err)
	}
	return u.Uid + ":" + u.Gid, nil
}

// ids are those of who runs PostgreSQL.
func (s settings) ids() (uid, gid int, ok bool) {
	a, b, ok := strings.Cut(s.PostgresUser, ":")
	uid, _ = strconv.Atoi(a)
	gid, _ = strconv.Atoi(b)
	return uid, gid, ok
}

// A cluster is the PostgreSQL server of a site.
type cluster struct {
	*story
	site string
}

func (c cluster) data() string     { return c.inSite(c.site, "cluster/data") }
func (c cluster) passfile() string { return c.inSite(c.site, "cluster/passfile") }
func (c cluster) port() int        { return c.log.Facts.Ports[c.site] }
func (c cluster) addr() string     { return fmt.Sprintf("127.0.0.1:%d", c.port()) }

func (c cluster) conn(user, database string) string {
	return connString(c.port(), user, database, c.passfile())
}

func connString(port int, user, database, passfile string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s sslmode=disable passfile='%s'", port, user, database, passfile)
}

// admin is for Holdfast, at the database that no application uses.
func (c cluster) admin() string { return c.conn("postgres", "postgres") }

func (c cluster) machine() roles.PgCtl {
	p := roles.PgCtl{Programs: c.log.Settings.Postgres, Data: c.data(), Options: fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=''", c.port())}
	if uid, gid, ok := c.log.Settings.ids(); ok {
		p.As = []string{"setpriv", fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", gid), "--clear-groups", "--"}
	}
	return p
}

// run runs one of PostgreSQL's programs.
func (c cluster) run(ctx context.Context, program string, args ...string) error {
	words := append(slices.Clone(c.machine().As), filepath.Join(c.log.Settings.Postgres, program))
	words = append(words, args...)
	out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// server is the cluster in its roles for package failover.
func (c cluster) server() (*roles.Server, error) {
	return roles.New(roles.Config{Conn: c.admin(), Machine: lostMachine{c.machine(), c}})
}

// A lostMachine knows that a server whose processes the story has all killed,
// and whose directory it has removed, is stopped: nothing answers at its port.
type lostMachine struct {
	roles.PgCtl
	c cluster
}

func (m lostMachine) lost() bool {
	_, err := os.Stat(m.Data)
	return m.c.site == m.c.log.Facts.KilledCluster && errors.Is(err, os.ErrNotExist)
}

func (m lostMachine) Stopped(ctx context.Context) (bool, error) {
	if !m.lost() {
		return m.PgCtl.Stopped(ctx)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", m.c.addr())
	if err == nil {
		conn.Close()
	}
	return err != nil && ctx.Err() == nil, ctx.Err()
}

func (m lostMachine) Stop(ctx context.Context) error {
	if !m.lost() {
		return m.PgCtl.Stop(ctx)
	}
	stopped, err := m.Stopped(ctx)
	if err == nil && !stopped {
		err = fmt.Errorf("somebody answers at %s", m.c.addr())
	}
	return err
}

// prepare makes the directory of a cluster, a port and the password.
func (c cluster) prepare() error {
	dir := filepath.Dir(c.data())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	err = c.log.remember(func(f *facts) {
		if f.Ports == nil {
			f.Ports = map[string]int{}
		}
		f.Ports[c.site] = l.Addr().(*net.TCPAddr).Port
	})
	if err != nil {
		return err
	}
	secret, err := c.readSecret(storeProcess(witnessSite)) // the same at both sites, as it is of one cluster
	if err != nil {
		return err
	}
	secret = strings.Map(func(r rune) rune {
		if strings.ContainsRune("+/=", r) {
			return 'x'
		}
		return r
	}, secret)
	for name, content := range map[string]string{c.passfile(): "*:*:*:*:" + secret + "\n", filepath.Join(dir, "password"): secret + "\n"} {
		if err := writeFile(name, []byte(content)); err != nil {
			return err
		}
	}
	uid, gid, ok := c.log.Settings.ids()
	if !ok {
		return nil
	}
	// Whoever runs it gets through to its directory, and has that.
	for _, d := range []string{c.dir, c.inSite(c.site, "")} {
		if err := os.Chmod(d, 0o711); err != nil {
			return err
		}
	}
	for _, p := range []string{dir, c.passfile(), filepath.Join(dir, "password")} {
		if err := os.Chown(p, uid, gid); err != nil {
			return err
		}
	}
	return nil
}

// create makes a new cluster, with an application's database, and starts it.
func (c cluster) create(ctx context.Context) error {
	dir := filepath.Dir(c.data())
	if err := c.run(ctx, "initdb", "-D", c.data(), "-U", "postgres", "-A", "scram-sha-256", "--pwfile="+filepath.Join(dir, "password"), "-k", "-E", "UTF8", "--locale=C"); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(f, "wal_keep_size = '256MB'\nwal_receiver_status_interval = '1s'\nwal_retrieve_retry_interval = '200ms'\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := c.machine().Start(ctx); err != nil {
		return err
	}
	password, err := os.ReadFile(filepath.Join(dir, "password"))
	if err != nil {
		return err
	}
	for _, sql := range []string{"CREATE ROLE app LOGIN PASSWORD '" + strings.TrimSpace(string(password)) + "'", "CREATE DATABASE ledger OWNER app"} {
		if _, err := sqlRows(ctx, c.admin(), sql); err != nil {
			return err
		}
	}
	_, err = sqlRows(ctx, c.conn("app", "ledger"), "CREATE TABLE ledger (n bigserial, key text PRIMARY KEY, text text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())")
	return err
}

// sqlRows runs one statement over a connection of its own.
func sqlRows(ctx context.Context, conn, sql string, args ...string) ([][]string, error) {
	pg, err := pgconn.Connect(ctx, conn)
	if err != nil {
		return nil, err
	}
	defer pg.Close(context.Background())
	params := make([][]byte, len(args))
	for i := range args {
		params[i] = []byte(args[i])
	}
	r := pg.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	var out [][]string
	for _, row := range r.Rows {
		var words []string
		for _, v := range row {
			words = append(words, string(v))
		}
		out = append(out, words)
	}
	return out, r.Err
}

// keys are those of the rows at a site.
func (c cluster) keys(ctx context.Context) (map[string]bool, error) {
	rows, err := sqlRows(ctx, c.conn("app", "ledger"), "SELECT key FROM ledger")
	out := make(map[string]bool, len(rows))
	for _, r := range rows {
		out[r[0]] = true
	}
	return out, err
}

// joins makes the cluster a standby of another one: rewound or, as when there
// is none, restored from the repository at its site.
func (c cluster) joins(ctx context.Context, primary cluster) error {
	way, why, err := roles.Rejoin(ctx, roles.RejoinConfig{Machine: c.machine(), Primary: connString(primary.port(), "postgres", "postgres", c.passfile()),
		Restore: func(ctx context.Context) error {
			repo, err := c.openRepository(ctx, standbySite) // where the key is at home
			if err != nil {
				return err
			}
			point, err := newestPoint(ctx, repo)
			if err != nil {
				return err
			}
			target, err := postgres.New(postgres.Config{})
			if err != nil {
				return err
			}
			// The rest of the WAL comes from the primary, whose timeline counts.
			o := map[string]string{"overwrite": "true", "target": "consistent"}
			if c.log.Settings.PostgresUser != "" {
				o["owner"] = c.log.Settings.PostgresUser
			}
			return repo.Restore(ctx, point.ID, target, backup.Destination{Location: c.data(), Options: o}, backup.RestoreOptions{})
		}})
	if err != nil {
		return err
	}
	s, err := c.server()
	if err != nil {
		return err
	}
	ev, err := failover.ProbeAction(0, s.Streaming(threshold*c.log.Settings.Restore), s.Standby(0)).Do(ctx, failover.Call{})
	if err != nil {
		return err
	}
	c.ok("%-16s is a standby of %s, by %s: %s", c.site, primary.site, way, ev[s.Standby(0).String()])
	if why != "" && way == roles.Restored && len(c.log.Facts.Results) > 0 {
		c.note("no pg_rewind: %s", strings.TrimSpace(why))
	}
	return nil
}
