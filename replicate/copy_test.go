package replicate_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

func TestCopyBringsEveryPoint(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	manifests := generate(t, from, 12)
	f := providertest.NewFaulty(to, nil)
	var last replicate.Progress
	c := configOf(from, f)
	c.Progress = func(p replicate.Progress) { last = p }
	r := copyAll(t, c)

	if n := whole(t, from, to); n != len(manifests) {
		t.Errorf("%d points arrived, want %d", n, len(manifests))
	}
	slices.Reverse(manifests)
	if !slices.Equal(r.Arrived, manifests) {
		t.Errorf("Arrived = %v, want newest first", r.Arrived)
	}
	stored := puts(f)
	var order []string
	for _, k := range stored {
		if strings.HasPrefix(k, "points/") {
			order = append(order, k)
		}
	}
	if !slices.Equal(order, manifests) {
		t.Errorf("manifests were stored in the order %v, want newest first", order)
	}
	if slices.Contains(keys(t, to, ""), "sessions/other") {
		t.Error("an object of no point was copied")
	}
	var bytes int64
	for _, k := range stored {
		bytes += int64(len(read(t, to, k)))
	}
	if r.Objects != int64(len(stored)) || r.Bytes != bytes || r.Present != 0 || len(r.Failed) != 0 {
		t.Errorf("result %+v, but %d objects of %d bytes were stored", r, len(stored), bytes)
	}
	if last.Points != last.TotalPoints || last.Objects != last.TotalObjects || last.Bytes != last.TotalBytes || last.Bytes != bytes {
		t.Errorf("last progress %+v does not end at its totals, or not at %d bytes", last, bytes)
	}
	if n := len(keys(t, to, "")); n != len(stored) {
		t.Errorf("%d puts made %d objects: something was stored twice", len(stored), n)
	}
}

func TestCopyAgainCopiesNothing(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 5)
	copyAll(t, configOf(from, to))
	f := providertest.NewFaulty(to, nil)
	r := copyAll(t, configOf(from, f))
	if r.Present != 5 || r.Objects != 0 || len(r.Arrived) != 0 {
		t.Errorf("second run: %+v", r)
	}
	if calls := f.Calls(); len(calls) != 1 || calls[0].Op != "list" || calls[0].Key == "" {
		t.Errorf("a run with nothing to do asked the destination %+v, want one listing of manifests", calls)
	}
}

func TestCopyCopiesOnlyWhatIsNew(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 4)
	copyAll(t, configOf(from, to))
	generate(t, from, 4) // the same again
	before := keys(t, to, "")
	body := []byte(`{"objects":[]}`)
	put(t, from, "points/900", body)
	r := copyAll(t, configOf(from, to))
	if r.Objects != 1 || r.Bytes != int64(len(body)) || len(keys(t, to, "")) != len(before)+1 {
		t.Errorf("one new manifest; copied %+v", r)
	}
}

// A process that dies at any request leaves a destination that keeps the
// promise, and its successor copies exactly the rest.
func TestCrashAtEveryRequest(t *testing.T) {
	from := providertest.NewMemory()
	const points = 4
	generate(t, from, points)
	quiet := providertest.NewFaulty(providertest.NewMemory(), nil)
	all := copyAll(t, configOf(from, quiet))
	calls := len(quiet.Calls())
	for name, crash := range map[string]func(int) providertest.Script{"before": providertest.CrashBefore, "after": providertest.CrashAfter} {
		for _, parallel := range []int{1, 3} {
			for n := 1; n <= calls; n++ {
				to := providertest.NewMemory()
				c := configOf(from, providertest.NewFaulty(to, crash(n)))
				c.Parallel = parallel
				_, err := replicate.Copy(t.Context(), c)
				if err == nil && !(name == "after" && n == calls) {
					// With several at a time the last request may differ; a run that
					// met its crash must not claim success unless all is there.
					if whole(t, from, to) != points {
						t.Fatalf("crash %s request %d: no error, but not all has arrived", name, n)
					}
				}
				whole(t, from, to)

				durable := len(keys(t, to, ""))
				r := copyAll(t, configOf(from, to))
				if int64(durable)+r.Objects != all.Objects {
					t.Fatalf("crash %s request %d: %d objects were durable, yet %d of %d copied again", name, n, durable, r.Objects, all.Objects)
				}
				if got := whole(t, from, to); got != points {
					t.Fatalf("crash %s request %d: %d points after the second run", name, n, got)
				}
			}
		}
	}
}

