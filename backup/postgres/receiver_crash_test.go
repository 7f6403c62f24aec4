package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// rounds is how often something is killed.
func rounds(short int) int {
	if os.Getenv("HOLDFAST_LONG") != "" {
		return 20
	}
	return short
}

// childEnv tells a process of this test binary to be a receiver.
const childEnv = "HOLDFAST_TEST_RECEIVER"

type child struct {
	Conn, Store, Spool, Key, Puts string
	Acknowledge                   postgres.Acknowledge
}

// TestReceiverChild is the receiver that TestReceiverKilled kills.
func TestReceiverChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		t.Skip("it is run by TestReceiverKilled")
	}
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	key, err := age.ParseX25519Identity(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := local.NewBlobStore(local.Config{Dir: c.Store})
	if err != nil {
		t.Fatal(err)
	}
	puts, err := os.OpenFile(c.Puts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	noted := providertest.NewFaulty(store, func(call providertest.Call) providertest.Fault {
		if call.Op == "put" {
			fmt.Fprintln(puts, call.Key)
		}
		return providertest.Fault{}
	})
	x := receive(t, postgres.ReceiverConfig{Conn: c.Conn, Repositories: []*backup.Repository{walRepository(t, noted, key)},
		Spool: c.Spool, Acknowledge: c.Acknowledge, Seal: 10 * time.Millisecond})
	if err := <-x.done; err != nil {
		t.Fatal(err)
	}
}

// spanOf reads the positions from the key of a segment.
func spanOf(key string) (from, to uint64, ok bool) {
	a, b, ok := strings.Cut(key[strings.LastIndex(key, "/")+1:], "-")
	from, err1 := strconv.ParseUint(a, 16, 64)
	to, err2 := strconv.ParseUint(b, 16, 64)
	return from, to, ok && len(a) == 16 && len(b) == 16 && err1 == nil && err2 == nil
}

// However often and whenever the receiver is killed, the log has no gap, is
// what the server has, and no position that it had is sent again.
func TestReceiverKilled(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(nil))
	pg.Run(t, "pgbench", "-i", "-q", "-s", "1", pg.Socket)
	for _, spool := range []string{"", filepath.Join(t.TempDir(), "spool")} {
		t.Run("spool="+strconv.FormatBool(spool != ""), func(t *testing.T) {
			key, dir := ageKey(t), filepath.Join(t.TempDir(), "store")
			store, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			repo := walRepository(t, store, key)
			c := child{Conn: pg.Conn, Store: dir, Spool: spool, Key: key.String(), Puts: filepath.Join(t.TempDir(), "puts")}
			if spool != "" {
				c.Acknowledge = postgres.Spooled
			}
			load := exec.Command(filepath.Join(pg.Bin, "pgbench"), "-n", "-T", "600", "-c", "2", pg.Socket)
			if err := load.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { load.Process.Signal(os.Interrupt); load.Wait() }()
			sent := 0
			for i := 0; i < rounds(2) || sent == 0 && i < 20; i++ {
				had := segmentsOf(t, repo)
				sent += killed(t, c, had)
			}
			load.Process.Signal(os.Interrupt)
			load.Wait()
			if sent == 0 {
				t.Error("nothing was ever sent: the test shows nothing")
			}
			x := receive(t, postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}, Spool: spool, Acknowledge: c.Acknowledge})
			end := reaches(t, x, pg)
			likeServer(t, walLog(t, repo, x.Status().System), pg, 1, 16*mib, end)
		})
	}
}

func segmentsOf(t *testing.T, repo *backup.Repository) (out [][2]uint64) {
	t.Helper()
	for name, err := range repo.Logs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		l, err := repo.Log(name)
		if err != nil {
			t.Fatal(err)
		}
		for s, err := range l.Segments(t.Context(), 1, 0, 0) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, [2]uint64{s.From, s.To})
		}
	}
	return out
}

// killed runs a receiver, kills it, and checks that it has sent nothing that
// was there before. It returns how many segments it sent.
func killed(t *testing.T, c child, had [][2]uint64) int {
	t.Helper()
	os.Remove(c.Puts)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestReceiverChild$", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// At a moment that no clock decides alone: after so many segments.
	want, deadline := rand.IntN(8), time.Now().Add(time.Minute)
	for lines(c.Puts) < want && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	cmd.Process.Kill()
	cmd.Wait()
	if strings.Contains(said.String(), "FAIL") {
		t.Fatalf("the receiver ended by itself:\n%s", said.String())
	}
	f, err := os.Open(c.Puts)
	if err != nil {
		return 0 // killed before it had begun
	}
	defer f.Close()
	n := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		from, to, ok := spanOf(in.Text())
		if !ok {
			continue
		}
		n++
		for _, h := range had {
			if from < h[1] && h[0] < to {
				t.Errorf("%v to %v was sent, and %v to %v was there", wal.LSN(from), wal.LSN(to), wal.LSN(h[0]), wal.LSN(h[1]))
			}
		}
	}
	return n
}

func lines(name string) int {
	b, err := os.ReadFile(name)
	if err != nil {
		return 0
	}
	return strings.Count(string(b), "\n")
}

func connectSQL(ctx context.Context, conn string) (*pgconn.PgConn, error) {
	c, err := pgconn.ParseConfig(conn)
	if err != nil {
		return nil, err
	}
	return pgconn.ConnectConfig(ctx, c)
}

