package rfc2136_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// through opens the zone through a network that can be disturbed.
func through(t testing.TB, c rfc2136.Config, timeout time.Duration) (*rfc2136.Zone, *network) {
	n := newNetwork(t, c.Servers[0])
	c.Servers = []string{n.addr}
	c.Timeout = timeout
	return open(t, c), n
}

// fresh is a name that no other test has.
func fresh(zone string) string { return fmt.Sprintf("f%d.%s", rand.Uint64(), zone) }

// Whatever is lost of an update or its answer, and however: a swap that
// returns nil was made, once, and one that it could repeat was.
func TestLostMessages(t *testing.T) {
	for name, config := range map[string]func() rfc2136.Config{
		"local": func() rfc2136.Config { return localServer(t) },
		"bind":  func() rfc2136.Config { return bind(t, "plain.test.") },
	} {
		for what, f := range map[string]fate{"closed": lose, "reset": reset, "black hole": hold, "cut": cut} {
			for where, fates := range map[string][2]map[int]fate{
				"before it is applied": {{1: f}, nil},
				"after it is applied":  {nil, {1: f}},
				"twice before":         {{1: f, 2: f}, nil},
				"before, then after":   {{1: f}, {2: f}},
				"after and after":      {nil, {1: f, 2: f}},
			} {
				t.Run(name+" "+what+" "+where, func(t *testing.T) {
					c := config()
					if name == "local" { // of BIND they share the zone, and would disturb each other
						t.Parallel()
					}
					z, n := through(t, c, 300*time.Millisecond)
					x := fresh(c.Zone)
					a, b := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2")
					swap(t, z, nil, a)
					n.fates(fates[0], fates[1])
					ref, err := z.Swap(t.Context(), provider.Change{Old: a, New: b})
					if err != nil {
						t.Fatal(err)
					}
					if got := get(t, z, x, "A"); got != "1m0s 192.0.2.2" {
						t.Errorf("the zone holds %s", got)
					}
					if _, err := z.Status(t.Context(), ref); err != nil {
						t.Error(err)
					}
					// No copy that was on the way changes anything any more.
					swap(t, z, b, a)
					for _, msg := range n.kept {
						if code := replay(t, "tcp", n.server, msg); code == "NOERROR" {
							t.Errorf("a copy that arrives late is applied")
						}
					}
					if got := get(t, z, x, "A"); got != "1m0s 192.0.2.1" {
						t.Errorf("after late copies the zone holds %s", got)
					}
				})
			}
		}
	}
}

// While the answer is lost another changes the record set: whether this swap
// was made before is not to be known, and it says so. Never is it a conflict,
// which would mean that nothing was changed.
func TestLostAndOvertaken(t *testing.T) {
	c := bind(t, "plain.test.")
	direct := open(t, c)
	for what, then := range map[string]string{"replaced": "192.0.2.3", "undone": "192.0.2.1"} {
		z, n := through(t, c, time.Second)
		x := fresh(c.Zone)
		a, b, last := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2"), set(x, "A", time.Minute, then)
		swap(t, z, nil, a)
		n.fates(nil, nil)
		overtake := func(i int) fate {
			if i == 1 { // the answer: the update is applied
				if _, err := direct.Swap(t.Context(), provider.Change{Old: b, New: last}); err != nil {
					t.Error(err)
				}
				return lose
			}
			return pass
		}
		n.answer.Store(&overtake)
		_, err := z.Swap(t.Context(), provider.Change{Old: a, New: b})
		if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown") {
			t.Errorf("%s: %v", what, err)
		}
		if got := get(t, direct, x, "A"); got != "1m0s "+then {
			t.Errorf("%s: it was repeated: %s", what, got)
		}
	}
}

// Another's change of the zone, elsewhere in it, while the answer is lost,
// does not hide that this one was made; and one that was not made is not made
// behind the caller's back.
func TestLostInABusyZone(t *testing.T) {
	c := bind(t, "plain.test.")
	direct := open(t, c)
	for _, applied := range []bool{true, false} {
		z, n := through(t, c, time.Second)
		x := fresh(c.Zone)
		a, b := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2")
		swap(t, z, nil, a)
		n.fates(nil, nil)
		f := func(i int) fate {
			if i > 1 {
				return pass
			}
			swap(t, direct, nil, set(fresh(c.Zone), "A", time.Minute, "192.0.2.9"))
			return lose
		}
		want := "1m0s 192.0.2.1"
		if applied {
			n.answer.Store(&f)
			want = "1m0s 192.0.2.2"
		} else {
			n.update.Store(&f)
		}
		_, err := z.Swap(t.Context(), provider.Change{Old: a, New: b})
		if applied != (err == nil) || errors.Is(err, provider.ErrConflict) {
			t.Errorf("applied %v: %v", applied, err)
		}
		if got := get(t, z, x, "A"); got != want {
			t.Errorf("applied %v: the zone holds %s", applied, got)
		}
		if !applied && !strings.Contains(err.Error(), "was not applied and will not be") {
			t.Errorf("not applied: %v", err)
		}
	}
}

