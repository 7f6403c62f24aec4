package files

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// The walk is ahead of whoever takes its entries: they come in its order, all
// of them, and breaking off ends it.
func TestAhead(t *testing.T) {
	root := t.TempDir()
	want := []string{rootPath}
	for i := range 5*window + 7 {
		name := fmt.Sprintf("f%04d", i)
		want = append(want, name)
		if err := os.WriteFile(filepath.Join(root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target, err := New(Config{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(root)
	if err != nil {
		t.Fatal(err)
	}
	top, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	open := openFiles(t)
	for _, n := range []int{1, window, window + 1, 3 * window, len(want) - 1, len(want)} {
		w := &walker{t: target, root: top}
		var got []string
		for e := range w.ahead(fi) { // returns when the walk has ended
			if e.err != nil || e.meta.Type == "" || len(e.encoded()) == 0 {
				t.Errorf("%s is not described: %+v", e.rel, e)
			}
			if e.held != (e.rel != rootPath) {
				t.Errorf("%s: its directory stays open: %t", e.rel, e.held)
			}
			e.release()
			if got = append(got, e.rel); len(got) == n {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want[:n]) {
			t.Errorf("broken off after %d: %v", n, got)
		}
		w.stop()
		if now := openFiles(t); now != open {
			t.Errorf("broken off after %d: %d files are open, were %d before", n, now, open)
		}
	}
}

// openFiles is how many this process has, where that can be told.
func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	return len(names)
}

// What the parent says is taken over if it says what was found, and was said
// long enough after the last change. In other words, of a later version for
// instance, it is still compared by what it says.
func TestRecorded(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "f")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	var now status
	now.set(fi)
	touched := fi.ModTime()
	if now.meta.Change != 0 {
		touched = time.Unix(0, now.meta.Change)
	}
	changed := func(f func(*meta)) string {
		m := now.meta
		f(&m)
		return string(m.encode())
	}
	same := string(now.meta.encode())
	xattr := changed(func(m *meta) { m.Xattrs = map[string][]byte{"user.a": []byte("b")} })
	for _, c := range []struct {
		meta            string
		size            int64
		same, unchanged bool
	}{
		{same, 1, true, true},
		{xattr, 1, true, true},
		{" " + same, 1, false, true},
		{same, 2, false, false},
		{" " + same, 2, false, false},
		{changed(func(m *meta) { m.Mode ^= 0o100 }), 1, false, true},
		{changed(func(m *meta) { m.ModTime = m.ModTime.Add(-1) }), 1, false, false},
		{changed(func(m *meta) { m.Change-- }), 1, false, false},
		{changed(func(m *meta) { m.Inode++ }), 1, false, false},
		{changed(func(m *meta) { m.Inode = m.Inode*10 + 1 }), 1, false, false},
		{changed(func(m *meta) { m.Type = typeLink }), 1, false, false},
		{"{", 1, false, false},
		{"", 1, false, false},
	} {
		e := &entry{status: now, before: backup.Item{Path: "f", Meta: json.RawMessage(c.meta), Size: c.size}}
		w := &walker{since: touched.Add(coarsest + 1)}
		if got := w.recorded(e); got != (c.same && now.meta.Change != 0) {
			t.Errorf("recorded as %s of %d bytes: taken over is %v", c.meta, c.size, got)
		}
		if got := unchanged(now.size, now.meta, e.before, w.since); got != c.unchanged {
			t.Errorf("recorded as %s of %d bytes: unchanged is %v", c.meta, c.size, got)
		}
		w.since = touched.Add(coarsest)
		if w.recorded(e) || unchanged(now.size, now.meta, e.before, w.since) {
			t.Errorf("recorded as %s in the moment of the backup: counts as unchanged", c.meta)
		}
	}
}

// A description is encoded as package json would do it.
func TestEncode(t *testing.T) {
	for _, m := range []meta{
		{Type: typeFile},
		{Type: typeFile, Mode: 0o4755, ModTime: time.Date(2026, 11, 23, 8, 47, 35, 123456000, time.UTC), Change: 1, Inode: 1<<64 - 1},
		{Type: typeDir, Mode: 0o7777, Owner: &owner{User: 1<<32 - 1, Group: 3}, ModTime: recordable(time.Unix(-1<<40, 5)), Change: -7},
		{Type: typeFile, ModTime: recordable(time.Unix(1<<40, 1)), Inode: 5},
		{Type: typeSymlink, Link: []byte("a\x00\xff"), Inode: 5},
		{Type: typeDevice, Device: 7, Format: charDevice, Inode: 5},
		{Type: typeFIFO, Xattrs: map[string][]byte{"user.\x01": {0}}, Inode: 5},
	} {
		want, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.encode(); string(got) != string(want) {
			t.Errorf("%s, want %s", got, want)
		}
		if head := m.appendHead(nil); !bytes.HasPrefix(want, head) || len(want) == len(head) {
			t.Errorf("%s does not begin with %s", want, head)
		}
	}
}
