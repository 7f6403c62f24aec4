//go:build unix

package files_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Programs publish a file by giving it a second name and removing the first,
// and replace one by renaming another over it. Neither may cost the content
// of the name that stays, if it happens between finding the two and reading.
func TestFirstNameOfFileGoes(t *testing.T) {
	content := strings.Repeat("published\n", 10_000) // more than is read ahead
	for name, meanwhile := range map[string]func(root string) error{
		"deleted": func(root string) error { return os.Remove(filepath.Join(root, "b-staged")) },
		"replaced": func(root string) error {
			fresh := filepath.Join(root, "z-fresh")
			if err := os.WriteFile(fresh, []byte(strings.Repeat("another\n", 20_000)), 0o600); err != nil {
				return err
			}
			return os.Rename(fresh, filepath.Join(root, "b-staged"))
		},
		"became a directory": func(root string) error {
			if err := os.Remove(filepath.Join(root, "b-staged")); err != nil {
				return err
			}
			return os.Mkdir(filepath.Join(root, "b-staged"), 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			b := make([]byte, 32<<20) // the names behind it are found before it is read to its end
			rand.Read(b)
			write(t, root, "a-large", string(b))
			write(t, root, "b-staged", content)
			for _, further := range []string{"c-final", "d-final"} {
				if err := os.Link(filepath.Join(root, "b-staged"), filepath.Join(root, further)); err != nil {
					t.Fatal(err)
				}
			}
			store := providertest.NewFaulty(providertest.NewMemory(), nil)
			r := newRepo(t, store)
			var once sync.Once
			var failed error
			store.Use(func(call providertest.Call) providertest.Fault {
				if call.Op != "put" || !strings.HasPrefix(call.Key, "data/") {
					return providertest.Fault{}
				}
				return providertest.Fault{Wait: func(context.Context) error {
					once.Do(func() { failed = meanwhile(root) })
					return nil
				}}
			})
			target := newTarget(t, files.Config{Root: root})
			p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
			if err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			dest := t.TempDir()
			if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
				t.Error(err)
			}
			for _, further := range []string{"c-final", "d-final"} {
				if got, err := os.ReadFile(filepath.Join(dest, further)); err != nil || string(got) != content {
					t.Errorf("%s comes back with %d bytes (%.10q), %v", further, len(got), got, err)
				}
			}
			c, errC := os.Stat(filepath.Join(dest, "c-final"))
			d, errD := os.Stat(filepath.Join(dest, "d-final"))
			if errC != nil || errD != nil || !os.SameFile(c, d) {
				t.Errorf("the names that stayed are no longer of one file: %v, %v", errC, errD)
			}
		})
	}
}

// A directory that was found may be something else when it is read.
func TestDirectoryReplaced(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, "secret", "of somebody else")
	for name, replace := range map[string]func(dir string) error{
		"symlink": func(dir string) error { return os.Symlink(outside, dir) },
		"fifo":    func(dir string) error { return syscall.Mkfifo(dir, 0o600) },
		"file":    func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"another": func(dir string) error {
			if err := os.Mkdir(dir, 0o700); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600)
		},
		"gone": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			b := make([]byte, 32<<20)
			rand.Read(b)
			write(t, root, "a-large", string(b))
			// While the large file is read, the walk is somewhere among these:
			// one has been found and not been read.
			const dirs = 200
			for i := range dirs {
				if err := os.Mkdir(filepath.Join(root, fmt.Sprintf("d%03d", i)), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			aside := t.TempDir()
			store := providertest.NewFaulty(providertest.NewMemory(), nil)
			r := newRepo(t, store)
			var once sync.Once
			var failed error
			store.Use(func(call providertest.Call) providertest.Fault {
				if call.Op != "put" || !strings.HasPrefix(call.Key, "data/") {
					return providertest.Fault{}
				}
				return providertest.Fault{Wait: func(context.Context) error {
					once.Do(func() {
						for i := range dirs {
							d := fmt.Sprintf("d%03d", i) // renamed, so that its inode is not given to another
							if failed = os.Rename(filepath.Join(root, d), filepath.Join(aside, d)); failed == nil {
								failed = replace(filepath.Join(root, d))
							}
							if failed != nil {
								return
							}
						}
					})
					return nil
				}}
			})
			target := newTarget(t, files.Config{Root: root})
			p, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{})
			if err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			if name == "gone" {
				if p.Partial() {
					t.Errorf("warnings: %v", p.Warnings)
				}
				return
			}
			if len(p.Warnings) != 1 {
				t.Fatalf("warnings: %v; want one, of the directory that was replaced between being found and being read", p.Warnings)
			}
			dest := t.TempDir()
			if err := r.Restore(t.Context(), p.ID, target, backup.Destination{Location: dest}, backup.RestoreOptions{}); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(dest, p.Warnings[0].Path)
			fi, err := os.Lstat(dir)
			if err != nil || !fi.IsDir() {
				t.Fatalf("%s: %v, %v", dir, fi, err)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 0 {
				t.Errorf("%v was taken for the content of %s, %v", names, p.Warnings[0].Path, err)
			}
		})
	}
}
