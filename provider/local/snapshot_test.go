package local_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func snapshotter(t testing.TB, dir, region string, others map[string]string) *local.Snapshotter {
	t.Helper()
	s, err := local.NewSnapshotter(local.SnapshotConfig{Dir: dir, Region: region, Regions: others})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestSnapshotConformance(t *testing.T) {
	east, west := t.TempDir(), t.TempDir()
	volume := func(id string) string { // restored ones may be in either region
		dir := filepath.Join(east, "volumes", id)
		if _, err := os.Stat(dir); err != nil {
			dir = filepath.Join(west, "volumes", id)
		}
		return dir
	}
	write := func(_ context.Context, id string, b []byte) error {
		half := len(b) / 2
		return errors.Join(
			os.WriteFile(filepath.Join(volume(id), "a"), b[:half], 0o600),
			os.MkdirAll(filepath.Join(volume(id), "d"), 0o700),
			os.WriteFile(filepath.Join(volume(id), "d", "b"), b[half:], 0o600))
	}
	providertest.TestSnapshotter(t, func(t *testing.T) provider.Snapshotter {
		return snapshotter(t, east, "east", map[string]string{"west": west})
	}, providertest.SnapshotterOptions{
		Second: func() (provider.Snapshotter, error) {
			return snapshotter(t, east, "east", map[string]string{"west": west}), nil
		},
		Region:   "west",
		InRegion: func() (provider.Snapshotter, error) { return snapshotter(t, west, "west", nil), nil },
		NewVolume: func(ctx context.Context, b []byte) (string, error) {
			id := "v-" + rand.Text()
			if err := os.Mkdir(filepath.Join(east, "volumes", id), 0o700); err != nil {
				return "", err
			}
			return id, write(ctx, id, b)
		},
		WriteVolume: write,
		ReadVolume: func(_ context.Context, id string) ([]byte, error) {
			a, errA := os.ReadFile(filepath.Join(volume(id), "a"))
			b, errB := os.ReadFile(filepath.Join(volume(id), "d", "b"))
			return append(a, b...), errors.Join(errA, errB)
		},
		DeleteVolume: func(_ context.Context, id string) error { return os.RemoveAll(volume(id)) },
	})
	for _, dir := range []string{east, west} {
		noGarbage(t, dir, 0)
	}
}

// noGarbage waits until a region holds nothing but so many snapshots: the
// source of a copy is released after the copy is Ready.
func noGarbage(t testing.TB, dir string, snapshots int) {
	t.Helper()
	has(t, dir, map[string]int{"data": snapshots, "snapshots": snapshots, "staging": 0, "trash": 0, "pins": 0})
}

// has waits until the directories of a region have so many entries.
func has(t testing.TB, dir string, want map[string]int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got := map[string]int{}
		for sub := range want {
			entries, err := os.ReadDir(filepath.Join(dir, sub))
			if err != nil {
				t.Fatal(err)
			}
			got[sub] = len(entries)
		}
		diff := cmp.Diff(want, got)
		if diff == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("entries in %s (-want +got):\n%s", dir, diff)
			return
		}
	}
}

// describe is all that a snapshot keeps of a tree, but for the top.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		line := fi.Mode().String()
		switch fi.Mode().Type() {
		case 0:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q %v", b, fi.ModTime().UnixNano())
		case fs.ModeDir:
			line += fmt.Sprint(" ", fi.ModTime().UnixNano())
		case fs.ModeSymlink:
			to, _ := os.Readlink(p)
			line += " -> " + to
		}
		got[rel] = line + testXattr(p, fi)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// writable lets the end of a test remove a region with what fill made in it.
