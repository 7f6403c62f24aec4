package backup_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A base is a target that needs a log.
type base struct {
	needs  []backup.LogPosition
	during func() error
}

func (b *base) Kind() string { return "base" }

func (b *base) Backup(ctx context.Context, s *backup.Session) error {
	for _, n := range b.needs {
		if err := s.NeedLog(n); err != nil {
			return err
		}
	}
	if b.during != nil {
		if err := b.during(); err != nil {
			return err
		}
	}
	return s.Add(ctx, backup.Item{Path: "base"}, strings.NewReader("data"))
}

func (b *base) Restore(ctx context.Context, v *backup.View, d backup.Destination) error { return nil }

// need is a base that needs a log from a position on.
func need(branch uint32, from uint64) *base {
	return &base{needs: []backup.LogPosition{{Log: "wal-of-main", Branch: branch, From: from, Consistent: from + 5}}}
}

func mustTrim(t testing.TB, l *backup.Log, o backup.TrimOptions) backup.TrimReport {
	t.Helper()
	rep, err := l.Trim(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// left tells what is stored of a branch.
func left(t testing.TB, l *backup.Log, branch uint32) string {
	var out []string
	for _, s := range collect(t, l.Segments(t.Context(), branch, 0, 0)) {
		out = append(out, fmt.Sprintf("%d-%d", s.From, s.To))
	}
	return strings.Join(out, " ")
}

func TestLogTrim(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	l := logOf(t, r)
	mustAppend(t, l, 1, 0, 100, 200, 300, 400)
	if rep := mustTrim(t, l, backup.TrimOptions{}); rep.Deleted.Segments != 0 || left(t, l, 1) != "0-100 100-200 200-300 300-400" {
		t.Errorf("no point needs it: %+v", rep)
	}
	old := mustBackup(t, r, "db", need(1, 150), backup.Full)
	mustBackup(t, r, "db", need(1, 300), backup.Full)
	mustBackup(t, r, "www", treeOf(map[string]string{"a": "b"}), backup.Full)
	if len(old.Logs) != 1 || old.Logs[0].From != 150 {
		t.Errorf("the point needs %+v", old.Logs)
	}
	l = logOf(t, reopen(t, store))
	dry := mustTrim(t, l, backup.TrimOptions{DryRun: true})
	if left(t, l, 1) != "0-100 100-200 200-300 300-400" {
		t.Error("a dry run deleted something")
	}
	if rep := mustTrim(t, l, backup.TrimOptions{}); rep.Deleted != dry.Deleted || rep.Deleted.Segments != 1 || rep.Points != 2 || rep.Oldest[0].From != 150 {
		t.Errorf("%+v, dry %+v", rep, dry)
	}
	if got := left(t, l, 1); got != "100-200 200-300 300-400" {
		t.Errorf("left: %s", got)
	}
	key := collect(t, l.Segments(t.Context(), 1, 0, 0))[0].Key
	if err := store.Lock(t.Context(), key, provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := r.Forget(t.Context(), old.ID); err != nil {
		t.Fatal(err)
	}
	if rep := mustTrim(t, l, backup.TrimOptions{}); rep.Deleted.Segments != 1 || len(rep.Locked) != 1 || rep.Locked[0].Key != key {
		t.Errorf("%+v", rep)
	}
	if got := left(t, l, 1); got != "100-200 300-400" {
		t.Errorf("left: %s", got)
	}
	// What cannot be read may need anything.
	p := mustBackup(t, r, "db", need(1, 390), backup.Full)
	put(t, store, "points/"+string(p.ID), []byte("rubbish"))
	if _, err := l.Trim(t.Context(), backup.TrimOptions{}); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("with a damaged point: %v", err)
	}
}

// Branches are kept as far as some point can be taken forward on them.
func TestLogTrimBranches(t *testing.T) {
	for _, c := range []struct {
		name   string
		points []*base
		want   [4]string // of branches 1 to 4
	}{
		{"before the switch", []*base{need(1, 110)}, [4]string{"100-150 150-200 200-250", "150-160 160-300", "160-170", "0-10"}},
		{"behind the switch", []*base{need(1, 200)}, [4]string{"200-250", "150-160 160-300", "160-170", "0-10"}},
		{"on the second", []*base{need(2, 160)}, [4]string{"150-200 200-250", "160-300", "160-170", "0-10"}},
		{"on the second, late", []*base{need(2, 290)}, [4]string{"", "160-300", "160-170", "0-10"}},
		{"both", []*base{need(2, 160), need(1, 110)}, [4]string{"100-150 150-200 200-250", "150-160 160-300", "160-170", "0-10"}},
		{"unknown origin", []*base{need(4, 10)}, [4]string{"0-100 100-150 150-200 200-250", "150-160 160-300", "160-170", ""}},
	} {
		r := newRepo(t, providertest.NewMemory())
		l := logOf(t, r)
		mustAppend(t, l, 1, 0, 100, 150, 200, 250)
		for _, b := range []backup.Branch{{Branch: 2, Parent: 1, At: 150}, {Branch: 3, Parent: 2, At: 160}} {
			if err := l.StartBranch(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		mustAppend(t, l, 2, 150, 160, 300)
		mustAppend(t, l, 3, 160, 170)
		mustAppend(t, l, 4, 0, 10)
		for _, p := range c.points {
			mustBackup(t, r, "db", p, backup.Full)
		}
		mustTrim(t, l, backup.TrimOptions{})
		for i, want := range c.want {
			if got := left(t, l, uint32(i+1)); got != want {
				t.Errorf("%s: branch %d: %q is left, want %q", c.name, i+1, got, want)
			}
		}
	}
}

// A backup under way that may need older positions holds everything; one that
// began well after the points that decide holds nothing.
func TestLogTrimWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRepo(t, providertest.NewMemory())
		l := logOf(t, r)
		mustAppend(t, l, 1, 0, 100, 200, 300)
		slow := need(1, 50)
		slow.during = func() error {
			mustBackup(t, r, "db", need(1, 250), backup.Full)
			time.Sleep(3 * time.Hour)
			if rep := mustTrim(t, l, backup.TrimOptions{}); len(rep.Waiting) != 1 || rep.Deleted.Segments > 0 {
				t.Errorf("beside an older session: %+v", rep)
			}
			return nil
		}
		first := mustBackup(t, r, "db", slow, backup.Full)
		if rep := mustTrim(t, l, backup.TrimOptions{}); len(rep.Waiting) != 0 || rep.Deleted.Segments != 0 {
			t.Errorf("with its point: %+v", rep)
		}
		if err := r.Forget(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		young := need(1, 260)
		young.during = func() error {
			if rep := mustTrim(t, l, backup.TrimOptions{}); len(rep.Waiting) != 0 || rep.Deleted.Segments != 2 {
				t.Errorf("beside a younger session: %+v", rep)
			}
			return nil
		}
		mustBackup(t, r, "db", young, backup.Full)
	})
}

// A trim is killed, or a reply lost, at every request: what points need is
// there, without a gap, and the next one ends with the same.
func TestLogTrimCrash(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	l := logOf(t, r)
	mustAppend(t, l, 1, 0, 100, 200, 300, 400)
	mustBackup(t, r, "db", need(1, 250), backup.Full)
	attempt := func(s provider.BlobStore) error {
		r, err := backup.Open(t.Context(), config(s))
		if err == nil {
			_, err = logOf(t, r).Trim(t.Context(), backup.TrimOptions{})
		}
		return err
	}
	f := providertest.NewFaulty(copyStore(t, store), nil)
	if err := attempt(f); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(f.Calls()); n++ {
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			copied := copyStore(t, store)
			if attempt(providertest.NewFaulty(copied, script)) == nil {
				t.Errorf("crash at request %d went unnoticed", n)
			}
			l := logOf(t, reopen(t, copied))
			mustRead(t, l, 1, 250, 400)
			segs := collect(t, l.Segments(t.Context(), 1, 0, 0))
			if c := coverage(t, l, 1, segs[0].From, 400); len(c.Gaps) > 0 {
				t.Errorf("crash at request %d left a gap: %+v", n, c)
			}
			mustTrim(t, l, backup.TrimOptions{})
			if got := left(t, l, 1); got != "200-300 300-400" {
				t.Errorf("crash at request %d: left %s", n, got)
			}
		}
	}
}

func TestNeedLog(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	for _, n := range []backup.LogPosition{{}, {Log: "x"}, {Log: "x", Branch: 1, From: 2, Consistent: 1}, {Log: "\n", Branch: 1}} {
		if _, err := r.Backup(t.Context(), "db", &base{needs: []backup.LogPosition{n}}, backup.BackupOptions{}); err == nil {
			t.Errorf("%+v was taken", n)
		}
	}
}
