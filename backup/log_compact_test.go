package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const next = backup.MaxSegment // where the second window begins

// newSmall is a log of small segments, behind which the log goes on.
func newSmall(t testing.TB, store provider.BlobStore) *backup.Log {
	l := logOf(t, newRepo(t, store))
	mustAppend(t, l, 1, 100, 110, 130, 160, 200)
	mustAppend(t, l, 1, next, next+10)
	return l
}

func mustCompact(t testing.TB, l *backup.Log) backup.CompactReport {
	t.Helper()
	rep, err := l.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func TestLogCompact(t *testing.T) {
	store := providertest.NewMemory()
	l := newSmall(t, store)
	rep := mustCompact(t, l)
	if rep.Written.Segments != 1 || rep.Deleted.Segments != 4 || len(rep.Damaged)+len(rep.Locked) > 0 {
		t.Errorf("%+v", rep)
	}
	segs := collect(t, l.Segments(t.Context(), 1, 0, 0))
	if len(segs) != 2 || segs[0].From != 100 || segs[0].To != 200 || segs[0].Compacted != 4 ||
		!segs[0].First.Equal(dawn.Add(100)) || !segs[0].Last.Equal(dawn.Add(200)) {
		t.Errorf("segments %+v", segs)
	}
	mustRead(t, l, 1, 105, 195)
	mustAppend(t, l, 1, 110, 130) // repeated, compacted since
	for _, l := range []*backup.Log{l, logOf(t, reopen(t, store))} {
		if err := l.Append(t.Context(), backup.Segment{Branch: 1, From: 110}, stream(2, 110, 130)); !errors.Is(err, backup.ErrSplit) {
			t.Errorf("other bytes: %v", err)
		}
		if err := appendTo(t.Context(), l, 1, 110, 131); !errors.Is(err, backup.ErrOverlap) {
			t.Errorf("other bounds: %v", err)
		}
	}
	if rep := mustCompact(t, l); rep.Written.Segments+rep.Deleted.Segments > 0 {
		t.Errorf("compacted again: %+v", rep)
	}
	// What fills the gap joins.
	mustAppend(t, l, 1, 200, 1<<20, next)
	mustAppend(t, l, 1, next+10, next+20)
	if rep := mustCompact(t, l); rep.Written.Segments != 1 || rep.Deleted.Segments != 3 {
		t.Errorf("joined: %+v", rep)
	}
	mustRead(t, l, 1, 100, next+20)
	mustAppend(t, l, 1, 110, 130)
}

// The end of a log is compacted when many segments have gathered there, and
// each byte is written only a few times.
func TestLogCompactEnd(t *testing.T) {
	l := logOf(t, newRepo(t, providertest.NewMemory()))
	written := int64(0)
	for at := uint64(0); at < 512; at++ {
		mustAppend(t, l, 1, at*1000, (at+1)*1000)
		if at%8 == 7 {
			written += mustCompact(t, l).Written.Bytes
		}
	}
	segs := collect(t, l.Segments(t.Context(), 1, 0, 0))
	if len(segs) > 80 {
		t.Errorf("%d segments are left", len(segs))
	}
	if written > 5*512_000 {
		t.Errorf("%d bytes were written for a log of 512,000", written)
	}
	mustRead(t, l, 1, 0, 512_000)
}

// A compaction is killed, or a reply lost, at every request. Whatever is
// left, the log is whole, and the next one ends with the same.
func TestLogCompactCrash(t *testing.T) {
	store := providertest.NewMemory()
	newSmall(t, store)
	attempt := func(s provider.BlobStore) error {
		r, err := backup.Open(t.Context(), config(s))
		if err != nil {
			return err
		}
		_, err = logOf(t, r).Compact(t.Context())
		return err
	}
	f := providertest.NewFaulty(copyStore(t, store), nil)
	if err := attempt(f); err != nil {
		t.Fatal(err)
	}
	calls := f.Calls()
	put := slices.IndexFunc(calls, func(c providertest.Call) bool { return c.Op == "put" })
	back := slices.IndexFunc(calls[put:], func(c providertest.Call) bool { return c.Op == "get" && c.Key == calls[put].Key })
	first := slices.IndexFunc(calls, func(c providertest.Call) bool { return c.Op == "delete" })
	if put < 0 || back < 0 || put+back > first {
		t.Errorf("put at %d, read back %d later, first delete at %d", put, back, first)
	}
	for n := 1; n <= len(calls); n++ {
		at := func(fault providertest.Fault) providertest.Script {
			return func(c providertest.Call) providertest.Fault {
				if c.N == n {
					return fault
				}
				return providertest.Fault{}
			}
		}
		for name, script := range map[string]providertest.Script{
			"crash before": providertest.CrashBefore(n), "crash after": providertest.CrashAfter(n),
			"fails before": at(providertest.Fault{Before: providertest.ErrInjected}), "fails after": at(providertest.Fault{After: providertest.ErrInjected}),
		} {
			copied := copyStore(t, store)
			attempt(providertest.NewFaulty(copied, script))
			l := logOf(t, reopen(t, copied))
			mustRead(t, l, 1, 100, 200)
			mustAppend(t, l, 1, 110, 130)
			if rep := mustCompact(t, l); len(rep.Damaged) > 0 {
				t.Errorf("%s request %d: %+v", name, n, rep)
			}
			mustRead(t, l, 1, 100, 200)
			if segs := collect(t, l.Segments(t.Context(), 1, 0, 0)); len(segs) != 2 {
				t.Errorf("%s request %d: %d segments are left", name, n, len(segs))
			}
		}
	}
}

// A log is compacted at every request of a reader, of somebody who asks for
// its coverage, of an append and of another compaction.
func TestLogCompactBeside(t *testing.T) {
	store := providertest.NewMemory()
	newSmall(t, store)
	read := func(ctx context.Context, l *backup.Log) error {
		rc, err := l.Open(ctx, 1, 100, 200)
		if err != nil {
			return err
		}
		defer rc.Close()
		b, err := io.ReadAll(rc)
		if err == nil && string(b) != string(stream(1, 100, 200)) {
			err = fmt.Errorf("%d other bytes", len(b))
		}
		return err
	}
	for name, do := range map[string]func(ctx context.Context, l *backup.Log) error{
		"read": read,
		"coverage": func(ctx context.Context, l *backup.Log) error {
			c, err := l.Coverage(ctx, 1, 100, 200)
			if err == nil && (len(c.Gaps) > 0 || c.First.IsZero()) {
				err = fmt.Errorf("coverage %+v", c)
			}
			return err
		},
		"append":  func(ctx context.Context, l *backup.Log) error { return appendTo(ctx, l, 1, 160, 200) },
		"goes on": func(ctx context.Context, l *backup.Log) error { return appendTo(ctx, l, 1, 200, 300) },
		"compact": func(ctx context.Context, l *backup.Log) error {
			rep, err := l.Compact(ctx)
			if err == nil && len(rep.Damaged) > 0 {
				err = fmt.Errorf("%+v", rep)
			}
			return err
		},
	} {
		for n := 1; n < 30; n++ {
			copied := copyStore(t, store)
			other := logOf(t, reopen(t, copied))
			f := providertest.NewFaulty(copied, nil)
			l := logOf(t, reopen(t, f))
			n := n + len(f.Calls())
			f.Use(func(c providertest.Call) providertest.Fault {
				if c.N != n {
					return providertest.Fault{}
				}
				return providertest.Fault{Wait: func(ctx context.Context) error {
					_, err := other.Compact(context.WithoutCancel(ctx))
					return err
				}}
			})
			if err := do(t.Context(), l); err != nil {
				t.Errorf("%s, compacted at request %d: %v", name, n, err)
			}
			f.Use(nil)
			if err := read(t.Context(), l); err != nil {
				t.Errorf("%s, compacted at request %d: afterwards: %v", name, n, err)
			}
		}
	}
}

// A compacted segment that is damaged costs nothing as long as what it was
// made of is there, and what is damaged itself is left alone.
func TestLogCompactDamage(t *testing.T) {
	store := providertest.NewMemory()
	l := newSmall(t, store)
	f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
		if c.Op == "delete" {
			return providertest.Fault{Before: providertest.ErrInjected}
		}
		return providertest.Fault{}
	})
	if _, err := logOf(t, reopen(t, f)).Compact(t.Context()); !errors.Is(err, providertest.ErrInjected) {
		t.Fatal(err)
	}
	for _, s := range collect(t, l.Segments(t.Context(), 1, 0, 200)) {
		if s.Compacted == 0 {
			continue
		}
		b, _, err := provider.ReadAll(t.Context(), store, s.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-80] ^= 1
		put(t, store, s.Key, b)
	}
	rep := mustCompact(t, logOf(t, reopen(t, store)))
	if len(rep.Damaged) != 1 || rep.Deleted.Segments != 0 {
		t.Errorf("%+v", rep)
	}
	mustRead(t, logOf(t, reopen(t, store)), 1, 100, 200)

	store = providertest.NewMemory()
	l = newSmall(t, store)
	key := collect(t, l.Segments(t.Context(), 1, 0, 0))[1].Key
	b, _, err := provider.ReadAll(t.Context(), store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{len(b) - 70, 100, len(b) - 1} {
		broken := slices.Clone(b)
		broken[i] ^= 1
		put(t, store, key, broken)
		if rep := mustCompact(t, l); len(rep.Damaged) != 1 || rep.Written.Segments+rep.Deleted.Segments > 0 {
			t.Errorf("byte %d: %+v", i, rep)
		}
		if _, err := readLog(t, l, 1, 100, 200); !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), key) {
			t.Errorf("byte %d: read: %v", i, err)
		}
	}
}

// Retention keeps small segments until it ends; the next run deletes them.
func TestLogCompactLocked(t *testing.T) {
	store := providertest.NewMemory()
	l := newSmall(t, store)
	key := collect(t, l.Segments(t.Context(), 1, 0, 0))[1].Key
	if err := store.Lock(t.Context(), key, provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for _, deleted := range []int{3, 0} {
		rep := mustCompact(t, l)
		if rep.Deleted.Segments != deleted || len(rep.Locked) != 1 || rep.Locked[0].Key != key || rep.Locked[0].Until.IsZero() {
			t.Errorf("%+v", rep)
		}
	}
	mustRead(t, l, 1, 100, 200)
}
