package throttle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// script answers the calls of one kind with these faults, one after the other.
func script(op string, faults ...providertest.Fault) providertest.Script {
	return func(c providertest.Call) providertest.Fault {
		if c.Op != op || len(faults) == 0 {
			return providertest.Fault{}
		}
		f := faults[0]
		faults = faults[1:]
		return f
	}
}

func repeat(n int, f providertest.Fault) (all []providertest.Fault) {
	for range n {
		all = append(all, f)
	}
	return all
}

var (
	before = providertest.Fault{Before: providertest.ErrInjected}
	after  = providertest.Fault{After: providertest.ErrInjected}
)

func count(f *providertest.Faulty, op string) (n int) {
	for _, c := range f.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// everyCall are all calls of a store, on an object that is there.
var everyCall = map[string]func(ctx context.Context, s provider.BlobStore) error{
	"get": func(ctx context.Context, s provider.BlobStore) error {
		_, _, err := provider.ReadAll(ctx, s, "x", 1<<20)
		return err
	},
	"stat": func(ctx context.Context, s provider.BlobStore) error { _, err := s.Stat(ctx, "x"); return err },
	"put": func(ctx context.Context, s provider.BlobStore) error {
		_, err := s.Put(ctx, "x", provider.Bytes([]byte("new")), provider.PutOptions{})
		return err
	},
	"delete": func(ctx context.Context, s provider.BlobStore) error {
		return s.Delete(ctx, "x", provider.DeleteOptions{})
	},
	"list": func(ctx context.Context, s provider.BlobStore) (err error) {
		for _, err = range s.List(ctx, "", provider.ListOptions{}) {
		}
		return err
	},
	"versions": func(ctx context.Context, s provider.BlobStore) (err error) {
		v, _ := provider.As[provider.Versioner](s)
		for _, err = range v.Versions(ctx, "", provider.ListOptions{}) {
		}
		return err
	},
	"lock": func(ctx context.Context, s provider.BlobStore) error {
		l, _ := provider.As[provider.Locker](s)
		return l.Lock(ctx, "x", provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)})
	},
}

