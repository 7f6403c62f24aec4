package clouddns_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/clouddns"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
)

// follow asks until a change is in sync.
func follow(t *testing.T, z *clouddns.Zones, ref provider.ChangeRef) {
	t.Helper()
	for range 4 {
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
	z := open(t, s, nil)
	var last *provider.RecordSet
	for i, rule := range []fakegcp.Rule{fakegcp.Throttled, fakegcp.Limited, fakegcp.Unavailable, fakegcp.Cut} {
		next := set("x", "A", "192.0.2."+string(rune('1'+i)))
		first, done := fakegcp.First(1, create, rule)
		s.Add(first)
		ref, err := z.Swap(t.Context(), provider.Change{Old: last, New: next})
		if err != nil || done.Load() != 1 {
			t.Fatalf("%d: %v", i, err)
		}
		follow(t, z, ref)
		last = next
		first, done = fakegcp.First(1, "dns.resourceRecordSets.list", rule)
		s.Add(first)
		if got, err := z.Get(t.Context(), last.Name, "A"); err != nil || got.Values[0] != last.Values[0] || done.Load() != 1 {
			t.Errorf("%d: %+v, %v", i, got, err)
		}
	}
}

// The reply to a change is lost, it is sent again, and Cloud DNS refuses what it
// has done already: the Swap has succeeded, and can be followed.
func TestLostReply(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := open(t, s, nil)
	for label, times := range map[string]int32{"once": 1, "always": 3} {
		x, y, gone := set(label, "A", "192.0.2.1"), set(label, "TXT", "epoch 1"), set("gone-"+label, "A", "192.0.2.1")
		for _, rs := range []*provider.RecordSet{x, y, gone} {
			must(t, z, nil, rs)
		}
		lost, done := fakegcp.First(times, create, fakegcp.Lost)
		s.Add(lost)
		ref, err := z.Swap(t.Context(), provider.Change{Old: x, New: set(label, "A", "192.0.2.2")}, provider.Change{Old: y, New: set(label, "TXT", "epoch 2")})
		if err != nil || done.Load() != times {
			t.Fatalf("%s: %d lost: %v", label, done.Load(), err)
		}
		must(t, z, nil, set("later-"+label, "A", "192.0.2.1"))
		follow(t, z, ref)
		if got, err := z.Get(t.Context(), x.Name, "A"); err != nil || got.Values[0] != "192.0.2.2" {
			t.Errorf("%s: %+v, %v", label, got, err)
		}
		earlier := must(t, z, gone, nil)
		must(t, z, nil, gone)
		lost, done = fakegcp.First(times, create, fakegcp.Lost)
		s.Add(lost)
		removal := must(t, z, gone, nil)
		if removal == earlier || done.Load() != times {
			t.Errorf("followed by %s, which is that of an earlier removal", removal)
		}
		follow(t, z, removal)
		if removal == ref {
			t.Errorf("another change has the same %s", ref)
		}
	}
}

// A lost reply whose change is not to be seen is no conflict, although Cloud DNS
// refused the second attempt: it may have been made and replaced since.
func TestLostReplyAndReplaced(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z, other := open(t, s, nil), open(t, s, nil)
	x, mine, theirs := set("x", "A", "192.0.2.1"), set("x", "A", "192.0.2.2"), set("x", "A", "192.0.2.3")
	must(t, z, nil, x)
	first, _ := fakegcp.First(1, create, func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		answer, err := fakegcp.Lost(r, next)
		must(t, other, mine, theirs)
		return answer, err
	})
	s.Add(first)
	_, err := z.Swap(t.Context(), provider.Change{Old: x, New: mine})
	isUnknown(t, err)

	// Not made at all, and nobody answers any more.
	dead, _ := fakegcp.First(3, create, fakegcp.Cut)
	s.Add(dead)
	_, err = z.Swap(t.Context(), provider.Change{Old: theirs, New: x})
	isUnknown(t, err)
	must(t, z, theirs, x) // and it was not made

	// Made, and nobody can read the zone, or the list of changes.
	for i, method := range []string{"dns.resourceRecordSets.list", "dns.changes.list"} {
		next := set("x", "A", "192.0.2."+string(rune('5'+i)))
		lost, done := fakegcp.First(1, create, fakegcp.Lost)
		s.Add(lost)
		s.Add(func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if r.Method == method && done.Load() > 0 {
				return fakegcp.Denied(r, next)
			}
			return next()
		})
		_, err = z.Swap(t.Context(), provider.Change{Old: x, New: next})
		isUnknown(t, err)
		s.Clear()
		x = next
		if got, err := z.Get(t.Context(), x.Name, "A"); err != nil || got.Values[0] != x.Values[0] {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// The world changes between the look and the Change: Cloud DNS itself refuses,
// in one of three ways.
func TestChangedInBetween(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z, other := open(t, s, nil), open(t, s, nil)
	x, theirs := set("x", "A", "192.0.2.1"), set("x", "A", "192.0.2.3")
	for status, c := range map[int]struct{ before, after, old, new *provider.RecordSet }{
		http.StatusPreconditionFailed: {x, theirs, x, set("x", "A", "192.0.2.2")},
		http.StatusConflict:           {nil, theirs, nil, set("x", "A", "192.0.2.2")},
		http.StatusNotFound:           {x, nil, x, set("x", "A", "192.0.2.2")},
	} {
		if c.before != nil {
			must(t, z, nil, c.before)
		}
		got := 0
		first, _ := fakegcp.First(1, create, func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
			must(t, other, c.before, c.after)
			answer, err := next()
			got = answer.StatusCode
			return answer, err
		})
		s.Add(first)
		if _, err := z.Swap(t.Context(), provider.Change{Old: c.old, New: c.new}); !errors.Is(err, provider.ErrConflict) || got != status {
			t.Errorf("%d, want %d: %v", got, status, err)
		}
		if c.after != nil {
			must(t, z, c.after, nil)
		}
	}
}

// A refusal that nothing in the zone explains is asked again, and is no
// conflict if it stays.
func TestRefusedForNoReason(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := open(t, s, nil)
	x := set("x", "A", "192.0.2.1")
	must(t, z, nil, x)
	for _, status := range []int{http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound} {
		first, done := fakegcp.First(2, create, refusal(status))
		s.Add(first)
		if _, err := z.Swap(t.Context(), provider.Change{Old: x, New: x}); err != nil || done.Load() != 2 {
			t.Errorf("%d: %v", status, err)
		}
		first, _ = fakegcp.First(3, create, refusal(status))
		s.Add(first)
		_, err := z.Swap(t.Context(), provider.Change{Old: x, New: x})
		isUnknown(t, err)
	}
}

// A token that the service calls expired, while our clock says that it is good,
// is replaced.
func TestExpired(t *testing.T) {
	s := newService(t)
	s.Takes("2")
	token := "1"
	z := open(t, s, func(c *clouddns.Config) {
		c.Credentials = fakegcp.Token("p", func() string {
			defer func() { token = "2" }()
			return token
		})
	})
	must(t, z, nil, set("x", "A", "192.0.2.1"))
	s.Takes("3")
	if _, err := z.Get(t.Context(), "x.example.com.", "A"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("with a token that is not taken: %v", err)
	}
}

// A service that is silent costs the time of ctx and no more, and what it did
// is not known.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newService(t)
	z := open(t, s, nil)
	must(t, z, nil, set("y", "A", "192.0.2.1"))
	ctx, cancel := context.WithCancel(t.Context())
	hole, _ := fakegcp.First(1, create, func(r *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
		fakegcp.Lost(r, next)
		cancel()
		return fakegcp.Hole(r, next)
	})
	s.Add(hole)
	x := set("x", "A", "192.0.2.1")
	_, err := z.Swap(ctx, provider.Change{New: x})
	if isUnknown(t, err); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got, err := z.Get(t.Context(), x.Name, "A"); err != nil || got.Values[0] != "192.0.2.1" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestDenied(t *testing.T) {
	s := newService(t)
	z := open(t, s, nil)
	ref := must(t, z, nil, set("x", "A", "192.0.2.1"))
	s.Add(fakegcp.Denied)
	_, getErr := z.Get(t.Context(), "x.example.com.", "A")
	_, swapErr := z.Swap(t.Context(), provider.Change{New: set("y", "A", "192.0.2.1")})
	_, statusErr := z.Status(t.Context(), ref)
	for _, err := range []error{getErr, swapErr, statusErr} {
		if !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Error(err)
		}
	}
}
