// Package providertest says whether an implementation of a contract of
// package provider keeps it.
//
// [TestBlobStore] is the whole test of a store:
//
//	func TestStore(t *testing.T) {
//		providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore { return open(t) }, providertest.CheckOptions{})
//	}
//
// [CheckBlobStore] asks the same questions outside of a test, of a user's own
// bucket under a prefix of its own, and returns a [Report] with one line for
// each sentence of the contract. [CheckConditions] is the small part of it
// that decides whether a lease can live in a store.
//
// For tests of code that uses a store there are [Memory], which keeps the
// contract, [Bucket], which keeps versions and locks them and has credentials
// that may do little, and [Faulty], which fails calls in front of any store.
//
// A store that passes has been seen to behave; durability (that an
// acknowledged object survives a power failure) cannot be seen from outside
// and is not judged. The IDs of clauses stay the same across releases; new
// ones may be added.
package providertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

// CheckOptions say how [CheckBlobStore] and [TestBlobStore] work. The zero
// value is good for a new store that is thrown away.
type CheckOptions struct {
	// Prefix begins the keys the check writes and deletes again, but for a
	// few odd ones that begin with "/" or "../" before it. Empty means
	// "holdfast-check/" and a random part.
	Prefix string

	// Second opens another handle to the same store, as another process
	// would. Nil means the clauses about two clients use one handle.
	Second func() (provider.BlobStore, error)

	// RetainFor is how long the objects of the clauses about retention stay
	// locked, rounded up to whole seconds. They cannot be deleted earlier and
	// are listed in Report.Left. Zero means that CheckBlobStore skips these
	// clauses, and that TestBlobStore takes a minute.
	RetainFor time.Duration

	// Cool moves an object to a tier that cannot be read at once, as a rule of
	// the bucket would, for the clauses about [provider.Warmer]. Nil means that
	// they are skipped: on a live bucket they wait until objects have been
	// brought back, which takes hours.
	Cool func(ctx context.Context, key string) error

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestBlobStore tests the store that open returns, one subtest per clause of
// the contract. It calls open once; the store may hold other objects. What the
// store does not support is a skipped subtest.
func TestBlobStore(t *testing.T, open func(t *testing.T) provider.BlobStore, o CheckOptions) {
	t.Helper()
	o.RetainFor = cmp.Or(o.RetainFor, time.Minute)
	c, err := newCheck(open(t), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, cl := range c.clauses() {
		t.Run(cl.ID, func(t *testing.T) {
			switch r, left := c.run(t.Context(), cl); {
			case r.Outcome == Fail:
				t.Errorf("%s\n%v", r.Sentence, r.Err)
			case r.Outcome != Pass:
				t.Skipf("%s: %v", r.Outcome, r.Err)
			case len(left) > 0 && !cl.retains:
				t.Errorf("could not delete %q", left)
			}
		})
	}
}

// CheckBlobStore checks every clause of the contract against a live store,
// with some four thousand small requests and a few dozen megabytes, and
// deletes what it wrote. When ctx ends, the remaining clauses are skipped.
func CheckBlobStore(ctx context.Context, store provider.BlobStore, o CheckOptions) Report {
	report := Report{Contract: "BlobStore"}
	c, err := newCheck(store, o)
	if err != nil {
		return Report{Contract: report.Contract, Results: []Result{{
			Clause: Clause{ID: "blob/second", Sentence: "A second handle to the store can be opened."}, Outcome: Fail, Err: err}}}
	}
	for _, cl := range c.clauses() {
		r, left := c.run(ctx, cl)
		report.Results = append(report.Results, r)
		report.Left = append(report.Left, left...)
	}
	return report
}

// CheckConditions checks, with some hundred small requests under prefix,
// whether a store honours IfAbsent, IfMatch and DeleteOptions.Version, racing
// puts included. A store that fails must not hold a lease or a journal.
func CheckConditions(ctx context.Context, store provider.BlobStore, prefix string) Report {
	var only []string
	for _, cl := range conditionClauses {
		only = append(only, cl.ID)
	}
	return CheckBlobStore(ctx, store, CheckOptions{Prefix: prefix, Only: only})
}

// A clause is a sentence of the contract with the way to see whether it holds.
type clause struct {
	Clause
	retains bool // leaves objects under retention
	cools   bool // needs CheckOptions.Cool
	check   func(context.Context, *probe) error
}

func sentence(id, text string, check func(context.Context, *probe) error) clause {
	return clause{Clause: Clause{ID: "blob/" + id, Sentence: text}, check: check}
}

type check struct {
	store, second provider.BlobStore
	prefix        string
	retainFor     time.Duration
	cool          func(context.Context, string) error
	only          []string
}

func newCheck(store provider.BlobStore, o CheckOptions) (*check, error) {
	c := &check{store: store, second: store, retainFor: o.RetainFor, cool: o.Cool, only: o.Only}
	c.prefix = cmp.Or(o.Prefix, "holdfast-check/") + fmt.Sprintf("%x/", []byte(rand.Text()[:8]))
	if o.Second == nil {
		return c, nil
	}
	var err error
	if c.second, err = o.Second(); err != nil {
		return nil, fmt.Errorf("open second handle: %w", err)
	}
	return c, nil
}

func (c *check) clauses() []clause {
	all := slices.Concat(keyClauses, getClauses, putClauses, bodyClauses, conditionClauses, deleteClauses, listClauses, versionClauses, metaClauses, tagClauses, copyClauses, retainClauses, warmClauses)
	if len(c.only) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(cl clause) bool { return !slices.Contains(c.only, cl.ID) })
}

// run checks one clause below a prefix of its own, and returns the keys that
// could not be deleted afterwards.
func (c *check) run(ctx context.Context, cl clause) (Result, []string) {
	r := Result{Clause: cl.Clause}
	switch {
	case ctx.Err() != nil:
		r.Outcome, r.Err = Skipped, ctx.Err()
		return r, nil
	case cl.retains && c.retainFor == 0:
		r.Outcome, r.Err = Skipped, errors.New("it leaves locked objects behind; set RetainFor")
		return r, nil
	}
	if _, ok := provider.As[provider.Warmer](c.store); ok && cl.cools && c.cool == nil {
		r.Outcome, r.Err = Skipped, errors.New("it waits until an object has come back from a cold tier; set Cool")
		return r, nil
	}
	p := &probe{
		store: c.store, second: c.second, retainFor: c.retainFor, cool: c.cool,
		prefix: c.prefix + cl.ID[len("blob/"):] + "/",
	}
	r.Err = calling(ctx, cl, p)
	_, unsupported := errors.AsType[*unsupportedError](r.Err)
	switch {
	case r.Err == nil:
		r.Outcome = Pass
	case ctx.Err() != nil:
		r.Outcome = Skipped
	case unsupported:
		r.Outcome = Unsupported
	default:
		r.Outcome = Fail
	}
	return r, p.clean(ctx)
}

// calling checks a clause. A panic fails it: an iterator that goes on after a
// break panics in its own goroutine, which is this one.
func calling(ctx context.Context, cl clause, p *probe) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return cl.check(ctx, p)
}

