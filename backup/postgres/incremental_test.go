package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// changed is a file as a server sends it, whose blocks hold their numbers.
func changed(kept uint32, numbers ...uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, incrementalMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(numbers)))
	b = binary.LittleEndian.AppendUint32(b, kept)
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	if len(numbers) > 0 {
		b = append(b, make([]byte, -len(b)&8191)...)
	}
	for _, n := range numbers {
		b = append(b, bytes.Repeat([]byte{byte(n)}, 8192)...)
	}
	return b
}

func TestReadChanges(t *testing.T) {
	const segment = 131072
	many := make([]uint32, 5000) // more than a block of numbers
	for i := range many {
		many[i] = uint32(3 * i)
	}
	for _, c := range []struct {
		kept, length uint32
		numbers      []uint32
	}{{0, 0, nil}, {7, 7, nil}, {7, 7, []uint32{0, 6}}, {7, 8, []uint32{7}}, {0, segment, []uint32{0, segment - 1}}, {3, 14998, many}, {segment, segment, nil}} {
		b := changed(c.kept, c.numbers...)
		in := bytes.NewReader(b)
		got, err := readChanges(in, int64(len(b)), 8192, segment)
		if err != nil || got.kept != c.kept || !slices.Equal(got.blocks, c.numbers) || got.length() != c.length || in.Len() != 8192*len(c.numbers) {
			t.Errorf("%d, %v: %v, %v, %d bytes are left", c.kept, c.numbers, got, err, in.Len())
		}
	}
	// As some servers have it.
	if got, err := readChanges(bytes.NewReader(changed(1<<31)), 12, 8192, segment); err != nil || got.kept != segment {
		t.Errorf("kept over the end: %v, %v", got, err)
	}

	good := changed(9, 1, 2, 3)
	bad := func(at int, value uint32) []byte {
		b := bytes.Clone(good)
		binary.LittleEndian.PutUint32(b[at:], value)
		return b
	}
	for what, b := range map[string][]byte{"is no file of changes": bad(0, 5), "a file has 131072 at most": bad(4, 1<<31), "it announces": bad(4, 4), "follows where it cannot": bad(12, 2),
		"block 131072 follows": bad(20, segment), "and with the 3 blocks": good[:len(good)-1], "with the 0 blocks": changed(1)[:12:12]} {
		size := int64(len(b))
		if what == "with the 0 blocks" {
			size++
		}
		if _, err := readChanges(bytes.NewReader(b), size, 8192, segment); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range 8192 { // of the header
		if _, err := readChanges(bytes.NewReader(good[:n]), int64(len(good)), 8192, segment); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("ends after %d bytes: %v", n, err)
		}
	}
	odd := errors.New("odd")
	if _, err := readChanges(iotest.ErrReader(odd), 12, 8192, segment); !errors.Is(err, odd) {
		t.Errorf("%v", err)
	}
}

func TestChangesOf(t *testing.T) {
	for path, want := range map[string]string{"base/5/INCREMENTAL.16384": "base/5/16384", "global/INCREMENTAL.1262_vm": "global/1262_vm",
		"pg_tblspc/16385/PG_17_202406281/5/INCREMENTAL.16384.2": "pg_tblspc/16385/PG_17_202406281/5/16384.2",
		"base/5/16384": "", "base/5/INCREMENTAL.": "", "base/5/INCREMENTAL.notes": "", "INCREMENTAL.16384": "", "own/INCREMENTAL.16384": "", "base/INCREMENTAL.5/16384": ""} {
		if got, is := changesOf(path); is != (want != "") || is && got != want {
			t.Errorf("%s: %s, %t", path, got, is)
		}
	}
}

// A label without the lines of an incremental backup is one of a whole one, if
// it is of what was asked for.
func TestLabelOfChanges(t *testing.T) {
	e := &earlier{b: base{Start: 0x2000028, Timeline: 3}}
	text := "START WAL LOCATION: 0/4000028 (file 000000030000000000000004)\nBACKUP METHOD: streamed\nINCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 3\nSTART TIMELINE: 3\n"
	got, err := e.label([]byte(text))
	if want := "START WAL LOCATION: 0/4000028 (file 000000030000000000000004)\nBACKUP METHOD: streamed\nSTART TIMELINE: 3\n"; err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
	for old, other := range map[string]string{"FROM LSN: 0/2000028": "FROM LSN: 0/2000030", "FROM TLI: 3": "FROM TLI: 2", "INCREMENTAL FROM LSN": "SINCE LSN", "0/2000028": "x"} {
		if _, err := e.label([]byte(strings.Replace(text, old, other, 1))); err == nil || !strings.Contains(err.Error(), "was asked for that since 0/2000028 on 3") {
			t.Errorf("%s: %v", other, err)
		}
	}
}

// Whatever a server sends, it is what is said to be there that is read, in
// bounded memory.
func FuzzChanges(f *testing.F) {
	f.Add(changed(0))
	f.Add(changed(5, 1, 4))
	f.Add(changed(1<<31, 0, 131071)[:9000])
	f.Add(bytes.Repeat([]byte{0xff}, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(b)
		c, err := readChanges(in, int64(len(b)), 8192, 131072)
		if err != nil {
			return
		}
		if in.Len() != 8192*len(c.blocks) || c.length() > 131072 || c.kept > c.length() || !slices.IsSorted(c.blocks) {
			t.Errorf("%v, %d bytes are left", c, in.Len())
		}
		for _, n := range c.blocks {
			if n >= c.length() {
				t.Errorf("block %d of %d", n, c.length())
			}
		}
	})
}
