package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/moby/moby/api/types/container"
	"github.com/testcontainers/testcontainers-go"
)

// PG is a cluster of PostgreSQL in a container that a test has for itself. The
// container shares one directory with the host, at the same path, and the
// host's network: paths, sockets and ports mean the same to both. So a test,
// and the library under it, does with Data, Bin and Conn what it would do
// beside a server without any container. Root reads Data.
type PG struct {
	Major int    // 15, 17 or 18
	Dir   string // shared with the host, and gone after the test: for whatever else the server or its programs read and write
	Data  string // PGDATA, below Dir

	// Bin is a directory of programs that run in the container, as the user
	// who owns Data, with the caller's arguments, input, PG* variables, exit
	// code, TERM and INT, and in the caller's directory if that is below Dir.
	// KILL does not reach them. They see no other directory of the host. Those
	// of 18 are initdb, pg_ctl and postgres, with psql and pgbench of 17.
	Bin string

	// Conn and Socket are connection strings, for libpq and for pgx, of the
	// superuser postgres and the database postgres: over TCP with a password,
	// which a passfile has, and over the unix socket.
	Conn, Socket string
	Port         int
	Password     string // of postgres
	UID, GID     int    // who owns Data

	container string
	log       string
}

// PostgresOptions say how a cluster is made.
type PostgresOptions struct {
	// Settings go into postgresql.conf: {"wal_level": "minimal"}. Without them
	// the cluster has fsync=off, as only processes are killed here.
	Settings map[string]string

	WALSegmentMB int  // size of a WAL file; 0: 16
	NoChecksums  bool // pages have none
}

// Postgres makes and starts a cluster of a major version, 15, 17 or 18, which
// ends with the test.
func Postgres(t testing.TB, major int, o PostgresOptions) *PG {
	t.Helper()
	p := &PG{Major: major, UID: 5432, GID: 5432}
	if os.Getuid() != 0 { // who may not read what belongs to another
		p.UID, p.GID = os.Getuid(), os.Getgid()
	}
	p.startContainer(t)
	p.Bin = filepath.Join(p.Dir, "bin")
	p.install(t)
	pass := make([]byte, 16)
	rand.Read(pass)
	p.Password = fmt.Sprintf("%x", pass)
	p.write(t, "password", p.Password+"\n", 0o600)
	p.write(t, "passfile", "*:*:*:*:"+p.Password+"\n", 0o600)
	p.at(t, filepath.Join(p.Dir, "data"))
	p.initialize(t, o)
	p.Start(t)
	return p
}