func TestSourceDiesAtEveryRequest(t *testing.T) {
	from := providertest.NewMemory()
	const points = 3
	generate(t, from, points)
	quiet := providertest.NewFaulty(from, nil)
	copyAll(t, configOf(quiet, providertest.NewMemory()))
	for n := 1; n <= len(quiet.Calls()); n++ {
		to := providertest.NewMemory()
		dying := providertest.NewFaulty(from, providertest.CrashAfter(n))
		if _, err := replicate.Copy(t.Context(), configOf(dying, to)); err == nil && whole(t, from, to) != points {
			t.Fatalf("request %d: no error, but not all has arrived", n)
		}
		whole(t, from, to)
		copyAll(t, configOf(from, to))
		if got := whole(t, from, to); got != points {
			t.Fatalf("request %d: %d points after the second run", n, got)
		}
	}
}

// Every write happens, and every reply to one is lost.
func TestLostReplies(t *testing.T) {
	lost := func(c providertest.Call) providertest.Fault {
		if c.Op == "put" {
			return providertest.Fault{After: providertest.ErrInjected}
		}
		return providertest.Fault{}
	}
	for name, wrap := range map[string]func(provider.BlobStore) provider.BlobStore{
		"store keeps hashes":    func(s provider.BlobStore) provider.BlobStore { return s },
		"store keeps no hashes": func(s provider.BlobStore) provider.BlobStore { return forgetful{s} },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := providertest.NewMemory(), providertest.NewMemory()
			generate(t, from, 5)
			r := copyAll(t, configOf(from, wrap(providertest.NewFaulty(to, lost))))
			if got := whole(t, from, to); got != 5 || len(r.Arrived) != 5 {
				t.Errorf("%d points there, %d reported", got, len(r.Arrived))
			}
		})
	}
}

// An outage in the middle of everything, at random, until it is done.
func TestUnreliableStores(t *testing.T) {
	for seed := range uint64(20) {
		from, to := providertest.NewMemory(), providertest.NewMemory()
		generate(t, from, 6)
		c := configOf(providertest.NewFaulty(from, providertest.Seeded(seed, 0.1)), providertest.NewFaulty(to, providertest.Seeded(seed+100, 0.2)))
		runs := 1
		for {
			_, err := replicate.Copy(t.Context(), c)
			whole(t, from, to)
			if err == nil {
				break
			}
			if runs++; runs > 1000 {
				t.Fatalf("seed %d: still %v", seed, err)
			}
		}
		if got := whole(t, from, to); got != 6 {
			t.Errorf("seed %d: no error, but %d points", seed, got)
		}
	}
}

