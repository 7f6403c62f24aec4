package route53_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/aws/route53"
)

// follow asks until a change is in sync.
func follow(t *testing.T, z *route53.Zones, ref provider.ChangeRef) {
	t.Helper()
	for range 3 {
		st, err := z.Status(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		if st == provider.ChangeInSync {
			return
		}
	}
	t.Errorf("%s is still pending", ref)
}

// What passes is tried again.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	var last *provider.RecordSet
	for i, rule := range []wire.Rule{
		refusal(http.StatusBadRequest, "PriorRequestNotComplete", "The request was rejected because Route 53 was still processing a prior request."),
		refusal(http.StatusBadRequest, "Throttling", "Rate exceeded"),
		wire.Answers(http.StatusServiceUnavailable, "text/html", "<html>"),
		wire.Cut,
	} {
		next := s.set("x", "A", "192.0.2."+string(rune('1'+i)))
		first, done := wire.First(1, "POST", rule)
		s.Add(first)
		ref, err := z.Swap(t.Context(), provider.Change{Old: last, New: next})
		if err != nil || done.Load() != 1 {
			t.Fatalf("%d: %v", i, err)
		}
		follow(t, z, ref)
		last = next
		first, done = wire.First(1, "GET", rule)
		s.Add(first)
		if got, err := z.Get(t.Context(), last.Name, "A"); err != nil || got.Values[0] != last.Values[0] || done.Load() != 1 {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
}

// The reply to a change is lost, the SDK sends it again, and Route 53 refuses
// what it has done already: the Swap has succeeded, and can be followed.
func TestLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	for name, times := range map[string]int32{"once": 1, "always": 3} {
		x, y := s.set(name, "A", "192.0.2.1"), s.set(name, "TXT", "epoch 1")
		if _, err := z.Swap(t.Context(), provider.Change{New: x}, provider.Change{New: y}); err != nil {
			t.Fatal(err)
		}
		lost, done := wire.First(times, "POST", wire.Lost)
		s.Add(lost)
		ref, err := z.Swap(t.Context(), provider.Change{Old: x, New: s.set(name, "A", "192.0.2.2")}, provider.Change{Old: y, New: s.set(name, "TXT", "epoch 2")})
		if err != nil || done.Load() != times {
			t.Fatalf("%s: %d lost: %v", name, done.Load(), err)
		}
		follow(t, z, ref)
		if got, err := z.Get(t.Context(), x.Name, "A"); err != nil || got.Values[0] != "192.0.2.2" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}

	// A removal leaves nothing by which it could be followed: it is done, and
	// the error says so without being a conflict.
	x := s.set("once", "A", "192.0.2.2")
	lost, _ := wire.First(1, "POST", wire.Lost)
	s.Add(lost)
	sent := len(s.Seen("POST"))
	_, err := z.Swap(t.Context(), provider.Change{Old: x})
	isUnknown(t, err)
	if n := len(s.Seen("POST")) - sent; n != 2 {
		t.Errorf("%d requests, want the lost one and the SDK's second: there is nothing to follow", n)
	}
	if _, err := z.Get(t.Context(), x.Name, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
}

// Route 53 says 503 of what has failed for the moment, and not that it has done
// nothing: what it refuses after that may be what it has done.
func TestDoneAndUnavailable(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	x, y := s.set("x", "A", "192.0.2.1"), s.set("x", "A", "192.0.2.2")
	if _, err := z.Swap(t.Context(), provider.Change{New: x}); err != nil {
		t.Fatal(err)
	}
	done, _ := wire.First(1, "POST", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if _, err := next(); err != nil {
			return nil, err
		}
		return refusal(503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server")(r, next)
	})
	s.Add(done)
	ref, err := z.Swap(t.Context(), provider.Change{Old: x, New: y})
	if err != nil {
		t.Fatal(err)
	}
	follow(t, z, ref)
}

// isUnknown: nobody may take the error for a certain answer.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, sentinel := range []error{provider.ErrConflict, provider.ErrNotFound, fs.ErrPermission, errors.ErrUnsupported} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// A lost reply whose change is not to be seen is no conflict, although Route
// 53 refused the second attempt: it may have been made and replaced since.
func TestLostReplyAndReplaced(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	x := s.set("x", "A", "192.0.2.1")
	if _, err := z.Swap(t.Context(), provider.Change{New: x}); err != nil {
		t.Fatal(err)
	}
	other := s.open(t, nil)
	first, _ := wire.First(1, "POST", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := wire.Lost(r, next)
		mine, theirs := s.set("x", "A", "192.0.2.2"), s.set("x", "A", "192.0.2.3")
		if _, err := other.Swap(t.Context(), provider.Change{Old: mine, New: theirs}); err != nil {
			t.Error(err)
		}
		return answer, err
	})
	s.Add(first)
	_, err := z.Swap(t.Context(), provider.Change{Old: x, New: s.set("x", "A", "192.0.2.2")})
	isUnknown(t, err)

	// Not made at all, and nobody answers any more.
	dead, _ := wire.First(3, "POST", wire.Cut)
	s.Add(dead)
	theirs := s.set("x", "A", "192.0.2.3")
	_, err = z.Swap(t.Context(), provider.Change{Old: theirs, New: x})
	isUnknown(t, err)
	if _, err := z.Swap(t.Context(), provider.Change{Old: theirs, New: x}); err != nil {
		t.Errorf("and it was not made: %v", err)
	}
}

// Credentials that are refused after a reply was lost say nothing about what
// became of the change.
func TestLostReplyAndDenied(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	x := s.set("x", "A", "192.0.2.1")
	first, _ := wire.First(1, "POST", func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := wire.Lost(r, next)
		s.Add(refusal(http.StatusForbidden, "AccessDenied", "not any more"))
		return answer, err
	})
	s.Add(first)
	_, err := z.Swap(t.Context(), provider.Change{New: x})
	isUnknown(t, err)
	s.Clear()
	s.Add(s.rule)
	if _, err := z.Get(t.Context(), x.Name, "A"); err != nil {
		t.Errorf("it was made: %v", err)
	}
}

