package local_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
)

// TestFull fills a small file system to the brim and looks at what is visible.
func TestFull(t *testing.T) {
	mount := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=2m,nr_inodes=200", "tmpfs", mount).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("mount a small tmpfs: %s", out)
		}
		t.Skipf("no right to mount a small tmpfs here: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", mount).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	dir := filepath.Join(mount, "store")
	s, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	put(t, s, "there", "earlier object", provider.PutOptions{})
	full := func(key, content string) {
		t.Helper()
		_, err := s.Put(ctx, key, strings.NewReader(content), provider.PutOptions{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("put %s on a full file system: %v", key, err)
		}
	}
	full("big", strings.Repeat("x", 3<<20))
	full("there", strings.Repeat("x", 3<<20))
	stored := map[string]bool{"there": true}
	for i := 0; ; i++ { // until the inodes are used up, in every step of a put
		key := strings.Repeat("d/", i%4) + "k" + strings.Repeat("x", i)
		if _, err := s.Put(ctx, key, strings.NewReader(key), provider.PutOptions{}); err == nil {
			stored[key] = true
		} else if errors.Is(err, syscall.ENOSPC) {
			break
		} else {
			t.Fatal(err)
		}
	}
	full("there", strings.Repeat("x", 3<<20))
	if b, _, err := provider.ReadAll(ctx, s, "there", 100); err != nil || string(b) != "earlier object" {
		t.Errorf("the earlier object is now %q, %v", b, err)
	}
	for info, err := range s.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if !stored[info.Key] {
			t.Errorf("%q is visible although its put failed", info.Key)
		}
		delete(stored, info.Key)
	}
	if len(stored) > 0 {
		t.Errorf("stored and not visible: %v", stored)
	}
	if n := countStaged(t, dir); n > 0 {
		t.Errorf("%d staged files are left", n)
	}
	if err := s.Delete(ctx, "there", provider.DeleteOptions{}); err != nil {
		t.Errorf("delete on a full file system: %v", err)
	}
	put(t, s, "next", "x", provider.PutOptions{})
}

// TestFileSizeLimit has writes fail in the middle, without any privilege.
func TestFileSizeLimit(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, local.Config{Dir: dir, Create: true})
	put(t, s, "there", "earlier object", provider.PutOptions{})
	cmd := exec.Command("sh", "-c", `trap "" XFSZ; ulimit -f 512 && exec "$0" -test.run='^TestFileSizeLimitChild$'`, os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_LIMITED="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var keys []string
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if len(keys) != 1 {
		t.Errorf("visible are %q", keys)
	}
	if b, _, err := provider.ReadAll(t.Context(), s, "there", 100); err != nil || string(b) != "earlier object" {
		t.Errorf("the earlier object is now %q, %v", b, err)
	}
}

func TestFileSizeLimitChild(t *testing.T) {
	dir := os.Getenv("HOLDFAST_TEST_LIMITED")
	if dir == "" {
		return
	}
	s := openStore(t, local.Config{Dir: dir})
	for _, key := range []string{"there", "fresh"} {
		_, err := s.Put(t.Context(), key, strings.NewReader(strings.Repeat("x", 4<<20)), provider.PutOptions{})
		if !errors.Is(err, syscall.EFBIG) {
			t.Errorf("put %s past the limit: %v", key, err)
		}
	}
	if n := countStaged(t, dir); n > 0 {
		t.Errorf("%d staged files are left", n)
	}
}
