package providertest_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// What a clause finds is what its subtest says: that it fails, is not
// supported, passes and leaves something behind, or panics.
func TestSubtests(t *testing.T) {
	if os.Getenv("HOLDFAST_SUBTESTS") != "" {
		b := newBroken()
		b.remove = func(context.Context, string, provider.DeleteOptions) error { return errors.New("not today") }
		b.stat = func(ctx context.Context, key string) (provider.Info, error) {
			info, err := b.good.Stat(ctx, key)
			switch {
			case strings.Contains(key, "/meta-replaced/"):
				panic("no Meta")
			case strings.Contains(key, "/meta/"):
				info.Meta = map[string]string{"z": "z"}
			}
			return info, err
		}
		providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return b },
			providertest.CheckOptions{Only: []string{"blob/meta", "blob/meta-replaced", "blob/copy", "blob/put-if-absent-race"}})
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestSubtests$", "-test.v")
	cmd.Env = append(os.Environ(), "HOLDFAST_SUBTESTS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("a broken store passes its test")
	}
	for _, want := range []string{"--- FAIL: TestSubtests/blob/meta ", "stat says Meta", "--- FAIL: TestSubtests/blob/meta-replaced ", "panic: no Meta",
		"--- SKIP: TestSubtests/blob/copy ", "--- FAIL: TestSubtests/blob/put-if-absent-race ", "could not remove"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
