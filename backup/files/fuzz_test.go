package files_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// described is a target that pretends to be of kind "files", with items of
// any description.
type described []backup.Item

func (described) Kind() string { return "files" }

func (d described) Backup(ctx context.Context, s *backup.Session) error {
	for _, it := range d {
		if err := s.Add(ctx, it, strings.NewReader("content")); err != nil {
			return err
		}
	}
	return nil
}

func (described) Restore(context.Context, *backup.View, backup.Destination) error {
	return errors.New("not used")
}

// Points with any paths and descriptions: what is restored, over nothing and
// over what is there, lies in the destination, and what is exported is an
// archive that can be read to its end.
func FuzzPoint(f *testing.F) {
	for _, s := range []struct{ p, m, q, n string }{
		{"a", `{"t":"dir","m":493,"mt":"2026-01-02T03:04:05Z"}`, "a/b", `{"t":"file","m":420,"mt":"2026-01-02T03:04:05Z","x":{"user.a":"AAAA"}}`},
		{"a", `{"t":"symlink","l":"Li4vb3V0c2lkZQ=="}`, "a/canary", `{"t":"file"}`}, // ../outside
		{"a", `{"t":"symlink","l":"Li4vb3V0c2lkZQ=="}`, "b", `{"t":"link","l":"YS9jYW5hcnk="}`},
		{"../outside/canary", `{"t":"file"}`, "x", `{"t":"fifo"}`},
		{".", `{"t":"dir","m":4095}`, "x", `{"t":"absent"}`},
		{"a", `{"t":"file","x":{"user.a=b":"AAAA"}}`, "b", `{"t":"symlink","l":"AA=="}`},
		{"a", `{"t":"device","d":18446744073709551615,"f":"c"}`, "b", `{"t":"socket","o":{"u":4294967295,"g":4294967295}}`},
		{"HOLDFAST-POINT.json", `{"t":"file","mt":"0000-01-01T00:00:00Z"}`, "b", `{{{`},
	} {
		f.Add(s.p, []byte(s.m), s.q, []byte(s.n))
	}
	base := f.TempDir()
	canary := filepath.Join(base, "outside", "canary")
	if err := errors.Join(os.Mkdir(filepath.Dir(canary), 0o755), os.WriteFile(canary, []byte("alive"), 0o640)); err != nil {
		f.Fatal(err)
	}
	before, err := os.Stat(canary)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, p string, m []byte, q string, n []byte) {
		r := newRepo(t, providertest.NewMemory())
		point, err := r.Backup(t.Context(), "w", described{{Path: p, Meta: json.RawMessage(m)}, {Path: q, Meta: json.RawMessage(n)}}, backup.BackupOptions{})
		if err != nil {
			return // no items
		}
		dest := filepath.Join(base, "dest")
		target := newTarget(t, files.Config{})
		for _, overwrite := range []string{"false", "true", "true"} {
			// Whether it succeeds does not matter here.
			_ = r.Restore(t.Context(), point.ID, target, backup.Destination{Location: dest, Options: map[string]string{"overwrite": overwrite}}, backup.RestoreOptions{})
		}
		if err := os.RemoveAll(dest); err != nil {
			t.Fatal(err)
		}
		after, err := os.Stat(canary)
		b, rerr := os.ReadFile(canary)
		if err != nil || rerr != nil || string(b) != "alive" || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
			t.Fatalf("outside of the destination: %q, %v, %v, %v", b, after, err, rerr)
		}
		entries, err := os.ReadDir(base)
		inside, err2 := os.ReadDir(filepath.Dir(canary))
		if err != nil || err2 != nil || len(entries) != 1 || len(inside) != 1 {
			t.Fatalf("beside the destination: %v, %v, %v", entries, inside, err)
		}

		var archive strings.Builder
		err = r.Export(t.Context(), point.ID, target, &archive, backup.ExportOptions{Unencrypted: true})
		if err != nil && !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("export: %v", err)
		}
		z, err := zstd.NewReader(strings.NewReader(archive.String()))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for entries := tar.NewReader(z); ; {
			h, err := entries.Next()
			if err == io.EOF {
				return
			}
			if err == nil && !filepath.IsLocal(h.Name) {
				t.Errorf("an entry leads to %q", h.Name)
			}
			if err == nil {
				_, err = io.Copy(io.Discard, entries)
			}
			if err != nil {
				t.Fatalf("what was exported is no archive: %v", err)
			}
		}
	})
}
