package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

const mib = 1 << 20

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123456000, time.UTC)

func scan(t testing.TB, b []byte, c wal.Config) ([]wal.Record, error) {
	t.Helper()
	var out []wal.Record
	for r, err := range wal.Records(bytes.NewReader(b), c) {
		if err != nil {
			return out, err
		}
		out = append(out, r)
	}
	return out, nil
}

// sample is WAL with everything that is understood in it.
func sample(magic uint16) (w *builder, want []wal.Record) {
	w = newBuilder(5*mib, mib)
	w.magic = magic
	add := func(at wal.LSN, r wal.Record) {
		r.LSN, r.End = at, wal.LSN(w.at())
		want = append(want, r)
	}
	add(w.checkpoint(0x00, 5*mib, noon), wal.Record{Kind: wal.Checkpoint, Time: noon.Truncate(time.Second), Redo: 5 * mib, Timeline: 1, PrevTimeline: 1})
	add(w.commit(700, noon), wal.Record{Kind: wal.Commit, XID: 700, Time: noon})
	w.fill(8)
	add(w.commit(701, noon.Add(time.Second)), wal.Record{Kind: wal.Commit, XID: 701, Time: noon.Add(time.Second)}) // its header goes over the page
	add(w.record(10, 0, 702, make([]byte, 50_000)), wal.Record{XID: 702})
	w.fill(32)
	add(w.record(1, 0x20, 702, data(stamp(noon)...)), wal.Record{Kind: wal.Abort, XID: 702, Time: noon}) // ends 2 bytes into the next page
	add(w.prepared(0x30, 703, noon, 3), wal.Record{Kind: wal.Commit, XID: 703, Time: noon})
	add(w.prepared(0x40, 704, noon, 100), wal.Record{Kind: wal.Abort, XID: 704, Time: noon})
	add(w.prepared(0x30, 705, noon, 500_000), wal.Record{Kind: wal.Commit, XID: 705, Time: noon}) // over several segments
	add(w.prepared(0x30, 706, noon, 1_500_000), wal.Record{Kind: wal.Commit, Time: noon})         // longer than what is kept
	add(w.restorePoint("before lunch", noon), wal.Record{Kind: wal.RestorePoint, Name: "before lunch", Time: noon})
	at := w.at()
	w.switchSegment()
	add(wal.LSN(at), wal.Record{Kind: wal.SwitchSegment})
	add(w.checkpoint(0x10, at, noon), wal.Record{Kind: wal.Checkpoint, Time: noon.Truncate(time.Second), Redo: wal.LSN(at), Timeline: 1, PrevTimeline: 1})
	w.timeline = 3
	add(w.endOfRecovery(1, noon), wal.Record{Kind: wal.EndOfRecovery, Time: noon, Timeline: 3, PrevTimeline: 1})
	w.fill(0)
	add(w.commit(800, noon), wal.Record{Kind: wal.Commit, XID: 800, Time: noon})
	return w, want
}

// meaning leaves of a record what sample says of it.
func meaning(r wal.Record) wal.Record {
	r.Prev, r.Length, r.Manager, r.Info = 0, 0, 0, 0
	return r
}

func TestRecords(t *testing.T) {
	for _, magic := range []uint16{0xD110, 0xD113, 0xD116, 0xD118} {
		w, want := sample(magic)
		got, err := scan(t, w.b, wal.Config{Start: 5 * mib, SegmentSize: mib, System: 77, Timeline: 3})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for i, r := range got {
			if i > 0 && (r.Prev != got[i-1].LSN || r.LSN < got[i-1].End) {
				t.Fatalf("%v behind %v, and says it follows %v", r.LSN, got[i-1].LSN, r.Prev)
			}
			if n < len(want) && r.LSN == want[n].LSN {
				if !reflect.DeepEqual(meaning(r), want[n]) {
					t.Errorf("%04X: got  %+v\nwant %+v", magic, meaning(r), want[n])
				}
				n++
			}
		}
		if n < len(want) {
			t.Errorf("%04X: no record %+v", magic, want[n])
		}
	}
}