// unsupportedError is what a clause returns if the store declined as the
// contract allows.
type unsupportedError struct{ err error }

func (e *unsupportedError) Error() string { return e.err.Error() }
func (e *unsupportedError) Unwrap() error { return e.err }

// A probe is what a clause works with: two handles and keys of its own, all
// of which are deleted afterwards.
type probe struct {
	store, second provider.BlobStore
	prefix        string // ends in "/"
	retainFor     time.Duration
	cool          func(context.Context, string) error

	mu   sync.Mutex
	keys map[string]bool
}

// key returns the key of a name within the probe's prefix.
func (p *probe) key(name string) string { return p.track(p.prefix + name) }

func (p *probe) track(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keys == nil {
		p.keys = map[string]bool{}
	}
	p.keys[key] = true
	return key
}

// clean deletes every key, also after ctx has ended, and returns those it
// could not.
func (p *probe) clean(ctx context.Context) (left []string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(16)
	var mu sync.Mutex
	for key := range p.keys {
		g.Go(func() error {
			err := p.store.Delete(ctx, key, provider.DeleteOptions{})
			if err != nil && !errors.Is(err, provider.ErrInvalidKey) && !errors.Is(err, provider.ErrNotFound) {
				mu.Lock()
				defer mu.Unlock()
				left = append(left, key)
			}
			return nil
		})
	}
	g.Wait()
	slices.Sort(left)
	return left
}
