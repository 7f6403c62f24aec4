//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

func TestCheckIntervals(t *testing.T) {
	a := window{PID: 1, Site: "a", Epoch: 0, From: 10, Until: 20}
	for _, c := range []struct {
		name string
		b    window
		want string // in the error; empty means none
	}{
		{"apart", window{PID: 2, Site: "b", Epoch: 1, From: 20, Until: 30}, ""},
		{"one instant", window{PID: 2, Site: "b", Epoch: 1, From: 19, Until: 30}, "writable at once for 1 ns"},
		{"one epoch", window{PID: 2, Site: "b", Epoch: 0, From: 20, Until: 30}, "used by a and b"},
		{"epoch goes back", window{PID: 2, Site: "a", Epoch: 0, From: 40, Until: 50}, ""},
		{"two processes of a site", window{PID: 2, Site: "a", Epoch: 0, From: 15, Until: 50}, "writable at once"},
	} {
		err := checkIntervals([]window{a, c.b})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	back := []window{{PID: 2, Site: "b", Epoch: 1, From: 1, Until: 2}, {PID: 1, Site: "a", Epoch: 0, From: 3, Until: 4}}
	if err := checkIntervals(back); err == nil || !strings.Contains(err.Error(), "after epoch 1") {
		t.Errorf("epochs that go back: %v", err)
	}
}

func TestWritableIntervals(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "run"), 0o700)
	os.MkdirAll(filepath.Join(dir, "a"), 0o700)
	for _, w := range []window{
		{PID: 1, Began: "x", Site: "a", From: 10, Until: 20},
		{PID: 1, Began: "x", Site: "a", From: 15, Until: 30}, // extends
		{PID: 1, Began: "x", Site: "a", End: 25},             // but it stopped earlier
		{PID: 2, Began: "y", Site: "a", Epoch: 2, From: 40, Until: 60},
		{PID: 2, Began: "y", Site: "a", Epoch: 2, From: 70, Until: 80}, // had run out in between
	} {
		if err := appendLine(filepath.Join(dir, "a", "intervals.jsonl"), w); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []death{
		{instance: instance{PID: 2, Began: "z"}, GoneBy: 45}, // another process of that pid
		{instance: instance{PID: 2, Began: "y"}, GoneBy: 75},
	} {
		if err := appendLine(filepath.Join(dir, "run", "deaths.jsonl"), d); err != nil {
			t.Fatal(err)
		}
	}
	got, err := writableIntervals(dir, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, w := range got {
		text = append(text, fmt.Sprintf("%d-%d", w.From, w.Until))
	}
	if s := strings.Join(text, " "); s != "10-25 40-60 70-75" {
		t.Errorf("intervals %s", s)
	}
	if err := checkAccepted(got, []record{{N: 1, Site: "a", At: 24}}); err != nil {
		t.Error(err)
	}
	if err := checkAccepted(got, []record{{N: 1, Site: "a", At: 25}}); err == nil {
		t.Error("a record was accepted outside of every interval, and that was not noticed")
	}
}

func TestLedger(t *testing.T) {
	dir := t.TempDir()
	l, err := openLedger(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if r, err := l.append(record{Key: fmt.Sprint("k", i)}); err != nil || r.N != i+1 {
			t.Fatal(r, err)
		}
	}
	if r, err := l.append(record{Key: "k1", Text: "again"}); err != nil || r.N != 2 || r.Text != "" {
		t.Errorf("the same key again: %v, %v; want record 2 as it was", r, err)
	}
	path := filepath.Join(dir, ledgerFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A crash in the middle of the last line.
	if err := os.WriteFile(path, good[:len(good)-5], 0o644); err != nil {
		t.Fatal(err)
	}
	if l, err = openLedger(dir); err != nil || l.last().N != 2 {
		t.Fatalf("after a torn line: %v, %v", l, err)
	}
	if r, err := l.append(record{Key: "k9"}); err != nil || r.N != 3 {
		t.Errorf("after a torn line: %v, %v", r, err)
	}
	if records, _, err := readLedger(dir); err != nil || len(records) != 3 {
		t.Errorf("%d records, %v", len(records), err)
	}
	// A changed one.
	bad := strings.Replace(string(good), `"k1"`, `"kx"`, 1)
	if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := readLedger(dir); err == nil || !strings.Contains(err.Error(), "record 2") {
		t.Errorf("a changed record: %v", err)
	}
}

// A pid that somebody else has got is not killed.
func TestKillSparesOthers(t *testing.T) {
	f := fleet{t.TempDir()}
	if err := os.MkdirAll(filepath.Join(f.dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { other.Process.Kill(); other.Wait() }()
	if err := writeJSON(f.path("x.store", ".json"), instance{Name: "x.store", PID: other.Process.Pid, Began: "before"}); err != nil {
		t.Fatal(err)
	}
	if _, alive := f.find("x.store"); alive {
		t.Error("the process of somebody else counts as ours")
	}
	if _, err := f.kill(t.Context(), "x.store"); err != nil {
		t.Fatal(err)
	}
	if _, err := processBegan(other.Process.Pid); err != nil {
		t.Errorf("the process of somebody else is gone: %v", err)
	}
}

// A zombie is no living process.
func TestZombieIsDead(t *testing.T) {
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	for { // until it has ended; nobody has waited for it
		if _, err := processBegan(c.Process.Pid); err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestApart(t *testing.T) {
	for _, c := range []struct {
		dir, data string
		ok        bool
	}{
		{"/tmp/state", "", true}, {"/tmp/state", "/tmp/data", true}, {"/tmp/data2", "/tmp/data", true},
		{"/tmp/data/state", "/tmp/data", false}, {"/tmp/data", "/tmp/data", false}, {"/tmp", "/tmp/data", false},
	} {
		if err := apart(c.dir, c.data); (err == nil) != c.ok {
			t.Errorf("-dir %s -data %s: %v", c.dir, c.data, err)
		}
	}
}

func TestOwnDirRefusesForeign(t *testing.T) {
	dir := t.TempDir()
	if _, err := ownDir(dir); err != nil {
		t.Errorf("an empty directory: %v", err)
	}
	precious := filepath.Join(dir, "config")
	if err := os.Mkdir(precious, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ownDir(dir); err == nil {
		t.Error("somebody's directory was taken as state directory")
	}
}

func TestCompareTrees(t *testing.T) {
	make := func() string {
		dir := t.TempDir()
		oddTree(t, dir)
		return dir
	}
	at := time.Unix(1e9, 5)
	for name, change := range map[string]func(dir string) error{
		"nothing": func(string) error { return nil },
		"content": func(dir string) error {
			err := os.WriteFile(filepath.Join(dir, "sub", "file"), []byte("contenT"), 0o640)
			return errors.Join(err, os.Chtimes(filepath.Join(dir, "sub", "file"), at, at))
		},
		"mode": func(dir string) error { return os.Chmod(filepath.Join(dir, "sub", "file"), 0o641) },
		"time": func(dir string) error { return os.Chtimes(filepath.Join(dir, "sub", "file"), at, at.Add(1)) },
		"link": func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "link")), os.Symlink("x", filepath.Join(dir, "link")))
		},
		"missing": func(dir string) error { return os.Remove(filepath.Join(dir, "link")) },
		"new":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "more"), nil, 0o600) },
	} {
		a, b := make(), make()
		if err := change(b); err != nil {
			t.Fatal(err)
		}
		want, err1 := readTree(a)
		got, err2 := readTree(b)
		pa, err3 := treePosition(a)
		pb, err4 := treePosition(b)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		if err := compareTrees(want, got); (err == nil) != (name == "nothing") {
			t.Errorf("%s: %v", name, err)
		}
		if (pa == pb) != (name == "nothing") {
			t.Errorf("%s: positions %s and %s", name, pa, pb)
		}
	}
}