func TestDamageAtTheSource(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore{
		"bit flipped": func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore {
			return rotten{from, o.Key, o.Size / 2}
		},
		"replaced": func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore {
			b := read(t, from, o.Key)
			put(t, from, o.Key, append(b[1:], b[0]+1))
			return from
		},
		"cut short": func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore {
			put(t, from, o.Key, read(t, from, o.Key)[:o.Size-1])
			return from
		},
		"longer": func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore {
			put(t, from, o.Key, append(read(t, from, o.Key), 0))
			return from
		},
		"gone": func(t *testing.T, from *providertest.Memory, o provider.Info) provider.BlobStore {
			if err := from.Delete(t.Context(), o.Key, provider.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			return from
		},
	} {
		t.Run(name, func(t *testing.T) {
			from, to := providertest.NewMemory(), providertest.NewMemory()
			manifests := generate(t, from, 12)
			bad := needed(t, from, manifests[6])
			harmed := users(t, from, bad.Key)
			c := configOf(harm(t, from, bad), to)
			r, err := replicate.Copy(t.Context(), c)
			if !errors.Is(err, replicate.ErrDamaged) || !strings.Contains(err.Error(), bad.Key) {
				t.Fatalf("error %v does not say that %s is damaged", err, bad.Key)
			}
			if n := strings.Count(err.Error(), "copy "+bad.Key); n != 1 {
				t.Errorf("the error names the key %d times, once is enough", n)
			}
			for _, m := range manifests {
				if arrived := slices.Contains(r.Arrived, m); arrived == harmed[m] {
					t.Errorf("%s: harmed %v, arrived %v", m, harmed[m], arrived)
				}
			}
			for _, f := range r.Failed {
				if f.Key != bad.Key || !harmed[f.Manifest] {
					t.Errorf("unexpected failure %+v", f)
				}
			}
			if slices.Contains(keys(t, to, ""), bad.Key) {
				t.Error("the damaged object was stored")
			}
			if got := len(keys(t, to, "points/")); got != len(manifests)-len(harmed) {
				t.Errorf("%d points arrived, want all but %d of %d", got, len(harmed), len(manifests))
			}
		})
	}
}

func TestConflictIsNamedAndLeftAlone(t *testing.T) {
	for _, tc := range []struct {
		name  string
		key   func(manifests []string, o provider.Info) string
		other func(b []byte) []byte
		store func(provider.BlobStore) provider.BlobStore
	}{
		{"object of another size", objectKey, longer, plain},
		{"object of the same size", objectKey, changed, plain},
		{"object of another size, no hashes", objectKey, longer, noHashes},
		{"manifest of another size", manifestKey, longer, noHashes},
		{"manifest of the same size", manifestKey, changed, plain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			from, to := providertest.NewMemory(), providertest.NewMemory()
			manifests := generate(t, from, 8)
			key := tc.key(manifests, needed(t, from, manifests[4]))
			alien := tc.other(read(t, from, key))
			put(t, to, key, alien)
			r, err := replicate.Copy(t.Context(), configOf(from, tc.store(to)))
			if !errors.Is(err, replicate.ErrConflict) || !strings.Contains(err.Error(), key) {
				t.Errorf("error %v does not name the conflict at %s", err, key)
			}
			if !bytes.Equal(read(t, to, key), alien) {
				t.Error("the other bytes were overwritten")
			}
			if len(r.Failed) == 0 || len(r.Failed)+len(r.Arrived) != len(manifests) {
				t.Errorf("%d failed, %d arrived of %d", len(r.Failed), len(r.Arrived), len(manifests))
			}
		})
	}
}

func plain(s provider.BlobStore) provider.BlobStore    { return s }
func noHashes(s provider.BlobStore) provider.BlobStore { return forgetful{s} }
func longer(b []byte) []byte                           { return append(b, 0) }
func changed(b []byte) []byte                          { b[len(b)/2] ^= 1; return b }
func objectKey(_ []string, o provider.Info) string     { return o.Key }
func manifestKey(m []string, _ provider.Info) string   { return m[4] }

// The conflict appears between the listing and the Put.
func TestConflictThatTheListingDidNotShow(t *testing.T) {
	for _, same := range []bool{true, false} {
		from, to := providertest.NewMemory(), providertest.NewMemory()
		manifests := generate(t, from, 1)
		o := needed(t, from, manifests[0])
		b := read(t, from, o.Key)
		if !same {
			b[0] ^= 1
		}
		f := providertest.NewFaulty(to, func(c providertest.Call) providertest.Fault {
			if c.Op == "put" && c.Key == o.Key {
				put(t, to, o.Key, b)
			}
			return providertest.Fault{}
		})
		_, err := replicate.Copy(t.Context(), configOf(from, forgetful{f}))
		if same && err != nil {
			t.Errorf("another copy was first with the same bytes: %v", err)
		}
		if !same && !errors.Is(err, replicate.ErrConflict) {
			t.Errorf("other bytes appeared: %v", err)
		}
	}
}

