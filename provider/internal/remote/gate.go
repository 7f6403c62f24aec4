package remote

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A Gate stands before the requests that a store makes of one call: package
// throttle holds them to a rate there, and learns how each was answered, also
// of those that an SDK makes again by itself.
type Gate interface {
	// Enter waits until a request may be made. Its error ends the call: the
	// request is not made, nor made again. Leave is called once, when the
	// head of the answer has come or will not come.
	Enter(ctx context.Context) (leave func(Outcome), err error)
}

// An Outcome says how a request was answered. The zero value is success.
type Outcome struct {
	Failed    bool          // the same request may be answered otherwise soon
	Unknown   bool          // it may have been carried out all the same
	Throttled bool          // the service wants to be asked less
	After     time.Duration // and for so long not at all
	Refused   bool          // by an answer that asking again does not change
	Status    int           // of the answer; 0 if there was none
}

type gateKey struct{}

// Through is ctx for a call whose requests pass g.
func Through(ctx context.Context, g Gate) context.Context {
	return context.WithValue(ctx, gateKey{}, g)
}

// Enter waits at the gate of ctx, if there is one.
func Enter(ctx context.Context) (leave func(Outcome), err error) {
	if g, ok := ctx.Value(gateKey{}).(Gate); ok {
		return g.Enter(ctx)
	}
	return func(Outcome) {}, nil
}

// Answered is the outcome of a request by the status and header of its answer.
// declined says of a 503 that nothing was carried out, as some services mean it.
func Answered(status int, header http.Header, declined bool) Outcome {
	o := Outcome{Status: status}
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		o.Failed, o.Throttled, o.After = true, true, RetryAfter(header, time.Now())
		o.Unknown = status == http.StatusServiceUnavailable && !declined
	case status == http.StatusRequestTimeout, status >= 500 && status != http.StatusNotImplemented:
		o.Failed, o.Unknown = true, true
	default:
		o.Refused = status >= 400
	}
	return o
}

// NoAnswer is the outcome of a request of whose answer nothing came, or not
// enough. Where ctx has ended that says nothing of the service.
func NoAnswer(ctx context.Context) Outcome {
	return Outcome{Failed: ctx.Err() == nil, Unknown: true}
}

// Throttled is the error of package provider for an answer that asks to be
// asked less, and nil for any other status.
func Throttled(status int, header http.Header) error {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return nil
	}
	return ThrottledFor(RetryAfter(header, time.Now()))
}

// ThrottledFor is the error of a service that asks to wait for so long.
func ThrottledFor(after time.Duration) error {
	if after > 0 {
		return &provider.Throttled{After: after}
	}
	return provider.ErrThrottled
}

// LongestWait is the most that a service can ask to be left alone: what asks
// for hours is misconfigured, and finds out by being asked again.
const LongestWait = time.Minute

// RetryAfter is how long an answer asks to wait: Retry-After in seconds or as
// a date, or the milliseconds of Azure.
func RetryAfter(header http.Header, now time.Time) time.Duration {
	wait := time.Duration(0)
	for _, name := range []string{"x-ms-retry-after-ms", "retry-after-ms"} {
		if n, err := strconv.Atoi(header.Get(name)); err == nil {
			return min(max(time.Duration(min(n, int(LongestWait/time.Millisecond)))*time.Millisecond, 0), LongestWait)
		}
	}
	after := header.Get("Retry-After")
	if n, err := strconv.Atoi(after); err == nil {
		wait = time.Duration(min(n, int(LongestWait/time.Second))) * time.Second
	} else if t, err := http.ParseTime(after); err == nil {
		wait = t.Sub(now)
	}
	return min(max(wait, 0), LongestWait)
}

// A Stop is the error of a gate that lets no more requests of a call pass. No
// SDK makes the request again because of it.
type Stop struct{ Err error }

func (s *Stop) Error() string { return s.Err.Error() }

// Unwrap returns Err.
func (s *Stop) Unwrap() error { return s.Err }

// CanceledError is how the SDK of AWS asks.
func (*Stop) CanceledError() bool { return true }

// NonRetriable is how the SDK of Azure asks.
func (*Stop) NonRetriable() {}
