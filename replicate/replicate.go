// Package replicate copies recovery points to another store, so that they
// outlive the first, and says how far behind the copy is.
//
// Use [Copy] to bring the other store up to date, again and again; [Lag] to
// learn what has not arrived; [Verify] to read what has arrived and compare
// its hashes. What is a point and which objects it needs is told by a
// [Source]; *backup.Repository is one. The package moves stored bytes and
// never opens them: it holds no key.
//
// # Guarantees
//
// A point has arrived if and only if its manifest is at the destination. A
// manifest goes there last, after every object of its point; whatever crashes,
// a manifest never stands there without them. Every object is hashed on its
// way and stored only if the bytes are those the source promised.
//
// Nothing at the destination is ever overwritten, except what says that a
// point did not arrive (see [Hold]), and nothing deleted: a point forgotten or destroyed at the source stays at the destination until
// retention there decides about it. A key that holds other bytes there is
// reported as [ErrConflict] and left alone.
//
// A damaged object at the source fails the points that need it. All others
// are copied, and the error at the end names the damaged keys.
//
// There is no state to lose: a run begins by listing the destination and
// copies what is missing. Running it again after any failure continues where
// it stopped, to the object.
//
// # Order
//
// The newest point is copied first. After an outage or at the first seeding
// it is the one that decides how much would be lost now; each older point then
// adds only what the newer ones do not share. The price is that a backlog
// closes from its new end: [Backlog.Newest] tells the loss, [Backlog.Oldest]
// whether the history behind it is whole.
//
// # What it does not do
//
// It does not schedule, delete, decrypt, or retry: put a retrying wrapper
// around both stores. It does not hash again what is already at the
// destination under the right key and size; that is what Verify is for.
// Memory grows by about 85 bytes for each object at the destination and 40 for
// each that is missing there (measured with a million), and never with the size
// of an object.
package replicate

import (
	"context"
	"errors"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// Source is what replication needs to know of a repository.
type Source interface {
	// Manifests yields the manifest of every committed point, oldest first.
	// Modified is when the point was committed. If Version is set, exactly
	// that version is copied; if SHA256 is set, it must match. Meta goes with
	// the copy.
	Manifests(ctx context.Context) iter.Seq2[provider.Info, error]

	// Objects yields every other object that the point needs: its Key, and
	// Size and SHA256 of the stored bytes; Version and Meta as above. An
	// object whose SHA256 is zero is read once more, to learn it. The same
	// key may be yielded again, for this point or another, with the same Size
	// and SHA256.
	Objects(ctx context.Context, manifestKey string) iter.Seq2[provider.Info, error]
}

// Errors that [Copy] reports about a key. What the store said is in the chain
// too.
var (
	// ErrDamaged: the source lacks the object or has other bytes than it
	// promised.
	ErrDamaged = errors.New("damaged at the source")

	// ErrConflict: the destination has other bytes under the key. It was
	// left as it is.
	ErrConflict = errors.New("the destination holds other bytes under this key")

	// ErrLeaving: the destination is about to delete the object; see [Hold].
	ErrLeaving = errors.New("the destination is about to delete this object; copy again after it has")
)
