package roles_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// majors are the versions to test with.
func majors() []int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return []int{15, 17, 18}
	}
	return []int{17}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func cluster(t testing.TB, major int) *testenv.PG {
	t.Helper()
	pg := testenv.Postgres(t, major, testenv.PostgresOptions{Settings: map[string]string{"max_connections": "60", "wal_keep_size": "512MB", "wal_receiver_status_interval": "1s", "wal_retrieve_retry_interval": "200ms"}})
	pg.SQL(t, "create role app login password '"+pg.Password+"'", "create database app owner app")
	return pg
}

// standby copies a cluster that is stopped for it, which every version can.
func standby(t testing.TB, pg *testenv.PG, name string) *testenv.PG {
	t.Helper()
	dir := filepath.Join(pg.Dir, name)
	pg.Stop(t)
	if out, err := exec.Command("cp", "-a", pg.Data, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pg.Start(t)
	must(t, os.WriteFile(filepath.Join(dir, "standby.signal"), nil, 0o600))
	f, err := os.OpenFile(filepath.Join(dir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	fmt.Fprintf(f, "primary_conninfo = '%s'\n", pg.Conn)
	must(t, f.Close())
	return pg.Second(t, dir)
}

// caughtUp waits until a standby has all of a primary.
func caughtUp(t testing.TB, pg, sb *testenv.PG) {
	t.Helper()
	end := pg.SQL(t, "select pg_current_wal_insert_lsn()")
	eventually(t, "the standby catches up", func() bool {
		return sb.SQL(t, "select coalesce(pg_last_wal_replay_lsn(), '0/0') >= '"+end+"'") == "t"
	})
}

func machine(pg *testenv.PG) roles.PgCtl {
	return roles.PgCtl{Programs: pg.Bin, Data: pg.Data,
		Options: fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories=%s/sock", pg.Port, pg.Dir)}
}

func server(t testing.TB, pg *testenv.PG, m roles.Machine, admins ...string) *roles.Server {
	t.Helper()
	s, err := roles.New(roles.Config{Conn: pg.Conn, Machine: m, Admins: admins})
	must(t, err)
	return s
}

// login opens a session of the application.
func login(ctx context.Context, pg *testenv.PG, user, db string, more ...string) (*pgconn.PgConn, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=%s passfile=%s/passfile %s", pg.Port, user, db, pg.Dir, strings.Join(more, " ")))
}

// A load is clients that insert numbers, and know which were acknowledged.
type load struct {
	at   atomic.Pointer[testenv.PG]
	stop func()

	mu    sync.Mutex
	acked []int
}

func startLoad(t testing.TB, pg *testenv.PG, clients int) *load {
	t.Helper()
	l := &load{}
	l.at.Store(pg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var next atomic.Int64
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				l.session(ctx, &next)
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(l.stop)
	return l
}

// session inserts over one connection, of which there are many.
func (l *load) session(ctx context.Context, next *atomic.Int64) {
	pg := l.at.Load()
	conn, err := login(ctx, pg, "app", "app")
	if err != nil {
		return
	}
	defer conn.Close(context.Background())
	for i := 0; i < 25 && ctx.Err() == nil && pg == l.at.Load(); i++ {
		n := int(next.Add(1))
		// A client can always set this.
		if _, err := conn.Exec(ctx, fmt.Sprintf("set default_transaction_read_only = off; insert into t values (%d)", n)).ReadAll(); err != nil {
			return
		}
		l.mu.Lock()
		l.acked = append(l.acked, n)
		l.mu.Unlock()
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// grows waits until more is acknowledged.
func (l *load) grows(t testing.TB) {
	t.Helper()
	n := l.count() + 100
	eventually(t, "clients get on", func() bool { return l.count() >= n })
}

// missing are the acknowledged numbers that a cluster does not have.
func (l *load) missing(t testing.TB, pg *testenv.PG) (out []int) {
	t.Helper()
	l.mu.Lock()
	acked := slices.Clone(l.acked) // first: what comes meanwhile is there
	l.mu.Unlock()
	rows := query(t, pg, "app", "select n from t")
	have := map[string]bool{}
	for _, r := range strings.Fields(rows) {
		have[r] = true
	}
	for _, n := range acked {
		if !have[fmt.Sprint(n)] {
			out = append(out, n)
		}
	}
	return out
}

// query asks a database other than postgres.
func query(t testing.TB, pg *testenv.PG, db, sql string) string {
	t.Helper()
	return strings.TrimSpace(pg.Run(t, "psql", "-AtqX", "-v", "ON_ERROR_STOP=1", "-d", pg.Socket+" dbname="+db, "-c", sql))
}

// catalog is all that a fence may change.
func catalog(t testing.TB, pg *testenv.PG) string {
	t.Helper()
	return ask(t, pg, "select datname, datallowconn from pg_database order by 1") + ask(t, pg, "select rolname, rolcanlogin from pg_roles order by 1") +
		ask(t, pg, `select datname, coalesce(g.rolname, 'PUBLIC'), privilege_type, bool_or(is_grantable) from pg_database
			cross join lateral aclexplode(coalesce(datacl, acldefault('d', datdba))) a left join pg_roles g on g.oid = a.grantee group by 1, 2, 3 order by 1, 2, 3`)
}

// ask runs a statement in the control database, in which a fence lets this be.
func ask(t testing.TB, pg *testenv.PG, sql string) string {
	t.Helper()
	c, err := login(context.Background(), pg, "postgres", "postgres", "application_name=holdfast-roles")
	must(t, err)
	defer c.Close(context.Background())
	results, err := c.Exec(context.Background(), sql).ReadAll()
	must(t, err)
	var out []string
	for _, row := range results[0].Rows {
		out = append(out, string(bytes.Join(row, []byte("|"))))
	}
	return strings.Join(out, "\n")
}

// confirmed fails unless a fence holds, and says so twice.
func confirmed(t testing.TB, f failover.Fencer) {
	t.Helper()
	for range 2 {
		if ev, err := f.Fenced(t.Context()); err != nil || !ev.Confirmed || ev.Method == "" || ev.Detail == "" {
			t.Fatalf("%+v, %v", ev, err)
		}
	}
}
