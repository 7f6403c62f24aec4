package throttle_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

func wrap(t testing.TB, s provider.BlobStore, c throttle.Config) (provider.BlobStore, *throttle.Throttle) {
	t.Helper()
	th, err := throttle.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return th.Store(s), th
}

// limits are wide enough for the suite, and each of them is there.
var limits = throttle.Config{
	Read: throttle.Limit{PerSecond: 1e5, InFlight: 8}, Write: throttle.Limit{PerSecond: 1e5, InFlight: 2},
	List: throttle.Limit{PerSecond: 1e5, InFlight: 1}, Delete: throttle.Limit{PerSecond: 1e5, InFlight: 1},
	BytesUp: 1 << 30, BytesDown: 1 << 30,
}

// A store behind a Throttle keeps the whole contract.
func TestBlobStore(t *testing.T) {
	for name, inner := range map[string]func() provider.BlobStore{
		"memory": func() provider.BlobStore { return providertest.NewMemory() },
		"bucket": func() provider.BlobStore { return providertest.NewBucket(providertest.BucketOptions{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := inner()
			open := func() (provider.BlobStore, error) { w, _ := wrap(t, s, limits); return w, nil }
			providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore { w, _ := open(); return w },
				providertest.CheckOptions{Second: open})
		})
	}
}

// The same over a store that fails, in every way that a request can. Deletes
// are TestDelete's: those of one version are not made again.
func TestBlobStoreOverFaults(t *testing.T) {
	for name, c := range map[string]struct{ before, after bool }{
		"lost replies": {after: true}, "not carried out": {before: true}, "both": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := providertest.NewFaulty(providertest.NewBucket(providertest.BucketOptions{}), every(5, c.before, c.after))
				open := func() (provider.BlobStore, error) {
					w, _ := wrap(t, f, throttle.Config{Retries: 1e6, Attempts: 10})
					return w, nil
				}
				s, _ := open()
				only := slices.DeleteFunc(clauses(), func(id string) bool {
					return ofCopies(id) || c.before && unsure(id) ||
						c.after && id == "blob/versions" // a Put made again is another version
				})
				report := providertest.CheckBlobStore(t.Context(), s, providertest.CheckOptions{Second: open, RetainFor: time.Minute, Only: only})
				for _, r := range report.Results {
					if r.Outcome != providertest.Pass && (r.Outcome != providertest.Unsupported || !strings.HasPrefix(r.ID, "blob/warm")) {
						t.Errorf("%s: %s: %v", r.ID, r.Outcome, r.Err)
					}
				}
				failed := 0
				for _, call := range f.Calls() {
					if call.Err != nil {
						failed++
					}
				}
				if failed < 100 {
					t.Errorf("only %d calls failed", failed)
				}
			})
		})
	}
}

// unsure are the clauses in which a Put is refused, which may have failed
// before: whoever is refused then cannot know whether he had succeeded and was
// replaced, and says so in place of ErrConflict or ErrLocked.
func unsure(id string) bool {
	return strings.HasSuffix(id, "-race") || slices.ContainsFunc([]string{"blob/put-if", "blob/retain", "blob/lock"}, func(p string) bool { return strings.HasPrefix(id, p) })
}

// every fails one call in n, in turn before and after its effect.
func every(n int, before, after bool) providertest.Script {
	count := 0
	return func(c providertest.Call) providertest.Fault {
		if count++; count%n != 0 || c.Op == "delete" {
			return providertest.Fault{}
		}
		if before && (!after || count/n%2 == 0) {
			return providertest.Fault{Before: providertest.ErrInjected}
		}
		return providertest.Fault{After: providertest.ErrInjected}
	}
}

func clauses() (all []string) {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // all are skipped, and named
	for _, r := range providertest.CheckBlobStore(ended, providertest.NewMemory(), providertest.CheckOptions{}).Results {
		all = append(all, r.ID)
	}
	return all
}

// plain has no powers, and one of its own.
type plain struct{ provider.BlobStore }

func (plain) Special() string { return "special" }

type special interface{ Special() string }

