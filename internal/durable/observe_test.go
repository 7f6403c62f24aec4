package durable

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestOrder pins what no crash of a process can show: that content is synced
// before it gets its name, and the name before the call returns.
func TestOrder(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"mkdir", func() error { return MkdirAll(root, "a/b") }, []string{"mkdir a", "sync .", "mkdir a/b", "sync a"}},
		{"mkdir again", func() error { return MkdirAll(root, "a/b") }, []string{"mkdir a", "sync .", "mkdir a/b", "sync a"}},
		{"write", func() error { return WriteFile(root, "a/f", []byte("x")) }, []string{"sync a/f.tmp", "rename a/f", "sync a"}},
		{"create", func() error { return CreateFile(root, "a/g", []byte("x")) }, []string{"sync a/g.tmp", "link a/g", "sync a"}},
		{"remove", func() error { return Remove(root, "a/f") }, []string{"remove a/f", "sync a"}},
	} {
		var got []string
		stop := Observe(func(op string, _ *os.Root, name string) {
			name, _, staged := strings.Cut(name, ".tmp-")
			if staged {
				name += ".tmp"
			}
			got = append(got, op+" "+name)
		})
		err := c.do()
		stop()
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
}
