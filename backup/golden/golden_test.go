// Package golden holds repositories as earlier versions have written them,
// and reads them forever: with the library, and with the reader that knows
// nothing of it.
package golden

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var freeze = flag.String("freeze", "", "make testdata/`NAME`.zip of a repository as this version writes it; never over another")

// wanted is what a repository holds, beside its objects: the file
// expected.json of the archive.
type wanted struct {
	Identities []string                     `json:"identities"` // age secret keys, of test data only; the last one opens everything
	Points     map[string]map[string]string `json:"points"`     // by id: what each path is
	Logs       []wantedLog                  `json:"logs"`
	Omitted    []string                     `json:"omitted,omitempty"`
}

type wantedLog struct {
	Name   string `json:"name"`
	Branch uint32 `json:"branch"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	SHA256 string `json:"sha256"`
}

const (
	objects  = "objects/"
	expected = "expected.json"
)

// describe tells what each path of a tree is.
func describe(t *testing.T, root string) map[string]string {
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
		rel = fmt.Sprintf("%+q", rel) // not every name is JSON
		switch {
		case fi.Mode().IsRegular():
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			out[rel] = fmt.Sprintf("%v %d %d bytes sha256:%x", fi.Mode(), fi.ModTime().UnixNano(), len(b), sha256.Sum256(b))
		case fi.IsDir():
			out[rel] = fmt.Sprintf("%v %d", fi.Mode(), fi.ModTime().UnixNano())
		default:
			to, err := os.Readlink(p)
			if err != nil {
				return err
			}
			out[rel] = "link to " + to
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// noise is content that does not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*2654435761 + 88172645463325252
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// TestFreeze makes a golden repository with one of everything.
func TestFreeze(t *testing.T) {
	if *freeze == "" {
		t.Skip("only with -freeze")
	}
	ctx, store, tree := t.Context(), providertest.NewMemory(), t.TempDir()
	first, second := must(age.GenerateX25519Identity())(t), must(age.GenerateX25519Identity())(t)
	want := wanted{Identities: []string{first.String(), second.String()}, Points: map[string]map[string]string{}}
	holder := must(backup.Init(ctx, backup.Config{Store: store, Writer: "holder", PackSize: 1 << 20, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(first.Recipient()), Identities: backup.AgeIdentities(first, second)}}))(t)

	write := func(name string, b []byte, mode fs.FileMode) {
		p := filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, mode), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
	}
	save := func(r *backup.Repository, name string, mode backup.Mode) backup.Point {
		target := must(files.New(files.Config{Root: tree}))(t)
		p := must(r.Backup(ctx, name, target, backup.BackupOptions{Mode: mode}))(t)
		if p.WarningCount > 0 {
			t.Fatalf("%+v", p.Warnings)
		}
		want.Points[string(p.ID)] = describe(t, tree)
		return p
	}
	write("a/text", []byte(strings.Repeat("all work and no play makes a dull repository; ", 5000)), 0o640)
	write("a/noise", noise(1, 150_000), 0o600)
	write("empty", nil, 0o444)
	write("odd \n name \xff", []byte("odd"), 0o755)
	write("many/"+strings.Repeat("x", 200), []byte("long name"), 0o644)
	for i := range 400 { // more than one page of items
		write(fmt.Sprintf("many/%s-%03d", strings.Repeat("y", 100), i), fmt.Append(nil, i), 0o644)
	}
	if err := errors.Join(os.Link(filepath.Join(tree, "a/noise"), filepath.Join(tree, "hard")), os.Symlink("a/text", filepath.Join(tree, "soft"))); err != nil {
		t.Fatal(err)
	}
	save(holder, "tree", backup.Full)
	write("a/new", noise(2, 20_000), 0o600)
	gone := save(holder, "tree", backup.Incremental)
	write("a/blocks", append([]byte("SQLite format 3\x00\x10\x00"), noise(3, 100_000)...), 0o600)
	save(holder, "tree", backup.Incremental)
	if err := holder.Forget(ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	delete(want.Points, string(gone.ID))

	// A sealed writer, attested and not.
	sealed := must(backup.Open(ctx, backup.Config{Store: store, Credential: must(holder.Seal(ctx, "sealed"))(t)}))(t)
	write("sealed/one", noise(4, 10_000), 0o600)
	save(sealed, "sealed", backup.Full)
	must(holder.Attest(ctx, backup.AttestOptions{}))(t)

	// Further recipients, and then one less.
	if err := holder.AddRecipients(ctx, backup.AgeRecipients(second.Recipient())...); err != nil {
		t.Fatal(err)
	}
	save(holder, "tree", backup.Incremental)
	if err := holder.Rotate(ctx, backup.AgeRecipients(second.Recipient())...); err != nil {
		t.Fatal(err)
	}
	write("a/after", noise(5, 10_000), 0o600)
	save(holder, "tree", backup.Incremental)
	write("sealed/two", noise(6, 10_000), 0o600)
	save(sealed, "sealed", backup.Full)

	// A log with two branches, compacted in part.
	l := must(holder.Log("wal"))(t)
	add := func(branch uint32, from, to uint64) {
		if err := l.Append(ctx, backup.Segment{Branch: branch, From: from, To: to, First: time.Unix(1_800_000_000+int64(from), 0).UTC(), Last: time.Unix(1_800_000_000+int64(to), 0).UTC()}, noise(uint64(branch), int(to))[from:]); err != nil {
			t.Fatal(err)
		}
	}
	for from := uint64(0); from < 50_000; from += 10_000 {
		add(1, from, from+10_000)
	}
	must(l.Compact(ctx))(t)
	add(1, 50_000, 51_000)
	if err := l.StartBranch(ctx, backup.Branch{Branch: 2, Parent: 1, At: 50_500, History: []byte("1\t0/C544\tno reason\n")}); err != nil {
		t.Fatal(err)
	}
	add(2, 50_500, 60_000)
	for _, w := range []wantedLog{{Name: "wal", Branch: 1, From: 0, To: 51_000}, {Name: "wal", Branch: 2, From: 20_000, To: 60_000}} {
		w.SHA256 = logSum(t, holder, w)
		want.Logs = append(want.Logs, w)
	}
	must(holder.Check(ctx, backup.CheckOptions{ReadData: true}))(t)
	must(holder.Prune(ctx, backup.PruneOptions{}))(t)

	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for info, err := range store.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := provider.ReadAll(ctx, store, info.Key, 1<<30)
		must(must(z.Create(objects + info.Key))(t).Write(b))(t)
		if err != nil {
			t.Fatal(err)
		}
	}
	j := must(json.MarshalIndent(want, "", " "))(t)
	must(must(z.Create(expected))(t).Write(j))(t)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f := must(os.OpenFile(filepath.Join("testdata", *freeze+".zip"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644))(t)
	must(f.Write(buf.Bytes()))(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func logSum(t *testing.T, r *backup.Repository, w wantedLog) string {
	t.Helper()
	rc := must(must(r.Log(w.Name))(t).Open(t.Context(), w.Branch, w.From, w.To))(t)
	h := sha256.New()
	n := must(io.Copy(h, rc))(t)
	if err := rc.Close(); err != nil || uint64(n) != w.To-w.From {
		t.Fatalf("log: %d bytes, %v", n, err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// TestR9GoldenRepositories: what earlier versions have written is read by
// this one, and by the reader that needs nothing of it.
func TestR9GoldenRepositories(t *testing.T) {
	archives := must(filepath.Glob("testdata/*.zip"))(t)
	if len(archives) == 0 {
		t.Fatal("no golden repository in testdata")
	}
	reader := filepath.Join(t.TempDir(), "reader")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", reader, "../reader").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range archives {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir, store := t.TempDir(), providertest.NewMemory()
			want := unpack(t, name, dir, store)
			t.Run("library", func(t *testing.T) { library(t, store, want) })
			t.Run("reader", func(t *testing.T) { standalone(t, reader, dir, want) })
		})
	}
}

// unpack puts the objects into a store and into a directory.
func unpack(t *testing.T, name, dir string, store provider.BlobStore) (want wanted) {
	t.Helper()
	z := must(zip.OpenReader(name))(t)
	defer z.Close()
	for _, f := range z.File {
		rc := must(f.Open())(t)
		b := must(io.ReadAll(rc))(t)
		rc.Close()
		key, ok := strings.CutPrefix(f.Name, objects)
		if !ok {
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			continue
		}
		must(provider.PutOnce(t.Context(), store, key, b, provider.PutOptions{}))(t)
		p := filepath.Join(dir, "objects", filepath.FromSlash(key))
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if len(want.Points) == 0 || len(want.Identities) == 0 {
		t.Fatalf("%s has no %s", name, expected)
	}
	return want
}

func library(t *testing.T, store provider.BlobStore, want wanted) {
	ctx := context.Background()
	last := must(age.ParseX25519Identity(want.Identities[len(want.Identities)-1]))(t)
	r := must(backup.Open(ctx, backup.Config{Store: store, Writer: "holder", Keyring: backup.Keyring{Identities: backup.AgeIdentities(last)}}))(t)
	target := must(files.New(files.Config{}))(t)
	for id, tree := range want.Points {
		out := filepath.Join(t.TempDir(), "out")
		if err := r.Restore(ctx, backup.PointID(id), target, backup.Destination{Location: out}, backup.RestoreOptions{}); err != nil {
			t.Errorf("%s: %v", id, err)
			continue
		}
		compare(t, id, describe(t, out), tree)
	}
	n := 0
	for p, err := range r.Points(ctx, "") {
		if err != nil || p.Damaged != "" {
			t.Errorf("%s: %s %v", p.ID, p.Damaged, err)
		}
		n++
	}
	if n != len(want.Points) {
		t.Errorf("%d points, want %d", n, len(want.Points))
	}
	for _, w := range want.Logs {
		if got := logSum(t, r, w); got != w.SHA256 {
			t.Errorf("log %+v: %s", w, got)
		}
	}
	report := must(r.Check(ctx, backup.CheckOptions{ReadData: true}))(t)
	if !report.OK() {
		t.Errorf("check: %v", report)
	}
}

func standalone(t *testing.T, reader, dir string, want wanted) {
	objects, wrapped := filepath.Join(dir, "objects"), filepath.Join(dir, "wrapped")
	run := func(stdin []byte, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), reader, args...)
		cmd.Stdin = bytes.NewReader(stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("reader %q: %v\n%s", args, err, out)
		}
	}
	run(nil, "keys", objects, wrapped)
	root := newestRoot(t, wrapped, want.Identities)
	for _, w := range want.Logs {
		cmd := exec.CommandContext(t.Context(), reader, "log", objects, w.Name, fmt.Sprint(w.Branch), fmt.Sprint(w.From), fmt.Sprint(w.To))
		cmd.Stdin = bytes.NewReader(root)
		out, err := cmd.Output()
		if sum := fmt.Sprintf("%x", sha256.Sum256(out)); err != nil || sum != w.SHA256 {
			t.Errorf("log %+v: %s, %v", w, sum, err)
		}
	}
	for id, tree := range want.Points {
		out := filepath.Join(t.TempDir(), "out")
		run(root, "restore", objects, id, out)
		compare(t, id, describe(t, out), tree)
	}
}

// newestRoot unwraps what the reader has written for the highest generation.
func newestRoot(t *testing.T, dir string, identities []string) (root []byte) {
	t.Helper()
	for _, e := range must(os.ReadDir(dir))(t) { // in order, so the last one that opens counts
		b := must(os.ReadFile(filepath.Join(dir, e.Name())))(t)
		for _, s := range identities {
			if plain, err := age.Decrypt(bytes.NewReader(b), must(age.ParseX25519Identity(s))(t)); err == nil {
				root = must(io.ReadAll(plain))(t)
			}
		}
	}
	if root == nil {
		t.Fatal("no root key can be unwrapped")
	}
	return root
}

func compare(t *testing.T, id string, got, want map[string]string) {
	t.Helper()
	for p, w := range want {
		if got[p] != w {
			t.Errorf("%s: %q is %q, want %q", id, p, got[p], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: %d paths, want %d", id, len(got), len(want))
	}
}
