//go:build unix

package files_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Somebody with access to the destination replaces directories by symbolic
// links that lead out of it, just as they are about to be used.
func TestDirectorySwapped(t *testing.T) {
	root := t.TempDir()
	for i := range 20 {
		write(t, root, fmt.Sprintf("d/e/canary%d", i), "evil")
	}
	must(t, os.Symlink("evil", filepath.Join(root, "d/e/l")), os.Link(filepath.Join(root, "d/e/canary1"), filepath.Join(root, "d/h")),
		os.Mkdir(filepath.Join(root, "d/e/sub"), 0o700))
	r, target, p := backedUp(t, root)
	for _, dir := range []string{"d", "d/e"} {
		for _, options := range []string{"", "overwrite=true", "overwrite=true mirror=true"} {
			for call := range 6 { // the first may be in any of the passes
				t.Run(fmt.Sprint(dir, options, call), func(t *testing.T) {
					base := t.TempDir()
					outside, dest := filepath.Join(base, "outside"), filepath.Join(base, "dest")
					for _, p := range []string{"canary0", "canary1", "e/canary3", "e/l", "extra", "l"} {
						write(t, outside, p, "alive")
					}
					write(t, dest, ".keep", "")
					if options == "" {
						must(t, os.Remove(filepath.Join(dest, ".keep")))
					} else {
						write(t, dest, "d/e/extra", "deleted by mirror")
					}
					before := snapshot(t, outside)
					var mu sync.Mutex
					n := 0
					swapping := newTarget(t, files.Config{Root: root})
					files.OnEnter(swapping, func(at string) {
						mu.Lock()
						defer mu.Unlock()
						if at != dir {
							return
						}
						if n++; n == call+1 {
							full := filepath.Join(dest, dir)
							if os.Rename(full, filepath.Join(base, "aside")) == nil {
								os.Symlink(outside, full) // unless another worker has made it again
							}
						}
					})
					_, err := restored(t, r, p.ID, swapping, dest, strings.Fields(options)...)
					t.Logf("swapped: %t; restore: %v", n > call, err)
					same(t, snapshot(t, outside), before)
				})
			}
		}
	}
	// And as fast as it can, without a seam.
	base := t.TempDir()
	outside, dest := filepath.Join(base, "outside"), filepath.Join(base, "dest")
	write(t, outside, "e/canary1", "alive")
	write(t, dest, "d/e/canary1", "old")
	before := snapshot(t, outside)
	stop, swapped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(swapped)
		full, aside := filepath.Join(dest, "d"), filepath.Join(base, "aside")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if os.Rename(full, aside) == nil {
				os.Symlink(outside, full)
				os.Remove(full)
				os.Rename(aside, full)
			}
		}
	}()
	for range 40 {
		restored(t, r, p.ID, target, dest, "overwrite=true")
	}
	close(stop)
	<-swapped
	same(t, snapshot(t, outside), before)
}

// A directory that is replaced by a symbolic link after a file was found in
// it, and before that is read, does not have another file read: what is read
// is the file that was found.
func TestDirectorySwappedWhileReading(t *testing.T) {
	root, outside, aside := t.TempDir(), t.TempDir(), t.TempDir()
	secret := strings.Repeat("of somebody else\n", 10_000)
	write(t, outside, "secret", secret)
	b := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{3}).Read(b)
	write(t, root, "a-large", string(b))
	found := strings.Repeat("of this tree\n", 10_000) // more than is read ahead
	write(t, root, "d/secret", found)
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
				failed = errors.Join(os.Rename(filepath.Join(root, "d"), filepath.Join(aside, "d")), os.Symlink(outside, filepath.Join(root, "d")))
			})
			return nil
		}}
	})
	p, err := r.Backup(t.Context(), "w", newTarget(t, files.Config{Root: root}), backup.BackupOptions{})
	must(t, err, failed)
	if p.Partial() {
		t.Errorf("warnings: %v", p.Warnings)
	}
	v, err := r.View(t.Context(), p.ID)
	must(t, err)
	it, err := v.Lookup(t.Context(), "d/secret")
	must(t, err)
	content, err := v.Open(t.Context(), it)
	must(t, err)
	defer content.Close()
	got, err := io.ReadAll(content)
	must(t, err)
	if string(got) != found {
		t.Errorf("d/secret has %d bytes that begin with %.20q", len(got), got)
	}
}