// Powers are those of the store behind, and what this package knows of them is
// under the limits.
func TestPowers(t *testing.T) {
	for name, c := range map[string]struct {
		store                  provider.BlobStore
		locks, versions, warms bool
	}{
		"plain":     {plain{providertest.NewMemory()}, false, false, false},
		"locker":    {providertest.NewMemory(), true, false, true},
		"both":      {providertest.NewBucket(providertest.BucketOptions{}), true, true, false},
		"versioner": {justVersions{plain{providertest.NewMemory()}}, false, true, false},
		"warmer":    {warms{providertest.NewMemory()}, false, false, true},
	} {
		s, th := wrap(t, c.store, throttle.Config{})
		l, locks := provider.As[provider.Locker](s)
		v, versions := provider.As[provider.Versioner](s)
		if locks != c.locks || versions != c.versions {
			t.Errorf("%s: locker %v, versioner %v", name, locks, versions)
		}
		if _, ok := provider.As[special](s); ok != (name == "plain") {
			t.Errorf("%s: special %v", name, ok)
		}
		before := th.Stats()
		if locks {
			l.Lock(t.Context(), "x", provider.Retention{})
		}
		if versions {
			for range v.Versions(t.Context(), "", provider.ListOptions{}) {
			}
		}
		after := th.Stats()
		if got := after[throttle.Write].Requests - before[throttle.Write].Requests; got == 1 != locks {
			t.Errorf("%s: %d requests of Lock counted", name, got)
		}
		if w, ok := provider.As[provider.Warmer](s); ok != c.warms || name == "warmer" && !warmed(w) {
			t.Errorf("%s: warmer %v", name, ok)
		}
		if c.warms && name != "warmer" {
			w, _ := provider.As[provider.Warmer](s)
			w.Warm(t.Context(), "x", provider.WarmOptions{})
		}
		if got := th.Stats()[throttle.Write].Requests - after[throttle.Write].Requests; got == 1 != c.warms {
			t.Errorf("%s: %d requests of Warm counted", name, got)
		}
		after = th.Stats()
		tags, ok := provider.As[provider.Tagger](s)
		if _, want := provider.As[provider.Tagger](c.store); ok != want {
			t.Errorf("%s: tagger %v", name, ok)
		}
		if ok {
			tags.Tags(t.Context(), "x", "")
			tags.SetTags(t.Context(), "x", "", nil)
			now := th.Stats()
			if now[throttle.Read].Requests-after[throttle.Read].Requests != 1 || now[throttle.Write].Requests-after[throttle.Write].Requests != 1 {
				t.Errorf("%s: requests of Tags and SetTags are not counted", name)
			}
		}
		if got := after[throttle.List].Requests - before[throttle.List].Requests; got == 1 != versions {
			t.Errorf("%s: %d requests of Versions counted", name, got)
		}
	}
}

type warms struct{ provider.BlobStore }

func (warms) Warm(context.Context, string, provider.WarmOptions) (provider.State, error) {
	return provider.Ready, nil
}

func warmed(w provider.Warmer) bool {
	s, err := w.Warm(context.Background(), "x", provider.WarmOptions{})
	return s == provider.Ready && err == nil
}

type justVersions struct{ provider.BlobStore }

func (j justVersions) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for info, err := range j.List(ctx, prefix, o) {
			if !yield(provider.VersionInfo{Info: info}, err) {
				return
			}
		}
	}
}

func TestConfig(t *testing.T) {
	bad := throttle.Config{
		Read: throttle.Limit{PerSecond: -1}, Write: throttle.Limit{InFlight: -1}, List: throttle.Limit{PerSecond: math.Inf(1)},
		Delete: throttle.Limit{PerSecond: -3, InFlight: -1}, BytesUp: -1, BytesDown: -1, Attempts: 101, Retries: -1,
	}
	_, err := throttle.New(bad)
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Read.PerSecond", "Write.InFlight", "List.PerSecond", "Delete.PerSecond", "Delete.InFlight", "BytesUp", "BytesDown", "Attempts", "Retries"} {
		if !strings.Contains(err.Error(), "throttle: Config."+field+": ") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

func Example() {
	ctx := context.Background()
	bucket := providertest.NewMemory()
	// In place of a service: one that loses every third reply.
	n := 0
	service := providertest.NewFaulty(bucket, func(providertest.Call) (f providertest.Fault) {
		if n++; n%3 == 0 {
			f.After = providertest.ErrInjected
		}
		return f
	})
	t, err := throttle.New(throttle.Config{
		Write:   throttle.Limit{PerSecond: 3000, InFlight: 16},
		BytesUp: 50e6,
	})
	if err != nil {
		panic(err)
	}
	store := t.Store(service)
	for i := range 3 {
		// The third is made again, and finds what it had put itself.
		_, err := store.Put(ctx, fmt.Sprint("pack/", i), provider.Bytes([]byte("sealed")), provider.PutOptions{IfAbsent: true})
		fmt.Println(i, err)
	}
	r, _, err := store.Get(ctx, "pack/0", provider.GetOptions{})
	if err != nil {
		panic(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	fmt.Println(string(b), err)
	s := t.Stats()[throttle.Write]
	fmt.Println(s.Requests, "writes,", s.Retries, "of them again")
	// Output:
	// 0 <nil>
	// 1 <nil>
	// 2 <nil>
	// sealed <nil>
	// 4 writes, 1 of them again
}

// ofCopies: a clause about what the stores of these tests cannot do.
func ofCopies(id string) bool { return strings.HasPrefix(id, "blob/copy") || id == "blob/retain-copy" }
