package failover

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/miekg/dns"
)

const (
	testName = "www.example.test."
	testMark = "_holdfast." + testName
)

// zone starts a real authoritative server with the record of the east.
func zone(t *testing.T) (*local.DNS, string) {
	t.Helper()
	key := local.DNSKey{Name: "holdfast.", Secret: "c2VjcmV0LW9mLXRoZS10ZXN0LXpvbmUtMTIzNDU2"}
	s, err := local.NewDNSServer(local.DNSServerConfig{Zone: "example.test.", Dir: t.TempDir(), Keys: []local.DNSKey{key}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); s.Close(); <-done })
	d, err := local.NewDNS(local.DNSConfig{Server: s.Addr(), Zone: "example.test.", KeyName: key.Name, Secret: key.Secret})
	if err != nil {
		t.Fatal(err)
	}
	swap(t, d, provider.Change{New: &provider.RecordSet{Name: testName, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}})
	return d, s.Addr()
}

func swap(t *testing.T, d provider.DNSProvider, c ...provider.Change) {
	t.Helper()
	if _, err := d.Swap(t.Context(), c...); err != nil {
		t.Fatal(err)
	}
}

func newTraffic(t *testing.T, d provider.DNSProvider, servers ...string) *Traffic {
	t.Helper()
	tr, err := NewTraffic(TrafficConfig{DNS: d, Owner: "shop", Name: testName, Servers: servers,
		Sites: map[string][]string{"east": {"192.0.2.1"}, "west": {"198.51.100.8", "198.51.100.7"}}})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func trafficCall(epoch uint64) Call {
	return Call{Run: "r", Plan: "sha256:00", Kind: Failover, Service: "shop", From: "east", To: "west", Step: "traffic", Attempt: 1, Epoch: epoch}
}

func values(t *testing.T, d provider.DNSProvider, name, typ string) string {
	t.Helper()
	rs, err := d.Get(t.Context(), name, typ)
	if errors.Is(err, provider.ErrNotFound) {
		return "none"
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(rs.Values, " ")
}

const (
	west     = "198.51.100.7 198.51.100.8"
	markWest = "v=1 owner=shop epoch=7 active=west plan=sha256:00"
)

func TestTrafficSwitchAndBack(t *testing.T) {
	d, addr := zone(t)
	tr := newTraffic(t, d, addr)
	if o, err := tr.Observe(t.Context(), trafficCall(7)); err != nil || o.Done || o.Evidence["before"] != "192.0.2.1" {
		t.Fatalf("before: %+v, %v", o, err)
	}
	if ev, err := tr.Undo(t.Context(), trafficCall(7)); err != nil || values(t, d, testMark, "TXT") != "none" {
		t.Fatalf("undo of nothing: %v, %v", ev, err)
	}
	ev, err := tr.Do(t.Context(), trafficCall(7))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(ev["ns "+addr], west) || ev["before"] != "192.0.2.1" || ev["after"] != west {
		t.Errorf("evidence %v", ev)
	}
	if got := values(t, d, testName, "A"); got != west {
		t.Errorf("A is %q", got)
	}
	if got := values(t, d, testMark, "TXT"); got != markWest {
		t.Errorf("TXT is %q", got)
	}
	if o, err := tr.Observe(t.Context(), trafficCall(7)); err != nil || !o.Done {
		t.Errorf("after: %+v, %v", o, err)
	}
	if _, err := tr.Undo(t.Context(), trafficCall(8)); err != nil {
		t.Fatal(err)
	}
	if got := values(t, d, testName, "A") + " " + values(t, d, testMark, "TXT"); got != "192.0.2.1 v=1 owner=shop epoch=8 active=east plan=sha256:00" {
		t.Errorf("after undo: %q", got)
	}
}

func TestTrafficRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		set  provider.RecordSet
		want error
	}{
		{"a smaller epoch", provider.RecordSet{Name: testMark, Type: "TXT", Values: []string{"v=1 owner=shop epoch=8 active=east plan=x"}}, ErrDeposed},
		{"another owner", provider.RecordSet{Name: testMark, Type: "TXT", Values: []string{"v=1 owner=bank epoch=1 active=east plan=x"}}, ErrForeign},
		{"a mark that is none", provider.RecordSet{Name: testMark, Type: "TXT", Values: []string{"heritage=external-dns"}}, ErrForeign},
		{"an epoch that is none", provider.RecordSet{Name: testMark, Type: "TXT", Values: []string{"v=1 owner=shop epoch=-1 active=east plan=x"}}, ErrForeign},
		{"values of neither site", provider.RecordSet{Name: testName, Type: "A", Values: []string{"203.0.113.9"}}, ErrForeign},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, addr := zone(t)
			c.set.TTL = time.Minute
			ch := provider.Change{New: &c.set}
			if c.set.Type == "A" {
				old, err := d.Get(t.Context(), testName, "A")
				if err != nil {
					t.Fatal(err)
				}
				ch.Old = &old
			}
			swap(t, d, ch)
			a, txt := values(t, d, testName, "A"), values(t, d, testMark, "TXT")
			for verb, f := range map[string]func(context.Context, Call) (Evidence, error){"do": newTraffic(t, d, addr).Do} {
				if _, err := f(t.Context(), trafficCall(7)); !errors.Is(err, c.want) || !errors.Is(err, ErrNoEffect) {
					t.Errorf("%s: %v, want %v", verb, err, c.want)
				}
			}
			if values(t, d, testName, "A") != a || values(t, d, testMark, "TXT") != txt {
				t.Error("something was changed")
			}
		})
	}
}

