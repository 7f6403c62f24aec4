package providertest

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// Errors of the faults that the scripts of this package inject.
var (
	ErrInjected = errors.New("injected fault")
	ErrCrashed  = errors.New("injected crash")
)

// A Call is one request that reached a [Faulty] store.
type Call struct {
	N   int    // 1 for the first
	Op  string // "get", "put", "stat", "delete", "list", "versions" or "lock"
	Key string // of a list and of versions, the prefix
	Err error  // what the caller was told; nil while the call is under way
}

// A Fault says what becomes of a [Call]. The zero Fault lets it pass.
type Fault struct {
	// Wait, if not nil, is called first: the place for latency, or for a
	// test to hold a call until it has seen something. Its error fails the
	// call before any effect.
	Wait func(ctx context.Context) error

	// Before fails the call; the store never sees it.
	Before error

	// After fails the call although the store has carried it out: the lost
	// reply. A Get fails halfway through its bytes, a List after its first
	// object.
	After error

	// Crash ends the world: this call fails with Before or After ([ErrCrashed]
	// before any effect if neither is set), and so does every later one, every
	// call under way, and every open reader.
	Crash bool
}

// A Script decides the fault of a call. It is called for one Call at a time.
type Script func(Call) Fault

// CrashBefore is a script that crashes at call n, which has no effect.
func CrashBefore(n int) Script {
	return func(c Call) Fault {
		if c.N < n {
			return Fault{}
		}
		return Fault{Before: ErrCrashed, Crash: true}
	}
}

// CrashAfter is a script that crashes at call n, which has its effect.
func CrashAfter(n int) Script {
	return func(c Call) Fault {
		if c.N < n {
			return Fault{}
		}
		return Fault{After: ErrCrashed, Crash: true}
	}
}

// Seeded is a script that fails the given share of calls, from 0 to 1, with
// [ErrInjected], half of them after they took effect. One seed gives one
// sequence of decisions.
func Seeded(seed uint64, share float64) Script {
	rnd := rand.New(rand.NewPCG(seed, 0))
	return func(Call) Fault {
		hit, after := rnd.Float64() < share, rnd.IntN(2) == 1
		switch {
		case hit && after:
			return Fault{After: ErrInjected}
		case hit:
			return Fault{Before: ErrInjected}
		}
		return Fault{}
	}
}

// Faulty is a store that fails as its script says, in both ways a request can
// fail: not carried out, and carried out with the reply lost. It records every
// call. A loop over [CrashBefore] and [CrashAfter], for n up to the number of
// calls of an undisturbed run, visits every instant at which its user can be
// killed; what is then in the wrapped store is what a successor finds.
//
// Faulty is safe for concurrent use. It has no Unwrap: a power it does not
// know would bypass the script. Its Lock and Versions wrap
// errors.ErrUnsupported if the wrapped store is no [provider.Locker] or
// [provider.Versioner]; [provider.As] finds it a [provider.Tagger] if that is
// one.
type Faulty struct {
	store provider.BlobStore

	mu     sync.Mutex
	script Script
	calls  []Call
	dead   error // once crashed
}

var (
	_ provider.BlobStore = (*Faulty)(nil)
	_ provider.Locker    = (*Faulty)(nil)
	_ provider.Versioner = (*Faulty)(nil)
)

// NewFaulty wraps store. A nil script injects nothing.
func NewFaulty(store provider.BlobStore, script Script) *Faulty {
	return &Faulty{store: store, script: script}
}

// Use replaces the script, for calls that begin later; nil injects nothing.
// It does not bring a crashed store back: a successor gets a new Faulty.
func (f *Faulty) Use(script Script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script = script
}

// Calls returns the calls so far, in the order in which they began.
func (f *Faulty) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// call carries out one request under the script. do returns the store's error.
func (f *Faulty) call(ctx context.Context, op, key string, do func(Fault) error) error {
	n, fault := f.begin(op, key)
	err := f.carryOut(ctx, fault, do)

	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err == nil && f.dead != nil:
		err = f.dead // the caller did not live to see the reply
	case fault.Crash && f.dead == nil:
		f.dead = errors.Join(fault.Before, fault.After)
	}
	if err != nil {
		if _, ok := errors.AsType[*provider.Error](err); !ok {
			err = &provider.Error{Op: op, Provider: "faulty", Key: key, Err: err}
		}
	}
	f.calls[n-1].Err = err
	return err
}

func (f *Faulty) begin(op, key string) (int, Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := Call{N: len(f.calls) + 1, Op: op, Key: key}
	f.calls = append(f.calls, c)
	if f.dead != nil {
		return c.N, Fault{Before: f.dead}
	}
	if f.script == nil {
		return c.N, Fault{}
	}
	fault := f.script(c)
	if fault.Crash && fault.Before == nil && fault.After == nil {
		fault.Before = ErrCrashed
	}
	if fault.Crash && fault.Before != nil {
		f.dead = fault.Before
	}
	return c.N, fault
}