func writable(t testing.TB, region string) {
	t.Cleanup(func() {
		filepath.WalkDir(region, func(p string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
}

// fill makes a tree with everything in it that a snapshot keeps.
func fill(t testing.TB, dir string) {
	t.Helper()
	old := time.Date(2001, 2, 3, 4, 5, 6, 789_000_000, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	writable(t, filepath.Dir(filepath.Dir(dir)))
	must(os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o755))
	must(os.MkdirAll(filepath.Join(dir, "empty"), 0o750))
	must(os.WriteFile(filepath.Join(dir, "sub", "file"), []byte("content"), 0o640))
	must(os.WriteFile(filepath.Join(dir, "sub", "deep", "read only"), []byte("x"), 0o400))
	must(os.WriteFile(filepath.Join(dir, "nothing"), nil, 0o666))
	must(os.WriteFile(filepath.Join(dir, "run"), []byte("#!"), 0o755))
	must(os.Symlink("sub/file", filepath.Join(dir, "inside")))
	must(os.Symlink("/etc/passwd", filepath.Join(dir, "outside")))
	must(os.Symlink("../../..", filepath.Join(dir, "sub", "above")))
	must(os.Symlink("nowhere", filepath.Join(dir, "dangling")))
	for _, p := range []string{"run", "empty", "."} {
		must(setTestXattr(filepath.Join(dir, p)))
	}
	for _, p := range []string{"sub/file", "sub", "dangling", "."} {
		must(setTestOwner(filepath.Join(dir, p)))
	}
	for _, p := range []string{"sub/file", "sub/deep", "sub", "."} {
		must(os.Chtimes(filepath.Join(dir, p), old, old))
	}
	must(os.Chmod(filepath.Join(dir, "sub"), 0o555))
	must(os.Chmod(dir, 0o2751))
}

// wait follows a snapshot until it is no longer pending.
func wait(t testing.TB, s provider.Snapshotter, snap provider.Snapshot) provider.Snapshot {
	t.Helper()
	for snap.State == provider.Pending {
		time.Sleep(time.Millisecond)
		var err error
		if snap, err = s.Get(t.Context(), snap.Ref); err != nil {
			t.Fatal(err)
		}
	}
	return snap
}

func restored(t testing.TB, s provider.Snapshotter, ref provider.SnapshotRef, token string) provider.Volume {
	t.Helper()
	for {
		v, err := s.Restore(t.Context(), ref, provider.RestoreOptions{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		if v.State != provider.Pending {
			return v
		}
		time.Sleep(time.Millisecond)
	}
}

func create(t testing.TB, s provider.Snapshotter, volume, token string) provider.Snapshot {
	t.Helper()
	snap, err := s.Create(t.Context(), volume, provider.SnapshotOptions{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	return snap
}

func TestSnapshotKeepsTree(t *testing.T) {
	dir := t.TempDir()
	s := snapshotter(t, dir, "here", nil)
	fill(t, s.VolumeDir("v"))
	want := describe(t, s.VolumeDir("v"))
	snap := wait(t, s, create(t, s, "v", "t"))
	v := restored(t, s, snap.Ref, "r")
	if v.State != provider.Ready {
		t.Fatal(v)
	}
	if diff := cmp.Diff(want, describe(t, s.VolumeDir(v.ID))); diff != "" {
		t.Errorf("the restored volume differs (-volume +restored):\n%s", diff)
	}
	if snap.Size != int64(len("content")+len("x")+len("#!")) {
		t.Errorf("size %d", snap.Size)
	}
	if err := s.Delete(t.Context(), snap.Ref); err != nil { // with directories that cannot be written
		t.Fatal(err)
	}
	noGarbage(t, dir, 0)
}

// A volume that does not hold still is never Ready; one that changes once is
// copied again.
func TestSnapshotOfChangingVolume(t *testing.T) {
	for name, tc := range map[string]struct {
		changes int64
		change  func(dir string, n int64) error
		want    provider.State
	}{
		"a file is written, always":        {1 << 30, writeSame, provider.Failed},
		"a file is written, once":          {1, writeSame, provider.Ready},
		"a file is renamed, always":        {1 << 30, renameBack, provider.Failed},
		"an mtime is set back, always":     {1 << 30, hideChange, provider.Failed},
		"a file appears and goes, always":  {1 << 30, comeAndGo, provider.Failed},
		"a file is gone when it is copied": {1, removeLast, provider.Ready},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var n atomic.Int64
			s, err := local.NewSteppedSnapshotter(local.SnapshotConfig{Dir: dir, Region: "here"}, func(step string) {
				if step != "file" {
					return
				}
				if k := n.Add(1); k <= tc.changes {
					if err := tc.change(filepath.Join(dir, "volumes", "v"), k); err != nil {
						t.Error(err)
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := os.Mkdir(s.VolumeDir("v"), 0o700); err != nil {
				t.Fatal(err)
			}
			for _, f := range []string{"a", "b", "c"} {
				if err := os.WriteFile(filepath.Join(s.VolumeDir("v"), f), []byte("0000"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			snap := wait(t, s, create(t, s, "v", "t"))
			if snap.State != tc.want {
				t.Fatalf("%+v, want it %s", snap, tc.want)
			}
			if snap.State == provider.Failed {
				if !strings.Contains(snap.Reason, "stop its writers") {
					t.Errorf("reason: %s", snap.Reason)
				}
				has(t, dir, map[string]int{"data": 0, "staging": 0, "trash": 0, "pins": 0})
				if _, err := s.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "r"}); !errors.Is(err, provider.ErrConflict) {
					t.Errorf("restore of a failed snapshot: %v", err)
				}
				return
			}
			v := restored(t, s, snap.Ref, "r")
			if diff := cmp.Diff(describe(t, s.VolumeDir("v")), describe(t, s.VolumeDir(v.ID))); diff != "" {
				t.Errorf("the snapshot is not what the volume was in the end (-volume +restored):\n%s", diff)
			}
		})
	}
}

// The changes leave names and sizes as they were.
func writeSame(dir string, n int64) error {
	return os.WriteFile(filepath.Join(dir, "a"), fmt.Appendf(nil, "%04d", n%10000), 0o600)
}

func renameBack(dir string, n int64) error {
	a, b, x := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "x")
	return errors.Join(os.Rename(a, x), os.Rename(b, a), os.Rename(x, b))
}

func hideChange(dir string, n int64) error {
	fi, err := os.Stat(filepath.Join(dir, "a"))
	if err != nil {
		return err
	}
	return errors.Join(writeSame(dir, n), os.Chtimes(filepath.Join(dir, "a"), fi.ModTime(), fi.ModTime()))
}

func comeAndGo(dir string, n int64) error {
	x := filepath.Join(dir, "x")
	return errors.Join(os.WriteFile(x, nil, 0o600), os.Remove(x))
}

func removeLast(dir string, n int64) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, entries[len(entries)-1].Name()))
}

// A snapshot that is deleted while it is made leaves nothing, and its token
// begins another one.
func TestSnapshotDeletedWhilePending(t *testing.T) {
	for _, at := range []string{"file", "staged", "measured"} {
		t.Run(at, func(t *testing.T) {
			dir := t.TempDir()
			reached, resume := make(chan bool), make(chan bool)
			var once atomic.Bool
			s, err := local.NewSteppedSnapshotter(local.SnapshotConfig{Dir: dir, Region: "here"}, func(step string) {
				if step == at && once.CompareAndSwap(false, true) {
					reached <- true
					<-resume
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			fill(t, s.VolumeDir("v"))
			first := create(t, s, "v", "t")
			<-reached
			if err := s.Delete(t.Context(), first.Ref); err != nil {
				t.Fatal(err)
			}
			second := create(t, s, "v", "t")
			resume <- true
			if snap := wait(t, s, second); snap.State != provider.Ready {
				t.Fatal(snap)
			}
			if v := restored(t, s, second.Ref, "r"); v.State != provider.Ready {
				t.Error(v)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			noGarbage(t, dir, 1)
		})
	}
}

// What is being restored or copied does not need the snapshot any more, and
// what nobody needs any more goes.
func TestSnapshotDeletedWhileRead(t *testing.T) {
	for _, how := range []string{"restored", "copied"} {
		t.Run(how, func(t *testing.T) {
			east, west := t.TempDir(), t.TempDir()
			var armed atomic.Bool
			reached, resume := make(chan bool), make(chan bool)
			s, err := local.NewSteppedSnapshotter(local.SnapshotConfig{Dir: east, Region: "east", Regions: map[string]string{"west": west}}, func(step string) {
				if step == "directory" && armed.CompareAndSwap(true, false) {
					reached <- true
					<-resume
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			fill(t, s.VolumeDir("v"))
			writable(t, west)
			snap := wait(t, s, create(t, s, "v", "t"))
			armed.Store(true)
			ask := func() (provider.State, error) {
				if how == "restored" {
					v, err := s.Restore(t.Context(), snap.Ref, provider.RestoreOptions{Token: "x"})
					return v.State, err
				}
				c, err := s.CopySnapshot(t.Context(), snap.Ref, "west", provider.SnapshotOptions{Token: "x"})
				return c.State, err
			}
			if st, err := ask(); st != provider.Pending || err != nil {
				t.Fatal(st, err)
			}
			<-reached
			if err := s.Delete(t.Context(), snap.Ref); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get(t.Context(), snap.Ref); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("get of a deleted snapshot: %v", err)
			}
			resume <- true
			if err := until(ask); err != nil {
				t.Error(err)
			}
			noGarbage(t, east, 0)
		})
	}
}

// What Close interrupts, the next Snapshotter takes up.
func TestSnapshotResumed(t *testing.T) {
	dir := t.TempDir()
	reached := make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := local.NewSteppedSnapshotter(local.SnapshotConfig{Dir: dir, Region: "here"}, func(step string) {
		if step == "file" {
			select {
			case reached <- true:
				<-ctx.Done()
			case <-ctx.Done():
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, s.VolumeDir("v"))
	snap := create(t, s, "v", "t")
	<-reached
	time.AfterFunc(5*time.Millisecond, cancel) // while Close waits
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	next := snapshotter(t, dir, "here", nil)
	if now := wait(t, next, snap); now.State != provider.Ready {
		t.Errorf("%+v", now)
	}
	if again := create(t, next, "v", "t"); again.Ref != snap.Ref {
		t.Errorf("the token began %v, before it was %v", again.Ref, snap.Ref)
	}
	noGarbage(t, dir, 1)
}

func TestSnapshotConfig(t *testing.T) {
	_, err := local.NewSnapshotter(local.SnapshotConfig{Regions: map[string]string{"x": ""}})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Dir", "Region", `Regions["x"]`} {
		if !strings.Contains(err.Error(), "SnapshotConfig."+field) {
			t.Errorf("nothing about %s in %v", field, err)
		}
	}
	s := snapshotter(t, t.TempDir(), "here", nil)
	for _, v := range []string{"", ".", "..", "../x", "a/b", `a\b`, "/etc", ".hidden"} {
		if _, err := s.Create(t.Context(), v, provider.SnapshotOptions{Token: "t"}); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("volume %q: %v", v, err)
		}
	}
	if err := os.Symlink("/etc", s.VolumeDir("link")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "link", provider.SnapshotOptions{Token: "t"}); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a link as a volume: %v", err)
	}
	for _, id := range []string{"", "../records/x", "snap-0"} {
		ref := provider.SnapshotRef{Provider: "local", Region: "here", ID: id}
		if _, err := s.Get(t.Context(), ref); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("get %q: %v", id, err)
		}
		if err := s.Delete(t.Context(), ref); err != nil {
			t.Errorf("delete %q: %v", id, err)
		}
	}
	elsewhere := provider.SnapshotRef{Provider: "local", Region: "there", ID: "snap-00000000000000000000"}
	if err := s.Delete(t.Context(), elsewhere); err == nil || !strings.Contains(err.Error(), "there") {
		t.Errorf("delete in a region that is not configured: %v", err)
	}
}

func ExampleSnapshotter() {
	dir, err := os.MkdirTemp("", "region")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := local.NewSnapshotter(local.SnapshotConfig{Dir: dir, Region: "east"})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	if err := os.Mkdir(s.VolumeDir("app"), 0o700); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.VolumeDir("app"), "data"), []byte("hello"), 0o600); err != nil {
		log.Fatal(err)
	}
	snap, err := s.Create(ctx, "app", provider.SnapshotOptions{Token: "run 17"})
	for err == nil && snap.State == provider.Pending {
		time.Sleep(10 * time.Millisecond)
		snap, err = s.Get(ctx, snap.Ref)
	}
	v, err := s.Restore(ctx, snap.Ref, provider.RestoreOptions{Token: "restore 1"})
	for err == nil && v.State == provider.Pending {
		time.Sleep(10 * time.Millisecond)
		v, err = s.Restore(ctx, snap.Ref, provider.RestoreOptions{Token: "restore 1"})
	}
	if err != nil {
		log.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.VolumeDir(v.ID), "data"))
	fmt.Println(snap.State, v.State, string(b), err)
	// Output: ready ready hello <nil>
}