// dnsWith changes what a provider does and says about it.
type dnsWith struct {
	provider.DNSProvider
	atomicity     provider.Atomicity
	before, after error // of the n-th swap
	n, swaps      int
}

func (d *dnsWith) Atomicity() provider.Atomicity {
	if d.atomicity != "" {
		return d.atomicity
	}
	return d.DNSProvider.Atomicity()
}

func (d *dnsWith) Swap(ctx context.Context, c ...provider.Change) (provider.ChangeRef, error) {
	d.swaps++
	if d.atomicity != "" && d.atomicity != provider.ZoneAtomic && len(c) > 1 {
		return "", errors.ErrUnsupported
	}
	if d.swaps == d.n && d.before != nil {
		return "", d.before
	}
	ref, err := d.DNSProvider.Swap(ctx, c...)
	if d.swaps == d.n && err == nil {
		err = d.after
	}
	return ref, err
}

func TestTrafficLostReplies(t *testing.T) {
	lost := errors.New("reply lost")
	for _, atomicity := range []provider.Atomicity{provider.ZoneAtomic, provider.RecordSetAtomic} {
		for n := 1; n <= 2; n++ {
			base, addr := zone(t)
			d := &dnsWith{DNSProvider: base, atomicity: atomicity, n: n, after: lost}
			if _, err := newTraffic(t, d, addr).Do(t.Context(), trafficCall(7)); err != nil {
				t.Errorf("%s, swap %d applied, reply lost: %v", atomicity, n, err)
			}
			if got := values(t, d, testName, "A") + values(t, d, testMark, "TXT"); got != west+markWest {
				t.Errorf("%s, swap %d: %q", atomicity, n, got)
			}
		}
	}
}

// Where the two record sets change one after the other, a process that dies
// between them leaves a mark with its epoch: an older one is refused, a newer
// one finishes.
func TestTrafficOneByOne(t *testing.T) {
	base, addr := zone(t)
	d := &dnsWith{DNSProvider: base, atomicity: provider.RecordSetAtomic, n: 2, before: errors.New("crash")}
	tr := newTraffic(t, d, addr)
	if _, err := tr.Do(t.Context(), trafficCall(7)); err == nil {
		t.Fatal("half a switch succeeds")
	}
	if got := values(t, d, testName, "A") + values(t, d, testMark, "TXT"); got != "192.0.2.1"+markWest {
		t.Fatalf("after the crash: %q", got)
	}
	if o, err := tr.Observe(t.Context(), trafficCall(7)); err != nil || o.Done {
		t.Errorf("half a switch is seen as done: %+v, %v", o, err)
	}
	if _, err := tr.Do(t.Context(), trafficCall(6)); !errors.Is(err, ErrDeposed) {
		t.Errorf("older process: %v", err)
	}
	if _, err := tr.Do(t.Context(), trafficCall(8)); err != nil || values(t, d, testName, "A") != west {
		t.Errorf("newer process: %v", err)
	}
}

// authority is an authoritative server whose answer a test sets.
type authority struct {
	addr      string
	answer    atomic.Pointer[string]
	lame      atomic.Bool // answers without authority
	truncate  atomic.Bool // over UDP
	questions atomic.Int32
	answers   atomic.Int32
}

func newAuthority(t *testing.T, answer string) *authority {
	t.Helper()
	a := &authority{}
	a.answer.Store(&answer)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a.addr = tcp.Addr().String()
	udp, err := net.ListenPacket("udp", a.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: tcp, Handler: a}, {PacketConn: udp, Handler: a}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		done := make(chan struct{})
		go func() { defer close(done); s.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { s.Shutdown(); <-done })
	}
	return a
}

