package files_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// restored is one restore, with the progress at its end.
func restored(t testing.TB, r *backup.Repository, id backup.PointID, target *files.Target, dest string, options ...string) (backup.Progress, error) {
	t.Helper()
	d := backup.Destination{Location: dest, Options: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		d.Options[k] = v
	}
	var last backup.Progress
	err := r.Restore(t.Context(), id, target, d, backup.RestoreOptions{Progress: func(p backup.Progress) { last = p }})
	return last, err
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func backedUp(t testing.TB, root string) (*backup.Repository, *files.Target, backup.Point) {
	t.Helper()
	r := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	p, err := r.Backup(t.Context(), "files", target, backup.BackupOptions{})
	must(t, err)
	return r, target, p
}

// A part of a point is restored by path and by pattern, and what is on the
// way to it looks as it did.
func TestPartialRestore(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"etc/app/a.conf", "etc/app/b.conf", "etc/app/cache/x", "etc/other/c.conf", "srv/a.conf", "srv/data", "top.conf"} {
		write(t, root, p, p)
	}
	must(t, os.Chmod(filepath.Join(root, "etc"), 0o751), os.Link(filepath.Join(root, "etc/app/a.conf"), filepath.Join(root, "srv/same")),
		os.Link(filepath.Join(root, "etc/app/a.conf"), filepath.Join(root, "srv/third")))
	r, target, p := backedUp(t, root)
	all := snapshot(t, root)
	for name, c := range map[string]struct {
		options []string
		want    string // files and links
	}{
		"a file":         {[]string{"include=etc/app/b.conf"}, "etc/app/b.conf"},
		"a directory":    {[]string{"include=/etc/app/"}, "etc/app/a.conf etc/app/b.conf etc/app/cache/x"},
		"names":          {[]string{"include=*.conf"}, "etc/app/a.conf etc/app/b.conf etc/other/c.conf srv/a.conf top.conf"},
		"whole paths":    {[]string{"include=*/a.conf"}, "srv/a.conf"},
		"anchored":       {[]string{"include=/*.conf"}, "top.conf"},
		"any depth":      {[]string{"include=etc/**/*.conf"}, "etc/app/a.conf etc/app/b.conf etc/other/c.conf"},
		"two":            {[]string{"include=top.conf\nsrv/data"}, "srv/data top.conf"},
		"but":            {[]string{"include=etc", "exclude=cache\netc/other"}, "etc/app/a.conf etc/app/b.conf"},
		"without":        {[]string{"exclude=etc\nsame\nthird"}, "srv/a.conf srv/data top.conf"},
		"further names":  {[]string{"include=srv"}, "srv/a.conf srv/data srv/same srv/third"},
		"one of them":    {[]string{"include=srv/third"}, "srv/third"},
		"with the first": {[]string{"include=srv/third\netc/app/a.conf"}, "etc/app/a.conf srv/third"},
	} {
		t.Run(name, func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "new")
			last, err := restored(t, r, p.ID, target, dest, c.options...)
			must(t, err)
			if last.Items != last.TotalItems || last.Bytes != last.TotalBytes || last.Done() != 1 {
				t.Errorf("progress ends at %+v", last)
			}
			var got []string
			for path, line := range snapshot(t, dest) {
				if line[0] != 'd' {
					got = append(got, path)
				}
				if path != "." && line != all[path] {
					t.Errorf("%s is %q, want %q", path, line, all[path])
				}
			}
			if slices.Sort(got); strings.Join(got, " ") != c.want {
				t.Errorf("restored %q, want %q", got, c.want)
			}
			a, aerr := os.Stat(filepath.Join(dest, "srv/same"))
			b, berr := os.Stat(filepath.Join(dest, "srv/third"))
			if aerr == nil && berr == nil && !os.SameFile(a, b) {
				t.Error("two names of one file became two files")
			}
		})
	}
	for name, c := range map[string]struct{ options, want string }{
		"include": {"include=etc\nno/such", "no/such"},
		"exclude": {"exclude=nothing.*", "nothing.*"},
		"syntax":  {"include=[", "["},
		"up":      {"include=../etc", "../etc"},
		"empty":   {"include=/", "/"},
	} {
		t.Run("bad "+name, func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "new")
			if _, err := restored(t, r, p.ID, target, dest, c.options); err == nil || !strings.Contains(err.Error(), `"`+c.want+`"`) {
				t.Errorf("restore: %v, should name %q", err, c.want)
			}
			if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
				t.Error("something was written")
			}
		})
	}
}

