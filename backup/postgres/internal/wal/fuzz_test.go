package wal_test

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// Whatever comes: no panic, records in order and within what came, the same
// ones however it is cut, and memory for bytes that came.
func FuzzScanner(f *testing.F) {
	for _, magic := range []uint16{0xD110, 0xD118} {
		w := newBuilder(mib, mib)
		w.magic = magic
		w.checkpoint(0, mib, noon)
		w.commit(5, noon)
		w.prepared(0x30, 7, noon, 2)
		w.restorePoint("p", noon)
		w.fill(8)
		w.commit(6, noon)
		f.Add(w.b, uint64(mib), uint64(mib), 100)
		f.Add(w.b[50:], uint64(mib+50), uint64(0), 8000)
		f.Add(w.b[8192:], uint64(mib+8192), uint64(mib), 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, start, seg uint64, cut int) {
		c := wal.Config{Start: wal.LSN(start), SegmentSize: seg}
		all, err := scan(t, b, c)
		var last wal.LSN
		for _, r := range all {
			if r.LSN < last || r.End < r.LSN || uint64(r.LSN) < start || r.Length < 24 {
				t.Fatalf("a record at %v behind one that ends at %v", r.LSN, last)
			}
			if r.Kind != wal.SwitchSegment && uint64(r.End)-start > uint64(len(b)+8) {
				t.Fatalf("a record to %v, where %d bytes came", r.End, len(b))
			}
			last = r.End
		}
		if err != nil && seg == 0 && !errors.Is(err, wal.ErrInvalid) && !errors.Is(err, wal.ErrEnd) {
			t.Fatal(err)
		}
		s, n := wal.NewScanner(c), max(0, min(cut, len(b)))
		var again []wal.Record
		emit := func(r wal.Record) error { again = append(again, r); return nil }
		err2 := s.Scan(b[:n], emit)
		if err2 == nil {
			err2 = s.Scan(b[n:], emit)
		}
		if !reflect.DeepEqual(all, again) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("cut at %d: %d records and %v, before %d and %v", n, len(again), err2, len(all), err)
		}
		wal.Summarize(bytes.NewReader(b), c, wal.Stop{XID: 6})
	})
}

func FuzzHistory(f *testing.F) {
	f.Add(uint32(3), []byte("1\t0/5000060\tno recovery target specified\n\n2\t0/6000148\tbefore 2026\n"))
	f.Add(uint32(2), []byte("# x\n1 0/1"))
	f.Fuzz(func(t *testing.T, timeline uint32, text []byte) {
		got, err := wal.ParseHistory(timeline, text)
		if err != nil {
			return
		}
		again, err := wal.ParseHistory(timeline, wal.FormatHistory(got))
		if err != nil && len(text) < 32<<10 || err == nil && !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v, and again %+v, %v", got, again, err)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("16/B374D848", uint64(16<<20))
	f.Add("0000000A00000016000000B3", uint64(16<<20))
	f.Fuzz(func(t *testing.T, s string, size uint64) {
		if l, err := wal.ParseLSN(s); err == nil {
			if again, err := wal.ParseLSN(l.String()); err != nil || again != l {
				t.Fatalf("%s: %v, %v", s, again, err)
			}
		}
		if timeline, start, err := wal.ParseSegmentName(s, size); err == nil && wal.SegmentName(timeline, start, size) != s {
			t.Fatalf("%s: %s", s, wal.SegmentName(timeline, start, size))
		}
	})
}