func bucketWith(t testing.TB, keys ...string) *providertest.Bucket {
	t.Helper()
	b := providertest.NewBucket(providertest.BucketOptions{})
	for _, key := range keys {
		if _, err := b.Put(t.Context(), key, provider.Bytes(bytes.Repeat([]byte(key), 1000)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// Each call is made so often and no more, with random waits that grow, and
// says why it gave up.
func TestAttempts(t *testing.T) {
	for op, do := range everyCall {
		for _, fault := range []providertest.Fault{before, {Before: provider.ErrThrottled}} {
			synctest.Test(t, func(t *testing.T) {
				f := providertest.NewFaulty(bucketWith(t, "x"), script(op, repeat(1000, fault)...))
				var gaveUp []throttle.Event
				s, th := wrap(t, f, throttle.Config{Attempts: 7, Events: func(e throttle.Event) {
					if e.What == throttle.GaveUp {
						gaveUp = append(gaveUp, e)
					}
				}})
				begun := time.Now()
				err := do(t.Context(), s)
				if !errors.Is(err, fault.Before) || count(f, op) != 7 {
					t.Errorf("%s: %v after %d attempts, want 7", op, err, count(f, op))
				}
				if d := time.Since(begun); d == 0 || d > 30*time.Second {
					t.Errorf("%s: gave up after %v", op, d)
				}
				if len(gaveUp) != 1 || !errors.Is(gaveUp[0].Err, fault.Before) {
					t.Errorf("%s: events %+v", op, gaveUp)
				}
				var left throttle.ClassStats
				for _, c := range th.Stats() {
					left.Retries += c.Retries
					left.GaveUp += c.GaveUp
					left.Failed += c.Failed
				}
				if left.Retries != 6 || left.GaveUp != 1 || left.Failed != 7 {
					t.Errorf("%s: %+v", op, left)
				}
			})
			synctest.Test(t, func(t *testing.T) {
				f := providertest.NewFaulty(bucketWith(t, "x"), script(op, repeat(4, fault)...))
				s, _ := wrap(t, f, throttle.Config{})
				if err := do(t.Context(), s); err != nil || count(f, op) != 5 {
					t.Errorf("%s: %v after %d attempts, want 5", op, err, count(f, op))
				}
			})
		}
	}
}

// What is a final answer is not asked for again.
func TestFinalAnswers(t *testing.T) {
	for op, do := range everyCall {
		for _, is := range []error{provider.ErrNotFound, provider.ErrConflict, provider.ErrLocked, provider.ErrCorrupt, provider.ErrRange,
			provider.ErrInvalidKey, provider.ErrCold, errors.ErrUnsupported, fs.ErrPermission, context.Canceled} {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				f := providertest.NewFaulty(bucketWith(t, "x"), func(c providertest.Call) providertest.Fault {
					if is == context.Canceled {
						cancel()
					}
					return providertest.Fault{Before: fmt.Errorf("because: %w", is)}
				})
				s, th := wrap(t, f, throttle.Config{})
				begun := time.Now()
				if err := do(ctx, s); !errors.Is(err, is) || len(f.Calls()) != 1 || time.Since(begun) > 0 {
					t.Errorf("%s: %v after %d calls and %v", op, err, len(f.Calls()), time.Since(begun))
				}
				for class, c := range th.Stats() {
					if c.InFlight != 0 || c.Left != 100 || c.Failed != 0 {
						t.Errorf("%s: %s: %+v", op, class, c)
					}
				}
			})
		}
	}
}

// A store that does not answer meets as many requests as are asked of it, and
// once in all as many more as the budget has.
func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		f := providertest.NewFaulty(bucketWith(t, "x"), func(providertest.Call) providertest.Fault {
			if down {
				return before
			}
			return providertest.Fault{}
		})
		s, th := wrap(t, f, throttle.Config{Retries: 30})
		for range 500 {
			if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, providertest.ErrInjected) {
				t.Fatal(err)
			}
		}
		if n := len(f.Calls()); n != 530 {
			t.Errorf("%d requests of 500 calls, want 30 more", n)
		}
		_, err := s.Stat(t.Context(), "x")
		if err == nil || !strings.Contains(err.Error(), "retries for requests of its class are used up") {
			t.Errorf("%v does not say why it was not made again", err)
		}
		if left := th.Stats()[throttle.Write].Left; left != 30 {
			t.Errorf("writes have %v retries left", left)
		}
		down = false
		for range 50 {
			if _, err := s.Stat(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
		}
		if left := th.Stats()[throttle.Read].Left; left < 4.9 || left > 5.1 {
			t.Errorf("%v retries after 50 successes, want 5", left)
		}
		for range 1000 {
			s.Stat(t.Context(), "x")
		}
		if left := th.Stats()[throttle.Read].Left; left != 30 {
			t.Errorf("%v retries left, want 30", left)
		}
	})
}