// A client commits one transaction after the other, and keeps the numbers of
// those that were acknowledged, and when.
type client struct {
	mu    sync.Mutex
	acked map[uint32]time.Time
}

func (c *client) run(ctx context.Context, conn string) {
	db, err := connectSQL(ctx, conn)
	if err != nil {
		return
	}
	defer db.Close(context.Background())
	for ctx.Err() == nil {
		res, err := db.Exec(ctx, "insert into acked values (default) returning pg_current_xact_id()::text").ReadAll()
		if err != nil {
			return
		}
		xid, err := strconv.ParseUint(string(res[0].Rows[0][0]), 10, 64)
		if err != nil {
			return
		}
		c.mu.Lock()
		c.acked[uint32(xid)] = time.Now()
		c.mu.Unlock()
	}
}

func (c *client) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acked)
}

// enough commits have to be acknowledged before a server is lost.
const enough = 5

// loseServer runs clients, kills the server under them, and returns what was
// acknowledged, and when it was killed.
func loseServer(t *testing.T, pg *testenv.PG, conns int, running time.Duration) (map[uint32]time.Time, time.Time) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &client{acked: map[uint32]time.Time{}}
	var wg sync.WaitGroup
	for range conns {
		wg.Go(func() { c.run(ctx, pg.Conn) })
	}
	time.Sleep(running)
	for start := time.Now(); c.count() < enough && time.Since(start) < time.Minute; time.Sleep(20 * time.Millisecond) {
	}
	pg.Kill9(t)
	at := time.Now()
	wg.Wait()
	return c.acked, at
}

// committed are the transactions of which the log has the commit.
func committed(t *testing.T, l *backup.Log, timeline uint32) map[uint32]bool {
	t.Helper()
	from := begins(t, l, timeline)
	c, err := l.Coverage(t.Context(), timeline, uint64(from), 0)
	if err != nil || len(c.Gaps) > 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	out := map[uint32]bool{}
	r, err := l.Open(t.Context(), timeline, uint64(from), c.End)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for rec, err := range wal.Records(r, wal.Config{Start: from}) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Kind == wal.Commit {
			out[rec.XID] = true
		}
	}
	return out
}

// With synchronous commit no transaction that a client saw committed is ever
// lost with the server: all are in the store, whatever of the server is left.
// The store is slow, and loses replies.
func TestNoCommitIsLost(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(map[string]string{"synchronous_standby_names": "holdfast", "synchronous_commit": "on"}))
	pg.SQL(t, "set synchronous_commit = local; create table acked (id serial)")
	key, memory := ageKey(t), providertest.NewMemory()
	script := providertest.Seeded(1, 0.05)
	slow := providertest.NewFaulty(memory, nil)
	walRepository(t, memory, key)
	repo := walRepository(t, slow, key)
	slow.Use(func(c providertest.Call) providertest.Fault {
		f := script(c)
		f.Wait = func(ctx context.Context) error {
			time.Sleep(2 * time.Millisecond)
			return nil
		}
		return f
	})
	acked := 0
	for round := range rounds(1) {
		x := receive(t, postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}})
		until(t, "synchronous", x, func(s postgres.Status) bool { return s.Acknowledged > 0 && s.LagBytes == 0 && s.Synchronous })
		seen, _ := loseServer(t, pg, 8, 700*time.Millisecond)
		x.cancel() // at once: nothing more is fetched from a server that is gone
		x.stop(t)
		clean := walLog(t, walRepository(t, memory, key), x.Status().System)
		have := committed(t, clean, 1)
		lost := 0
		for xid := range seen {
			if !have[xid] {
				lost++
			}
		}
		if lost > 0 {
			t.Errorf("round %d: %d of %d acknowledged commits are lost", round, lost, len(seen))
		}
		if len(seen) < enough {
			t.Errorf("round %d: only %d commits were acknowledged", round, len(seen))
		}
		acked += len(seen)
		pg.Start(t)
	}
	pg.Kill9(t)
	if err := os.RemoveAll(pg.Data); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commits were acknowledged, none of them was lost", acked)
}

// Without, what was not sealed yet is lost with the server: it is counted.
func TestCommitsLostWithoutSynchronous(t *testing.T) {
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("a measurement: HOLDFAST_LONG=1 makes it")
	}
	t.Parallel()
	pg := testenv.Postgres(t, 17, keep(nil))
	pg.SQL(t, "create table acked (id serial)")
	repo := walRepository(t, providertest.NewMemory(), ageKey(t))
	x := receive(t, postgres.ReceiverConfig{Conn: pg.Conn, Repositories: []*backup.Repository{repo}})
	until(t, "there", x, func(s postgres.Status) bool { return s.Acknowledged > 0 && s.LagBytes == 0 })
	seen, at := loseServer(t, pg, 4, 2500*time.Millisecond)
	x.cancel()
	x.stop(t)
	have := committed(t, walLog(t, repo, x.Status().System), 1)
	lost, oldest := 0, at
	for xid, when := range seen {
		if !have[xid] {
			lost++
			if when.Before(oldest) {
				oldest = when
			}
		}
	}
	t.Logf("asynchronous, sealed every second: %d of %d acknowledged commits are lost, those of the last %.2f s", lost, len(seen), at.Sub(oldest).Seconds())
	if lost == len(seen) {
		t.Error("everything is lost")
	}
}
