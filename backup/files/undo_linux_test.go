package files_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// everything describes a tree with all that a restore can change: content,
// modes, times, owners, attributes, and which names are of one file.
func everything(t testing.TB, root string) map[string]string {
	t.Helper()
	out := snapshot(t, root)
	groups := map[uint64][]string{}
	for rel := range out {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(root, rel), &st))
		if st.Nlink > 1 && st.Mode&unix.S_IFMT == unix.S_IFREG {
			groups[st.Ino] = append(groups[st.Ino], rel)
		}
		names := make([]byte, 1000)
		n, err := unix.Llistxattr(filepath.Join(root, rel), names)
		must(t, err)
		var list []string
		for name := range strings.SplitSeq(strings.Trim(string(names[:n]), "\x00"), "\x00") {
			if name == "" {
				continue
			}
			b := make([]byte, 1000)
			n, err := unix.Lgetxattr(filepath.Join(root, rel), name, b)
			must(t, err)
			list = append(list, fmt.Sprintf("%s=%x", name, b[:n]))
		}
		slices.Sort(list)
		out[rel] += fmt.Sprintf(" | %d:%d %o %d %d %q", st.Uid, st.Gid, st.Mode, st.Rdev, st.Nlink, list)
	}
	for _, g := range groups {
		slices.Sort(g)
		for _, rel := range g {
			out[rel] += fmt.Sprintf(" one with %q", g)
		}
	}
	return out
}

// changed makes a tree, a point of it, and then changes everything about it.
func changed(t testing.TB) (root string, r *backup.Repository, target *files.Target, p backup.Point) {
	t.Helper()
	root = source(t)
	at := func(p string) string { return filepath.Join(root, p) }
	write(t, root, "big", strings.Repeat("a line of a large file\n", 300_000))
	write(t, root, "kind/a", "x")
	write(t, root, "kind2", "x")
	write(t, root, "times", "x")
	must(t, os.Link(at("times"), at("times2")), unix.Mkfifo(at("pipe"), 0o640))
	r, target, p = backedUp(t, root)

	f, err := os.OpenFile(at("big"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("XXXX"), 3<<20)
	must(t, err, f.Close())
	must(t, os.RemoveAll(at("deep")), os.RemoveAll(at("kind")), os.Remove(at("kind2")), os.Remove(at("link")), os.Remove(at("pipe")))
	write(t, root, "kind", "was a directory")
	write(t, root, "kind2/deep/inside", "was a file")
	write(t, root, "a/extra", "extra")
	write(t, root, "extra/dir/file", "extra")
	must(t, os.Symlink("elsewhere", at("link")), os.WriteFile(at("pipe"), []byte("was a pipe"), 0o600))
	must(t, os.Link(at("a/two"), at("extra/two")), os.Link(at("extra/dir/file"), at("extra/same")), os.Link(at("a-b"), at("a/beside")))
	must(t, os.WriteFile(at("a/two"), []byte("new content of both names"), 0o600))
	must(t, unix.Setxattr(at("times"), "user.x", []byte("y"), 0), unix.Setxattr(at("ro"), "user.x", []byte("y"), 0))
	must(t, os.Chmod(at("ro"), 0o700), os.Chmod(at("big"), 0o4711|os.ModeSetuid), os.Chmod(root, 0o711))
	must(t, unix.Mkfifo(at("extra/fifo"), 0o604), os.Remove(at("empty")))
	if os.Geteuid() == 0 {
		must(t, os.Lchown(at("odd \n\t name"), 5, 6), os.Lchown(at("dangling"), 7, 8), unix.Mknod(at("extra/null"), unix.S_IFCHR|0o600, 1<<8|3))
	}
	for i, p := range []string{"a", "extra/dir", "extra", "times", "."} {
		must(t, os.Chtimes(at(p), time.Time{}, time.Unix(1_100_000_000+int64(i), 123)))
	}
	return root, r, target, p
}

var undoable = map[string]map[string]string{
	"mirror":  {"overwrite": "true", "mirror": "true", "special": "true", "devices": "true"},
	"part":    {"overwrite": "true", "mirror": "true", "include": "/deep\n/kind2\n/a"},
	"deep in": {"overwrite": "true", "include": "deep/er/and/deeper\ntwo\nempty"},
	"times":   {"overwrite": "true", "mirror": "true", "compare": "times"},
}

// A restore over a changed tree, undone: the tree is as it was, byte for
// byte, and nothing that the restore made is left.
func TestUndo(t *testing.T) {
	for name, options := range undoable {
		t.Run(name, func(t *testing.T) {
			root, r, target, p := changed(t)
			before := everything(t, root)
			d := backup.Destination{Location: root, Options: options}
			var safety backup.Point
			must(t, r.Restore(t.Context(), p.ID, target, d, backup.RestoreOptions{Safety: func(s backup.Point) error {
				same(t, everything(t, root), before)
				safety = s
				return nil
			}}))
			if now := everything(t, root); fmt.Sprint(now) == fmt.Sprint(before) {
				t.Fatal("the restore changed nothing")
			}
			if safety.Name != "files.undo" || safety.Safety.Point != p.ID || safety.Safety.Destination.Location != root {
				t.Errorf("safety point %+v", safety)
			}
			must(t, r.Undo(t.Context(), safety.ID, target, backup.RestoreOptions{}))
			same(t, everything(t, root), before)
			must(t, r.Undo(t.Context(), safety.ID, target, backup.RestoreOptions{}))
			same(t, everything(t, root), before)
		})
	}
}

// Wherever a restore is stopped, and its undo too, the undo brings back what
// was there.
func TestUndoOfStoppedRestore(t *testing.T) {
	stopped := errors.New("stopped")
	finished := map[string]bool{}
	for stop := 1; len(finished) < 2; stop = stop*3/2 + 1 {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			root, r, target, p := changed(t)
			before := everything(t, root)
			// run does something until a directory is used for the n-th time.
			run := func(what string, do func(context.Context, *files.Target) error) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				target := newTarget(t, files.Config{Root: root})
				n := make(chan struct{}, stop)
				files.OnEnter(target, func(string) {
					select {
					case n <- struct{}{}:
					default:
						cancel(stopped)
					}
				})
				if err := do(ctx, target); err == nil {
					finished[what] = true
				} else if !errors.Is(err, stopped) {
					t.Fatalf("%s: %v", what, err)
				}
			}
			var safety backup.Point
			d := backup.Destination{Location: root, Options: undoable["mirror"]}
			run("restore", func(ctx context.Context, target *files.Target) error {
				return r.Restore(ctx, p.ID, target, d, backup.RestoreOptions{Safety: func(s backup.Point) error { safety = s; return nil }})
			})
			write(t, root, "a/.holdfast-0123456789abcdef01234567", "left by a kill")
			run("undo", func(ctx context.Context, target *files.Target) error {
				return r.Undo(ctx, safety.ID, target, backup.RestoreOptions{})
			})
			must(t, r.Undo(t.Context(), safety.ID, target, backup.RestoreOptions{}))
			same(t, everything(t, root), before)
		})
		if stop > 1000 {
			t.Fatalf("never finished: %v", finished)
		}
	}
}