func TestTwoCopiesAtOnce(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 20)
	errs := make(chan error)
	for range 3 {
		go func() {
			_, err := replicate.Copy(t.Context(), configOf(from, to))
			errs <- err
		}()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := whole(t, from, to); got != 20 {
		t.Errorf("%d points", got)
	}
}

func TestCancelled(t *testing.T) {
	from := providertest.NewMemory()
	generate(t, from, 4)
	quiet := providertest.NewFaulty(providertest.NewMemory(), nil)
	copyAll(t, configOf(from, quiet))
	for n := 1; n <= len(quiet.Calls()); n++ {
		to := providertest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		f := providertest.NewFaulty(to, func(c providertest.Call) providertest.Fault {
			if c.N == n {
				cancel()
			}
			return providertest.Fault{}
		})
		_, err := replicate.Copy(ctx, configOf(from, f))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at request %d: %v", n, err)
		}
		if got := whole(t, from, to); got == 4 {
			t.Errorf("cancelled at request %d, and yet everything was copied", n)
		}
		cancel()
	}
}

func TestParallelIsABound(t *testing.T) {
	from := providertest.NewMemory()
	generate(t, from, 10)
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		f := providertest.NewFaulty(providertest.NewMemory(), func(c providertest.Call) providertest.Fault {
			if c.Op != "put" {
				return providertest.Fault{}
			}
			return providertest.Fault{Wait: func(context.Context) error {
				most.Store(max(most.Load(), now.Add(1)))
				time.Sleep(time.Second)
				now.Add(-1)
				return nil
			}}
		})
		c := configOf(from, f)
		c.Parallel = 3
		copyAll(t, c)
		if most.Load() != 3 {
			t.Errorf("%d objects at once, want 3", most.Load())
		}
	})
}

func TestThrottle(t *testing.T) {
	from := providertest.NewMemory()
	generate(t, from, 30)
	for _, perSecond := range []int64{0, 1000, 100_000} {
		synctest.Test(t, func(t *testing.T) {
			to := providertest.NewMemory()
			c := configOf(from, to)
			c.BytesPerSecond = perSecond
			var last replicate.Progress
			c.Progress = func(p replicate.Progress) { last = p }
			start := time.Now()
			r := copyAll(t, c)
			took := time.Since(start)
			if perSecond == 0 {
				if took != 0 {
					t.Errorf("no limit, but it took %v", took)
				}
				return
			}
			want := time.Duration(float64(r.Bytes) / float64(perSecond) * float64(time.Second))
			if (took - want).Abs() > want/1000 {
				t.Errorf("%d bytes at %d per second took %v, want %v", r.Bytes, perSecond, took, want)
			}
			if last.Elapsed != took || last.Remaining != 0 {
				t.Errorf("progress at the end: %v elapsed, %v remaining", last.Elapsed, last.Remaining)
			}
		})
	}
}

func TestProgressForecastsItsEnd(t *testing.T) {
	from := providertest.NewMemory()
	generate(t, from, 30)
	synctest.Test(t, func(t *testing.T) {
		c := configOf(from, providertest.NewMemory())
		c.BytesPerSecond, c.Parallel = 1000, 1
		start := time.Now()
		var foreseen []time.Duration
		c.Progress = func(p replicate.Progress) {
			if p.Bytes > p.TotalBytes/4 {
				foreseen = append(foreseen, p.Elapsed+p.Remaining)
			}
		}
		copyAll(t, c)
		took := time.Since(start)
		for _, f := range foreseen {
			if d := (f - took).Abs(); d > took/10 {
				t.Errorf("forecast %v, took %v", f, took)
			}
		}
		if len(foreseen) < 5 {
			t.Errorf("%d reports", len(foreseen))
		}
	})
}