// It does not matter in which pieces the bytes come, nor where they begin.
func TestPieces(t *testing.T) {
	w, _ := sample(0xD116)
	c := wal.Config{Start: 5 * mib, SegmentSize: mib}
	all, err := scan(t, w.b, c)
	if err != nil {
		t.Fatal(err)
	}
	var one []wal.Record
	for r, err := range wal.Records(iotest.OneByteReader(bytes.NewReader(w.b[:200_000])), c) {
		if err != nil {
			t.Fatal(err)
		}
		one = append(one, r)
	}
	if len(one) == 0 || !reflect.DeepEqual(one, all[:len(one)]) {
		t.Error("byte by byte there are other records")
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		from := rnd.IntN(len(w.b))
		if slices.ContainsFunc(all, func(r wal.Record) bool {
			page := wal.LSN((5*mib + from + 8191) / 8192 * 8192)
			return r.Kind == wal.SwitchSegment && r.LSN < page && page < r.End
		}) {
			continue // nothing can be told within the unused rest of a segment
		}
		s := wal.NewScanner(wal.Config{Start: wal.LSN(5*mib + from), SegmentSize: mib})
		var got []wal.Record
		for at := from; at < len(w.b); {
			n := min(1+rnd.IntN(1<<uint(rnd.IntN(20))), len(w.b)-at)
			if err := s.Scan(w.b[at:at+n], func(r wal.Record) error { got = append(got, r); return nil }); err != nil {
				t.Fatalf("from %d: %v", from, err)
			}
			at += n
		}
		if s.At() != wal.LSN(w.at()) {
			t.Fatalf("at %v", s.At())
		}
		if !reflect.DeepEqual(got, all[len(all)-len(got):]) {
			t.Fatalf("from %d: other records", from)
		}
		// All that begin behind the first whole page header are there.
		page := wal.LSN((5*mib+from+8191)/8192*8192) + 40
		for _, r := range all[:len(all)-len(got)] {
			if r.LSN > page {
				t.Fatalf("from %d: the record at %v is missing", from, r.LSN)
			}
		}
	}
}