// A network that swallows everything: the call ends with its context, or by
// its own patience, and the error is that.
func TestBlackHole(t *testing.T) {
	c := localServer(t)
	z, n := through(t, c, 200*time.Millisecond)
	x := fresh(c.Zone)
	n.deaf.Store(true)
	if _, err := z.Get(t.Context(), x, "A"); err == nil || !strings.Contains(err.Error(), n.addr) {
		t.Errorf("get: %v", err)
	}
	if _, err := z.Swap(t.Context(), provider.Change{New: set(x, "A", time.Minute, "192.0.2.1")}); err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("swap: %v", err)
	}
	patient, n := through(t, c, time.Hour)
	for _, deadline := range []bool{true, false} {
		n.deaf.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		want := context.DeadlineExceeded
		if !deadline {
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
			want = context.Canceled
		}
		if _, err := patient.Get(ctx, x, "A"); !errors.Is(err, want) {
			t.Errorf("get: %v, want %v", err, want)
		}
		cancel()
		n.deaf.Store(false)
	}
	// Cut off while the answer to its update is awaited: unknown, and the
	// context's error.
	ctx, cancel := context.WithCancel(t.Context())
	n.fates(nil, nil)
	n.answer.Store(new(func(int) fate { cancel(); return hold }))
	_, err := patient.Swap(ctx, provider.Change{New: set(x, "A", time.Minute, "192.0.2.1")})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("swap cut off: %v", err)
	}
	if got := get(t, patient, x, "A"); got != "1m0s 192.0.2.1" {
		t.Errorf("it was applied, and the zone holds %s", got)
	}
}

// A signed update that somebody recorded, or that a network duplicates, is
// refused when it comes again, over UDP or TCP, even when the zone holds again
// what it wants to replace.
func TestLateDuplicates(t *testing.T) {
	c := bind(t, "plain.test.")
	s := testenv.BIND(t)
	z, n := through(t, c, 5*time.Second)
	x := fresh(c.Zone)
	a, b := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2")
	swap(t, z, nil, a)
	swap(t, z, a, b)
	swap(t, z, b, a)
	for i, msg := range n.kept {
		for network, server := range map[string]string{"udp": s.UDP, "tcp": s.Endpoint} {
			if code := replay(t, network, server, msg); code != "NXRRSET" && code != "YXRRSET" {
				t.Errorf("update %d again over %s: %s", i, network, code)
			}
		}
	}
	if got := get(t, z, x, "A"); got != "1m0s 192.0.2.1" {
		t.Errorf("after the duplicates the zone holds %s", got)
	}
}

// What the package comment says of zones signed inline: a duplicate may be
// taken there when the zone holds again what it replaces.
func TestLateDuplicateInline(t *testing.T) {
	c := bind(t, "inline.test.")
	z, n := through(t, c, 5*time.Second)
	x := fresh(c.Zone)
	a, b := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2")
	swap(t, z, nil, a)
	swap(t, z, a, b)
	if code := replay(t, "tcp", n.server, n.kept[1]); code != "NXRRSET" {
		t.Errorf("while the zone holds something else: %s", code)
	}
	swap(t, z, b, a)
	if code := replay(t, "tcp", n.server, n.kept[1]); code != "NOERROR" {
		t.Errorf("BIND protects zones signed inline: %s; correct the package comment", code)
	}
}

// On a zone signed inline a lost reply is resolved by looking only.
func TestLostInline(t *testing.T) {
	c := bind(t, "inline.test.")
	z, n := through(t, c, 500*time.Millisecond)
	x := fresh(c.Zone)
	a, b := set(x, "A", time.Minute, "192.0.2.1"), set(x, "A", time.Minute, "192.0.2.2")
	swap(t, z, nil, a)
	n.fates(nil, map[int]fate{1: lose})
	swap(t, z, a, b)
	n.fates(map[int]fate{1: lose}, nil)
	_, err := z.Swap(t.Context(), provider.Change{Old: b, New: a})
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("lost before it was applied: %v", err)
	}
	if got := get(t, z, x, "A"); got != "1m0s 192.0.2.2" {
		t.Errorf("it was repeated: %s", got)
	}
}

// A CNAME that another puts beside a name between the reading and the update
// makes the swap an error, and not half done: servers would ignore the rest.
func TestCNAMEMeanwhile(t *testing.T) {
	for _, zone := range []string{"plain.test.", "inline.test."} {
		c := bind(t, zone)
		direct := open(t, c)
		z, n := through(t, c, time.Second)
		x := fresh(zone)
		n.fates(nil, nil)
		meanwhile := func(i int) fate {
			if i == 1 {
				swap(t, direct, nil, set(x, "CNAME", time.Minute, "target.example."))
			}
			return pass
		}
		n.update.Store(&meanwhile)
		if _, err := z.Swap(t.Context(), provider.Change{New: set(x, "A", time.Minute, "192.0.2.1")}); err == nil || !strings.Contains(err.Error(), "beside") {
			t.Errorf("%s: an address beside a CNAME: %v", zone, err)
		}
		x = fresh(zone)
		n.fates(nil, nil)
		meanwhile = func(i int) fate {
			if i == 1 {
				swap(t, direct, nil, set(x, "TXT", time.Minute, "text"))
			}
			return pass
		}
		n.update.Store(&meanwhile)
		if _, err := z.Swap(t.Context(), provider.Change{New: set(x, "CNAME", time.Minute, "target.example.")}); err == nil || !strings.Contains(err.Error(), "beside") {
			t.Errorf("%s: a CNAME beside a text: %v", zone, err)
		}
	}
}
