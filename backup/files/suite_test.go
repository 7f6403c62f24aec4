package files_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/backuptest"
	"github.com/holdfast-go/holdfast/backup/files"
)

func TestTarget(t *testing.T) {
	backuptest.TestTarget(t, func(t *testing.T) backuptest.Subject {
		root := source(t)
		text := func(dir string) (string, error) {
			b, err := json.Marshal(snapshot(t, dir))
			return string(b), err
		}
		n := 0
		return backuptest.Subject{
			Target: newTarget(t, files.Config{Root: root}),
			State:  func() (string, error) { return text(root) },
			Change: func() error {
				n++
				write(t, root, fmt.Sprintf("a/new%d", n), "new")
				write(t, root, "a-b", fmt.Sprint("changed ", n))
				return nil
			},
			Destination: func() (backup.Destination, error) {
				return backup.Destination{Location: filepath.Join(t.TempDir(), "restored")}, nil
			},
			Restored: func(d backup.Destination) (string, error) { return text(d.Location) },
		}
	})
}