// A bit that flips is found: in a header of a page, of a record, in its body.
// Only padding and what follows a switch mean nothing.
func TestDamage(t *testing.T) {
	w := newBuilder(mib, mib)
	for i := range 100 {
		w.commit(uint32(i+3), noon)
		w.record(10, 0, 5, make([]byte, 96))
	}
	c := wal.Config{Start: mib, SegmentSize: mib, System: 77, Timeline: 1}
	all, err := scan(t, w.b, c)
	if err != nil || len(all) != 200 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	b := bytes.Clone(w.b)
	for at := range w.b {
		copy(b, w.b)
		b[at] ^= 1 << (at % 8)
		got, err := scan(t, b, c)
		if err != nil {
			if e := new(wal.Error); !errors.As(err, &e) || !errors.Is(err, wal.ErrInvalid) && !errors.Is(err, wal.ErrEnd) || e.At > wal.LSN(mib+at+8192) { // a length that lies shows on the next page
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		if at%8192 >= 20 && at%8192 < 24 || at%8192 == 2 || at%8192 >= 16 && at%8192 < 20 && w.b[at/8192*8192+2]&1 == 0 {
			continue // padding of the header of a page; a flag that says nothing; the rest of no record
		}
		if n := len(got); n < len(all) && at < int(all[n].LSN)-mib+4 {
			continue // its length claims more than has come
		}
		if !reflect.DeepEqual(got, all) {
			t.Fatalf("byte %d: other records, and no error", at)
		}
		padding := false
		for _, r := range all {
			end := int(r.LSN) - mib + int(r.Length)
			if page := int(r.LSN) - mib; page/8192 != (end-1)/8192 {
				end += 24
			}
			padding = padding || at >= end && at < int(r.End)-mib
		}
		if !padding {
			t.Fatalf("byte %d (%#x): nothing was found", at, mib+at)
		}
	}
}

// Each check by itself, where the sum of the record would find nothing.
func TestRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(w *builder)
		c    wal.Config
		want string
	}{
		"magic":           {func(w *builder) { w.magic = 0xD199; w.fill(0) }, wal.Config{}, "D199"},
		"another version": {func(w *builder) { w.fill(0); w.magic = 0xD116; w.fill(8) }, wal.Config{}, "version 17 behind one of version 15"},
		"flags":           {func(w *builder) { w.flags = 0x40; w.fill(0) }, wal.Config{}, "flags 0042"},
		"older timeline":  {func(w *builder) { w.timeline = 2; w.fill(0); w.timeline = 1; w.fill(8) }, wal.Config{}, "timeline 1 behind one of timeline 2"},
		"too young":       {func(w *builder) { w.timeline = 3; w.fill(0) }, wal.Config{Timeline: 2}, "timeline 3, where 2"},
		"no timeline":     {func(w *builder) { w.timeline = 0; w.fill(0) }, wal.Config{}, "timeline 0"},
		"system":          {func(w *builder) { w.fill(0) }, wal.Config{System: 78}, "WAL of system 77"},
		"segment size":    {func(w *builder) { w.fill(0) }, wal.Config{SegmentSize: 2 * mib}, "segments of 1048576 bytes, where they have 2097152"},
		"link":            {func(w *builder) { w.commit(3, noon); w.prev -= 8; w.commit(4, noon) }, wal.Config{}, "follows one at"},
		"link ahead":      {func(w *builder) { w.prev = 9 * mib; w.commit(4, noon) }, wal.Config{}, "follows one at"},
		"no end": {func(w *builder) {
			w.fill(100)
			w.record(10, 0, 3, make([]byte, 200))
			binary.LittleEndian.PutUint16(w.b[8194:], 0)
		}, wal.Config{}, "does not go on"},
		"another rest": {func(w *builder) {
			w.fill(100)
			w.record(10, 0, 3, make([]byte, 200))
			w.b[8192+16]++
		}, wal.Config{}, "where 128 are missing"},
		"rest of nothing": {func(w *builder) { w.fill(0); w.cont = 8; w.page() }, wal.Config{}, "did not begin"},
		"rest of a header": {func(w *builder) {
			w.fill(8)
			w.record(10, 0, 3, make([]byte, 200))
			w.b[8192+16], w.b[8192+17] = 3, 0
		}, wal.Config{}, "header of the record"},
		"length and rest": {func(w *builder) {
			w.fill(8)
			w.record(10, 0, 3, make([]byte, 200))
			w.b[8192+16]--
		}, wal.Config{}, "of which its page says"},
		"endless":      {func(w *builder) { w.commit(3, noon); w.b[len(w.b)-40+3] = 0xff }, wal.Config{}, "a record of 4278190"},
		"too short":    {func(w *builder) { w.commit(3, noon); w.b[len(w.b)-40] = 23 }, wal.Config{}, "a record of 23 bytes"},
		"long header":  {func(w *builder) { w.fill(0); w.seg = 8192; w.fill(8) }, wal.Config{}, "segments of 8192 bytes"},
		"not the long": {func(w *builder) { w.seg = 1 << 40; w.fill(0) }, wal.Config{SegmentSize: mib}, "without a long header"},
		"address":      {func(w *builder) { w.fill(0); w.start += 8192; w.fill(8); w.start -= 8192 }, wal.Config{}, "belongs to"},
		"unknown size": {func(w *builder) { w.start = mib + 8192; w.record(0, 0x40, 0, nil) }, wal.Config{Start: mib + 8192}, "size is not known"},
		"zeros":        {func(w *builder) { w.commit(3, noon); w.b = append(w.b, make([]byte, 100)...) }, wal.Config{}, "end of WAL: no record"},
		"zero pages":   {func(w *builder) { w.fill(0); w.b = append(w.b, make([]byte, 100)...) }, wal.Config{}, "end of WAL: a page of zeros"},
		"block size":   {func(w *builder) { w.fill(0) }, wal.Config{BlockSize: 100}, "pages of 100 bytes"},
		"blocks":       {func(w *builder) { w.fill(0) }, wal.Config{BlockSize: 16384}, "pages of 8192 bytes, where 16384"},
		"segments":     {func(w *builder) { w.fill(0) }, wal.Config{SegmentSize: 3 * mib}, "power of two"},
	} {
		w := newBuilder(mib, mib)
		tc.make(w)
		if tc.c.Start == 0 {
			tc.c.Start = mib
		}
		_, err := scan(t, w.b, tc.c)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
	}
}