// In place, only what differs is written, to the block.
func TestInPlace(t *testing.T) {
	root := t.TempDir()
	big := make([]byte, 24<<20)
	rand.NewChaCha8([32]byte{}).Read(big)
	write(t, root, "big", string(big))
	write(t, root, "small", "small")
	write(t, root, "same", "same")
	write(t, root, "gone", "gone")
	write(t, root, "kind", "a file")
	r, target, p := backedUp(t, root)
	want := snapshot(t, root)
	inode := func() string {
		fi, err := os.Stat(filepath.Join(root, "big"))
		must(t, err)
		return fmt.Sprint(files.InodeOf(fi))
	}
	before := inode()
	for name, change := range map[string]func(f *os.File) error{
		"a byte in the middle": func(f *os.File) error { _, err := f.WriteAt([]byte{1}, 12<<20); return err },
		"longer":               func(f *os.File) error { return f.Truncate(30 << 20) },
		"shorter":              func(f *os.File) error { return f.Truncate(23 << 20) },
		"times":                func(f *os.File) error { return os.Chtimes(f.Name(), time.Time{}, time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.OpenFile(filepath.Join(root, "big"), os.O_RDWR, 0)
			must(t, err)
			must(t, change(f), f.Close())
			write(t, root, "small", "other")
			must(t, os.RemoveAll(filepath.Join(root, "gone")), os.RemoveAll(filepath.Join(root, "kind")), os.Symlink("/etc", filepath.Join(root, "kind")))
			last, err := restored(t, r, p.ID, target, root, "overwrite=true", "verify=true")
			must(t, err)
			same(t, snapshot(t, root), want)
			if last.Read > 3<<20 || last.Bytes != p.Stats.Bytes || last.Items != p.Stats.Items {
				t.Errorf("%d bytes were written; progress %+v", last.Read, last)
			}
			if inode() != before {
				t.Error("big was replaced, not rewritten")
			}
		})
	}
	// Nothing to do is nothing written, not even times.
	last, err := restored(t, r, p.ID, target, root, "overwrite=true")
	must(t, err)
	if last.Read != 0 {
		t.Errorf("%d bytes were written without need", last.Read)
	}
}

// compare=times believes times and sizes; content does not.
func TestCompareTimes(t *testing.T) {
	root := t.TempDir()
	write(t, root, "f", "right")
	r, target, p := backedUp(t, root)
	fi, err := os.Stat(filepath.Join(root, "f"))
	must(t, err)
	write(t, root, "f", "wrong")
	must(t, os.Chtimes(filepath.Join(root, "f"), time.Time{}, fi.ModTime()))
	for _, c := range []struct{ how, want string }{{"times", "wrong"}, {"content", "right"}} {
		_, err := restored(t, r, p.ID, target, root, "overwrite=true", "compare="+c.how)
		must(t, err)
		if b, err := os.ReadFile(filepath.Join(root, "f")); err != nil || string(b) != c.want {
			t.Errorf("compare=%s leaves %q, %v; want %q", c.how, b, err, c.want)
		}
	}
}

