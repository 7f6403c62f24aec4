package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// TestReaderAgainstTheLibrary: what the library backs up now, the reader
// restores, from a directory store and from a plain copy of the bucket.
func TestReaderAgainstTheLibrary(t *testing.T) {
	tree := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(tree, "a/b"), 0o755),
		os.WriteFile(filepath.Join(tree, "a/b/small"), []byte("small"), 0o640),
		os.WriteFile(filepath.Join(tree, "a/big"), noise(5<<20), 0o600),
		os.WriteFile(filepath.Join(tree, "a/text"), bytes.Repeat([]byte("what can be compressed "), 100_000), 0o600),
		os.WriteFile(filepath.Join(tree, "empty"), nil, 0o444),
		os.Link(filepath.Join(tree, "a/big"), filepath.Join(tree, "a-link")),
		os.Symlink("a/big", filepath.Join(tree, "soft")),
		os.Chtimes(filepath.Join(tree, "a"), time.Time{}, time.Unix(1234567890, 123456789)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	target, err := files.New(files.Config{Root: tree})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	onDisk, err := local.NewBlobStore(local.Config{Dir: filepath.Join(dir, "store"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	memory := providertest.NewMemory()
	compressions := map[string]backup.Compression{"store": backup.Zstd, "bucket": backup.Snappy}
	for name, store := range map[string]provider.BlobStore{"store": onDisk, "bucket": memory} {
		t.Run(name, func(t *testing.T) {
			id, err := age.GenerateX25519Identity()
			if err != nil {
				t.Fatal(err)
			}
			repo, err := backup.Init(t.Context(), backup.Config{Store: store, PackSize: 1 << 20, Writer: "test", Keyring: backup.Keyring{
				Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
			if err != nil {
				t.Fatal(err)
			}
			p, err := repo.Backup(t.Context(), "tree", target, backup.BackupOptions{Compression: compressions[name]})
			if err != nil {
				t.Fatal(err)
			}
			if name == "bucket" {
				download(t, memory, filepath.Join(dir, name))
			}
			root := unwrap(t, filepath.Join(dir, name), id)
			out := filepath.Join(t.TempDir(), "out")
			r := newReader(t, filepath.Join(dir, name))
			if err := r.unlock(bytes.NewReader(root)); err != nil {
				t.Fatal(err)
			}
			if err := r.restore(string(p.ID), out); err != nil {
				t.Fatal(err)
			}
			got, want := listing(t, out), listing(t, tree)
			for path, w := range want {
				if got[path] != w {
					t.Errorf("%s: %.100s, want %.100s", path, got[path], w)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d entries, want %d", len(got), len(want))
			}
		})
	}
}

// TestReaderAfterRotation: the newest root key reads everything, an earlier
// one what was written until then.
func TestReaderAfterRotation(t *testing.T) {
	store, dir := providertest.NewMemory(), t.TempDir()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	repo, err := backup.Init(t.Context(), backup.Config{Store: store, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	var ids []backup.PointID
	for i := range 3 {
		if err := os.WriteFile(filepath.Join(tree, "file"), fmt.Append(nil, "content ", i), 0o600); err != nil {
			t.Fatal(err)
		}
		target, err := files.New(files.Config{Root: tree})
		if err != nil {
			t.Fatal(err)
		}
		p, err := repo.Backup(t.Context(), "tree", target, backup.BackupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, p.ID)
		if err := repo.Rotate(t.Context(), backup.AgeRecipients(id.Recipient())...); err != nil {
			t.Fatal(err)
		}
	}
	download(t, store, dir)
	for gen, readable := range map[int]int{1: 1, 2: 2, 3: 3, 4: 3} {
		r := newReader(t, dir)
		if err := r.unlock(bytes.NewReader(unwrapGeneration(t, dir, gen, id))); err != nil {
			t.Fatalf("generation %d: %v", gen, err)
		}
		for i, id := range ids {
			out := filepath.Join(t.TempDir(), "out")
			err := r.restore(string(id), out)
			if i >= readable {
				if err == nil {
					t.Errorf("root %d reads point %d", gen, i+1)
				}
				continue
			}
			b, rerr := os.ReadFile(filepath.Join(out, "file"))
			if err != nil || rerr != nil || string(b) != fmt.Sprint("content ", i) {
				t.Errorf("root %d, point %d: %q, %v, %v", gen, i+1, b, err, rerr)
			}
		}
	}
	if err := newReader(t, dir).unlock(bytes.NewReader(make([]byte, 32))); err == nil {
		t.Error("another root key was accepted")
	}
}

// TestReaderStandsAlone: the reader needs nothing of this module.
func TestReaderStandsAlone(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range bytes.FieldsSeq(out) {
		if !bytes.HasPrefix(path, []byte("github.com/klauspost/compress")) && !bytes.HasSuffix(path, []byte("/backup/reader")) {
			t.Errorf("it imports %s", path)
		}
	}
}

func newReader(t *testing.T, dir string) *repository {
	t.Helper()
	r := newRepository()
	if err := r.scan(dir); err != nil {
		t.Fatal(err)
	}
	return r
}

// unwrap does what the age command does with the files that "keys" writes.
func unwrap(t *testing.T, dir string, id age.Identity) []byte {
	t.Helper()
	return unwrapGeneration(t, dir, 1, id)
}

func unwrapGeneration(t *testing.T, dir string, gen int, id age.Identity) []byte {
	t.Helper()
	out := t.TempDir()
	if err := newReader(t, dir).wrapped(out); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(out, fmt.Sprintf("%d-0-age", gen)))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := age.Decrypt(bytes.NewReader(b), id)
	if err != nil {
		t.Fatal(err)
	}
	var root bytes.Buffer
	if _, err := root.ReadFrom(plain); err != nil {
		t.Fatal(err)
	}
	return root.Bytes()
}

// download makes a file of each object.
func download(t *testing.T, s provider.BlobStore, dir string) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := provider.ReadAll(t.Context(), s, info.Key, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.FromSlash(info.Key))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// listing describes a tree.
func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		out[rel] = fi.Mode().String()
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[rel] += fmt.Sprint(" ", fi.ModTime().UnixNano(), " ", string(b))
		case fi.IsDir():
			out[rel] += fmt.Sprint(" ", fi.ModTime().UnixNano())
		default:
			if out[rel], err = os.Readlink(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
