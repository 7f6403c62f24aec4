package roles_test

import (
	"os"
	"path/filepath"
	"testing"
)

// With a machine, Fence stops the server, and what is closed stays closed
// when it starts again; Unfence starts it and opens it.
func TestMachine(t *testing.T) {
	t.Parallel()
	pg := cluster(t, 17)
	query(t, pg, "app", "create table t (n int); grant all on t to app")
	before := catalog(t, pg)
	m := machine(pg)
	s := server(t, pg, m)
	l := startLoad(t, pg, 2)
	l.grows(t)
	for range 2 {
		if ev, err := s.Fence(t.Context(), 1); err != nil || !ev.Confirmed || ev.Method != "server stopped" {
			t.Fatalf("%+v, %v", ev, err)
		}
		confirmed(t, s)
	}
	must(t, m.Start(t.Context()))
	must(t, m.Start(t.Context()))
	confirmed(t, s) // closed
	for range 2 {
		must(t, s.Unfence(t.Context(), 1))
	}
	if after := catalog(t, pg); after != before {
		t.Errorf("not as it was:\n%s\n\nbefore:\n%s", after, before)
	}
	l.grows(t)
	l.stop()
	if missing := l.missing(t, pg); len(missing) > 0 {
		t.Errorf("%d commits are lost", len(missing))
	}

	// One that has crashed is not known to be stopped: a session may live on.
	pg.Kill9(t)
	if ok, err := m.Stopped(t.Context()); ok || err == nil {
		t.Errorf("%t, %v", ok, err)
	}
	if ev, err := s.Fence(t.Context(), 2); err == nil || ev.Confirmed {
		t.Errorf("%+v, %v", ev, err)
	}
	must(t, m.Start(t.Context()))
	if ok, err := m.Stopped(t.Context()); ok || err != nil {
		t.Errorf("%t, %v", ok, err)
	}
	must(t, m.Stop(t.Context()))
	must(t, m.Stop(t.Context()))
	must(t, os.Rename(pg.Data, filepath.Join(pg.Dir, "away")))
	if ok, err := m.Stopped(t.Context()); ok || err == nil {
		t.Errorf("without a directory: %t, %v", ok, err)
	}
}
