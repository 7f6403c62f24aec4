package libdns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	upstream "github.com/libdns/libdns"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/libdns"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const testZone = "example.test."

// service is a DNS service behind a package of libdns: each call is atomic,
// and there is no condition on any.
type service struct {
	mu      sync.Mutex
	records []upstream.RR

	before func(ctx context.Context, op string) error // of each call; an error is that of the call, which does nothing
	after  func(ctx context.Context, op string) error // the call has been carried out
	minTTL time.Duration
	bare   bool // host names come back without their final dot
	behind int  // so many readings after a write still show what was there before
	old    []upstream.RR
}

func (s *service) call(ctx context.Context, op string, do func()) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.before != nil {
		if err := s.before(ctx, op); err != nil {
			return err
		}
	}
	s.mu.Lock()
	do()
	s.mu.Unlock()
	if s.after != nil {
		return s.after(ctx, op)
	}
	return nil
}

func (s *service) GetRecords(ctx context.Context, zone string) (recs []upstream.Record, err error) {
	err = s.call(ctx, "get", func() {
		now := s.records
		if s.behind > 0 && s.old != nil {
			s.behind--
			now = s.old
		}
		for _, rr := range now {
			if s.bare && rr.Type == "CNAME" {
				rr.Data = strings.TrimSuffix(rr.Data, ".")
			}
			rec, err := rr.Parse()
			if err != nil {
				panic(err)
			}
			recs = append(recs, rec)
		}
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

func (s *service) SetRecords(ctx context.Context, zone string, recs []upstream.Record) ([]upstream.Record, error) {
	return recs, s.call(ctx, "set", func() {
		s.old = slices.Clone(s.records)
		for _, rec := range recs {
			s.records = slices.DeleteFunc(s.records, func(rr upstream.RR) bool { return rr.Name == rec.RR().Name && rr.Type == rec.RR().Type })
		}
		for _, rec := range recs {
			rr := rec.RR()
			if rr.TTL == 0 { // as many services have it
				rr.TTL = time.Hour
			}
			rr.TTL = max(rr.TTL.Truncate(time.Second), s.minTTL)
			s.records = append(s.records, rr)
		}
	})
}

func (s *service) DeleteRecords(ctx context.Context, zone string, recs []upstream.Record) ([]upstream.Record, error) {
	return nil, s.call(ctx, "delete", func() {
		s.old = slices.Clone(s.records)
		for _, rec := range recs {
			s.records = slices.DeleteFunc(s.records, func(rr upstream.RR) bool { return rr == rec.RR() })
		}
	})
}

const settle = 100 * time.Millisecond

func open(t testing.TB, s *service) *libdns.Zone {
	t.Helper()
	z, err := libdns.New(libdns.Config{Zone: testZone, Provider: s, Settle: settle, Servers: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// notKept are the clauses that the suite reports as unsupported: further types,
// and what no provider without compare-and-swap can keep.
var notKept = []string{"dns/get-more-types", "dns/create-race", "dns/replace-race", "dns/ttl-race", "dns/zone", "dns/zone-conflict", "dns/zone-cname", "dns/zone-race"}

// The contract, but for what cannot hold. In a bubble, so that nobody waits
// for Settle.
func TestContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		r := providertest.CheckDNS(t.Context(), open(t, s), providertest.DNSOptions{
			Zone: testZone, Second: func() (provider.DNSProvider, error) { return open(t, s), nil },
		})
		if r.Err() != nil || len(r.Left) > 0 {
			t.Errorf("%v", r)
		}
		var unsupported []string
		for _, res := range r.Results {
			if res.Outcome != providertest.Pass {
				unsupported = append(unsupported, res.ID)
			}
		}
		if !slices.Equal(unsupported, notKept) {
			t.Errorf("not kept are %q, said to be %q", unsupported, notKept)
		}
	})
}

func set(name, typ string, ttl time.Duration, values ...string) *provider.RecordSet {
	return &provider.RecordSet{Name: name + "." + testZone, Type: typ, TTL: ttl, Values: values}
}

func swap(d provider.DNSProvider, from, to *provider.RecordSet) error {
	_, err := d.Swap(context.Background(), provider.Change{Old: from, New: to})
	return err
}

func get(t testing.TB, d provider.DNSProvider, name, typ string) string {
	t.Helper()
	rs, err := d.Get(t.Context(), name+"."+testZone, typ)
	if err != nil {
		return err.Error()
	}
	return rs.TTL.String() + " " + strings.Join(rs.Values, " | ")
}

// Of processes whose writes land in any order within Settle, exactly one
// wins: the last to write. The others are told.
func TestRaceWithinSettle(t *testing.T) {
	for round := range 50 {
		for _, from := range []*provider.RecordSet{nil, set("x", "TXT", time.Minute, "start")} {
			synctest.Test(t, func(t *testing.T) {
				s := &service{}
				if from != nil {
					if err := swap(open(t, s), nil, from); err != nil {
						t.Fatal(err)
					}
				}
				var n sync.Mutex
				seed := round
				s.before = func(_ context.Context, op string) error {
					n.Lock()
					seed = (seed*1103515245 + 12345) & 0x7fffffff
					wait := time.Duration(seed%45) * time.Millisecond
					n.Unlock()
					if op == "set" {
						time.Sleep(wait)
					}
					return nil
				}
				var mu sync.Mutex
				var won []string
				var wg sync.WaitGroup
				for i := range 6 {
					z := open(t, s) // as another process would
					wg.Go(func() {
						v := fmt.Sprint("racer ", i)
						err := swap(z, from, set("x", "TXT", time.Minute, v))
						mu.Lock()
						defer mu.Unlock()
						if err == nil {
							won = append(won, v)
						} else if !errors.Is(err, provider.ErrConflict) {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if len(won) != 1 || get(t, open(t, s), "x", "TXT") != "1m0s "+won[0] {
					t.Errorf("round %d: %q won, and the zone holds %s", round, won, get(t, open(t, s), "x", "TXT"))
				}
			})
		}
	}
}

// Through one handle swaps take turns: the second sees what the first made.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		sets := 0
		s.before = func(context.Context, string) error { time.Sleep(time.Millisecond); return nil }
		s.after = func(_ context.Context, op string) error {
			if op == "set" {
				sets++
			}
			return nil
		}
		z := open(t, s)
		errs := make(chan error, 5)
		for i := range 5 {
			go func() { errs <- swap(z, nil, set("x", "A", time.Minute, fmt.Sprintf("192.0.2.%d", i))) }()
		}
		won := 0
		for range 5 {
			if err := <-errs; err == nil {
				won++
			} else if !errors.Is(err, provider.ErrConflict) {
				t.Error(err)
			}
		}
		if won != 1 || sets != 1 {
			t.Errorf("%d won, %d have written", won, sets)
		}
		// Who waits for its turn is let go when its context ends.
		s.before = func(_ context.Context, op string) error { time.Sleep(time.Hour); return nil }
		go swap(z, nil, set("y", "A", time.Minute, "192.0.2.1"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := z.Swap(ctx, provider.Change{New: set("z", "A", time.Minute, "192.0.2.1")}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(3 * time.Hour)
	})
}

// What the package comment says can go wrong does, and is told where it can be.
func TestWhatGoesWrong(t *testing.T) {
	a, b, c := set("x", "A", time.Minute, "192.0.2.1"), set("x", "A", time.Minute, "192.0.2.2"), set("x", "A", time.Minute, "192.0.2.3")
	broken := errors.New("service unavailable")
	once := func(op string, do func() error) func(context.Context, string) error {
		done := false
		return func(_ context.Context, got string) error {
			if got != op || done {
				return nil
			}
			done = true
			return do()
		}
	}
	for name, test := range map[string]struct {
		disturb  func(s *service, other *libdns.Zone)
		to       *provider.RecordSet
		conflict bool
		want     string // in the error; empty: none
		holds    string
	}{
		"another writes after the reading, and is overwritten": {func(s *service, other *libdns.Zone) {
			s.before = once("set", func() error { return swap(other, a, c) }) // it has waited and is done
		}, b, false, "outcome unknown", "1m0s 192.0.2.2"},
		"another writes after the write": {func(s *service, other *libdns.Zone) {
			s.after = once("set", func() error { go swap(other, b, c); return nil })
		}, b, true, "another has written", "1m0s 192.0.2.3"},
		"the write takes too long": {func(s *service, _ *libdns.Zone) {
			s.before = once("set", func() error { time.Sleep(2 * settle); return nil })
		}, b, false, "no less than Config.Settle", "1m0s 192.0.2.2"},
		"the reading takes too long": {func(s *service, _ *libdns.Zone) {
			s.before = once("get", func() error { time.Sleep(2 * settle); return nil })
		}, b, false, "nothing was written", "1m0s 192.0.2.1"},
		"the reply to the write is lost": {func(s *service, _ *libdns.Zone) {
			s.after = once("set", func() error { return broken })
		}, b, false, "", "1m0s 192.0.2.2"},
		"the write fails": {func(s *service, _ *libdns.Zone) {
			s.before = once("set", func() error { return broken })
		}, b, false, "service unavailable", "1m0s 192.0.2.1"},
		"the service raises TTLs": {func(s *service, _ *libdns.Zone) {
			s.minTTL = time.Hour
		}, b, false, "TTL", "1h0m0s 192.0.2.2"},
		"readings lag behind": {func(s *service, _ *libdns.Zone) {
			s.after = once("set", func() error { s.behind = 1; return nil })
		}, b, false, "lag behind", "1m0s 192.0.2.2"},
		"a removal of what another has replaced": {func(s *service, other *libdns.Zone) {
			s.before = once("delete", func() error { return quick(s, c) })
		}, nil, true, "another has written", "1m0s 192.0.2.3"},
		"the reading afterwards fails": {func(s *service, _ *libdns.Zone) {
			s.after = once("set", func() error {
				s.before = func(_ context.Context, op string) error { s.before = nil; return broken }
				return nil
			})
		}, b, false, "outcome unknown", "1m0s 192.0.2.2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &service{}
				z, other := open(t, s), open(t, s)
				if err := swap(z, nil, a); err != nil {
					t.Fatal(err)
				}
				test.disturb(s, other)
				err := swap(z, a, test.to)
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || errors.Is(err, provider.ErrConflict) != test.conflict {
					t.Errorf("%v; want %q", err, test.want)
				}
				time.Sleep(time.Minute)
				if got := get(t, z, "x", "A"); got != test.holds {
					t.Errorf("the zone holds %s, want %s", got, test.holds)
				}
			})
		})
	}
}

// quick replaces a record set as another process would that has just read it.
func quick(s *service, to *provider.RecordSet) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records = []upstream.RR{{Name: "x", TTL: to.TTL, Type: to.Type, Data: to.Values[0]}}
	return nil
}

// A call that ends with its context after the write says that it may have
// been made.
func TestContextAfterWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := open(t, &service{})
		ctx, cancel := context.WithTimeout(t.Context(), settle/2)
		defer cancel()
		_, err := z.Swap(ctx, provider.Change{New: set("x", "A", time.Minute, "192.0.2.1")})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "outcome unknown") {
			t.Errorf("%v", err)
		}
	})
}

