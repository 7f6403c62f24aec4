package local_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

const (
	snapshotProcess = "HOLDFAST_TEST_SNAPSHOT_DIR"
	snapshotCrash   = "HOLDFAST_TEST_SNAPSHOT_CRASH"
)

// TestSnapshotCrash kills a process after each step of making a snapshot,
// restoring it, copying it and deleting it, and runs all of it again.
func TestSnapshotCrash(t *testing.T) {
	var steps atomic.Int64
	if _, err := snapshotStory(t.Context(), storyDir(t), func(string) { steps.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if steps.Load() < 20 {
		t.Errorf("only %d steps", steps.Load())
	}
	for crash := range steps.Load() {
		t.Run(fmt.Sprint(crash+1), func(t *testing.T) {
			t.Parallel() // it is the disk that takes the time
			dir := storyDir(t)
			cmd := snapshotStoryProcess(dir, crash+1)
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("it was to die at this step: %v\n%s", err, out)
			}
			storyGoesOn(t, dir)
		})
	}
}

// TestSnapshotKilled kills the process anywhere, also in the middle of a step.
func TestSnapshotKilled(t *testing.T) {
	rounds := 8
	if os.Getenv("HOLDFAST_LONG") == "1" {
		rounds = 200
	}
	for i := range rounds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			dir := storyDir(t)
			cmd := snapshotStoryProcess(dir, 0)
			out, err := cmd.StdoutPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fscanln(out); err != nil { // an empty line: it begins
				t.Fatal(err)
			}
			time.Sleep(time.Duration(rand.Int64N(int64(150 * time.Millisecond)))) // chance is the point
			cmd.Process.Kill()
			cmd.Wait()
			storyGoesOn(t, dir)
		})
	}
}

// storyDir has a region east with a volume v, and a region west.
func storyDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	volume := filepath.Join(dir, "east", "volumes", "v")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "west"), 0o700), os.MkdirAll(volume, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"a", "b"} {
		if err := os.WriteFile(filepath.Join(volume, f), []byte(f), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func snapshotStoryProcess(dir string, crash int64) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestSnapshotProcess$")
	cmd.Env = append(os.Environ(), snapshotProcess+"="+dir, snapshotCrash+"="+fmt.Sprint(crash))
	return cmd
}

// storyGoesOn checks what a process left that died, and that the story comes
// to its end when it is told again.
func storyGoesOn(t *testing.T, dir string) {
	t.Helper()
	want := describe(t, filepath.Join(dir, "east", "volumes", "v"))
	for _, region := range []string{"east", "west"} {
		readyIsWhole(t, filepath.Join(dir, region), want)
	}
	v, err := snapshotStory(t.Context(), dir, func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, describe(t, filepath.Join(dir, "east", "volumes", v))); diff != "" {
		t.Errorf("the restored volume differs:\n%s", diff)
	}
	// Each region is tidied by those who open it as their own.
	snapshotter(t, filepath.Join(dir, "east"), "east", map[string]string{"west": filepath.Join(dir, "west")})
	snapshotter(t, filepath.Join(dir, "west"), "west", map[string]string{"east": filepath.Join(dir, "east")})
	has(t, filepath.Join(dir, "east"), map[string]int{"volumes": 2, "restores": 1})
	noGarbage(t, filepath.Join(dir, "east"), 0)
	noGarbage(t, filepath.Join(dir, "west"), 1)
}

// readyIsWhole looks at the files, with nobody there to repair anything.
func readyIsWhole(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	for sub, target := range map[string]string{"snapshots": "data", "restores": "volumes"} {
		records, err := filepath.Glob(filepath.Join(dir, sub, "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			b, err := os.ReadFile(r)
			if err != nil {
				t.Fatal(err)
			}
			var rec struct {
				State provider.State
				Data  string
			}
			if err := json.Unmarshal(b, &rec); err != nil {
				t.Fatalf("%s: %v", r, err)
			}
			if rec.State != provider.Ready {
				continue
			}
			if diff := cmp.Diff(want, describe(t, filepath.Join(dir, target, rec.Data))); diff != "" {
				t.Errorf("%s is ready and differs:\n%s", r, diff)
			}
		}
	}
}

// TestSnapshotProcess is not a test: it is the process that dies.
func TestSnapshotProcess(t *testing.T) {
	dir, at := os.Getenv(snapshotProcess), os.Getenv(snapshotCrash)
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	crash, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println()
	var n atomic.Int64
	_, err = snapshotStory(t.Context(), dir, func(step string) {
		if n.Add(1) == crash {
			p, _ := os.FindProcess(os.Getpid())
			p.Kill()
			select {}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// snapshotStory makes a snapshot of volume v, restores it, copies it to the
// other region and deletes it, or goes on with that where it was left.
func snapshotStory(ctx context.Context, dir string, step func(string)) (volume string, err error) {
	s, err := local.NewSteppedSnapshotter(local.SnapshotConfig{
		Dir: filepath.Join(dir, "east"), Region: "east", Regions: map[string]string{"west": filepath.Join(dir, "west")},
	}, step)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.Create(ctx, "v", provider.SnapshotOptions{Token: "t"})
	if err == nil {
		err = until(func() (provider.State, error) { now, err := s.Get(ctx, snap.Ref); return now.State, err })
	}
	if err == nil {
		err = until(func() (provider.State, error) {
			v, err := s.Restore(ctx, snap.Ref, provider.RestoreOptions{Token: "r"})
			volume = v.ID
			return v.State, err
		})
	}
	if err == nil {
		err = until(func() (provider.State, error) {
			now, err := s.CopySnapshot(ctx, snap.Ref, "west", provider.SnapshotOptions{Token: "c"})
			return now.State, err
		})
	}
	if err == nil {
		err = s.Delete(ctx, snap.Ref)
	}
	return volume, err
}

func until(ask func() (provider.State, error)) error {
	for {
		switch st, err := ask(); {
		case err != nil:
			return err
		case st == provider.Ready:
			return nil
		case st == provider.Failed:
			return fmt.Errorf("failed")
		}
		time.Sleep(time.Millisecond)
	}
}