// A body that breaks goes on where it broke, with the same version and no
// other.
func TestGetResumes(t *testing.T) {
	content := make([]byte, 100_000)
	for i := range content {
		content[i] = byte(i * i >> 3)
	}
	for _, o := range []provider.GetOptions{{}, {Offset: 77}, {Offset: 5, Length: 60_000}, {Unverified: true}} {
		synctest.Test(t, func(t *testing.T) {
			mem := providertest.NewMemory()
			if _, err := mem.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			f := providertest.NewFaulty(mem, script("get", after, after, before, after, before))
			s, _ := wrap(t, f, throttle.Config{})
			r, _, err := s.Get(t.Context(), "x", o)
			if err != nil {
				t.Fatal(err)
			}
			want := content[o.Offset:]
			if o.Length > 0 {
				want = want[:o.Length]
			}
			b, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(b, want) || count(f, "get") != 6 {
				t.Errorf("%+v: %d bytes of %d, %v, in %d requests", o, len(b), len(want), err, count(f, "get"))
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	for what, change := range map[string]func(s provider.BlobStore) error{
		"replaced": func(s provider.BlobStore) error {
			_, err := s.Put(context.Background(), "x", provider.Bytes(bytes.Repeat([]byte("y"), 100_000)), provider.PutOptions{})
			return err
		},
		"deleted": func(s provider.BlobStore) error {
			return s.Delete(context.Background(), "x", provider.DeleteOptions{})
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			mem := providertest.NewMemory()
			if _, err := mem.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			s, _ := wrap(t, providertest.NewFaulty(mem, script("get", after)), throttle.Config{})
			r, _, err := s.Get(t.Context(), "x", provider.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if err := change(mem); err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if !errors.Is(err, providertest.ErrInjected) || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "replaced or deleted") || !bytes.Equal(b, content[:len(b)]) {
				t.Errorf("%s: %d bytes, %v", what, len(b), err)
			}
		})
	}
}

// rotten delivers other bytes than it holds, of every second request.
type rotten struct {
	provider.BlobStore
	n     int
	short bool // and without saying so too few
}

func (s *rotten) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.BlobStore.Get(ctx, key, o)
	if err != nil {
		return r, info, err
	}
	b, _ := io.ReadAll(r)
	if s.n++; s.n == 1 {
		if s.short {
			return io.NopCloser(bytes.NewReader(b[:len(b)/2])), info, nil
		}
		return io.NopCloser(io.MultiReader(bytes.NewReader(b[:len(b)/2]), failing{})), info, nil
	}
	if !s.short {
		b[len(b)-1] ^= 1
	}
	return io.NopCloser(bytes.NewReader(b)), info, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, providertest.ErrInjected }

// What came in pieces is verified as a whole, and a body that ends early is no
// body that has ended.
func TestGetVerifies(t *testing.T) {
	for _, short := range []bool{false, true} {
		s, _ := wrap(t, &rotten{BlobStore: bucketWith(t, "x"), short: short}, throttle.Config{})
		b, _, err := provider.ReadAll(t.Context(), s, "x", 1000)
		if short && (err != nil || len(b) != 1000) {
			t.Errorf("cut short: %d bytes, %v", len(b), err)
		}
		if !short && !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("damaged: %v", err)
		}
		s, _ = wrap(t, &rotten{BlobStore: bucketWith(t, "x"), short: short}, throttle.Config{})
		r, _, err := s.Get(t.Context(), "x", provider.GetOptions{Unverified: true})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || len(b) != 1000 {
			t.Errorf("not to be verified: %d bytes, %v", len(b), err)
		}
	}
}

// A listing goes on behind the last key, and versions behind the last version.
func TestListingsResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucketWith(t, "a", "b", "b", "b", "c", "d", "d")
		if err := b.Delete(t.Context(), "b", provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		b.Put(t.Context(), "b", provider.Bytes(nil), provider.PutOptions{})
		want := func(yield func(string) bool) {
			for v, err := range b.Versions(t.Context(), "", provider.ListOptions{}) {
				if err != nil || !yield(fmt.Sprint(v.Key, v.Version, v.Deleted)) {
					return
				}
			}
		}
		var keys, versions []string
		f := providertest.NewFaulty(b, func(c providertest.Call) providertest.Fault { return providertest.Fault{} })
		s, _ := wrap(t, f, throttle.Config{})
		f.Use(script("list", after, before, after, after, before, after))
		for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, info.Key)
		}
		if strings.Join(keys, "") != "abcd" || count(f, "list") != 7 {
			t.Errorf("%q in %d requests", keys, count(f, "list"))
		}
		// Faulty breaks off behind the first of each request: with one more
		// version each time, no request would get behind "b".
		n := 0
		v, _ := provider.As[provider.Versioner](th(t, breaking{Bucket: b, at: func() int { n++; return n }}))
		for info, err := range v.Versions(t.Context(), "", provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			versions = append(versions, fmt.Sprint(info.Key, info.Version, info.Deleted))
		}
		i := 0
		for w := range want {
			if i >= len(versions) || versions[i] != w {
				t.Fatalf("%q: want %q at %d", versions, w, i)
			}
			i++
		}
		if i != len(versions) || i != 9 || n < 3 {
			t.Errorf("%d versions, want %d, in %d requests", len(versions), i, n)
		}
		// A version that is gone meanwhile is noticed.
		first := true
		v, _ = provider.As[provider.Versioner](th(t, breaking{Bucket: b, at: func() int {
			if !first {
				for info := range b.Versions(t.Context(), "b", provider.ListOptions{}) {
					b.DeleteVersion("b", info.Version)
					break
				}
			}
			first = false
			return 3
		}}))
		var err error
		for _, err = range v.Versions(t.Context(), "", provider.ListOptions{}) {
		}
		if err == nil || !strings.Contains(err.Error(), "changed after the listing broke off") {
			t.Errorf("%v", err)
		}
	})
}

func th(t *testing.T, s provider.BlobStore) provider.BlobStore {
	w, _ := wrap(t, s, throttle.Config{})
	return w
}

// breaking breaks listings of versions off behind so many.
type breaking struct {
	*providertest.Bucket
	at func() int
}

func (b breaking) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		n := b.at()
		for v, err := range b.Bucket.Versions(ctx, prefix, o) {
			if n == 0 {
				yield(provider.VersionInfo{}, providertest.ErrInjected)
				return
			}
			if n--; !yield(v, err) {
				return
			}
		}
	}
}

