package files

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

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
	for _, n := range []int{1, window, window + 1, 3 * window, len(want) - 1, len(want)} {
		w := &walker{t: target, root: top}
		var got []string
		for e := range w.ahead(fi) { // returns when the walk has ended
			if e.err != nil || e.meta.Type == "" || len(e.enc) == 0 {
				t.Errorf("%s is not described: %+v", e.rel, e)
			}
			if got = append(got, e.rel); len(got) == n {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want[:n]) {
			t.Errorf("broken off after %d: %v", n, got)
		}
		w.stop()
	}
}

// A description that was recorded in other words, by a later version for
// instance, is still compared by what it says.
func TestUnchangedInOtherWords(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, "f")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	now := describe(fi)
	since := fi.ModTime().Add(2 * coarsest)
	same, other := now.encode(), now
	other.ModTime = other.ModTime.Add(-1)
	for _, c := range []struct {
		meta string
		size int64
		want bool
	}{
		{string(same), 1, true},
		{" " + string(same), 1, true},
		{string(same), 2, false},
		{" " + string(same), 2, false},
		{string(other.encode()), 1, false},
		{"{", 1, false},
	} {
		before := backup.Item{Path: "f", Meta: json.RawMessage(c.meta), Size: c.size}
		if got := unchangedEncoded(fi.Size(), now, same, before, since); got != c.want {
			t.Errorf("recorded as %s of %d bytes: unchanged is %v", c.meta, c.size, got)
		}
		if unchangedEncoded(fi.Size(), now, same, before, fi.ModTime()) {
			t.Errorf("recorded as %s in the moment of the backup: counts as unchanged", c.meta)
		}
	}
}
