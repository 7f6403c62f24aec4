package tape_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/tape"
)

func open(t *testing.T, dir string) *tape.Tape {
	t.Helper()
	tp, err := tape.Open(tape.Config{Dir: dir, System: 7, Limit: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return tp
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC)

func content(from uint64, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + uint64(i)) * 2654435761 >> 13)
	}
	return b
}

func add(t *testing.T, tp *tape.Tape, timeline uint32, from uint64, n int) {
	t.Helper()
	f := tape.Frame{Timeline: timeline, From: from, To: from + uint64(n), First: noon, Last: noon.Add(time.Duration(from) * time.Microsecond)}
	if err := tp.Append(f, content(from, n)); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, tp *tape.Tape, first, next int64) {
	t.Helper()
	if a, b := tp.Bounds(); a != first || b != next {
		t.Fatalf("frames %d to %d, want %d to %d", a, b, first, next)
	}
	for n := first; n < next; n++ {
		f, ok := tp.Frame(n)
		b, err := tp.Read([]byte("x"), n)
		if !ok || err != nil || string(b) != "x"+string(content(f.From, int(f.To-f.From))) || !f.First.Equal(noon) || !f.Last.Equal(noon.Add(time.Duration(f.From)*time.Microsecond)) {
			t.Fatalf("frame %d: %+v, %v", n, f, err)
		}
	}
}

func TestTape(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		tp := open(t, dir)
		check(t, tp, 0, 0)
		add(t, tp, 1, 1000, 10)
		add(t, tp, 1, 1010, 700_000)
		if tp.Full() || tp.Size() != 700_010 {
			t.Error("full", tp.Size())
		}
		add(t, tp, 2, 500, 400_000)
		if !tp.Full() {
			t.Error("not full")
		}
		check(t, tp, 0, 3)
		if err := errors.Join(tp.Sync(), tp.SetHistory(2, []byte("1\t0/1F4\tx\n")), tp.Trim(2)); err != nil {
			t.Fatal(err)
		}
		<-tp.Trimmed()
		check(t, tp, 2, 3)
		if tp.Full() || string(tp.History(2)) != "1\t0/1F4\tx\n" || tp.History(3) != nil {
			t.Error("after trimming")
		}
		if _, err := tp.Read(nil, 1); err == nil {
			t.Error("read what is gone")
		}
		for _, f := range []tape.Frame{{From: 1, To: 2}, {Timeline: 1, From: 1, To: 3}, {Timeline: 1, From: 2, To: 1}, {Timeline: 1}} {
			if tp.Append(f, []byte{0}) == nil {
				t.Errorf("%+v was taken", f)
			}
		}
		if dir != "" {
			if _, err := tape.Open(tape.Config{Dir: dir, System: 7}); err == nil || !strings.Contains(err.Error(), "another process") {
				t.Errorf("opened twice: %v", err)
			}
		}
		if err := tp.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What a process leaves, the next one finds.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	tp := open(t, dir)
	at := uint64(0)
	for range 50 {
		add(t, tp, 1, at, 1_000_000)
		at += 1_000_000
	}
	tp.SetHistory(3, []byte("h"))
	if err := errors.Join(tp.Sync(), tp.Trim(20), tp.Close()); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(dir + "/*.wal")
	if len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
	tp = open(t, dir)
	first, next := tp.Bounds()
	f, _ := tp.Frame(0)
	if n := next - first; n < 30 || n > 47 || f.From != 1_000_000*uint64(50-n) || string(tp.History(3)) != "h" || !f.Received.IsZero() {
		t.Fatalf("%d frames from %d", n, f.From)
	}
	check(t, tp, 0, next)
	add(t, tp, 2, at, 5)
	if err := errors.Join(tp.Sync(), tp.Close()); err != nil {
		t.Fatal(err)
	}
	tp = open(t, dir)
	check(t, tp, 0, next+1)
	tp.Close()
	if _, err := tape.Open(tape.Config{Dir: dir, System: 8}); !errors.Is(err, tape.ErrOther) {
		t.Errorf("of another system: %v", err)
	}
}

// However much of the last file a crash left, what comes out is whole frames
// from the beginning on, and the tape goes on behind them.
func TestTorn(t *testing.T) {
	dir := t.TempDir()
	tp := open(t, dir)
	ends := []int{32}
	for i := range 5 {
		add(t, tp, 1, uint64(100*i), 100)
		ends = append(ends, 32+136*(i+1))
	}
	if err := errors.Join(tp.Sync(), tp.Close()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "0000000000000001.wal")
	whole, err := os.ReadFile(name)
	if err != nil || len(whole) != ends[5] {
		t.Fatal(len(whole), err)
	}
	for n := 0; n < len(whole); n += 11 {
		for _, left := range [][]byte{whole[:n], append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...)} {
			if err := os.WriteFile(name, left, 0o600); err != nil {
				t.Fatal(err)
			}
			if n < 16 && len(left) > 32 && n > 0 {
				continue // a header is one sector
			}
			tp := open(t, dir)
			want := int64(0)
			for want < 5 && ends[want+1] <= n {
				want++
			}
			check(t, tp, 0, want)
			add(t, tp, 1, uint64(100*want), 100)
			check(t, tp, 0, want+1)
			if err := errors.Join(tp.Sync(), tp.Close()); err != nil {
				t.Fatal(err)
			}
			tp = open(t, dir)
			check(t, tp, 0, want+1)
			tp.Close()
			os.Remove(name)
		}
	}
}

// What was written behind a torn frame does not come back when another frame of
// the same length takes the place of that one.
func TestTornInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	tp := open(t, dir)
	for i := range 5 {
		add(t, tp, 1, uint64(100*i), 100)
	}
	if err := errors.Join(tp.Sync(), tp.Close()); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "0000000000000001.wal")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[32+2*136+50] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tp = open(t, dir)
	check(t, tp, 0, 2)
	add(t, tp, 2, 150, 100)
	if err := errors.Join(tp.Sync(), tp.Close()); err != nil {
		t.Fatal(err)
	}
	tp = open(t, dir)
	check(t, tp, 0, 3)
	tp.Close()
}

// Damage where there must be none is told: within a frame that is read, and in
// a file that is not the last.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	tp := open(t, dir)
	for i := range 40 {
		add(t, tp, 1, uint64(1_000_000*i), 1_000_000)
	}
	if err := tp.Sync(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "0000000000000001.wal")
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[5_000_000] ^= 1
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tp.Read(nil, 4); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("read %v", err)
	}
	tp.Close()
	if _, err := tape.Open(tape.Config{Dir: dir, System: 7}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("open: %v", err)
	}
}

func TestWait(t *testing.T) {
	tp := open(t, "")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- tp.Wait(ctx, 0) }()
	add(t, tp, 1, 0, 1)
	if err := <-done; err != nil {
		t.Error(err)
	}
	go func() { done <- tp.Wait(ctx, 1) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
