package wal_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

func TestLSN(t *testing.T) {
	for s, want := range map[string]wal.LSN{"0/0": 0, "16/B374D848": 0x16B374D848, "FFFFFFFF/ffffffff": 1<<64 - 1, "0/1": 1} {
		got, err := wal.ParseLSN(s)
		if err != nil || got != want || !strings.EqualFold(got.String(), s) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "/", "1", "1/", "/1", "1/2/3", "1/123456789", "g/1", "+1/1", "-1/1", "1/0x1", " 1/1", "1_0/1"} {
		if l, err := wal.ParseLSN(s); err == nil {
			t.Errorf("%q is %v", s, l)
		}
	}
}

// As pg_walfile_name says.
func TestSegmentNames(t *testing.T) {
	for _, tc := range []struct {
		timeline uint32
		at       wal.LSN
		size     uint64
		name     string
		start    wal.LSN
	}{
		{1, 0x1000028, 16 << 20, "000000010000000000000001", 0x1000000},
		{10, 0x16B374D848, 16 << 20, "0000000A00000016000000B3", 0x16B3000000},
		{1, 0x1FFFFFFFF, 16 << 20, "0000000100000001000000FF", 0x1FF000000},
		{1, 0x1FFFFFFFF, 1 << 20, "000000010000000100000FFF", 0x1FFF00000},
		{1, 0x200000000, 1 << 30, "000000010000000200000000", 0x200000000},
		{255, 0x1FFFFFFFF, 1 << 30, "000000FF0000000100000003", 0x1C0000000},
	} {
		if got := wal.SegmentName(tc.timeline, tc.at, tc.size); got != tc.name {
			t.Errorf("%v of %d: %s, want %s", tc.at, tc.size, got, tc.name)
		}
		if timeline, start, err := wal.ParseSegmentName(tc.name, tc.size); err != nil || timeline != tc.timeline || start != tc.start {
			t.Errorf("%s: %d, %v, %v", tc.name, timeline, start, err)
		}
	}
	for _, name := range []string{"", "00000001000000000000000", "0000000100000000000000011", "000000000000000000000001", "000000010000000000000100",
		"00000001000000000000000g", "0000000a00000016000000b3", "+00000010000000000000001", "000000010000000000000001.partial"} {
		if timeline, start, err := wal.ParseSegmentName(name, 16<<20); err == nil {
			t.Errorf("%q is %d, %v", name, timeline, start)
		}
	}
	for _, size := range []uint64{0, 1 << 19, 3 << 20, 1 << 31} {
		if _, _, err := wal.ParseSegmentName("000000010000000000000001", size); err == nil {
			t.Errorf("segments of %d bytes", size)
		}
	}
}

func TestHistory(t *testing.T) {
	text := "1\t0/5000060\tno recovery target specified\n\n2\t0/6000148\tbefore 2026-11-30 01:02:03+00\n"
	got, err := wal.ParseHistory(5, []byte(text))
	want := []wal.Switch{{1, 0x5000060, "no recovery target specified"}, {2, 0x6000148, "before 2026-11-30 01:02:03+00"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	if back := string(wal.FormatHistory(got)); back != text {
		t.Errorf("written back: %q", back)
	}
	if got, err := wal.ParseHistory(2, []byte("# a comment\n\n  1 0/10\n")); err != nil || len(got) != 1 || got[0] != (wal.Switch{Timeline: 1, At: 16}) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := wal.ParseHistory(1, nil); err != nil || got != nil {
		t.Errorf("the first: %v, %v", got, err)
	}
	// Recovery was to follow timelines and ended before they began.
	for text, want := range map[string][]wal.Switch{
		"1\t0/30\ta\n2\t0/20\tb\n":                         {{1, 0x20, "b"}},
		"1\t0/10\ta\n2\t0/30\tb\n3\t0/20\tc\n":             {{1, 0x10, "a"}, {2, 0x20, "c"}},
		"1\t0/20\ta\n2\t0/30\tb\n3\t0/10\tc\n":             {{1, 0x10, "c"}},
		"1\t0/10\ta\n2\t0/30\tb\n3\t0/10\tc\n":             {{1, 0x10, "a"}, {2, 0x10, "c"}},
		"1\t0/30\ta\n2\t0/20\tb\n3\t0/40\tc\n":             {{1, 0x20, "b"}, {3, 0x40, "c"}},
		"1\t0/10\ta\n2\t0/10\tb\n":                         {{1, 0x10, "a"}, {2, 0x10, "b"}},
		"1\t0/40\ta\n2\t0/30\tb\n3\t0/20\tc\n4\t0/30\td\n": {{1, 0x20, "c"}, {4, 0x30, "d"}},
	} {
		if got, err := wal.ParseHistory(5, []byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for name, tc := range map[string]string{
		"no number":    "x\t0/1\ty",
		"zero":         "0\t0/1\ty",
		"no position":  "1",
		"bad position": "1\t1\ty",
		"order":        "2\t0/1\ty\n1\t0/2\ty",
		"twice":        "1\t0/1\ty\n1\t0/2\ty",
		"younger, cut": "1\t0/2\ty\n6\t0/1\ty",
		"order, cut":   "1\t0/2\ty\n3\t0/1\ty\n2\t0/3\ty",
		"itself":       "5\t0/2\ty",
		"younger":      "6\t0/2\ty",
		"empty":        "# nothing\n",
		"too long":     strings.Repeat("#", 65<<10),
	} {
		if got, err := wal.ParseHistory(5, []byte(tc)); err == nil || !strings.Contains(err.Error(), "00000005.history") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