func TestReadBack(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	manifests := generate(t, from, 3)
	bad := needed(t, from, manifests[2])
	c := configOf(from, rotten{to, bad.Key, 7})
	c.ReadBack = replicate.ReadCopied
	_, err := replicate.Copy(t.Context(), c)
	if !errors.Is(err, provider.ErrCorrupt) || !strings.Contains(err.Error(), "read back") {
		t.Errorf("the destination lies, and Copy says %v", err)
	}
	if slices.Contains(keys(t, to, "points/"), manifests[2]) {
		t.Error("the point counts as arrived")
	}

	c = configOf(from, providertest.NewMemory())
	c.ReadBack = replicate.ReadCopied
	if r := copyAll(t, c); len(r.Arrived) != 3 {
		t.Errorf("an honest destination: %+v", r)
	}
}

func TestStopsWhenTheStoreIsGone(t *testing.T) {
	from := providertest.NewMemory()
	generate(t, from, 50)
	f := providertest.NewFaulty(providertest.NewMemory(), func(c providertest.Call) providertest.Fault {
		if c.Op == "list" {
			return providertest.Fault{}
		}
		return providertest.Fault{Before: errUnreachable}
	})
	r, err := replicate.Copy(t.Context(), configOf(from, f))
	if !errors.Is(err, errUnreachable) {
		t.Error(err)
	}
	if n := len(f.Calls()); n > 40 {
		t.Errorf("%d requests to a store that is gone", n)
	}
	if len(r.Arrived) != 0 {
		t.Error(r.Arrived)
	}
}

// A point is forgotten, and its objects pruned, while it waits for its turn.
func TestForgottenMeanwhile(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	manifests := generate(t, from, 12)
	old := needed(t, from, manifests[0])
	f := providertest.NewFaulty(to, func(c providertest.Call) providertest.Fault {
		if c.Op == "put" && c.Key == manifests[11] {
			for m := range users(t, from, old.Key) {
				if err := from.Delete(t.Context(), m, provider.DeleteOptions{}); err != nil {
					t.Error(err)
				}
			}
			if err := from.Delete(t.Context(), old.Key, provider.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		}
		return providertest.Fault{}
	})
	r := copyAll(t, configOf(from, f))
	if want := keys(t, from, "points/"); len(r.Arrived) != len(want) || len(want) == 12 {
		t.Errorf("%d of %d points that remain arrived", len(r.Arrived), len(want))
	}
	whole(t, from, to)
}

func TestForgettingAtTheSourceDeletesNothing(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 5)
	copyAll(t, configOf(from, to))
	before := keys(t, to, "")
	for _, k := range keys(t, from, "") {
		if err := from.Delete(t.Context(), k, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	copyAll(t, configOf(from, to))
	if !slices.Equal(keys(t, to, ""), before) {
		t.Error("what was destroyed at the source has vanished at the destination")
	}
}

func TestConfigFaultsAreNamed(t *testing.T) {
	_, err := replicate.Copy(t.Context(), replicate.Config{BytesPerSecond: -1, Parallel: -1, ReadBack: "twice"})
	for _, field := range []string{"Source", "From", "To", "BytesPerSecond", "Parallel", "ReadBack"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	_, err = replicate.Verify(t.Context(), replicate.VerifyConfig{Budget: -1})
	for _, field := range []string{"Source", "From", "To", "Budget"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if _, err := replicate.Lag(t.Context(), nil, nil); err == nil {
		t.Error("Lag of nothing")
	}
}

// counted notes how often it is asked for the objects of each point.
type counted struct {
	source
	asked map[string]int
}

func (c counted) Objects(ctx context.Context, key string) iter.Seq2[provider.Info, error] {
	c.asked[key]++
	return c.source.Objects(ctx, key)
}

// Each question costs the source requests: a read of the manifest and more.
func TestSourceIsAskedOnceForEachPoint(t *testing.T) {
	from := providertest.NewMemory()
	points := generate(t, from, 5)
	c := configOf(from, providertest.NewMemory())
	s := counted{source{from}, map[string]int{}}
	c.Source = s
	copyAll(t, c)
	for _, p := range points {
		if s.asked[p] != 1 {
			t.Errorf("asked %d times for the objects of %s", s.asked[p], p)
		}
	}
	clear(s.asked)
	copyAll(t, c)
	if len(s.asked) > 0 {
		t.Errorf("asked for the objects of points that are there: %v", s.asked)
	}
}