// Extra files stay, unless mirror asks for the point and nothing else; and
// even then not what a backup leaves out or what is not selected.
func TestMirror(t *testing.T) {
	build := func(t *testing.T) string {
		root := t.TempDir()
		for _, p := range []string{"a/one", "b/two", "kind/in", "f"} {
			write(t, root, p, p)
		}
		return root
	}
	root := build(t)
	r, target, p := backedUp(t, root)
	want := snapshot(t, root)
	spoil := func(t *testing.T) {
		must(t, os.RemoveAll(filepath.Join(root, "kind")), os.RemoveAll(filepath.Join(root, "f")))
		write(t, root, "kind", "now a file")
		write(t, root, "f/now/a/directory", "x")
		write(t, root, "a/extra/deep", "x")
		write(t, root, "b/extra", "x")
		write(t, root, "b/cache/keep.tmp", "x")
		must(t, os.Symlink("/etc", filepath.Join(root, "extra")))
	}
	spoil(t)
	if _, err := restored(t, r, p.ID, target, root, "overwrite=true"); err == nil {
		t.Error("a directory with something in it was replaced without being asked")
	}
	if _, err := os.Lstat(filepath.Join(root, "f/now/a/directory")); err != nil {
		t.Error(err)
	}
	if _, err := restored(t, r, p.ID, target, root, "mirror=true"); err == nil {
		t.Error("mirror without overwrite was accepted")
	}
	// Only in a.
	_, err := restored(t, r, p.ID, target, root, "overwrite=true", "mirror=true", "include=/a")
	must(t, err)
	got := snapshot(t, root)
	if got["a/extra"] != "" || got["b/extra"] == "" || got["extra"] == "" || got["f/now/a/directory"] == "" {
		t.Errorf("mirroring a leaves %v", got)
	}
	// Everything but what backups leave out.
	_, err = restored(t, r, p.ID, newTarget(t, files.Config{Exclude: []string{"*.tmp"}}), root, "overwrite=true", "mirror=true")
	must(t, err)
	got = snapshot(t, root)
	if got["b/cache/keep.tmp"] == "" || got["b/extra"] != "" || got["extra"] != "" {
		t.Errorf("mirroring leaves %v", got)
	}
	_, err = restored(t, r, p.ID, target, root, "overwrite=true", "mirror=true")
	must(t, err)
	same(t, snapshot(t, root), want)
}

// A restore that was killed goes on where it was: what is there is not
// written again, and what the first left behind is removed.
func TestResume(t *testing.T) {
	root := t.TempDir()
	for i := range 200 {
		write(t, root, fmt.Sprintf("d%d/f%03d", i%7, i), strings.Repeat(fmt.Sprint(i), 3000))
	}
	big := make([]byte, 20<<20)
	rand.NewChaCha8([32]byte{2}).Read(big)
	write(t, root, "d3/big", string(big))
	r, target, p := backedUp(t, root)
	for stop := range 1 { // progress comes too seldom to count further
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			dest := filepath.Join(t.TempDir(), "new")
			// The state after a kill: some files whole, one cut short, one
			// with a hole where a block was to be, one under a temporary name.
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			n := 0
			err := r.Restore(ctx, p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{Progress: func(backup.Progress) {
				if n++; n > stop {
					cancel()
				}
			}})
			if err == nil {
				t.Fatal("it was done before it could be killed")
			}
			half := slices.Concat(big[:5<<20], make([]byte, 3<<20), big[8<<20:12<<20])
			write(t, dest, "d3/big", string(half))
			write(t, dest, "d0/f000", "")
			write(t, dest, "d1/.holdfast-0123456789abcdef01234567", "left")
			there := int64(0)
			for path, line := range snapshot(t, dest) {
				if strings.Contains(path, "/f") && len(line) > 3000 {
					b, err := os.ReadFile(filepath.Join(dest, path))
					must(t, err)
					there += int64(len(b))
				}
			}
			last, err := restored(t, r, p.ID, target, dest, "overwrite=true", "verify=true")
			must(t, err)
			same(t, snapshot(t, dest), snapshot(t, root))
			if want := p.Stats.Bytes - there - 8<<20 + 2<<20; last.Read > want {
				t.Errorf("%d bytes were written, at most %d were missing", last.Read, want)
			}
		})
	}
}