// A conditional Put whose reply was lost is found out to have succeeded; that
// of another is not taken for it, nor called a conflict.
func TestPutWithLostReply(t *testing.T) {
	for name, kept := range map[string]func(provider.BlobStore) provider.BlobStore{
		"sums":    func(s provider.BlobStore) provider.BlobStore { return s },
		"no sums": func(s provider.BlobStore) provider.BlobStore { return forgetful{s} },
	} {
		for _, attempts := range []int{1, 5} {
			for _, match := range []bool{false, true} {
				synctest.Test(t, func(t *testing.T) {
					mem := providertest.NewMemory()
					o := provider.PutOptions{IfAbsent: true, Meta: map[string]string{"a": "b"}}
					if match {
						first, err := mem.Put(t.Context(), "x", provider.Bytes([]byte("first")), provider.PutOptions{})
						if err != nil {
							t.Fatal(err)
						}
						o = provider.PutOptions{IfMatch: first.Version}
					}
					body := bytes.Repeat([]byte("mine"), 50_000)
					s, _ := wrap(t, kept(providertest.NewFaulty(mem, script("put", after))), throttle.Config{Attempts: attempts})
					info, err := s.Put(t.Context(), "x", provider.Bytes(body), o)
					present, statErr := mem.Stat(t.Context(), "x")
					if err != nil || statErr != nil || info.Version != present.Version || info.Size != 200_000 || info.Key != "x" {
						t.Errorf("%s, %d attempts, %+v: %+v, %v; there is %+v", name, attempts, o, info, err, present)
					}
					// A refusal at once is a conflict.
					if _, err := s.Put(t.Context(), "x", provider.Bytes(body), o); !errors.Is(err, provider.ErrConflict) {
						t.Errorf("%s: again: %v", name, err)
					}
				})
				for what, other := range map[string]struct {
					body string
					meta map[string]string
				}{"bytes": {"else", nil}, "size": {"other!", nil}, "meta": {"mine", map[string]string{"by": "another"}}} {
					synctest.Test(t, func(t *testing.T) {
						mem := providertest.NewMemory()
						o := provider.PutOptions{IfAbsent: true}
						if match {
							first, _ := mem.Put(t.Context(), "x", provider.Bytes([]byte("first")), provider.PutOptions{})
							o = provider.PutOptions{IfMatch: first.Version}
						}
						replace := providertest.Fault{Before: providertest.ErrInjected, Wait: func(ctx context.Context) error {
							_, err := mem.Put(ctx, "x", provider.Bytes([]byte(other.body)), provider.PutOptions{Meta: other.meta})
							return err
						}}
						s, _ := wrap(t, kept(providertest.NewFaulty(mem, script("put", replace))), throttle.Config{Attempts: attempts})
						_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), o)
						if err == nil || errors.Is(err, provider.ErrConflict) {
							t.Errorf("%s, another's %s, %d attempts: %v", name, what, attempts, err)
						}
						if attempts > 1 && !strings.Contains(err.Error(), "outcome unknown") {
							t.Errorf("%s, another's %s: %v does not say that the outcome is unknown", name, what, err)
						}
					})
				}
			}
		}
	}
}

// forgetful keeps no SHA-256.
type forgetful struct{ provider.BlobStore }

func (f forgetful) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := f.BlobStore.Stat(ctx, key)
	info.SHA256 = [32]byte{}
	return info, err
}

// A Put under retention that is made again meets its own object, which is
// locked.
func TestPutLockedByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := providertest.NewMemory()
		s, _ := wrap(t, providertest.NewFaulty(mem, script("put", after)), throttle.Config{})
		o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(time.Hour)}}
		info, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), o)
		if err != nil || info.Retain.IsZero() {
			t.Errorf("%+v, %v", info, err)
		}
		if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("other")), o); !errors.Is(err, provider.ErrLocked) {
			t.Errorf("over what is locked: %v", err)
		}
	})
}

// A body that fails is not the store's fault and is not asked for again.
func TestBodyFails(t *testing.T) {
	for name, body := range map[string]provider.Body{"fails": brokenBody{}, "ends early": io.NewSectionReader(strings.NewReader("short"), 0, 10)} {
		f := providertest.NewFaulty(providertest.NewMemory(), nil)
		s, th := wrap(t, f, throttle.Config{})
		_, err := s.Put(t.Context(), "x", body, provider.PutOptions{IfAbsent: true})
		if err == nil || len(f.Calls()) != 1 {
			t.Errorf("%s: %v after %d calls", name, err, len(f.Calls()))
		}
		if st := th.Stats()[throttle.Write]; st.Failed != 0 || st.InFlight != 0 || st.Left != 100 {
			t.Errorf("%s: %+v", name, st)
		}
	}
}

