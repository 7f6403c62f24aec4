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
// Nothing at the destination is ever overwritten, and nothing deleted: a
// point forgotten or destroyed at the source stays at the destination until
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
// Memory grows by about 150 bytes per object listed, and never with the size
// of an object.
package replicate

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Source is what replication needs to know of a repository.
type Source interface {
	// Manifests yields the manifest of every committed point, oldest first.
	// Modified is when the point was committed. If Version is set, exactly
	// that version is copied; if SHA256 is set, it must match.
	Manifests(ctx context.Context) iter.Seq2[provider.Info, error]

	// Objects yields every other object that the point needs: its Key, and
	// Size and SHA256 of the stored bytes. An object whose SHA256 is zero is
	// read once more, to learn it. The same key may be yielded again, for
	// this point or another, with the same Size and SHA256.
	Objects(ctx context.Context, manifestKey string) iter.Seq2[provider.Info, error]
}

// Errors that [Copy] and [Verify] report about a key. They also match what
// the store said.
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

// ReadBack says whether a copied object is read again before its point counts
// as arrived.
type ReadBack string

const (
	// ReadNothing relies on the destination to refuse a body that does not
	// have the SHA-256 sent with it, as [provider.BlobStore] demands.
	ReadNothing ReadBack = ""
	// ReadCopied reads every copied object from the destination and compares
	// its SHA-256 before the manifest is stored. It doubles the traffic.
	ReadCopied ReadBack = "copied"
)

// Config says what to copy where. Source, From and To are required.
type Config struct {
	Source Source
	From   provider.BlobStore // where Source's objects are
	To     provider.BlobStore

	// BytesPerSecond limits what is read from From, and what is read back
	// from To, together. 0 is no limit.
	BytesPerSecond int64

	// Parallel is how many objects are on their way at once. 0 means 4.
	Parallel int

	// ReadBack checks copied objects by reading them; default ReadNothing.
	ReadBack ReadBack

	// Hold keeps a prune at the destination from deleting what the copy is
	// about to rely on. nil is right if nothing there is ever deleted while
	// Copy runs.
	Hold Hold

	// Progress, if set, is called after every object, one call at a time.
	Progress func(Progress)

	Logger *slog.Logger // nil discards
}

// Hold announces, at the destination, the points that are about to arrive. It
// is called once, before the destination is listed, with the manifests of all
// points that are missing there. An object for which leaving then reports true
// is about to be deleted: points that need it fail with [ErrLeaving]. Once the
// copy is over, release is called, with a context that is not cancelled.
type Hold func(ctx context.Context, manifests []provider.Info) (leaving func(key string) bool, release func(ctx context.Context) error, err error)

// Progress says how far a Copy has come. The totals are those of the whole
// run and known before the first object is copied.
type Progress struct {
	Points, TotalPoints   int   // arrived in this run, or failed
	Objects, TotalObjects int64 // manifests included
	Bytes, TotalBytes     int64
	Elapsed               time.Duration // since the first object was begun
	Remaining             time.Duration // at the present rate; 0 if not known
}

// Result says what a Copy did.
type Result struct {
	Present int      // points that had arrived before
	Arrived []string // manifests of the points that arrived now, newest first
	Objects int64    // copied, manifests included
	Bytes   int64    // of the objects copied
	Skipped int64    // objects needed that were at the destination already
	Failed  []Failure
}

// Failure is a point that did not arrive.
type Failure struct {
	Manifest string // key of the point's manifest
	Key      string // the object that kept it from arriving; may be the manifest
	Err      error
}

// Copy brings every point of the source that is missing at the destination
// there. It goes on past points that cannot be copied; the error joins one
// error for each distinct key in Result.Failed. The Result is valid with an
// error too. When ctx ends, Copy stops with its error; what has arrived stays,
// and no point is there in part.
func Copy(ctx context.Context, c Config) (Result, error) { panic("draft") }

// Backlog says what of a source has not arrived.
type Backlog struct {
	Points  int   // committed and not arrived
	Objects int64 // their missing objects, manifests included
	Bytes   int64 // of the missing objects

	// Oldest is when the oldest point that has not arrived was committed;
	// zero if all have.
	Oldest time.Time

	// Newest is when the newest point that has arrived was committed at the
	// source, and NewestKey its manifest; zero if none has. What is newer
	// would be lost with the source.
	Newest    time.Time
	NewestKey string
}

// Lag returns what of the source has not arrived in to. It reads no content.
func Lag(ctx context.Context, source Source, to provider.BlobStore) (Backlog, error) { panic("draft") }

// VerifyConfig says what to verify. Source, From and To are required.
type VerifyConfig struct {
	Source Source
	From   provider.BlobStore // read only for objects whose SHA256 Source does not know
	To     provider.BlobStore

	// Budget is how many bytes to read from To; the object that exceeds it is
	// still read whole. 0 is no limit. Presence and size of all objects are
	// compared in any case.
	Budget int64

	// After continues a verification that ran out of budget: the Next of its
	// Report.
	After string

	BytesPerSecond int64 // read from To; 0 is no limit
	Parallel       int   // objects read at once; 0 means 4
}

// Report says what a Verify found.
type Report struct {
	Points  int    // that have arrived, and were examined
	Objects int64  // whose presence and size were compared
	Read    int64  // objects whose bytes were read and hashed
	Bytes   int64  // of them
	Next    string // where to go on; "" if the end was reached
	Damage  []Damage
}

// Damage is an object at the destination that is missing or wrong.
type Damage struct {
	Key    string
	Err    error    // matches provider.ErrNotFound or provider.ErrCorrupt
	Points []string // manifests of the arrived points that need it
}

// Verify compares what has arrived with what the source promised: every
// object present with the right size, and the SHA-256 of as many as the budget
// allows, in the order of their keys. A damaged object is no error of Verify
// but part of the Report; see [Report.Err].
func Verify(ctx context.Context, c VerifyConfig) (Report, error) { panic("draft") }
