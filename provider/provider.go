// Package provider says what disaster recovery asks of a cloud: a place for
// objects ([BlobStore]), snapshots of volumes ([Snapshotter]), names that
// clients follow ([DNSProvider]), switches of the sites that receive traffic
// ([TrafficSwitch]) and keys that wrap keys ([KeyWrapper], [KeyUnwrapper]), with
// the values and errors they share.
//
// The package holds contracts and functions that work on any implementation
// of them; implementations live in its children (provider/local and, one
// package per service, the clouds). To write an implementation, read the
// interface, then run the suite in provider/providertest against it: every
// sentence of a contract has a test there.
//
// # Optional powers
//
// What only some implementations can do is an interface of one method, such
// as [Locker] or [SnapshotCopier]. Find it with [As], which looks through
// wrappers (retry, throttle, prefix) by their Unwrap method. A wrapper must
// therefore never hide a power it forwards correctly, nor forward one it
// would bypass: see [As].
//
// # Lost replies
//
// Every call that changes something can fail after the change was made. A
// caller that gets an error other than one of the sentinels below, or
// [ErrThrottled], must treat the outcome as unknown and read before it
// concludes anything.
package provider

import (
	"errors"
	"io/fs"
	"strings"
	"time"
)

// Errors that every implementation returns, wrapped in [*Error], so that
// callers branch on them with [errors.Is]. What an implementation cannot do
// at all wraps [errors.ErrUnsupported]; what the credentials do not allow
// wraps [fs.ErrPermission].
var (
	// ErrNotFound: there is no such object, snapshot or record set.
	// It also matches [fs.ErrNotExist].
	ErrNotFound error = &sentinel{"not found", fs.ErrNotExist}

	// ErrConflict: the condition of the call (IfAbsent, IfMatch, Old, a
	// Version) did not hold, and nothing was changed.
	ErrConflict = errors.New("condition not met")

	// ErrLocked: the object is under retention and was not changed.
	ErrLocked = errors.New("locked by retention")

	// ErrCorrupt: the bytes are not those that were announced or stored.
	ErrCorrupt = errors.New("content does not match its checksum")

	// ErrCold: the object is in a tier that cannot be read at once. It is whole,
	// and can be brought back; see [Warmer].
	ErrCold = errors.New("in a cold tier, from which it has to be brought back before it is read")

	// ErrRange: the read starts at or past the end of the object.
	ErrRange = errors.New("range starts past the end")

	// ErrInvalidKey: the store cannot hold an object under this key.
	ErrInvalidKey = errors.New("invalid key")

	// ErrThrottled: the service is asked too much, or too busy, and says so.
	// The last request was declined; an earlier one of the same call may
	// have had its effect, so that for a change this, alone of the errors
	// here, leaves the outcome unknown. [RetryAfter] is how long to wait.
	ErrThrottled = errors.New("throttled by the service")
)

type sentinel struct {
	text string
	is   error
}

func (s *sentinel) Error() string        { return s.text }
func (s *sentinel) Is(target error) bool { return target == s.is }

// Throttled is an [ErrThrottled] of a service that has said for how long it
// does not want to be asked.
type Throttled struct{ After time.Duration }

// Error reads "throttled by the service, which asks to wait 3s".
func (t *Throttled) Error() string {
	return ErrThrottled.Error() + ", which asks to wait " + t.After.String()
}

// Is makes it an ErrThrottled.
func (t *Throttled) Is(target error) bool { return target == ErrThrottled }

// RetryAfter is how long the service asked to wait in an [ErrThrottled]; 0 if
// it did not say, and of any other error.
func RetryAfter(err error) time.Duration {
	if t, ok := errors.AsType[*Throttled](err); ok {
		return t.After
	}
	return 0
}

// Error is the concrete type of the errors of this package's implementations.
// Err is one of the sentinels above or an error of the vendor, kept whole so
// that [errors.As] still finds it. No field ever holds a credential.
type Error struct {
	Op       string // "put", "get", "snapshot create", "dns swap" ...
	Provider string // "local", "s3", ...
	Key      string // the key, snapshot or record name; may be empty
	Err      error
}

// Error reads "local: put points/2026: condition not met".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Provider)
	b.WriteString(": ")
	b.WriteString(e.Op)
	if e.Key != "" {
		b.WriteByte(' ')
		b.WriteString(e.Key)
	}
	b.WriteString(": ")
	if e.Err != nil {
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// As returns the first value of type T among v and what v wraps. T is usually
// an optional power:
//
//	if l, ok := provider.As[provider.Locker](store); ok { ... }
//
// A wrapper takes part by an Unwrap method that returns the wrapped value, of
// any type. A wrapper that would be bypassed by a power (a prefix in front of
// every key, an encryption) must implement that power itself or not offer
// Unwrap. One that has a power only if what it wraps has it offers a method
// As(any) bool, which gets a *T, and sets it and returns true if so.
func As[T any](v any) (T, bool) {
	for v != nil {
		if t, ok := v.(T); ok {
			return t, true
		}
		var t T
		if a, ok := v.(interface{ As(any) bool }); ok && a.As(&t) {
			return t, true
		}
		switch u := v.(type) {
		case interface{ Unwrap() BlobStore }:
			v = u.Unwrap()
		case interface{ Unwrap() Snapshotter }:
			v = u.Unwrap()
		case interface{ Unwrap() DNSProvider }:
			v = u.Unwrap()
		default:
			v = nil
		}
	}
	var zero T
	return zero, false
}