type brokenBody struct{}

func (brokenBody) Size() int64                           { return 10 }
func (brokenBody) ReadAt(p []byte, _ int64) (int, error) { return 0, errors.New("a bad disk") }

// What a body knows of itself the store is told.
func TestSummedBody(t *testing.T) {
	var got provider.Body
	s, _ := wrap(t, looking{providertest.NewMemory(), &got}, throttle.Config{BytesUp: 1 << 30})
	sum := [32]byte{1, 2, 3}
	body := provider.SummedBytes([]byte("x"), sum)
	s.Put(t.Context(), "x", body, provider.PutOptions{})
	known, ok := got.(provider.Summed)
	if !ok || known.SHA256() != sum || known.CRC32C() != body.(provider.Summed).CRC32C() {
		t.Errorf("%T", got)
	}
	s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{})
	if _, ok := got.(provider.Summed); ok {
		t.Errorf("%T knows sums that nobody told", got)
	}
}

type looking struct {
	provider.BlobStore
	body *provider.Body
}

func (l looking) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	*l.body = body
	return l.BlobStore.Put(ctx, key, body, o)
}

// A Delete is made again, unless it is of one version: then it is looked
// whether that is gone.
func TestDelete(t *testing.T) {
	for _, c := range []struct {
		version, replaced bool
		fault             providertest.Fault
		calls             int
		ok, there         bool
	}{
		{false, false, before, 2, true, false},
		{false, false, after, 2, true, false},
		{true, false, after, 1, true, false},
		{true, false, before, 1, false, true},
		{true, true, after, 1, false, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			mem := providertest.NewMemory()
			info, _ := mem.Put(t.Context(), "x", provider.Bytes([]byte("x")), provider.PutOptions{})
			stat := providertest.Fault{}
			if c.replaced { // before the look
				stat.Wait = func(ctx context.Context) error {
					_, err := mem.Put(ctx, "x", provider.Bytes([]byte("x")), provider.PutOptions{})
					return err
				}
			}
			f := providertest.NewFaulty(mem, func(call providertest.Call) providertest.Fault {
				if call.Op == "stat" {
					return stat
				}
				fault := c.fault
				c.fault = providertest.Fault{}
				return fault
			})
			s, _ := wrap(t, f, throttle.Config{})
			var o provider.DeleteOptions
			if c.version {
				o.Version = info.Version
			}
			err := s.Delete(t.Context(), "x", o)
			_, there := mem.Stat(t.Context(), "x")
			if (err == nil) != c.ok || (there == nil) != c.there || count(f, "delete") != c.calls || errors.Is(err, provider.ErrConflict) {
				t.Errorf("%+v: %v; there: %v; %d deletes", c, err, there, count(f, "delete"))
			}
			if err != nil && !strings.Contains(err.Error(), "outcome unknown") {
				t.Errorf("%v", err)
			}
		})
	}
}

// An object of the same bytes that nothing protects is not what a Put with a
// retention has made.
func TestPutUnknownWithRetention(t *testing.T) {
	until := time.Now().Add(24 * time.Hour)
	mode := func(m provider.LockMode, until time.Time) provider.Retention {
		return provider.Retention{Mode: m, Until: until}
	}
	for name, c := range map[string]struct {
		there provider.Retention
		own   bool
	}{
		"none":   {},
		"weaker": {mode(provider.Governance, until), false},
		"ends":   {mode(provider.Compliance, until.Add(-time.Hour)), false},
		"same":   {mode(provider.Compliance, until), true},
		"longer": {mode(provider.Compliance, until.Add(time.Hour)), true},
	} {
		mem := providertest.NewBucket(providertest.BucketOptions{})
		meets := providertest.Fault{Before: providertest.ErrInjected, Wait: func(ctx context.Context) error {
			_, err := mem.Put(ctx, "x", provider.Bytes([]byte("mine")), provider.PutOptions{Retain: c.there})
			return err
		}}
		s, _ := wrap(t, providertest.NewFaulty(mem, script("put", meets)), throttle.Config{})
		_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true, Retain: mode(provider.Compliance, until)})
		if (err == nil) != c.own || errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