// oddTree fills a directory with what is easily lost: the same each time.
func oddTree(t *testing.T, dir string) {
	t.Helper()
	at := time.Unix(1e9, 5)
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	check(os.MkdirAll(filepath.Join(dir, "sub", "empty"), 0o755))
	check(os.MkdirAll(filepath.Join(dir, "Ünicode \n name"), 0o700))
	check(os.WriteFile(filepath.Join(dir, "sub", "file"), []byte("content"), 0o640))
	check(os.WriteFile(filepath.Join(dir, "sub", "none"), nil, 0o400))
	check(os.WriteFile(filepath.Join(dir, "big"), make([]byte, 3<<20), 0o755))
	check(os.Symlink("sub/file", filepath.Join(dir, "link")))
	check(os.Symlink("/nowhere", filepath.Join(dir, "dangling")))
	check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink == 0 {
			err = os.Chtimes(path, at, at)
		}
		return err
	}))
	check(os.Chtimes(filepath.Join(dir, "sub"), at, at))
	check(os.Chmod(filepath.Join(dir, "sub", "empty"), 0o555))
	check(os.Chtimes(dir, at, at))
}

// A gate closes by itself when the witness cannot be asked, for good when the
// witness names somebody else, and an answer counts from before the question.
func TestGate(t *testing.T) {
	w := &witness{BlobStore: storeOf(t)}
	dir := t.TempDir()
	g, err := newGate(filepath.Join(dir, "intervals.jsonl"), serviceConfig{Service: "s", Site: "a", Home: "a", Patience: time.Minute}, w)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.check(); !errors.Is(err, errFenced) {
		t.Errorf("before the first answer: %v", err)
	}
	g.confirm(t.Context())
	if err := g.check(); err != nil {
		t.Errorf("after an answer: %v", err)
	}
	asked := g.until
	w.fail = errors.New("cut off")
	g.confirm(t.Context())
	if g.until != asked || g.check() != nil {
		t.Errorf("one missing answer changed something")
	}
	w.fail = nil
	w.name(t, failover.Active{Site: "b", Epoch: 1})
	g.confirm(t.Context())
	if err := g.check(); !errors.Is(err, errFenced) || !g.sealed() {
		t.Errorf("with b in charge: %v, sealed %t", err, g.sealed())
	}
	w.name(t, failover.Active{Site: "a", Epoch: 2})
	g.confirm(t.Context())
	if err := g.check(); !errors.Is(err, errFenced) {
		t.Errorf("a service of epoch 0 serves again in epoch 2: %v", err)
	}
	// Nor does one that slept through epoch 1.
	sleeper, err := newGate(filepath.Join(dir, "intervals.jsonl"), g.c, w)
	if err != nil {
		t.Fatal(err)
	}
	sleeper.confirm(t.Context())
	if err := sleeper.check(); !errors.Is(err, errFenced) {
		t.Errorf("a service of epoch 0 that slept through epoch 1 serves in epoch 2: %v", err)
	}
	if err := g.during(func(int64) error { t.Error("a write was accepted"); return nil }); err == nil {
		t.Error("a write was acknowledged")
	}
}