// startContainer starts the container of p, in which nothing runs yet.
func (p *PG) startContainer(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the image may have to be made
	defer cancel()
	docker, err := connect(ctx)
	if err != nil {
		absent(t, err)
	}
	defer docker.Close()
	sweep(ctx, docker)
	image, err := postgres.prepare(ctx, docker, func(what string) { t.Log(what) })
	if err != nil {
		absent(t, err)
	}
	// Not of t.TempDir, whose long names have no room for a socket.
	if p.Dir, err = os.MkdirTemp("", "pg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.Dir) })
	// The first process buries what its children leave: to a server that starts
	// again, a process that nobody has buried is one that lives.
	script := fmt.Sprintf("groupmod -o -g %d postgres && usermod -o -u %d postgres && touch /ready; while :; do sleep 1000 & wait $!; done", p.GID, p.UID)
	c, err := testcontainers.Run(ctx, image,
		testcontainers.WithCmd("bash", "-c", script),
		testcontainers.WithLabels(map[string]string{label: postgres.name}),
		testcontainers.WithHostConfigModifier(func(h *container.HostConfig) {
			h.NetworkMode = "host"
			h.Binds = append(h.Binds, p.Dir+":"+p.Dir)
			h.ShmSize = 1 << 30
		}))
	t.Cleanup(func() {
		if err := testcontainers.TerminateContainer(c, testcontainers.StopTimeout(0)); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	p.container = c.GetContainerID()
	p.root(t, "until test -e /ready; do sleep 0.05; done; cd "+p.Dir+"; mkdir run sock; chmod 1777 run sock; chown postgres:postgres .; chmod 755 .")
}

// wrapper runs a program as Bin says. The program's process is known to the
// shell that becomes it, for signals, which docker exec does not pass on.
const wrapper = `#!/bin/sh
exec 3<&0
run=%[1]s/run/$$
case $PWD/ in %[1]s/*) dir=$PWD ;; *) dir=%[1]s ;; esac
docker exec -i $(env | sed -n 's/^\(PG[A-Z_]*\)=.*/-e \1/p') -w "$dir" -u postgres %[2]s sh -c 'echo $$ > "$0"; exec "$@"' "$run" %[3]s "$@" <&3 &
child=$!
trap 'docker exec -u postgres %[2]s sh -c "kill -TERM \$(cat $run)"' TERM INT
wait $child
code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
rm -f "$run"
exit $code
`

func (p *PG) install(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll(p.Bin, 0o755); err != nil {
		t.Fatal(err)
	}
	programs := postgresPrograms(p.Major)
	if len(programs) == 0 {
		t.Fatalf("no PostgreSQL %d here", p.Major)
	}
	for name, path := range programs {
		p.write(t, "bin/"+name, fmt.Sprintf(wrapper, p.Dir, p.container, path), 0o755)
	}
}

// write writes a file below Dir that belongs to the owner of Data.
func (p *PG) write(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, p.UID, p.GID); err != nil {
		t.Fatal(err)
	}
}

// at makes p the cluster in a directory below Dir, with a port of its own.
func (p *PG) at(t testing.TB, data string) {
	t.Helper()
	p.Data, p.Port = data, freePort(t)
	p.log = data + ".log"
	p.Conn = fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres passfile=%s/passfile", p.Port, p.Dir)
	p.Socket = fmt.Sprintf("host=%s/sock port=%d user=postgres dbname=postgres", p.Dir, p.Port)
}

// freePort is one that no outgoing connection takes by chance.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + mrand.IntN(12000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

func (p *PG) initialize(t testing.TB, o PostgresOptions) {
	t.Helper()
	args := []string{"-D", p.Data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256",
		"--pwfile=" + p.Dir + "/password"}
	switch {
	case !o.NoChecksums:
		args = append(args, "--data-checksums")
	case p.Major >= 18:
		args = append(args, "--no-data-checksums")
	}
	if o.WALSegmentMB != 0 {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", o.WALSegmentMB))
	}
	p.root(t, "install -d -o postgres -g postgres -m 700 "+p.Data)
	p.Run(t, "initdb", args...)
	settings := map[string]string{"fsync": "off", "timezone": "UTC", "log_timezone": "UTC", "shared_buffers": "64MB"}
	for k, v := range o.Settings {
		settings[k] = v
	}
	var conf strings.Builder
	for k, v := range settings {
		fmt.Fprintf(&conf, "%s = '%s'\n", k, strings.ReplaceAll(v, "'", "''"))
	}
	lines := strings.SplitAfter(conf.String(), "\n")
	slices.Sort(lines)
	p.write(t, "settings", strings.Join(lines, ""), 0o644)
	p.root(t, "cat "+p.Dir+"/settings >> "+p.Data+"/postgresql.conf")
}

// Run runs a program of Bin and returns what it says to stdout. A program that
// fails ends the test with what it says to stderr.
func (p *PG) Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := p.TryRun(program, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryRun is Run for a program that may fail.
func (p *PG) TryRun(program string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join(p.Bin, program), args...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s %q: %w\n%s%s", program, args, err, out, said.String())
	}
	return string(out), nil
}

// SQL runs statements in the database postgres, each on its own, and returns
// the rows they yield: columns with | between, one row a line. It is as psql
// does it, without a process in the container for every call.
func (p *PG) SQL(t testing.TB, statements ...string) string {
	t.Helper()
	ctx := context.Background()
	config, err := pgconn.ParseConfig(p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	config.RuntimeParams["application_name"] = "psql"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var lines []string
	for _, s := range statements {
		results, err := conn.Exec(ctx, s).ReadAll()
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		for _, r := range results {
			for _, row := range r.Rows {
				lines = append(lines, string(bytes.Join(row, []byte("|"))))
			}
		}
	}
	return strings.Join(lines, "\n")
}

// Start starts the cluster, and returns when it takes connections.
func (p *PG) Start(t testing.TB) {
	t.Helper()
	if err := p.TryStart(); err != nil {
		t.Fatal(err)
	}
}

// TryStart is Start for a cluster that may not come up: the error has the end
// of its log.
func (p *PG) TryStart() error {
	options := fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s/sock", p.Port, p.Dir)
	if _, err := p.TryRun("pg_ctl", "start", "-w", "-t", "60", "-s", "-D", p.Data, "-l", p.log, "-o", options); err != nil {
		return fmt.Errorf("%w\n%s", err, p.Log())
	}
	return nil
}

// Log is the end of what the server has said.
func (p *PG) Log() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-8192):])
}

// Stop ends the cluster in order: a fast shutdown, with a checkpoint.
func (p *PG) Stop(t testing.TB) {
	t.Helper()
	p.Run(t, "pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", p.Data)
}

// Kill9 kills all processes of the cluster at once, as a loss of power does,
// and returns when they are gone. Data is as they left it.
func (p *PG) Kill9(t testing.TB) {
	t.Helper()
	p.root(t, "p=$(head -1 "+p.Data+"/postmaster.pid); kill -9 $p $(pgrep -P $p); while kill -0 $p 2>/dev/null; do sleep 0.02; done")
}

// Second starts another cluster in the same container, whose data is in a
// directory below Dir: a restored one, or a standby. It has a port of its own.
// The directory becomes the server's.
func (p *PG) Second(t testing.TB, data string) *PG {
	t.Helper()
	s := p.At(t, data)
	s.Start(t)
	return s
}

// At is Second without starting it.
func (p *PG) At(t testing.TB, data string) *PG {
	t.Helper()
	s := *p
	s.at(t, data)
	p.Own(t, data)
	return &s
}

// Own gives files below Dir to the user who runs the server.
func (p *PG) Own(t testing.TB, paths ...string) {
	t.Helper()
	args := append([]string{"exec", "-u", "root", p.container, "chown", "-R", "postgres:postgres"}, paths...)
	if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v\n%s", err, out)
	}
}

// root runs a script in the container as root.
func (p *PG) root(t testing.TB, script string) {
	t.Helper()
	if out, err := exec.Command("docker", "exec", "-u", "root", p.container, "sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
