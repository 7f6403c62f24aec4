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
	"errors"
	"fmt"
	"math/rand/v2"
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
	blobSuite(open(t), o).test(t)
}

// CheckBlobStore checks every clause of the contract against a live store,
// with some four thousand small requests and a few dozen megabytes, and
// deletes what it wrote. When ctx ends, the remaining clauses are skipped.
func CheckBlobStore(ctx context.Context, store provider.BlobStore, o CheckOptions) Report {
	return blobSuite(store, o).report(ctx)
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

type clause = clauseOf[*probe]

func sentence(id, text string, check func(context.Context, *probe) error) clause {
	return clause{Clause: Clause{"blob/" + id, text}, check: check}
}

func blobSuite(store provider.BlobStore, o CheckOptions) suite[*probe] {
	second, err := secondOf(store, o.Second)
	prefix := cmp.Or(o.Prefix, "holdfast-check/") + fmt.Sprintf("%016x/", rand.Uint64()) // which is no secret
	return suite[*probe]{
		contract: "BlobStore", only: o.Only,
		clauses: slices.Concat(keyClauses, getClauses, putClauses, bodyClauses, conditionClauses, deleteClauses, listClauses, versionClauses, metaClauses, tagClauses, copyClauses, retainClauses, warmClauses),
		broken:  err, options: Clause{"blob/second", "A second handle to the store can be opened."},
		probe: func(_ context.Context, id string) (*probe, func(context.Context) []string, error) {
			p := &probe{store: store, second: second, retainFor: o.RetainFor, cool: o.Cool, prefix: prefix + id[len("blob/"):] + "/"}
			return p, p.clean, nil
		},
	}
}

// A probe is what a clause works with: two handles and keys below a prefix of
// its own, all of which are deleted afterwards.
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