// The world changes between the look and the batch: Route 53 itself refuses.
func TestChangedInBetween(t *testing.T) {
	s := newService(t)
	z, other := s.open(t, nil), s.open(t, nil)
	x := s.set("x", "A", "192.0.2.1")
	if _, err := z.Swap(t.Context(), provider.Change{New: x}); err != nil {
		t.Fatal(err)
	}
	first, done := wire.First(1, "POST", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if _, err := other.Swap(t.Context(), provider.Change{Old: x, New: s.set("x", "A", "192.0.2.9")}); err != nil {
			t.Error(err)
		}
		return next()
	})
	s.Add(first)
	if _, err := z.Swap(t.Context(), provider.Change{Old: x, New: s.set("x", "A", "192.0.2.2")}); !errors.Is(err, provider.ErrConflict) || done.Load() != 1 {
		t.Errorf("%v", err)
	}
	if got, err := z.Get(t.Context(), x.Name, "A"); err != nil || got.Values[0] != "192.0.2.9" {
		t.Errorf("%+v, %v", got, err)
	}
	first, _ = wire.First(1, "POST", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		return invalidBatch("in words nobody has seen"), nil
	})
	s.Add(first)
	now := s.set("x", "A", "192.0.2.9")
	if _, err := z.Swap(t.Context(), provider.Change{Old: now, New: x}); err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "nobody has seen") {
		t.Errorf("refused for another reason while Old holds: %v", err)
	}
	// Others have changed it, and back.
	first, _ = wire.First(1, "POST", func(_ *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		return invalidBatch("Tried to delete resource record set, but the values provided do not match the current values"), nil
	})
	s.Add(first)
	if _, err := z.Swap(t.Context(), provider.Change{Old: now, New: x}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("refused for what Old says: %v", err)
	}
}

func TestDenied(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	s.Add(refusal(http.StatusForbidden, "AccessDenied", "User: arn:aws:iam::1:user/u is not authorized"))
	_, getErr := z.Get(t.Context(), "x."+s.zone, "A")
	_, swapErr := z.Swap(t.Context(), provider.Change{New: s.set("x", "A", "192.0.2.1")})
	_, statusErr := z.Status(t.Context(), "C1")
	for _, err := range []error{getErr, swapErr, statusErr} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
}

// A service that is silent costs the time of ctx and no more, and what was
// sent into the silence is not known.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := s.open(t, nil)
	rs := s.set("x", "A", "192.0.2.1")
	if _, err := z.Get(t.Context(), rs.Name, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Fatal(err)
	}
	hole, done := wire.First(100, "POST", wire.Hole)
	s.Add(hole)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if _, err := z.Swap(ctx, provider.Change{New: rs}); !errors.Is(err, context.DeadlineExceeded) || done.Load() != 1 {
		t.Errorf("%v after %d", err, done.Load())
	} else {
		isUnknown(t, err)
	}
}

// Somebody who waits for ever for the zones keeps nobody else waiting.
func TestSilentZones(t *testing.T) {
	s := newService(t)
	z := s.open(t, nil)
	hole, _ := wire.First(1, "GET", wire.Hole)
	s.Add(hole)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := z.Get(ctx, "x."+s.zone, "A")
		done <- err
	}()
	for len(s.Seen("GET")) == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := z.Get(t.Context(), "x."+s.zone, "A"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
