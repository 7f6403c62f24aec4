package files_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Attributes have names that mean something to tar, and are written as GNU tar
// does. For what tar has no form the archive goes on without it, and says so.
func TestExportOdd(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	meta := func(fields string) json.RawMessage { return json.RawMessage(`{"t":"file","m":420` + fields + `}`) }
	p, err := r.Backup(t.Context(), "w", described{
		{Path: "a", Meta: meta(`,"x":{"user.a=b%c":"dmFs"}`)},
		{Path: "b", Meta: meta(`,"x":{"user.\u0000":"dmFs"}`)},
		{Path: "b/c", Meta: meta("")},
		{Path: "d", Meta: meta("")},
	}, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	err = r.Export(t.Context(), p.ID, newTarget(t, files.Config{}), &archive, backup.ExportOptions{Unencrypted: true})
	if !errors.Is(err, backup.ErrDamaged) || !strings.Contains(err.Error(), `"b"`) || strings.Contains(err.Error(), `"d"`) {
		t.Errorf("export: %v, want an ErrDamaged that names b", err)
	}
	z, err := zstd.NewReader(&archive)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	got := map[string]map[string]string{}
	for entries := tar.NewReader(z); ; {
		h, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = h.PAXRecords
	}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, []string{"HOLDFAST-DAMAGED.txt", "HOLDFAST-POINT.json", "a", "b/c", "d"}) {
		t.Errorf("entries %q", names)
	}
	if got["a"]["SCHILY.xattr.user.a%3Db%25c"] != "val" {
		t.Errorf("records %q", got["a"])
	}
}
