package roles_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres/roles"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/internal/testenv"
)

// odd makes a cluster in which much could be lost by a fence and its end.
func odd(t *testing.T, pg *testenv.PG) {
	pg.SQL(t,
		`create database "odd "" 'name"`, `create database closed allow_connections false`,
		`create role boss superuser login password '`+pg.Password+`'`, `create role retired superuser nologin`, `create role dba superuser login password '`+pg.Password+`'`,
		`create role "Odd ""Role" login`, `create role reader`, `grant reader to app`,
		`revoke connect on database postgres from public`, `grant connect on database postgres to "Odd ""Role" with grant option`, `grant connect on database postgres to reader`)
	query(t, pg, "app", "create table t (n int); grant all on t to app")
}

// Under load, with sessions that come and go, nothing commits once Fence has
// returned Confirmed; nobody but the admin gets in, and everything is as it
// was when the fence is gone.
func TestFence(t *testing.T) {
	for _, major := range majors() {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			pg := cluster(t, major)
			odd(t, pg)
			before := catalog(t, pg)
			s := server(t, pg, nil, "dba")
			if ev, err := s.Fenced(t.Context()); err != nil || ev.Confirmed {
				t.Fatalf("nobody has fenced it: %+v, %v", ev, err)
			}
			l := startLoad(t, pg, 8)
			l.grows(t)
			for epoch := uint64(1); epoch <= 2; epoch++ {
				ev, err := s.Fence(t.Context(), epoch)
				if err != nil || !ev.Confirmed {
					t.Fatalf("%+v, %v", ev, err)
				}
				wrote := ask(t, pg, "select xact_commit from pg_stat_database where datname = 'app'")
				count := l.count()
				confirmed(t, s)
				for _, who := range []struct{ user, db string }{{"app", "app"}, {"app", "postgres"}, {"boss", "postgres"}, {"boss", "app"}, {"postgres", "app"}, {"dba", "app"}, {"postgres", "template1"}, {"Odd \"Role", "postgres"}} {
					if c, err := login(t.Context(), pg, "'"+who.user+"'", who.db); err == nil {
						t.Errorf("%v gets in", who)
						c.Close(t.Context())
					}
				}
				c, err := login(t.Context(), pg, "dba", "postgres")
				if err != nil {
					t.Fatalf("the admin does not get in: %v", err)
				}
				c.Close(t.Context())
				if l.count() != count || ask(t, pg, "select xact_commit from pg_stat_database where datname = 'app'") != wrote {
					t.Error("somebody has committed at a fenced server")
				}
				if _, err := s.Fence(t.Context(), epoch); err != nil { // twice
					t.Fatal(err)
				}
				if err := s.Unfence(t.Context(), epoch-1); err == nil {
					t.Error("an earlier run takes the fence back")
				}
				confirmed(t, s)
				for range 2 {
					must(t, s.Unfence(t.Context(), epoch))
				}
				if after := catalog(t, pg); after != before {
					t.Fatalf("not as it was:\n%s\n\nbefore:\n%s", after, before)
				}
				if ev, err := s.Fenced(t.Context()); err != nil || ev.Confirmed {
					t.Errorf("%+v, %v", ev, err)
				}
				// What somebody closes now is not the fence's to open.
				ask(t, pg, `alter database "odd "" 'name" allow_connections false`)
				must(t, s.Unfence(t.Context(), epoch))
				if catalog(t, pg) == before {
					t.Error("it opens what it has not closed")
				}
				ask(t, pg, `alter database "odd "" 'name" allow_connections true`)
				l.grows(t)
			}
			if missing := l.missing(t, pg); len(missing) > 0 {
				t.Errorf("%d commits are lost", len(missing))
			}
		})
	}
}