// Zeroes become holes, and a file that grew dense gets none of its old bytes.
func TestRestoreHoles(t *testing.T) {
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "sparse"))
	must(t, err)
	_, err = f.WriteAt([]byte("begin"), 0)
	must(t, err)
	_, err = f.WriteAt([]byte("end"), 64<<20)
	must(t, err, f.Truncate(80<<20), f.Close())
	r, target, p := backedUp(t, root)
	dest := filepath.Join(t.TempDir(), "new")
	_, err = restored(t, r, p.ID, target, dest)
	must(t, err)
	check := func() {
		t.Helper()
		a, err := os.ReadFile(filepath.Join(root, "sparse"))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(dest, "sparse"))
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Error("other content")
		}
		if n := files.Allocated(t, filepath.Join(dest, "sparse")); n > 4<<20 {
			t.Errorf("%d bytes of disk for a file of 8 bytes and two holes", n)
		}
	}
	check()
	write(t, dest, "sparse", strings.Repeat("x", 70<<20))
	_, err = restored(t, r, p.ID, target, dest, "overwrite=true")
	must(t, err)
	check()
}

// A plan tells what a restore does, to the byte, and does nothing.
func TestPlan(t *testing.T) {
	root := t.TempDir()
	for _, p := range []string{"dir/same", "dir/other", "gone/deep", "times", "link"} {
		write(t, root, p, p)
	}
	must(t, os.Symlink("dir", filepath.Join(root, "symlink")), os.Link(filepath.Join(root, "link"), filepath.Join(root, "link2")))
	r, target, p := backedUp(t, root)
	write(t, root, "dir/other", "is changed")
	write(t, root, "extra/one", "123")
	must(t, os.RemoveAll(filepath.Join(root, "gone")), os.Chtimes(filepath.Join(root, "times"), time.Time{}, time.Unix(1, 0)))
	before := snapshot(t, root)
	v, err := r.View(t.Context(), p.ID)
	must(t, err)
	for _, c := range []struct{ mirror, want string }{
		{"false", "modify . 0, modify dir/other 9, create gone 0, create gone/deep 9, modify times 0"},
		{"true", "modify . 0, modify dir/other 9, delete extra 0, delete extra/one 3, create gone 0, create gone/deep 9, modify times 0"},
	} {
		d := backup.Destination{Location: root, Options: map[string]string{"overwrite": "true", "mirror": c.mirror}}
		var got []string
		for ch, err := range target.Plan(t.Context(), v, d) {
			must(t, err)
			got = append(got, fmt.Sprint(ch.Action, " ", ch.Path, " ", ch.Bytes))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("mirror=%s: plan is %q, want %q", c.mirror, got, c.want)
		}
		same(t, snapshot(t, root), before)
	}
	d := backup.Destination{Location: root, Options: map[string]string{"overwrite": "true", "mirror": "true"}}
	must(t, r.Restore(t.Context(), p.ID, target, d, backup.RestoreOptions{}))
	for ch, err := range target.Plan(t.Context(), v, d) {
		t.Errorf("after the restore there is still to do: %v %v", ch, err)
	}
	new := backup.Destination{Location: filepath.Join(t.TempDir(), "new")}
	n, bytes := 0, int64(0)
	for ch, err := range target.Plan(t.Context(), v, new) {
		must(t, err)
		if n++; ch.Action != files.Create {
			t.Errorf("%v", ch)
		}
		bytes += ch.Bytes
	}
	if int64(n) != p.Stats.Items || bytes != p.Stats.Bytes {
		t.Errorf("%d items, %d bytes; want %d, %d", n, bytes, p.Stats.Items, p.Stats.Bytes)
	}
}
