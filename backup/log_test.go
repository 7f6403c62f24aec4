package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// R10: logs beside points.

func logOf(t testing.TB, r *backup.Repository) *backup.Log {
	t.Helper()
	l, err := r.Log("wal-of-main")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// stream is the content of a log: what stands at each position of a branch.
func stream(branch uint32, from, to uint64) []byte {
	b := make([]byte, to-from)
	for i := range b {
		at := from + uint64(i)
		b[i] = byte(at*2654435761>>13) ^ byte(branch)
	}
	return b
}

func mustAppend(t testing.TB, l *backup.Log, branch uint32, bounds ...uint64) {
	t.Helper()
	for i := range len(bounds) - 1 {
		if err := appendTo(t.Context(), l, branch, bounds[i], bounds[i+1]); err != nil {
			t.Fatal(err)
		}
	}
}

var dawn = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func appendTo(ctx context.Context, l *backup.Log, branch uint32, from, to uint64) error {
	return l.Append(ctx, backup.Segment{Branch: branch, From: from, To: to,
		First: dawn.Add(time.Duration(from)), Last: dawn.Add(time.Duration(to))}, stream(branch, from, to))
}

func readLog(t testing.TB, l *backup.Log, branch uint32, from, to uint64) ([]byte, error) {
	t.Helper()
	rc, err := l.Open(t.Context(), branch, from, to)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// mustRead checks that a log delivers what was appended.
func mustRead(t testing.TB, l *backup.Log, branch uint32, from, to uint64) {
	t.Helper()
	got, err := readLog(t, l, branch, from, to)
	if err != nil || string(got) != string(stream(branch, from, to)) {
		t.Fatalf("read branch %d, %d to %d: %d bytes, %v", branch, from, to, len(got), err)
	}
}

func coverage(t testing.TB, l *backup.Log, branch uint32, from, to uint64) backup.Coverage {
	t.Helper()
	c, err := l.Coverage(t.Context(), branch, from, to)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLog(t *testing.T) {
	store := providertest.NewMemory()
	l := logOf(t, newRepo(t, store))
	mustAppend(t, l, 1, 1000, 1010, 5000, 3<<20)
	mustAppend(t, l, 1, 3<<20, 3<<20+1)
	for _, l := range []*backup.Log{l, logOf(t, reopen(t, store))} {
		mustRead(t, l, 1, 1000, 3<<20+1)
		mustRead(t, l, 1, 1005, 2<<20)
		mustRead(t, l, 1, 5000, 5000)
		c := coverage(t, l, 1, 1000, 0)
		if c.End != 3<<20+1 || len(c.Gaps) != 0 || c.Segments != 4 || !c.First.Equal(dawn.Add(1000)) || !c.Last.Equal(dawn.Add(3<<20+1)) {
			t.Errorf("coverage %+v", c)
		}
	}
	segs := collect(t, l.Segments(t.Context(), 1, 0, 0))
	if len(segs) != 4 || segs[1].From != 1010 || segs[1].To != 5000 || !segs[1].Last.Equal(dawn.Add(5000)) || segs[1].Compacted != 0 {
		t.Errorf("segments %+v", segs)
	}
	other, err := reopen(t, store).Log("other")
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, other, 7, 0, 5)
	if names := collect(t, reopen(t, store).Logs(t.Context())); len(names) != 2 || names[0] == names[1] {
		t.Errorf("logs %q", names)
	}
	if c := coverage(t, other, 1, 0, 0); c.End != 0 || c.Segments != 0 {
		t.Errorf("the other log holds %+v", c)
	}
	for _, info := range collect(t, store.List(t.Context(), "", provider.ListOptions{})) {
		b, _, err := provider.ReadAll(t.Context(), store, info.Key, 1<<30)
		if err != nil || strings.Contains(string(b)+info.Key, "wal-of-main") || strings.Contains(string(b), string(stream(1, 2000, 2020))) {
			t.Errorf("%s: in the clear (%v)", info.Key, err)
		}
	}
}

// What is missing is told before anything is read.
func TestLogGaps(t *testing.T) {
	l := logOf(t, newRepo(t, providertest.NewMemory()))
	mustAppend(t, l, 1, 10, 20)
	mustAppend(t, l, 1, 30, 40, 50)
	mustAppend(t, l, 1, 60, 70)
	for _, c := range []struct {
		from, to, end uint64
		gaps          string
	}{
		{10, 0, 20, "[{1 20 30} {1 50 60}]"},
		{12, 18, 18, "[]"},
		{30, 50, 50, "[]"},
		{5, 15, 5, "[{1 5 10}]"},
		{35, 90, 50, "[{1 50 60} {1 70 90}]"},
		{200, 0, 200, "[]"},
		{70, 0, 70, "[]"},
	} {
		got := coverage(t, l, 1, c.from, c.to)
		if got.End != c.end || fmt.Sprint(got.Gaps) != c.gaps {
			t.Errorf("%d to %d: %+v, want end %d and gaps %s", c.from, c.to, got, c.end, c.gaps)
		}
		if c.to == 0 {
			continue
		}
		if _, err := readLog(t, l, 1, c.from, c.to); (err == nil) != (c.gaps == "[]") || err != nil && !errors.Is(err, backup.ErrGap) {
			t.Errorf("%d to %d: read: %v", c.from, c.to, err)
		}
	}
	mustAppend(t, l, 1, 20, 30) // late
	if c := coverage(t, l, 1, 10, 50); len(c.Gaps) != 0 {
		t.Errorf("a filled gap: %+v", c)
	}
}

// A branch is read through those it comes from.
func TestLogBranches(t *testing.T) {
	l := logOf(t, newRepo(t, providertest.NewMemory()))
	mustAppend(t, l, 1, 0, 100, 200)
	for range 2 {
		if err := l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: 150, History: []byte("1\t0/96\tpromoted")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: 160}); !errors.Is(err, backup.ErrSplit) {
		t.Errorf("another origin: %v", err)
	}
	if err := l.StartBranch(t.Context(), backup.Branch{Branch: 3, Parent: 2, At: 180}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 2, 140, 250) // begins with what its parent has, as a segment of PostgreSQL does
	mustAppend(t, l, 3, 180, 300)
	got, err := readLog(t, l, 3, 50, 300)
	want := string(stream(1, 50, 150)) + string(stream(2, 150, 180)) + string(stream(3, 180, 300))
	if err != nil || string(got) != want {
		t.Errorf("read %d bytes, %v; equal: %t", len(got), err, string(got) == want)
	}
	if c := coverage(t, l, 3, 0, 0); c.End != 300 || len(c.Gaps) > 0 {
		t.Errorf("coverage %+v", c)
	}
	if c := coverage(t, l, 1, 0, 0); c.End != 200 {
		t.Errorf("coverage of the parent %+v", c)
	}
	bs := collect(t, l.Branches(t.Context()))
	if len(bs) != 3 || bs[0].Parent != 0 || bs[1].At != 150 || string(bs[1].History) != "1\t0/96\tpromoted" || bs[2].Parent != 2 {
		t.Errorf("branches %+v", bs)
	}
	// One that comes from itself ends nowhere, and is refused.
	if err := l.StartBranch(t.Context(), backup.Branch{Branch: 1, Parent: 3, At: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Coverage(t.Context(), 3, 0, 0); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a circle: %v", err)
	}
}

// Other bytes at the same positions, or other bounds, are refused and leave
// what was there as it was.
func TestLogSplit(t *testing.T) {
	store := providertest.NewMemory()
	l := logOf(t, newRepo(t, store))
	mustAppend(t, l, 1, 100, 200, 300)
	for _, l := range []*backup.Log{l, logOf(t, reopen(t, store))} {
		mustAppend(t, l, 1, 100, 200) // again
		mustAppend(t, l, 1, 200, 300)
		evil := stream(2, 100, 200)
		if err := l.Append(t.Context(), backup.Segment{Branch: 1, From: 100}, evil); !errors.Is(err, backup.ErrSplit) {
			t.Errorf("other bytes: %v", err)
		}
		for _, b := range [][2]uint64{{150, 250}, {100, 300}, {250, 301}, {0, 101}, {120, 130}} {
			if err := appendTo(t.Context(), l, 1, b[0], b[1]); !errors.Is(err, backup.ErrOverlap) {
				t.Errorf("%v: %v", b, err)
			}
		}
		if n := len(collect(t, store.List(t.Context(), "logs/", provider.ListOptions{}))); n != 2 {
			t.Errorf("%d segments are stored", n)
		}
		mustAppend(t, l, 2, 100, 250) // another branch
		if err := store.Delete(t.Context(), collect(t, l.Segments(t.Context(), 2, 0, 0))[0].Key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	mustRead(t, l, 1, 100, 300)
	for _, s := range []backup.Segment{{From: 5}, {Branch: 1, From: 9, To: 9}, {Branch: 1, From: 400, To: 402},
		{Branch: 1, From: 400, Last: dawn}, {Branch: 1, From: 400, First: dawn, Last: dawn.Add(-1)}} {
		if err := l.Append(t.Context(), s, []byte("x")); err == nil {
			t.Errorf("%+v was appended", s)
		}
	}
	if err := l.Append(t.Context(), backup.Segment{Branch: 1, From: 400}, make([]byte, backup.MaxSegment+1)); err == nil {
		t.Error("a segment that is too large was appended")
	}
}

// Of two who append at once, with bounds that overlap or with other content,
// at most one succeeds, at every interleaving of their requests.
func TestLogRace(t *testing.T) {
	for _, c := range []struct {
		name   string
		other  backup.Segment
		branch uint32 // whose content
		both   bool
	}{
		{"same", backup.Segment{Branch: 1, From: 100, To: 200}, 1, true},
		{"content", backup.Segment{Branch: 1, From: 100, To: 200}, 2, false},
		{"bounds", backup.Segment{Branch: 1, From: 150, To: 250}, 1, false},
		{"longer", backup.Segment{Branch: 1, From: 100, To: 250}, 1, false},
		{"apart", backup.Segment{Branch: 1, From: 200, To: 250}, 1, true},
	} {
		for at := range 4 {
			store := providertest.NewMemory()
			newRepo(t, store)
			f := providertest.NewFaulty(store, nil)
			one, two := logOf(t, reopen(t, f)), logOf(t, reopen(t, store))
			n := len(f.Calls()) + 1 + at
			var once sync.Once
			var second error
			f.Use(func(call providertest.Call) providertest.Fault {
				if call.N != n {
					return providertest.Fault{}
				}
				return providertest.Fault{Wait: func(ctx context.Context) error {
					once.Do(func() { second = two.Append(ctx, c.other, stream(c.branch, c.other.From, c.other.To)) })
					return nil
				}}
			})
			first := appendTo(t.Context(), one, 1, 100, 200)
			once.Do(func() { second = two.Append(t.Context(), c.other, stream(c.branch, c.other.From, c.other.To)) })
			if ok := first == nil && second == nil; ok != c.both {
				t.Errorf("%s, the second at request %d of the first: %v and %v", c.name, at, first, second)
			}
			for _, err := range []error{first, second} {
				if err != nil && !errors.Is(err, backup.ErrSplit) && !errors.Is(err, backup.ErrOverlap) {
					t.Errorf("%s, %d: %v", c.name, at, err)
				}
			}
		}
	}
}

// bring copies the objects of logs from one store to another.
func bring(t testing.TB, from, to provider.BlobStore) {
	t.Helper()
	for _, info := range collect(t, from.List(t.Context(), "logs/", provider.ListOptions{})) {
		b, _, err := provider.ReadAll(t.Context(), from, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		put(t, to, info.Key, b)
	}
}

// Segments that overlap are read if they agree; where they differ, reading
// says so instead of choosing.
func TestLogReadsNoSplit(t *testing.T) {
	for _, c := range []struct {
		content uint32
		want    error
	}{{1, nil}, {2, backup.ErrSplit}} {
		store := providertest.NewMemory()
		r := newRepo(t, store)
		elsewhere := copyStore(t, store)
		l, rival := logOf(t, r), logOf(t, reopen(t, elsewhere))
		mustAppend(t, l, 1, 0, 100, 200)
		if err := rival.Append(t.Context(), backup.Segment{Branch: 1, From: 50, To: 150}, stream(c.content, 50, 150)); err != nil {
			t.Fatal(err)
		}
		bring(t, elsewhere, store)
		got, err := readLog(t, l, 1, 0, 200)
		if !errors.Is(err, c.want) || c.want == nil && string(got) != string(stream(1, 0, 200)) {
			t.Errorf("with content of %d: %d bytes, %v", c.content, len(got), err)
		}
	}
}

// A writer is killed, or a reply lost, at every request: what was
// acknowledged is there, and a successor goes on without a gap or an error.
func TestLogCrash(t *testing.T) {
	store := providertest.NewMemory()
	newRepo(t, store)
	bounds := []uint64{0, 10, 25, 40}
	attempt := func(s provider.BlobStore) (acked uint64, err error) {
		r, err := backup.Open(t.Context(), config(s))
		if err != nil {
			return 0, err
		}
		l, err := r.Log("wal-of-main")
		if err != nil {
			return 0, err
		}
		for i := range len(bounds) - 1 {
			if err := appendTo(t.Context(), l, 1, bounds[i], bounds[i+1]); err != nil {
				return bounds[i], err
			}
		}
		return 40, nil
	}
	f := providertest.NewFaulty(copyStore(t, store), nil)
	if _, err := attempt(f); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(f.Calls()); n++ {
		lost := func(fault providertest.Fault) providertest.Script {
			return func(c providertest.Call) providertest.Fault {
				if c.N == n {
					return fault
				}
				return providertest.Fault{}
			}
		}
		for name, script := range map[string]providertest.Script{
			"crash before": providertest.CrashBefore(n), "crash after": providertest.CrashAfter(n),
			"fails before": lost(providertest.Fault{Before: providertest.ErrInjected}), "fails after": lost(providertest.Fault{After: providertest.ErrInjected}),
		} {
			copied := copyStore(t, store)
			acked, err := attempt(providertest.NewFaulty(copied, script))
			if name == "fails after" && f.Calls()[n-1].Op == "put" && err != nil {
				t.Errorf("request %d: a lost reply to a put was not survived: %v", n, err)
			}
			l := logOf(t, reopen(t, copied))
			c := coverage(t, l, 1, 0, 0)
			if c.End < acked || len(c.Gaps) > 0 {
				t.Errorf("%s request %d: %d was acknowledged, the log has %+v", name, n, acked, c)
			}
			mustAppend(t, l, 1, c.End, 100)
			if again, err := attempt(copied); err != nil && !(c.End < 40 && errors.Is(err, backup.ErrOverlap)) {
				t.Errorf("%s request %d: repeated up to %d: %v", name, n, again, err)
			}
			mustRead(t, l, 1, 0, 100)
		}
	}
}

// A sealed writer appends, repeats, and sees where the log ends and that
// another was there; it reads nothing.
func TestLogSealed(t *testing.T) {
	store := providertest.NewMemory()
	holder := newRepo(t, store)
	l := logOf(t, seal(t, holder, createOnly{store, t}, "receiver"))
	for range 2 {
		mustAppend(t, l, 1, 0, 10, 2<<20)
		if err := l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: 10, History: []byte("h")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Append(t.Context(), backup.Segment{Branch: 1}, stream(2, 0, 10)); !errors.Is(err, backup.ErrSplit) {
		t.Errorf("other bytes: %v", err)
	}
	if c := coverage(t, l, 1, 0, 0); c.End != 2<<20 || !c.Last.Equal(dawn.Add(2<<20)) {
		t.Errorf("coverage %+v", c)
	}
	if bs := collect(t, l.Branches(t.Context())); len(bs) != 2 || bs[1].At != 10 || bs[1].History != nil {
		t.Errorf("branches %+v", bs)
	}
	_, open := l.Open(t.Context(), 1, 0, 10)
	_, compact := l.Compact(t.Context())
	_, trim := l.Trim(t.Context(), backup.TrimOptions{})
	for _, err := range []error{open, compact, trim} {
		if !errors.Is(err, backup.ErrSealed) {
			t.Errorf("%v, want ErrSealed", err)
		}
	}
	mustRead(t, logOf(t, holder), 1, 0, 2<<20)
}