// A record that the server could not finish before it crashed is left out, and
// what it wrote instead follows.
func TestOverwritten(t *testing.T) {
	w := newBuilder(mib, mib)
	first := w.commit(3, noon)
	w.fill(100)
	last := w.prev
	w.record(10, 0, 4, make([]byte, 20_000))
	w.b = w.b[:8192]
	w.prev, w.flags = last, 8
	overwrote := w.record(0, 0xD0, 0, data(make([]byte, 16)...))
	w.commit(5, noon)
	got, err := scan(t, w.b, wal.Config{Start: mib})
	if err != nil || len(got) != 4 || got[0].LSN != first || got[2].LSN != overwrote || got[3].XID != 5 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSummarize(t *testing.T) {
	w := newBuilder(mib, mib)
	sec := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }
	a := w.commit(10, sec(1))
	b := w.commit(11, sec(3))
	c := w.commit(12, sec(2)) // its clock was read before that of b
	p := w.restorePoint("p", sec(4))
	d := w.record(1, 0x20, 13, data(stamp(sec(5))...))
	e := w.prepared(0x30, 14, sec(6), 0)
	w.restorePoint("p", sec(7))
	for name, tc := range map[string]struct {
		stop     wal.Stop
		at       wal.LSN
		included bool
		commits  int
		last     int
	}{
		"none":                  {wal.Stop{}, 0, false, 4, 6},
		"time":                  {wal.Stop{Time: sec(2)}, b, false, 1, 1},
		"time of a commit":      {wal.Stop{Time: sec(1)}, b, false, 1, 1},
		"before that":           {wal.Stop{Time: sec(1), Exclusive: true}, a, false, 0, 0},
		"time of an abort":      {wal.Stop{Time: sec(5), Exclusive: true}, d, false, 3, 3},
		"time too late":         {wal.Stop{Time: sec(6)}, 0, false, 4, 6},
		"lsn":                   {wal.Stop{LSN: c}, c, true, 3, 3},
		"within a record":       {wal.Stop{LSN: c + 1}, p, true, 3, 3},
		"before lsn":            {wal.Stop{LSN: c, Exclusive: true}, c, false, 2, 3},
		"transaction":           {wal.Stop{XID: 12}, c, true, 3, 3},
		"before it":             {wal.Stop{XID: 12, Exclusive: true}, c, false, 2, 3},
		"one that was aborted":  {wal.Stop{XID: 13}, d, true, 3, 3},
		"one that was prepared": {wal.Stop{XID: 14}, e, true, 4, 6},
		"no such transaction":   {wal.Stop{XID: 99}, 0, false, 4, 6},
		"restore point":         {wal.Stop{Name: "p", Exclusive: true}, p, true, 3, 3},
		"no such point":         {wal.Stop{Name: "q"}, 0, false, 4, 6},
	} {
		s, err := wal.Summarize(bytes.NewReader(w.b), wal.Config{Start: mib}, tc.stop)
		if err != nil {
			t.Fatal(err)
		}
		last := sec(tc.last)
		if tc.last == 0 {
			last = time.Time{}
		}
		if s.Stopped != (tc.at != 0) || s.Stop.LSN != tc.at || s.Included != tc.included || s.Commits != tc.commits || !s.Last.Equal(last) {
			t.Errorf("%s: %+v", name, s)
		}
		if tc.commits > 0 && !s.First.Equal(sec(1)) || tc.commits > 0 && s.Begin != a {
			t.Errorf("%s: first %v at %v", name, s.First, s.Begin)
		}
	}
}

// A length that lies costs no memory, and an error of the reader is passed on.
func TestReader(t *testing.T) {
	w := newBuilder(mib, mib)
	w.commit(3, noon)
	broken := errors.New("broken")
	for _, err := range wal.Records(iotest.TimeoutReader(bytes.NewReader(w.b)), wal.Config{Start: mib}) {
		if err != nil && !errors.Is(err, iotest.ErrTimeout) {
			t.Error(err)
		}
	}
	s := wal.NewScanner(wal.Config{Start: mib})
	if err := s.Scan(w.b, func(wal.Record) error { return broken }); !errors.Is(err, broken) || !errors.Is(s.Scan(w.b, nil), broken) {
		t.Errorf("scan: %v", err)
	}
	w = newBuilder(mib, mib)
	w.record(1, 0xB0, 3, make([]byte, 100))
	binary.LittleEndian.PutUint32(w.b[40:], 1<<29)
	if n := testing.AllocsPerRun(5, func() { scan(t, w.b, wal.Config{Start: mib}) }); n > 30 {
		t.Errorf("%v allocations", n)
	}
	for range wal.Records(bytes.NewReader(w.b), wal.Config{Start: mib}) {
		t.Error("a record that is not whole was delivered")
	}
}