func (f *Faulty) carryOut(ctx context.Context, fault Fault, do func(Fault) error) error {
	if fault.Wait != nil {
		if err := fault.Wait(ctx); err != nil {
			return err
		}
	}
	if fault.Before != nil {
		return fault.Before
	}
	return do(fault)
}

// Get implements [provider.BlobStore].
func (f *Faulty) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	var got io.ReadCloser
	err = f.call(ctx, "get", key, func(fault Fault) (err error) {
		if got, info, err = f.store.Get(ctx, key, o); err != nil {
			return err
		}
		left := info.Size - o.Offset
		if o.Length > 0 {
			left = min(left, o.Length)
		}
		r = &faultyReader{f: f, r: got, fail: fault.After, left: left / 2}
		return nil
	})
	if err != nil {
		if got != nil {
			got.Close()
		}
		return nil, provider.Info{}, err
	}
	return r, info, nil
}

// Put implements [provider.BlobStore].
func (f *Faulty) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (info provider.Info, err error) {
	err = f.call(ctx, "put", key, func(fault Fault) (err error) {
		if info, err = f.store.Put(ctx, key, body, o); err == nil {
			err = fault.After
		}
		return err
	})
	if err != nil {
		return provider.Info{}, err
	}
	return info, nil
}

// Stat implements [provider.BlobStore].
func (f *Faulty) Stat(ctx context.Context, key string) (info provider.Info, err error) {
	err = f.call(ctx, "stat", key, func(fault Fault) (err error) {
		if info, err = f.store.Stat(ctx, key); err == nil {
			err = fault.After
		}
		return err
	})
	if err != nil {
		return provider.Info{}, err
	}
	return info, nil
}

// Delete implements [provider.BlobStore].
func (f *Faulty) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return f.call(ctx, "delete", key, func(fault Fault) error {
		if err := f.store.Delete(ctx, key, o); err != nil {
			return err
		}
		return fault.After
	})
}

// As gives [provider.As] the tags of the wrapped store, if it has any.
func (f *Faulty) As(power any) (ok bool) {
	if to, is := power.(*provider.Tagger); is {
		var t provider.Tagger
		t, ok = provider.As[provider.Tagger](f.store)
		*to = faultyTagger{f, t}
	}
	return ok
}

type faultyTagger struct {
	f *Faulty
	t provider.Tagger
}

func (t faultyTagger) Tags(ctx context.Context, key string, v provider.Version) (tags map[string]string, err error) {
	err = t.f.call(ctx, "tags", key, func(fault Fault) (err error) {
		if tags, err = t.t.Tags(ctx, key, v); err == nil {
			err = fault.After
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return tags, nil
}

func (t faultyTagger) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	return t.f.call(ctx, "settags", key, func(fault Fault) error {
		if err := t.t.SetTags(ctx, key, v, tags); err != nil {
			return err
		}
		return fault.After
	})
}

// Lock implements [provider.Locker].
func (f *Faulty) Lock(ctx context.Context, key string, r provider.Retention) error {
	return f.call(ctx, "lock", key, func(fault Fault) error {
		l, ok := provider.As[provider.Locker](f.store)
		if !ok {
			return errors.ErrUnsupported
		}
		if err := l.Lock(ctx, key, r); err != nil {
			return err
		}
		return fault.After
	})
}

// List implements [provider.BlobStore]. One iteration is one call.
func (f *Faulty) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return listing(ctx, f, "list", prefix, f.store.List(ctx, prefix, o))
}

// Versions implements [provider.Versioner]. One iteration is one call.
func (f *Faulty) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	v, ok := provider.As[provider.Versioner](f.store)
	if !ok {
		return listing(ctx, f, "versions", prefix, func(yield func(provider.VersionInfo, error) bool) {
			yield(provider.VersionInfo{}, errors.ErrUnsupported)
		})
	}
	return listing(ctx, f, "versions", prefix, v.Versions(ctx, prefix, o))
}

// listing carries out a call that yields one thing after the other.
func listing[T any](ctx context.Context, f *Faulty, op, prefix string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		broken := false // yield said no more, which is no error
		err := f.call(ctx, op, prefix, func(fault Fault) error {
			for v, err := range seq {
				if err == nil {
					err = f.crashed()
				}
				if err != nil {
					return err
				}
				if !yield(v, nil) {
					broken = true
					return nil
				}
				if fault.After != nil {
					return fault.After
				}
			}
			return fault.After
		})
		if err != nil && !broken {
			var zero T
			yield(zero, err)
		}
	}
}

func (f *Faulty) crashed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// faultyReader fails after left bytes if fail is set, and at once after a
// crash.
type faultyReader struct {
	f    *Faulty
	r    io.ReadCloser
	fail error
	left int64
}

func (r *faultyReader) Read(p []byte) (int, error) {
	if err := r.f.crashed(); err != nil && r.fail == nil {
		return 0, err
	}
	if r.fail == nil {
		return r.r.Read(p)
	}
	if r.left == 0 {
		return 0, r.fail
	}
	n, err := r.r.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	return n, err
}

func (r *faultyReader) Close() error { return r.r.Close() }
