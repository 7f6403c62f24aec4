//go:build unix

package main

import (
	"encoding/json"
	"errors"
	"fmt"
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
	"github.com/holdfast-go/holdfast/provider/providertest"
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

// openGate is a gate that has been opened, and how to tell that it has ended.
func openGate(t *testing.T, c serviceConfig, witness provider.BlobStore) (g *gate, ended <-chan struct{}) {
	t.Helper()
	c.Service, c.Site = "s", "a"
	if err := os.Mkdir(filepath.Join(c.Data, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(c.Data, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	g, err := newGate(filepath.Join(c.Data, "a", "intervals.jsonl"), c, witness)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.during(func(int64) error { t.Error("accepted before the witness was asked"); return nil }); !errors.Is(err, failover.ErrFenced) {
		t.Errorf("before the witness was asked: %v", err)
	}
	done := make(chan struct{})
	go func() { defer close(done); g.watch(t.Context()) }()
	for g.sentry.Check() != nil {
		time.Sleep(time.Millisecond)
	}
	return g, done
}

// A write that is overtaken by another site's taking over is not acknowledged,
// and the service does not say that it has stopped before that write is over.
func TestGateDrains(t *testing.T) {
	w, dir := storeOf(t), t.TempDir()
	g, ended := openGate(t, serviceConfig{Patience: 2 * time.Second, Data: dir}, w)
	var at int64
	if err := g.during(func(now int64) error { at = now; return nil }); err != nil {
		t.Errorf("in charge: %v", err)
	}
	err := g.during(func(int64) error {
		nameActive(t, w, failover.Active{Site: "b", Epoch: 1})
		for !errors.Is(g.sentry.Check(), failover.ErrSealed) {
			time.Sleep(time.Millisecond)
		}
		select {
		case <-ended:
			t.Error("it says that it has stopped while a write is being accepted")
		case <-time.After(20 * time.Millisecond):
		}
		return nil
	})
	if !errors.Is(err, failover.ErrSealed) {
		t.Errorf("a write that was overtaken: %v", err)
	}
	<-ended
	if !g.sealed() {
		t.Error("it has stopped and does not say so")
	}
	all, err := writableIntervals(dir, "a")
	if err != nil || len(all) != 1 || all[0].Until > clock() {
		t.Fatalf("written down: %v, %v", all, err)
	}
	if err := checkAccepted(all, []record{{Site: "a", At: at}}); err != nil {
		t.Error(err)
	}
}

// A write that outlasts the last word of the witness is not acknowledged. That
// is no end: the witness may come back.
func TestGateOvertaken(t *testing.T) {
	w := providertest.NewFaulty(storeOf(t), nil)
	g, _ := openGate(t, serviceConfig{Patience: 2 * time.Second, Data: t.TempDir()}, w)
	accepted := false
	err := g.during(func(int64) error {
		accepted = true
		w.Use(func(providertest.Call) providertest.Fault { return providertest.Fault{Before: errors.New("cut off")} })
		for g.sentry.Check() == nil { // a slow disk
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	})
	if !accepted || !errors.Is(err, failover.ErrFenced) || g.sealed() {
		t.Errorf("a write that took longer than the confirmation: %v, accepted %t, sealed %t", err, accepted, g.sealed())
	}
	w.Use(nil)
	for g.sentry.Check() != nil {
		time.Sleep(time.Millisecond)
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

// nameActive makes the lease of s say who is in charge.
func nameActive(t *testing.T, w provider.BlobStore, a failover.Active) {
	t.Helper()
	b, err := json.Marshal(failover.LeaseRecord{Version: 1, Service: "s", Epoch: max(1, a.Epoch), Holder: "x", Instance: "x", TTL: 1, Active: a})
	if err == nil {
		_, err = w.Put(t.Context(), "lease/s", provider.Bytes(b), provider.PutOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What stands in the report was measured to the millisecond, and never less
// than it was.
func TestSecondsRoundsUp(t *testing.T) {
	for have, want := range map[time.Duration]time.Duration{
		0: 0, 1: time.Millisecond, time.Millisecond: time.Millisecond, 2528955921: 2529 * time.Millisecond, time.Minute: time.Minute,
	} {
		if got := time.Duration(*seconds(have)); got != want {
			t.Errorf("%v becomes %v, want %v", have, got, want)
		}
	}
}
