package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

func put(t *testing.T, s provider.BlobStore, key, content string, o provider.PutOptions) provider.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, strings.NewReader(content), o)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// objectFile is the only file of an object in the store at dir.
func objectFile(t *testing.T, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(dir, "data"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(d.Name(), "o-") {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("found %q, %v", found, err)
	}
	return found[0]
}

func TestOpen(t *testing.T) {
	base := t.TempDir()
	missing := filepath.Join(base, "not", "mounted")
	if _, err := local.NewBlobStore(local.Config{}); err == nil || !strings.Contains(err.Error(), "Dir") {
		t.Errorf("without Dir: %v", err)
	}
	if _, err := local.NewBlobStore(local.Config{Dir: missing}); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing directory: %v", err)
	}
	if _, err := os.Stat(filepath.Dir(missing)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the failed open made something: %v", err)
	}
	empty := t.TempDir()
	if _, err := local.NewBlobStore(local.Config{Dir: empty}); err == nil || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("an empty directory: %v", err)
	}
	inUse := t.TempDir()
	if err := os.WriteFile(filepath.Join(inUse, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.NewBlobStore(local.Config{Dir: inUse, Create: true}); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("a directory with other files: %v", err)
	}
	put(t, openStore(t, local.Config{Dir: missing, Create: true}), "a", "x", provider.PutOptions{})
	for _, c := range []local.Config{{Dir: missing}, {Dir: missing, Create: true}} {
		if _, err := openStore(t, c).Stat(t.Context(), "a"); err != nil {
			t.Errorf("opened again with Create %t: %v", c.Create, err)
		}
	}
	if err := os.Remove(filepath.Join(missing, "holdfast-store")); err != nil {
		t.Fatal(err)
	}
	if _, err := local.NewBlobStore(local.Config{Dir: missing, Create: true}); err == nil {
		t.Error("a store that lost its marker was made anew over its objects")
	}
	if err := os.WriteFile(filepath.Join(missing, "holdfast-store"), []byte(`{"format":"holdfast blob store","version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.NewBlobStore(local.Config{Dir: missing}); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("a store of a later version: %v", err)
	}
}

func TestCreateRace(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if _, err := s.Put(context.Background(), string(rune('a'+i)), strings.NewReader("x"), provider.PutOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	n := 0
	for _, err := range openStore(t, local.Config{Dir: dir}).List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 8 {
		t.Errorf("%d objects of 8", n)
	}
}

// TestVanished takes the store away under an open handle: nothing may look as
// if there were simply no objects, and nothing may make an empty store.
func TestVanished(t *testing.T) {
	for _, what := range []string{"all", "content"} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ctx := t.Context()
			put(t, s, "a/x", "x", provider.PutOptions{})
			if what == "all" {
				err = os.RemoveAll(dir)
			} else {
				err = errors.Join(os.RemoveAll(filepath.Join(dir, "data")), os.Remove(filepath.Join(dir, "holdfast-store")))
			}
			if err != nil {
				t.Fatal(err)
			}
			_, _, getErr := s.Get(ctx, "a/x", provider.GetOptions{})
			_, statErr := s.Stat(ctx, "a/x")
			_, putErr := s.Put(ctx, "a/x", strings.NewReader("y"), provider.PutOptions{})
			var listErr error
			for _, err := range s.List(ctx, "", provider.ListOptions{}) {
				listErr = err
			}
			for op, err := range map[string]error{
				"get": getErr, "stat": statErr, "put": putErr, "list": listErr,
				"delete": s.Delete(ctx, "a/x", provider.DeleteOptions{}),
				"lock":   s.Lock(ctx, "a/x", provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}),
			} {
				if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
					t.Errorf("%s: %v; want an error that names %s and is not ErrNotFound", op, err, dir)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "data")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("data was made anew: %v", err)
			}
		})
	}
}

// TestWithoutMarker has only the marker go, as when another file system is
// half copied over the store.
func TestWithoutMarker(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "a/x", "x", provider.PutOptions{})
	if err := os.Remove(filepath.Join(dir, "holdfast-store")); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, putErr := s.Put(ctx, "a/y", strings.NewReader("y"), provider.PutOptions{})
	_, statErr := s.Stat(ctx, "a/y")
	var listErr error
	for _, err := range s.List(ctx, "b/", provider.ListOptions{}) {
		listErr = err
	}
	for op, err := range map[string]error{"put": putErr, "stat": statErr, "list": listErr, "delete": s.Delete(ctx, "a/y", provider.DeleteOptions{})} {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if b, _, err := provider.ReadAll(ctx, s, "a/x", 10); err != nil || string(b) != "x" {
		t.Errorf("what is there can still be saved: %q, %v", b, err)
	}
}

func TestModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no mode bits on windows")
	}
	dir := filepath.Join(t.TempDir(), "store")
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "a/b", "x", provider.PutOptions{Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}})
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if want := map[bool]fs.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err == nil && fi.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, fi.Mode().Perm(), want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBitFlip flips one bit of each of many bytes of an object's file. None
// may go unnoticed by a reader of the whole object.
func TestBitFlip(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	ctx := t.Context()
	put(t, s, "packs/1", strings.Repeat("0123456789", 1000), provider.PutOptions{Meta: map[string]string{"a": "b"}})
	file := objectFile(t, dir)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{"cut off": good[:len(good)-1], "empty": nil, "longer": append(bytes.Clone(good), 'x'), "no content": good[:100]}
	for at := 0; at < len(good); at += 1 + at/20 {
		bad := bytes.Clone(good)
		bad[at] ^= 1 << (at % 8)
		damage[fmt.Sprintf("a bit of byte %d", at)] = bad
	}
	for what, bad := range damage {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := provider.ReadAll(ctx, s, "packs/1", 1<<20); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: read: %v, want ErrCorrupt", what, err)
		}
		n := 0
		for info, err := range s.List(ctx, "", provider.ListOptions{}) {
			if err != nil || info.Key != "packs/1" {
				t.Errorf("%s: list: %q, %v", what, info.Key, err)
			}
			n++
		}
		if n != 1 {
			t.Errorf("%s: list yields %d objects", what, n)
		}
	}
	put(t, s, "packs/1", "mended", provider.PutOptions{})
	if b, _, err := provider.ReadAll(ctx, s, "packs/1", 100); err != nil || string(b) != "mended" {
		t.Errorf("put over a damaged object: %q, %v", b, err)
	}
}

func TestReaderHoldsBackWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "x", strings.Repeat("a", 1000), provider.PutOptions{})
	file := objectFile(t, dir)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-500] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, err := s.Get(t.Context(), "x", provider.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Whoever asks for exactly Size bytes never asks for the error behind them.
	if _, err := io.ReadFull(r, make([]byte, 1000)); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("read of exactly all bytes: %v", err)
	}
	part, _, err := s.Get(t.Context(), "x", provider.GetOptions{Length: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer part.Close()
	if b, err := io.ReadAll(part); err != nil || len(b) != 100 {
		t.Errorf("a part that is not damaged: %d bytes, %v", len(b), err)
	}
}

func TestMovedFile(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "a", "of a", provider.PutOptions{})
	file := objectFile(t, dir)
	if err := os.Rename(file, filepath.Join(filepath.Dir(file), "o-b")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "b", provider.GetOptions{}); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("get of a key whose file is that of another: %v", err)
	}
}

func TestRetentionOutlivesHandleAndDescription(t *testing.T) {
	dir := t.TempDir()
	ctx := t.Context()
	first := openStore(t, local.Config{Dir: dir, Create: true})
	until := time.Now().Add(time.Hour).UTC()
	old := put(t, first, "x", "kept", provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: until}})
	locked := func(s *local.BlobStore, when string) {
		t.Helper()
		_, putErr := s.Put(ctx, "x", strings.NewReader("other"), provider.PutOptions{})
		for op, err := range map[string]error{
			"put": putErr, "delete": s.Delete(ctx, "x", provider.DeleteOptions{}),
		} {
			if !errors.Is(err, provider.ErrLocked) {
				t.Errorf("%s, %s: %v, want ErrLocked", when, op, err)
			}
		}
	}
	locked(first, "at once")
	again := openStore(t, local.Config{Dir: dir})
	locked(again, "by another handle")
	if info, err := again.Stat(ctx, "x"); err != nil || info.Version != old.Version || !info.Retain.Until.Equal(until) || info.Retain.Mode != provider.Compliance {
		t.Errorf("stat: %+v, %v", info, err)
	}
	file := objectFile(t, dir)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[20] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	locked(again, "with a damaged description")

	retention := filepath.Join(filepath.Dir(file), "r-x")
	if err := os.WriteFile(retention, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, putErr := again.Put(ctx, "x", strings.NewReader("other"), provider.PutOptions{})
	for op, err := range map[string]error{"put": putErr, "delete": again.Delete(ctx, "x", provider.DeleteOptions{})} {
		if !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("with a damaged retention, %s: %v, want ErrCorrupt", op, err)
		}
	}
}

// TestPlantedSymlink has somebody place links in the store that lead outside.
func TestPlantedSymlink(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "o-y")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "z", "z", provider.PutOptions{})
	data := filepath.Dir(objectFile(t, dir))
	if err := errors.Join(os.Symlink(outside, filepath.Join(data, "d-x")), os.Symlink(secret, filepath.Join(data, "o-l"))); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("links need a privilege on windows:", err)
		}
		t.Fatal(err)
	}
	ctx := t.Context()
	for _, key := range []string{"x/y", "l"} {
		if r, _, err := s.Get(ctx, key, provider.GetOptions{}); err == nil {
			b, _ := io.ReadAll(r)
			r.Close()
			t.Errorf("get %s delivers %q", key, b)
		} else if errors.Is(err, provider.ErrNotFound) {
			t.Errorf("get %s: %v, want an error that says what is wrong", key, err)
		}
		if _, err := s.Put(ctx, key, strings.NewReader("new"), provider.PutOptions{}); err == nil {
			t.Errorf("put %s through a planted link", key)
		}
		if err := s.Delete(ctx, key, provider.DeleteOptions{}); err == nil {
			t.Errorf("delete %s through a planted link", key)
		}
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("outside is now %q, %v", b, err)
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
		t.Errorf("outside has %v, %v", entries, err)
	}
}

func TestForeignFilesAreIgnored(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "a", "x", provider.PutOptions{})
	data := filepath.Dir(objectFile(t, dir))
	for _, name := range []string{".DS_Store", "o-A", "o-%61", "o-%zz", "o-x.", "lost+found", "r-old", "o-" + strings.Repeat("a", 90)} {
		if err := os.WriteFile(filepath.Join(data, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "staged", ".DS_Store"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, info.Key)
	}
	if len(got) != 1 || got[0] != "a" {
		t.Errorf("list yields %q", got)
	}
	put(t, openStore(t, local.Config{Dir: dir}), "b", "x", provider.PutOptions{})
}
