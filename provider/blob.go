package provider

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Body is content that can be read again and in parallel, which is what
// lets one retry wrapper and one multipart path serve every store.
// [bytes.Reader], [strings.Reader] and [io.SectionReader] are bodies; see
// [FileBody] for files.
type Body interface {
	io.ReaderAt
	Size() int64
}

// A Version names the content of a key at one moment. It is opaque: compare
// it for equality with a Version of the same store and key, and nothing else.
// Every successful Put of a key yields a Version that key never had before,
// or the same one if the bytes are the same.
type Version string

// A BlobStore holds objects under keys.
//
// Keys are non-empty valid UTF-8 of at most 1,024 bytes; Put refuses any
// other with [ErrInvalidKey]. A store takes every such key or refuses it with
// ErrInvalidKey before anything is written; it always takes keys of the form
// [a-z0-9._/-] in at most 254 segments, none of which is empty, ends in a dot
// or has more than 255 bytes, if no key is another's path prefix ("a" beside
// "a/b"). Nothing is ever found under a key that Put refuses.
//
// A store is safe for concurrent use by goroutines and by processes, and
// reads see writes: once Put or Delete has returned, every Get, Stat and List
// that begins later sees its effect, wherever it runs. When Put returns nil,
// the object is durable.
//
// A call whose ctx has ended before it began changes nothing and fails with
// an error that matches ctx.Err().
type BlobStore interface {
	// Get opens an object. The Info describes the whole object, of which the
	// reader delivers the range asked for. The caller closes the reader; it
	// keeps delivering the version it opened even if the key is replaced or
	// deleted meanwhile, or fails; it never mixes versions. If the store
	// knows the content to be damaged the reader fails with [ErrCorrupt].
	//
	// [ErrNotFound] if there is no such object (or no such Version any more),
	// [ErrRange] if Offset is not zero and not before the end, or if Offset or
	// Length is negative.
	Get(ctx context.Context, key string, o GetOptions) (io.ReadCloser, Info, error)

	// Put stores body under key, replacing what is there unless o says
	// otherwise. The object appears whole or not at all: no reader sees a
	// part of it, whatever fails, and a failed Put leaves the earlier object
	// in place. Racing conditional puts on one key have exactly one winner.
	// A body that ends early or fails, fails the Put. Of the Info returned,
	// Key, Size and Version are those that Stat would tell.
	//
	// [ErrConflict] if IfAbsent or IfMatch does not hold (on a key without an
	// object, IfMatch never does), [ErrCorrupt] if the bytes do not have
	// o.SHA256, [ErrLocked] if what is there is under retention and would be
	// lost.
	Put(ctx context.Context, key string, body Body, o PutOptions) (Info, error)

	// Stat describes an object without its content. [ErrNotFound].
	Stat(ctx context.Context, key string) (Info, error)

	// Delete removes an object. A key that is not there is no error, whatever
	// o.Version: a delete can be repeated. [ErrConflict] if o.Version is not
	// the present one, [ErrLocked] under retention. A store that cannot
	// compare and delete in one step declines every o.Version with
	// errors.ErrUnsupported, and deletes nothing.
	Delete(ctx context.Context, key string, o DeleteOptions) error

	// List yields the objects whose key begins with prefix (any string, not
	// only whole segments) in ascending order of the bytes of whole keys:
	// "a-b" comes before "a/x". Each pair is an Info and nil, or a zero Info
	// and an error, after which the sequence ends. Breaking off is safe.
	// Objects written or deleted during the listing may or may not appear;
	// every other object appears exactly once. The Info of a listing may
	// lack SHA256, Meta and Retain.
	List(ctx context.Context, prefix string, o ListOptions) iter.Seq2[Info, error]
}

// Info describes an object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time // by the store's clock, UTC
	Version  Version
	SHA256   [32]byte          // of the content, if the store kept it; else zero
	Meta     map[string]string // as given to Put; nil if none
	Retain   Retention         // zero if not under retention
}

// GetOptions choose what [BlobStore.Get] reads.
type GetOptions struct {
	Offset  int64   // first byte, from 0
	Length  int64   // at most so many bytes; 0 means to the end
	Version Version // exactly this version; empty means the present one

	// Unverified: the caller verifies what it reads against a sum of its
	// own, so the store need not compute one as well. It may all the same.
	Unverified bool
}

// PutOptions are the conditions and attributes of a [BlobStore.Put]. The zero
// value replaces unconditionally.
type PutOptions struct {
	IfAbsent bool     // only if there is no object under the key
	IfMatch  Version  // only if the present object has this version
	SHA256   [32]byte // of the whole body; zero means not known beforehand

	// Retain protects the object from its creation on. A store that cannot
	// do so refuses the Put with errors.ErrUnsupported.
	Retain Retention

	// Meta is kept with the object. Keys are lower-case [a-z0-9-]; values
	// are printable ASCII and neither begin nor end with a space; 32 pairs
	// and 1 KiB in all. A store refuses what it cannot keep as given.
	Meta map[string]string
}

// DeleteOptions are the conditions of a [BlobStore.Delete].
type DeleteOptions struct {
	Version Version // only if this is the present version; empty means any
}

// ListOptions narrow a [BlobStore.List].
type ListOptions struct {
	StartAfter string // only keys greater than this one
}

// A LockMode says who can shorten a retention.
type LockMode string

const (
	// Governance retention can be shortened by a privileged caller.
	Governance LockMode = "governance"
	// Compliance retention can only be extended, by anyone.
	Compliance LockMode = "compliance"
)

// Retention forbids deleting or replacing an object before Until, by the
// store's clock.
type Retention struct {
	Mode  LockMode
	Until time.Time // UTC; a store that keeps whole seconds makes it the next one
}

// IsZero reports whether there is no retention.
func (r Retention) IsZero() bool { return r.Mode == "" && r.Until.IsZero() }

// A Locker can change the retention of an object that exists.
type Locker interface {
	// Lock extends the retention of key. Calling it with the retention the
	// object already has is no error. A shorter Until, or Governance where
	// there is Compliance, is [ErrLocked]. [ErrNotFound].
	Lock(ctx context.Context, key string, r Retention) error
}
