package backup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// An entry of a tar archive.
type entry struct{ content, meta string }

// entries reads an archive; err is what its layers say of it.
func entries(t testing.TB, b []byte, id age.Identity) (map[string]entry, error) {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	if id != nil {
		var err error
		if r, err = age.Decrypt(r, id); err != nil {
			return nil, err
		}
	}
	z, err := zstd.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string]entry{}
	for a := tar.NewReader(z); ; {
		h, err := a.Next()
		if err == io.EOF {
			// What follows the archive has to end well, too.
			_, err = io.Copy(io.Discard, z)
			return out, err
		}
		if err != nil {
			return out, err
		}
		c, err := io.ReadAll(a)
		if err != nil {
			return out, err
		}
		out[h.Name] = entry{string(c), h.PAXRecords["HOLDFAST.meta"]}
	}
}

func TestExport(t *testing.T) {
	repo := newRepo(t, providertest.NewMemory())
	target := treeOf(map[string]string{"a/one": "1", "big": random(1, 3<<20), "empty": "", strings.Repeat("long/", 100) + "x": "far down"})
	point := mustBackup(t, repo, "tree", target, backup.Full)
	id := newIdentity()
	var out bytes.Buffer
	if err := repo.Export(t.Context(), point.ID, target, &out, backup.ExportOptions{Recipients: []age.Recipient{id.Recipient()}}); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte("far down")) || bytes.Contains(out.Bytes(), []byte(point.ID)) {
		t.Error("the encrypted archive shows what is in it")
	}
	got, err := entries(t, out.Bytes(), id)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got["HOLDFAST-POINT.json"].content, string(point.ID)) {
		t.Errorf("HOLDFAST-POINT.json: %.100q", got["HOLDFAST-POINT.json"].content)
	}
	if len(got) != len(target.files)+1 {
		t.Errorf("%d entries, want %d", len(got), len(target.files)+1)
	}
	for p, f := range target.files {
		if got[p].content != f.content || got[p].meta != "0" {
			t.Errorf("%.40q: %d bytes, meta %q; want %d bytes, meta %q", p, len(got[p].content), got[p].meta, len(f.content), "0")
		}
	}
	if _, err := entries(t, out.Bytes(), newIdentity()); err == nil {
		t.Error("another identity reads it")
	}
	for _, cut := range []int{1, 100, out.Len() / 2} {
		if _, err := entries(t, out.Bytes()[:out.Len()-cut], id); err == nil {
			t.Errorf("%d bytes less look complete", cut)
		}
	}
}

// TestExportOfDamaged: what can be read is exported, and what cannot is
// named.
func TestExportOfDamaged(t *testing.T) {
	store := providertest.NewMemory()
	target := treeOf(map[string]string{"bad": random(2, 2<<20), "good": random(3, 2<<20)})
	c := config(store)
	c.PackSize = 1 << 20
	repo, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	point := mustBackup(t, repo, "tree", target, backup.Full)
	full := exportPlain(t, repo, point.ID, target, nil)
	lost := 0
	for _, info := range collect(t, store.List(t.Context(), "data/", provider.ListOptions{})) {
		if lost++; lost == 1 {
			if err := store.Delete(t.Context(), info.Key, provider.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lost < 3 {
		t.Fatalf("%d packs; this test needs more", lost)
	}
	got := exportPlain(t, reopen(t, store), point.ID, target, backup.ErrDamaged)
	damaged := got["HOLDFAST-DAMAGED.txt"].content
	for p := range target.files {
		if strings.Contains(damaged, p) == (got[p] == full[p]) {
			t.Errorf("%s: intact %v, and HOLDFAST-DAMAGED.txt says %q", p, got[p] == full[p], damaged)
		}
		if len(got[p].content) != len(full[p].content) {
			t.Errorf("%s has %d bytes, want %d", p, len(got[p].content), len(full[p].content))
		}
	}
	if damaged == "" {
		t.Error("nothing is named as damaged")
	}
}

func exportPlain(t *testing.T, r *backup.Repository, id backup.PointID, target backup.Target, want error) map[string]entry {
	t.Helper()
	var out bytes.Buffer
	if err := r.Export(t.Context(), id, target, &out, backup.ExportOptions{Unencrypted: true}); !errors.Is(err, want) {
		t.Fatalf("%v, want %v", err, want)
	}
	got, err := entries(t, out.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// full is a writer that takes no more than so many bytes.
type full struct{ left int }

var errFull = errors.New("no space left")

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestExportRefuses(t *testing.T) {
	repo := newRepo(t, providertest.NewMemory())
	target := treeOf(map[string]string{"a": random(4, 1<<20)})
	point := mustBackup(t, repo, "tree", target, backup.Full)
	to := []age.Recipient{newIdentity().Recipient()}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, c := range map[string]struct {
		ctx  context.Context
		id   backup.PointID
		to   backup.Target
		o    backup.ExportOptions
		room int
		is   error
		says string
	}{
		"nobody to read it": {says: "Recipients is empty"},
		"contradiction":     {o: backup.ExportOptions{Recipients: to, Unencrypted: true}, says: "Unencrypted excludes"},
		"another kind":      {o: backup.ExportOptions{Recipients: to}, to: &generator{}, says: "kind"},
		"no such point":     {id: "20200101t000000.000z-0123456789abcdef", o: backup.ExportOptions{Recipients: to}, is: provider.ErrNotFound},
		"full":              {o: backup.ExportOptions{Recipients: to}, is: errFull},
		"full in the midst": {o: backup.ExportOptions{Recipients: to}, room: 300_000, is: errFull},
		"full, unencrypted": {o: backup.ExportOptions{Unencrypted: true}, room: 300_000, is: errFull},
		"cancelled":         {ctx: stopped, o: backup.ExportOptions{Recipients: to}, room: 1 << 30, is: context.Canceled},
	} {
		if c.ctx == nil {
			c.ctx = t.Context()
		}
		if c.id == "" {
			c.id = point.ID
		}
		if c.to == nil {
			c.to = target
		}
		err := repo.Export(c.ctx, c.id, c.to, &full{c.room}, c.o)
		if err == nil || (c.is != nil && !errors.Is(err, c.is)) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// breaker cancels when it has taken so many bytes, and takes more.
type breaker struct {
	bytes.Buffer
	after  int
	cancel func()
}

func (b *breaker) Write(p []byte) (int, error) {
	if b.Len() > b.after {
		b.cancel()
	}
	return b.Buffer.Write(p)
}

// TestExportCutShort: an export that was cancelled leaves nothing that looks
// like a whole archive.
func TestExportCutShort(t *testing.T) {
	repo := newRepo(t, providertest.NewMemory())
	target := treeOf(map[string]string{"a": random(5, 4<<20), "b": random(6, 4<<20)})
	point := mustBackup(t, repo, "tree", target, backup.Full)
	id := newIdentity()
	for _, o := range []backup.ExportOptions{{Unencrypted: true}, {Recipients: []age.Recipient{id.Recipient()}}} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &breaker{after: 1 << 20, cancel: cancel}
		if err := repo.Export(ctx, point.ID, target, out, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, want context.Canceled", err)
		}
		var with age.Identity
		if !o.Unencrypted {
			with = id
		}
		if _, err := entries(t, out.Bytes(), with); err == nil {
			t.Errorf("%d bytes of a cancelled export look complete", out.Len())
		}
	}
}
