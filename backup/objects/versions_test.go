package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// past describes every version below a prefix.
func past(t testing.TB, s provider.BlobStore, prefix string) string {
	t.Helper()
	var b strings.Builder
	for v, err := range provider.Versions(t.Context(), s, prefix, provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%q ", strings.TrimPrefix(v.Key, prefix))
		if v.Deleted {
			b.WriteString("deleted\n")
			continue
		}
		r, info, err := s.Get(t.Context(), v.Key, provider.GetOptions{Version: v.Version})
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%d %s %v\n", len(content), short(content), info.Meta)
	}
	return b.String()
}

// versioned is a bucket with some past.
func versioned(t testing.TB) *providertest.Bucket {
	t.Helper()
	s := providertest.NewBucket(providertest.BucketOptions{})
	del := func(key string) {
		if err := s.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put(t, s, "in/once", "once", nil)
	for i := range 12 {
		put(t, s, "in/often", fmt.Sprint("often ", i), map[string]string{"n": fmt.Sprint(i)})
	}
	put(t, s, "in/often/below", "below", nil)
	put(t, s, "in/gone", "gone", nil)
	del("in/gone")
	put(t, s, "in/back", "back 1", nil)
	del("in/back")
	put(t, s, "in/back", "back 2", nil)
	put(t, s, "in/same", "same", nil)
	put(t, s, "in/same", "same", nil)
	put(t, s, "in/large", noise(5<<20, 1), nil)
	put(t, s, "in/large", noise(5<<20, 2), nil)
	return s
}

func TestVersions(t *testing.T) {
	s := versioned(t)
	repo := repository(t, providertest.NewMemory())
	from := target(t, objects.Config{Store: s, Prefix: "in/", Versions: true})
	p := whole(t, repo, from, backup.Incremental)
	out := providertest.NewBucket(providertest.BucketOptions{})
	to := target(t, objects.Config{Store: out})
	restore(t, repo, p, to, "all/", "versions=true", "verify=true")
	if got, want := past(t, out, "all/"), past(t, s, "in/"); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	restore(t, repo, p, to, "present/")
	if got, want := past(t, out, "present/"), mustState(t, s, "in/"); strings.Count(got, "\n") != strings.Count(want, "\n") || mustState(t, out, "present/") != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}

	// Again, nothing is written; and what is new alone is read.
	again := providertest.NewFaulty(out, nil)
	restore(t, repo, p, target(t, objects.Config{Store: again}), "all/", "versions=true")
	if n := count(again, "put") + count(again, "delete"); n > 0 {
		t.Errorf("%d writes of what is there", n)
	}
	put(t, s, "in/often", "newest", nil)
	if err := s.Delete(t.Context(), "in/once", provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	next := whole(t, repo, from, backup.Incremental)
	if next.Stats.BytesRead != int64(len("newest")) {
		t.Errorf("%d bytes were read of a new version of 6", next.Stats.BytesRead)
	}
	restore(t, repo, next, to, "all/", "versions=true", "overwrite=true")
	if !strings.HasSuffix(past(t, out, "all/often/"), past(t, s, "in/often/")) || mustState(t, out, "all/") != mustState(t, s, "in/") {
		t.Errorf("restored\n%s\nwant\n%s", past(t, out, "all/"), past(t, s, "in/"))
	}
	restore(t, repo, next, to, "next/", "versions=true")
	if got, want := past(t, out, "next/"), past(t, s, "in/"); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	// Without Versions only what is present.
	if p := whole(t, repo, target(t, objects.Config{Store: s, Prefix: "in/"}), backup.Incremental); p.Stats.BytesRead != 0 || p.Stats.Items != 5 {
		t.Errorf("%d objects, %d bytes read", p.Stats.Items, p.Stats.BytesRead)
	}
}

// Replaced versions are not written over other objects, nor to a store that
// does not keep them.
func TestVersionsRefused(t *testing.T) {
	s := versioned(t)
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: s, Prefix: "in/", Versions: true}), backup.Full)
	out := providertest.NewBucket(providertest.BucketOptions{})
	put(t, out, "out/often", "mine", nil)
	err := tryRestore(t, repo, p, target(t, objects.Config{Store: out}), "out/", "versions=true")
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), `1 objects are not restored`) || past(t, out, "out/often") != "\"\" 4 \"mine\" map[]\n"+past(t, s, "in/often/") && !strings.Contains(past(t, out, "out/often"), "mine") {
		t.Errorf("%v; there is now %s", err, past(t, out, "out/often"))
	}
	if n := strings.Count(past(t, out, "out/often"), "often"); n > 0 {
		t.Errorf("%d versions over another object", n)
	}
	restore(t, repo, p, target(t, objects.Config{Store: out}), "out/", "versions=true", "overwrite=true")
	if got := past(t, out, "out/often"); !strings.Contains(got, `"" 4 "mine"`) || strings.Count(got, "often ") != 12 {
		t.Errorf("there is now %s", got)
	}
	err = tryRestore(t, repo, p, target(t, objects.Config{Store: forgetful{providertest.NewMemory()}}), "out/", "versions=true")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "does not keep") {
		t.Errorf("restoring versions to a store that forgets them returned %v", err)
	}
}

// Whatever becomes of a restore of versions, running it again completes it,
// with every version once.
func TestCrashedVersions(t *testing.T) {
	s := providertest.NewBucket(providertest.BucketOptions{})
	for i := range 3 {
		put(t, s, "a", fmt.Sprint(i), nil)
	}
	_ = s.Delete(t.Context(), "a", provider.DeleteOptions{})
	put(t, s, "a", "4", nil)
	put(t, s, "b", "1", nil)
	_ = s.Delete(t.Context(), "b", provider.DeleteOptions{})
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: s, Versions: true}), backup.Full)
	want := past(t, s, "")
	undisturbed := providertest.NewFaulty(providertest.NewBucket(providertest.BucketOptions{}), nil)
	restore(t, repo, p, target(t, objects.Config{Store: undisturbed, Readers: 1}), "", "versions=true")
	for n := range len(undisturbed.Calls()) {
		for i, script := range []providertest.Script{providertest.CrashBefore(n + 1), providertest.CrashAfter(n + 1)} {
			out := providertest.NewBucket(providertest.BucketOptions{})
			if err := tryRestore(t, repo, p, target(t, objects.Config{Store: providertest.NewFaulty(out, script), Readers: 1}), "", "versions=true"); err == nil && i == 0 {
				t.Errorf("crash %d at %d and returned nil", i, n+1)
			}
			restore(t, repo, p, target(t, objects.Config{Store: out}), "", "versions=true")
			if got := past(t, out, ""); got != want {
				t.Errorf("crash %d at %d, then again:\n%s\nwant\n%s", i, n+1, got, want)
			}
		}
	}
	for seed := range uint64(40) {
		out := providertest.NewBucket(providertest.BucketOptions{})
		faulty := providertest.NewFaulty(out, providertest.Seeded(seed, 0.2))
		for try := 0; ; try++ {
			err := tryRestore(t, repo, p, target(t, objects.Config{Store: faulty}), "", "versions=true")
			if err == nil {
				break
			}
			if !errors.Is(err, providertest.ErrInjected) || try > 50 {
				t.Fatal(err)
			}
		}
		if got := past(t, out, ""); got != want {
			t.Errorf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

// forgetful says that it keeps versions, and does not.
type forgetful struct{ *providertest.Memory }

func (s forgetful) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for info, err := range s.List(ctx, prefix, o) {
			if !yield(provider.VersionInfo{Info: info}, err) {
				return
			}
		}
	}
}