// Where there was nothing, an undo leaves nothing.
func TestUndoOfNew(t *testing.T) {
	root := source(t)
	r, target, p := backedUp(t, root)
	dest := filepath.Join(t.TempDir(), "new")
	for _, options := range []map[string]string{nil, {"include": "deep"}} {
		var safety backup.Point
		must(t, r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest, Options: options},
			backup.RestoreOptions{Safety: func(s backup.Point) error { safety = s; return nil }}))
		must(t, r.Undo(t.Context(), safety.ID, target, backup.RestoreOptions{}))
		if _, err := os.Lstat(dest); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dest, err)
		}
	}
}

// What cannot be made undoable is not restored.
func TestUndoRefused(t *testing.T) {
	root, r, target, p := changed(t)
	before := everything(t, root)
	d := backup.Destination{Location: root, Options: undoable["mirror"]}
	no := errors.New("no")
	refuse := backup.RestoreOptions{Safety: func(backup.Point) error { return no }}
	if err := r.Restore(t.Context(), p.ID, target, d, refuse); !errors.Is(err, no) {
		t.Errorf("restore: %v", err)
	}
	same(t, everything(t, root), before)
	store := providertest.NewFaulty(providertest.NewMemory(), nil)
	r2 := newRepo(t, store)
	p2, err := r2.Backup(t.Context(), "w", target, backup.BackupOptions{})
	must(t, err)
	write(t, root, "a/extra", "one more change")
	before = everything(t, root)
	store.Use(func(c providertest.Call) providertest.Fault {
		if c.Op == "put" && strings.HasPrefix(c.Key, "points/") {
			return providertest.Fault{Before: no}
		}
		return providertest.Fault{}
	})
	ok := backup.RestoreOptions{Safety: func(backup.Point) error { t.Error("there is no safety point"); return nil }}
	if err := r2.Restore(t.Context(), p2.ID, target, d, ok); !errors.Is(err, no) {
		t.Errorf("restore: %v", err)
	}
	if err := r.Undo(t.Context(), p.ID, target, backup.RestoreOptions{}); err == nil {
		t.Error("a point that is no safety point was undone")
	}
	relative := backup.Destination{Location: "somewhere", Options: d.Options}
	if err := r.Restore(t.Context(), p.ID, target, relative, refuse); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("relative: %v", err)
	}
	same(t, everything(t, root), before)
}
