package files_test

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func postgresHeader(page []byte) {
	for at, v := range map[int]uint16{12: 224, 14: 600, 16: 8192, 18: 8192 | 4} {
		binary.NativeEndian.PutUint16(page[at:], v)
	}
}

func innodbHeader(page []byte, number uint32, kind uint16) {
	binary.BigEndian.PutUint32(page[4:], number)
	binary.BigEndian.PutUint16(page[24:], kind)
	binary.BigEndian.PutUint32(page[34:], 7)
}

// noise is a file of 4 MiB that nothing can compress.
func noise() []byte {
	b := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

// newBytes backs up a file before and after a change and returns how much of
// its content was new to the repository.
func newBytes(t *testing.T, before, after []byte) int64 {
	t.Helper()
	root := t.TempDir()
	repo := newRepo(t, providertest.NewMemory())
	target := newTarget(t, files.Config{Root: root})
	var p backup.Point
	for _, b := range [][]byte{before, after} {
		if err := os.WriteFile(filepath.Join(root, "file"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if p, err = repo.Backup(t.Context(), "w", target, backup.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return p.Stats.BytesNew
}

// One page of a database costs 32 KiB, wherever it is.
func TestPagesOfDatabases(t *testing.T) {
	for name, header := range map[string]func([]byte){
		"SQLite":   func(b []byte) { copy(b, "SQLite format 3\x00") },
		"InnoDB":   func(b []byte) { innodbHeader(b, 0, 8); innodbHeader(b[16<<10:], 1, 5) },
		"Postgres": func(b []byte) { postgresHeader(b); postgresHeader(b[8<<10:]) },
		"Postgres, second page empty": func(b []byte) {
			postgresHeader(b)
			clear(b[8<<10 : 16<<10])
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := noise()
			header(before)
			after := slices.Clone(before)
			clear(after[3<<20+8<<10:][:8<<10])
			if n := newBytes(t, before, after); n != 32<<10 {
				t.Errorf("a changed page stored %d bytes", n)
			}
		})
	}
}

// What only looks like a database at first glance is cut by content. How much
// that saves depends on the repository's key, so it is the point that tells.
func TestLookalikes(t *testing.T) {
	for name, header := range map[string]func([]byte) []byte{
		"no header":       func(b []byte) []byte { return b },
		"SQLite dump":     func(b []byte) []byte { copy(b, "SQLite format 3 "); return b },
		"Postgres, odd":   func(b []byte) []byte { postgresHeader(b); postgresHeader(b[8<<10:]); return b[1:] },
		"Postgres, first": func(b []byte) []byte { postgresHeader(b); return b },
		"Postgres, upper above special": func(b []byte) []byte {
			postgresHeader(b)
			postgresHeader(b[8<<10:])
			binary.NativeEndian.PutUint16(b[14:], 8193)
			return b
		},
		"InnoDB, first":        func(b []byte) []byte { innodbHeader(b, 0, 8); return b },
		"InnoDB, second is it": func(b []byte) []byte { innodbHeader(b, 0, 8); innodbHeader(b[16<<10:], 2, 5); return b },
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.WriteFile(filepath.Join(root, "file"), header(noise()), 0o600); err != nil {
				t.Fatal(err)
			}
			repo := newRepo(t, providertest.NewMemory())
			p, err := repo.Backup(t.Context(), "w", newTarget(t, files.Config{Root: root}), backup.BackupOptions{})
			if err != nil {
				t.Fatal(err)
			}
			v, err := repo.View(t.Context(), p.ID)
			if err != nil {
				t.Fatal(err)
			}
			it, err := v.Lookup(t.Context(), "file")
			if err != nil || it.Size < 4<<20-1 || it.BlockSize != 0 {
				t.Errorf("%d bytes are cut every %d; %v", it.Size, it.BlockSize, err)
			}
		})
	}
}