// What keeps a fence from being confirmed, and what does not keep it from
// being made.
func TestFenceCatches(t *testing.T) {
	t.Parallel()
	pg := cluster(t, 17)
	odd(t, pg)
	s := server(t, pg, nil, "dba")

	// A session that has passed the door, and is not seen yet, is waited for:
	// it looked whether its database is open before the fence closed it.
	got, fenced := make(chan error, 1), make(chan bool)
	go func() {
		c, err := login(context.Background(), pg, "app", "app", "options='-c post_auth_delay=2'")
		<-fenced
		if err == nil {
			_, err = c.Exec(context.Background(), "insert into t values (-1)").ReadAll()
		}
		got <- err
	}()
	const halfway = "select count(*) from pg_locks where locktype = 'object' and classid = 'pg_database'::regclass and mode = 'RowExclusiveLock'"
	eventually(t, "somebody is half-way in", func() bool { return ask(t, pg, halfway) == "1" })
	if ev, err := s.Fence(t.Context(), 1); err != nil || !ev.Confirmed {
		t.Fatalf("%+v, %v", ev, err)
	}
	close(fenced)
	if err := <-got; err == nil {
		t.Error("a session that was half-way in has written to a fenced server")
	}

	// Somebody who can, opens a door or stays in the room.
	for name, open := range map[string]string{
		"database":      "alter database app allow_connections true",
		"control":       "grant connect on database postgres to app",
		"public":        "grant connect on database postgres to public",
		"superuser":     "alter role boss login",
		"new superuser": "create role other superuser login",
		"new database":  "create database other",
	} {
		ask(t, pg, open)
		if ev, err := s.Fenced(t.Context()); err != nil || ev.Confirmed {
			t.Errorf("%s: %+v, %v", name, ev, err)
		}
		if ev, err := s.Fence(t.Context(), 2); err != nil || !ev.Confirmed {
			t.Errorf("%s: fence again: %+v, %v", name, ev, err)
		}
	}
	c, err := login(t.Context(), pg, "postgres", "postgres")
	must(t, err)
	defer c.Close(context.Background())
	if ev, err := s.Fenced(t.Context()); err != nil || ev.Confirmed || !strings.Contains(ev.Detail, "session") {
		t.Errorf("a session of an application: %+v, %v", ev, err)
	}
	if ev, err := s.Fence(t.Context(), 2); err != nil || !ev.Confirmed {
		t.Errorf("%+v, %v", ev, err)
	}
	if _, err := c.Exec(t.Context(), "select 1").ReadAll(); err == nil {
		t.Error("a session lives on")
	}

	// Overtaken runs.
	if _, err := s.Fence(t.Context(), 1); !errors.Is(err, failover.ErrNoEffect) {
		t.Errorf("an earlier run fences: %v", err)
	}
	// It holds when the server starts again, also after a crash.
	pg.Kill9(t)
	if ev, err := s.Fenced(t.Context()); err == nil || ev.Confirmed {
		t.Errorf("a server that does not answer: %+v, %v", ev, err)
	}
	if ev, err := s.Fence(t.Context(), 3); err == nil || ev.Confirmed {
		t.Errorf("a server that does not answer: %+v, %v", ev, err)
	}
	pg.Start(t)
	confirmed(t, s)
	must(t, s.Unfence(t.Context(), 3))

	// Whoever is no superuser does not own what a superuser acts on.
	ask(t, pg, "alter table holdfast.fence owner to app")
	if _, err := s.Fence(t.Context(), 4); err == nil {
		t.Error("a table of somebody else is believed")
	}
	if err := s.Unfence(t.Context(), 4); err == nil {
		t.Error("a table of somebody else is believed")
	}
	weak, err := roles.New(roles.Config{Conn: strings.Replace(pg.Conn, "user=postgres dbname=postgres", "user=app dbname=app", 1)})
	must(t, err)
	if _, err := weak.Fence(t.Context(), 5); err == nil || !strings.Contains(err.Error(), "superuser") {
		t.Errorf("a role that can not: %v", err)
	}
}

// The connection breaks at every write, before it or with the reply lost:
// Fence and Unfence are repeated, and all is as it was.
func TestFenceCut(t *testing.T) {
	t.Parallel()
	pg := cluster(t, 17)
	odd(t, pg)
	before := catalog(t, pg)
	s := server(t, pg, nil, "dba")
	if ev, err := s.Fence(t.Context(), 1); err != nil || !ev.Confirmed { // makes the tables
		t.Fatalf("%+v, %v", ev, err)
	}
	must(t, s.Unfence(t.Context(), 1))
	stride := int64(3)
	if os.Getenv("HOLDFAST_LONG") != "" {
		stride = 1
	}
	for _, lost := range []bool{false, true} {
		cuts := 0
		for n := int64(4); ; n += stride { // the first writes are of connecting, and of another way to connect
			fence, cutF := s.Cut(n, lost)
			ev, err := fence.Fence(t.Context(), 2) // a way to connect that fails is followed by another
			if ev.Confirmed != (err == nil) || err != nil && !cutF() {
				t.Fatalf("write %d, lost %t: %+v, %v", n, lost, ev, err)
			}
			whole := err == nil && n > 6
			if ev, err := s.Fence(t.Context(), 2); err != nil || !ev.Confirmed {
				t.Fatalf("write %d, lost %t: again: %+v, %v", n, lost, ev, err)
			}
			unfence, cutU := s.Cut(n, lost)
			if err := unfence.Unfence(t.Context(), 2); err != nil && !cutU() {
				t.Fatalf("write %d, lost %t: %v", n, lost, err)
			}
			must(t, s.Unfence(t.Context(), 2))
			if after := catalog(t, pg); after != before {
				t.Fatalf("write %d, lost %t: not as it was:\n%s\n\nbefore:\n%s", n, lost, after, before)
			}
			if whole { // only the end of the session was cut
				break
			}
			cuts++
		}
		if cuts < 20/int(stride) {
			t.Errorf("only %d cuts", cuts)
		}
	}
	// One that is cancelled returns, and confirms nothing.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ev, err := s.Fence(ctx, 2); err == nil || ev.Confirmed {
		t.Errorf("%+v, %v", ev, err)
	}
}