func (a *authority) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	a.questions.Add(1)
	m := new(dns.Msg)
	m.SetReply(q)
	m.Authoritative = !a.lame.Load()
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp && a.truncate.Load() {
		m.Truncated = true
	} else if text := *a.answer.Load(); text != "" {
		for v := range strings.FieldsSeq(text) {
			rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A " + v)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	w.WriteMsg(m)
	a.answers.Add(1)
}

func TestWaitAuthoritative(t *testing.T) {
	fast, slow := newAuthority(t, west), newAuthority(t, "192.0.2.1")
	slow.truncate.Store(true)
	want := []string{"198.51.100.8", "198.51.100.7"}
	type reply struct {
		ev  Evidence
		err error
	}
	got := make(chan reply, 1)
	go func() {
		ev, err := WaitAuthoritative(t.Context(), testName, "A", want, fast.addr, slow.addr)
		got <- reply{ev, err}
	}()
	until := func(fact func() bool) {
		t.Helper()
		for !fact() {
			select {
			case r := <-got:
				t.Fatalf("one server does not say the right thing yet: %v, %v", r.ev, r.err)
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	until(func() bool { return slow.questions.Load() >= 4 }) // it has answered with the old value, over TCP, at least once
	text := west
	slow.answer.Store(&text)
	r := <-got
	if r.err != nil || !strings.HasPrefix(r.ev["ns "+fast.addr], west) || !strings.HasPrefix(r.ev["ns "+slow.addr], west) {
		t.Errorf("%v, %v", r.ev, r.err)
	}

	// A server that says the right thing without authority does not count. The
	// question is given up only after both have answered, and the lame one
	// is asked twice more: by then what they said is known.
	slow.lame.Store(true)
	slow.truncate.Store(false)
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	before := fast.answers.Load()
	go func() {
		ev, err := WaitAuthoritative(ctx, testName, "A", want, fast.addr, slow.addr)
		got <- reply{ev, err}
	}()
	until(func() bool { return fast.answers.Load() > before })
	asked := slow.questions.Load()
	until(func() bool { return slow.questions.Load() >= asked+3 })
	cancel(enough)
	r = <-got
	if !errors.Is(r.err, enough) || !strings.Contains(r.err.Error(), slow.addr) || strings.Contains(r.err.Error(), fast.addr) {
		t.Errorf("lame server: %v", r.err)
	}
	if r.ev["ns "+slow.addr] != "not authoritative" {
		t.Errorf("evidence %v", r.ev)
	}
}

func TestTrafficConfigComplaints(t *testing.T) {
	_, err := NewTraffic(TrafficConfig{Owner: "A B", Name: "www.example.test", Type: "MX", TTL: time.Millisecond, Sites: map[string][]string{"x": {"::1"}}})
	for _, want := range []string{"DNS", "Owner", "Name", "Type", "TTL", "at least two"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
	for typ, v := range map[string]string{"A": "::1", "AAAA": "192.0.2.1", "CNAME": "a b"} {
		if _, err := canonicalValue(typ, v); err == nil {
			t.Errorf("%s %q is accepted", typ, v)
		}
	}
	if v, err := canonicalValue("AAAA", "2001:DB8:0::1"); err != nil || v != "2001:db8::1" {
		t.Errorf("%q, %v", v, err)
	}
}

// A provider without compare-and-swap is used only where that was allowed, one
// record set at a time.
func TestTrafficNotAtomic(t *testing.T) {
	base, addr := zone(t)
	c := TrafficConfig{DNS: &dnsWith{DNSProvider: base, atomicity: provider.NotAtomic}, Owner: "shop", Name: testName, Servers: []string{addr},
		Sites: map[string][]string{"east": {"192.0.2.1"}, "west": {"198.51.100.8", "198.51.100.7"}}}
	if _, err := NewTraffic(c); err == nil || !strings.Contains(err.Error(), "AllowNotAtomic") {
		t.Errorf("not allowed: %v", err)
	}
	c.AllowNotAtomic = true
	tr, err := NewTraffic(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Do(t.Context(), trafficCall(7)); err != nil || values(t, base, testName, "A")+values(t, base, testMark, "TXT") != west+markWest {
		t.Errorf("%v", err)
	}
}

func FuzzParseMark(f *testing.F) {
	f.Add(markWest)
	f.Add("v=1 owner= epoch=99999999999999999999")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMark([]string{s})
		if err != nil {
			return
		}
		again, err := parseMark([]string{m.String()})
		if err != nil || again != m {
			t.Errorf("%q -> %+v -> %+v, %v", s, m, again, err)
		}
	})
}

func FuzzUnescape(f *testing.F) {
	f.Add(`a\"b\032c\`)
	f.Fuzz(func(t *testing.T, s string) {
		if got := unescape(s); !strings.Contains(s, `\`) && got != s {
			t.Errorf("%q -> %q", s, got)
		}
	})
}

func TestLookupOrder(t *testing.T) {
	a := newAuthority(t, "192.0.2.9 192.0.2.1")
	got, auth, err := lookup(t.Context(), a.addr, testName, "A")
	if err != nil || !auth || !slices.Equal(got, []string{"192.0.2.1", "192.0.2.9"}) {
		t.Errorf("%v %v %v", got, auth, err)
	}
}
