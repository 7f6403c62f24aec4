package replicate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/holdfast-go/holdfast/provider"
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

	// Hold lets Copy run while the destination is pruned. It is called once,
	// before the destination is listed, with the manifests of all points that
	// are missing there, unless there are none. nil is right only if nothing
	// there is ever deleted while Copy runs. For a repository:
	//
	//	func(ctx context.Context, manifests []provider.Info) (replicate.Hold, error) {
	//		return repository.Hold(ctx, to, manifests)
	//	}
	Hold func(ctx context.Context, manifests []provider.Info) (Hold, error)

	// Progress, if set, is called after every object, one call at a time. To
	// know the totals, Copy asks Source for the objects of every missing point
	// once more; without Progress it asks once.
	Progress func(Progress)

	Logger *slog.Logger // nil discards
}

// A Hold keeps what a copy brings and relies on from being deleted at the
// destination until its manifests are there. *backup.Hold is one.
type Hold interface {
	// Leaving reports whether an object is about to be deleted. Points that
	// need it fail with [ErrLeaving].
	Leaving(key string) bool

	// Replaces returns the version of what a manifest is to replace, or
	// nothing if its place must be free.
	Replaces(manifest string) provider.Version

	// Renew is called before every object, from one goroutine at a time. An
	// error ends the copy.
	Renew(ctx context.Context) error

	// Arrived is called after a manifest was stored. The point has arrived
	// only if it returns nil; an error ends the copy.
	Arrived(ctx context.Context, manifest string) error

	// Release is called at the end, whatever has happened, with a context
	// that is not cancelled.
	Release(ctx context.Context) error
}

// free is a Hold of a destination where nothing is ever deleted.
type free struct{}

func (free) Leaving(string) bool                   { return false }
func (free) Replaces(string) provider.Version      { return "" }
func (free) Renew(context.Context) error           { return nil }
func (free) Arrived(context.Context, string) error { return nil }
func (free) Release(context.Context) error         { return nil }

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
	Skipped int64    // objects that a point needed and that were there already, once for each point
	Failed  []Failure
}

// Failure is a point that did not arrive.
type Failure struct {
	Manifest string // key of the point's manifest
	Key      string // the object that kept it from arriving; may be the manifest
	Err      error
}

// Validate returns every fault of the configuration.
func (c Config) Validate() error {
	errs := []error{required("Source", c.Source != nil), required("From", c.From != nil), required("To", c.To != nil)}
	errs = append(errs, notNegative("BytesPerSecond", c.BytesPerSecond), notNegative("Parallel", int64(c.Parallel)))
	if c.ReadBack != ReadNothing && c.ReadBack != ReadCopied {
		errs = append(errs, fmt.Errorf("ReadBack: %q is neither %q nor %q", c.ReadBack, ReadNothing, ReadCopied))
	}
	return errors.Join(errs...)
}

const defaultParallel = 4

func required(field string, given bool) error {
	if given {
		return nil
	}
	return fmt.Errorf("%s: required", field)
}

func notNegative(field string, n int64) error {
	if n < 0 {
		return fmt.Errorf("%s: %d is negative", field, n)
	}
	return nil
}

func parallel(n int) int {
	if n == 0 {
		return defaultParallel
	}
	return n
}