// An answer of the witness counts from before it was asked: meanwhile somebody
// else may have been put in charge.
func TestGateCountsFromTheQuestion(t *testing.T) {
	slow := 200 * time.Millisecond
	w := &witness{BlobStore: storeOf(t), slow: slow}
	g, err := newGate(filepath.Join(t.TempDir(), "intervals.jsonl"), serviceConfig{Service: "s", Site: "a", Home: "a", Patience: time.Minute}, w)
	if err != nil {
		t.Fatal(err)
	}
	g.confirm(t.Context())
	if latest := clock() + int64(time.Minute-slow); g.check() != nil || g.until > latest {
		t.Errorf("open for %v, want at most %v: %v", time.Duration(g.until-clock()), time.Minute-slow, g.check())
	}
}

// A write that is overtaken by the end of the confirmation is not
// acknowledged.
func TestGateOvertaken(t *testing.T) {
	g, err := newGate(filepath.Join(t.TempDir(), "intervals.jsonl"), serviceConfig{Service: "s", Site: "a", Home: "a", Patience: time.Second}, storeOf(t))
	if err != nil {
		t.Fatal(err)
	}
	g.confirm(t.Context())
	err = g.during(func(int64) error {
		for clock() < g.until { // a slow disk
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	if !errors.Is(err, errFenced) {
		t.Errorf("a write that took longer than the confirmation: %v", err)
	}
}

func storeOf(t *testing.T) *local.BlobStore {
	t.Helper()
	s, err := local.NewBlobStore(local.Config{Dir: filepath.Join(t.TempDir(), "store"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// witness is a store that can be cut off.
type witness struct {
	*local.BlobStore
	fail error
	slow time.Duration
}

func (w *witness) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	time.Sleep(w.slow)
	if w.fail != nil {
		return nil, provider.Info{}, w.fail
	}
	return w.BlobStore.Get(ctx, key, o)
}

func (w *witness) name(t *testing.T, a failover.Active) {
	t.Helper()
	b, err := json.Marshal(failover.LeaseRecord{Version: 1, Service: "s", Epoch: max(1, a.Epoch), Holder: "x", Instance: "x", TTL: 1, Active: a})
	if err == nil {
		_, err = w.BlobStore.Put(t.Context(), "lease/s", provider.Bytes(b), provider.PutOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}