func TestSpellings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{bare: true}
		z := open(t, s)
		rs := set("www", "CNAME", time.Minute, "target.example.")
		if err := swap(z, nil, rs); err != nil || get(t, z, "www", "CNAME") != "1m0s target.example." {
			t.Errorf("a host name without its final dot: %v, %s", err, get(t, z, "www", "CNAME"))
		}
		apex := &provider.RecordSet{Name: testZone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
		if err := swap(z, nil, apex); err != nil || s.records[1].Name != "@" {
			t.Errorf("the top of the zone: %v, %+v", err, s.records)
		}
		if err := swap(z, nil, set("short", "A", 0, "192.0.2.1")); err != nil || get(t, z, "short", "A") != "0s 192.0.2.1" {
			t.Errorf("TTL 0: %v, %s", err, get(t, z, "short", "A"))
		}
		if _, err := z.Get(t.Context(), "x."+testZone, "MX"); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("MX: %v", err)
		}
	})
}

func TestConfigComplaints(t *testing.T) {
	_, err := libdns.New(libdns.Config{Zone: "example.test", Settle: -1})
	for _, want := range []string{"Zone", "Provider", "Settle"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
}

// Status asks the servers; they may be behind the service.
func TestStatus(t *testing.T) {
	server, err := local.NewDNSServer(local.DNSServerConfig{Zone: testZone, Dir: t.TempDir(), Keys: []local.DNSKey{{Name: "k.", Secret: "MTIzNDU2Nzg5MDEyMzQ1Ng=="}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ctx) }()
	defer func() { cancel(); <-done }()
	served, err := local.NewDNS(local.DNSConfig{Server: server.Addr(), Zone: testZone, KeyName: "k.", Secret: "MTIzNDU2Nzg5MDEyMzQ1Ng=="})
	if err != nil {
		t.Fatal(err)
	}
	z, err := libdns.New(libdns.Config{Zone: testZone, Provider: &service{}, Settle: time.Millisecond * 20, Servers: []string{server.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, rs := range []*provider.RecordSet{
		set("x", "A", time.Minute, "192.0.2.1", "192.0.2.2"), set("x", "AAAA", time.Minute, "2001:db8::1"),
		set("x", "TXT", time.Minute, `with "quotes" and \`), set("y", "CNAME", time.Minute, "target.example."),
	} {
		ref, err := z.Swap(t.Context(), provider.Change{New: rs})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := z.Status(t.Context(), ref); err != nil || st != provider.ChangePending {
			t.Errorf("%s not served yet: %s, %v", rs.Type, st, err)
		}
		if err := swap(served, nil, rs); err != nil {
			t.Fatal(err)
		}
		if st, err := z.Status(t.Context(), ref); err != nil || st != provider.ChangeInSync {
			t.Errorf("%s served: %s, %v", rs.Type, st, err)
		}
	}
}

// Traffic and the readiness for an automatic failover take it only when told.
func TestTraffic(t *testing.T) {
	c := failover.TrafficConfig{DNS: open(t, &service{}), Owner: "shop", Name: "www." + testZone,
		Sites: map[string][]string{"east": {"192.0.2.1"}, "west": {"192.0.2.2"}}}
	if _, err := failover.NewTraffic(c); err == nil || !strings.Contains(err.Error(), "no compare-and-swap") {
		t.Errorf("%v", err)
	}
	c.AllowNotAtomic = true
	if _, err := failover.NewTraffic(c); err != nil {
		t.Error(err)
	}
}

// What the zone delegates is in another one. Written here, nobody would be told.
func TestDelegated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{records: []upstream.RR{{Name: "sub", TTL: time.Minute, Type: "NS", Data: "ns.elsewhere.example."}}}
		z := open(t, s)
		for _, label := range []string{"sub", "www.sub", "_holdfast.www.sub"} {
			_, getErr := z.Get(t.Context(), label+"."+testZone, "A")
			for _, err := range []error{getErr, swap(z, nil, set(label, "A", time.Minute, "192.0.2.1"))} {
				if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "NS records at sub."+testZone) {
					t.Errorf("%s: %v", label, err)
				}
			}
		}
		if len(s.records) != 1 {
			t.Errorf("written: %v", s.records)
		}
	})
}
