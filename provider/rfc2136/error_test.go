package rfc2136_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// What BIND refuses is said with the server, the key and what to do, is no
// sentinel of the contract, and never shows the secret.
func TestRefusals(t *testing.T) {
	s := testenv.BIND(t)
	wrong := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	for name, c := range map[string]struct {
		change   func(*rfc2136.Config)
		clock    time.Duration
		want     []string
		denied   bool
		readable bool // only the swap is refused
	}{
		"wrong secret":    {func(c *rfc2136.Config) { c.Secret = wrong }, 0, []string{"BADSIG", "holdfast.", "check Secret"}, true, false},
		"unknown key":     {func(c *rfc2136.Config) { c.KeyName = "nobody" }, 0, []string{"does not know TSIG key nobody.", "check KeyName"}, true, false},
		"wrong algorithm": {func(c *rfc2136.Config) { c.Algorithm = "hmac-sha384" }, 0, []string{"hmac-sha384", "Algorithm"}, true, false},
		"late clock":      {nil, -time.Hour, []string{"BADTIME", "1h0m", "clocks differ"}, false, false},
		"early clock":     {nil, time.Hour, []string{"BADTIME", "1h0m", "clocks differ"}, false, false},
		"may only read":   {func(c *rfc2136.Config) { c.KeyName = "reader." }, 0, []string{"REFUSED", "reader.", "plain.test.", "update policy"}, true, true},
		"other zone":      {func(c *rfc2136.Config) { c.Zone = "nowhere.test." }, 0, []string{"nowhere.test."}, true, false},
		"a secondary":     {func(c *rfc2136.Config) { c.Servers = []string{s.Secondary} }, 0, []string{s.Secondary, "holdfast."}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			config := bind(t, "plain.test.")
			config.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			if c.change != nil {
				c.change(&config)
			}
			z := open(t, config)
			if c.clock != 0 {
				z.SetClock(c.clock)
			}
			x := "refused." + config.Zone
			_, getErr := z.Get(t.Context(), x, "A")
			_, swapErr := z.Swap(t.Context(), provider.Change{New: set(x, "A", time.Minute, "192.0.2.1")})
			errs := []error{swapErr}
			if c.readable != errors.Is(getErr, provider.ErrNotFound) {
				t.Errorf("get: %v", getErr)
			}
			if !c.readable {
				errs = append(errs, getErr)
			}
			for _, err := range errs {
				if err == nil || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) || errors.Is(err, fs.ErrPermission) != c.denied {
					t.Fatalf("%v", err)
				}
				if strings.Contains(err.Error(), "outcome unknown") {
					t.Errorf("it is known that nothing was done: %v", err)
				}
				for _, w := range append(c.want, config.Servers[0]) {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("no %q in: %v", w, err)
					}
				}
				for _, secret := range []string{config.Secret, s.Secret, wrong} {
					if strings.Contains(err.Error()+log.String(), secret) {
						t.Errorf("the secret is in %v\n%s", err, &log)
					}
				}
			}
		})
	}
}

// The update policy decides name by name, and a swap that it refuses in part
// is not made at all.
func TestUpdatePolicy(t *testing.T) {
	z := open(t, bind(t, "policy.test."))
	may, mayNot := set(fresh("free.policy.test."), "A", time.Minute, "192.0.2.1"), set(fresh("policy.test."), "A", time.Minute, "192.0.2.1")
	_, err := z.Swap(t.Context(), provider.Change{New: may}, provider.Change{New: mayNot})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("both: %v", err)
	}
	for _, rs := range []*provider.RecordSet{may, mayNot} {
		if _, err := z.Get(t.Context(), rs.Name, "A"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: %v", rs.Name, err)
		}
	}
	swap(t, z, nil, may)
}

func TestAlgorithms(t *testing.T) {
	c := bind(t, "plain.test.")
	c.KeyName, c.Algorithm = "strong", "hmac-sha512"
	swap(t, open(t, c), nil, set(fresh(c.Zone), "A", time.Minute, "192.0.2.1"))
}

// A server that is not what it should be. Each answers the first query as
// said, signed where it knows how.
func TestStrangeServers(t *testing.T) {
	local := localServer(t)
	for name, c := range map[string]struct {
		answer func(m *dns.Msg)
		sign   bool
		want   string
	}{
		"without a signature":    {func(*dns.Msg) {}, false, "without a signature"},
		"unsigned and failing":   {func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, false, "SERVFAIL"},
		"failing":                {func(m *dns.Msg) { m.Rcode = dns.RcodeServerFailure }, true, "SERVFAIL"},
		"not for such messages":  {func(m *dns.Msg) { m.Rcode = dns.RcodeNotImplemented }, true, "NOTIMP"},
		"without authority":      {func(m *dns.Msg) { m.Authoritative = false }, true, "authority"},
		"with half an answer":    {func(m *dns.Msg) { m.Truncated = true }, true, "more than fits"},
		"with no such zone":      {func(m *dns.Msg) { m.Rcode = dns.RcodeNotAuth }, true, "not the primary of zone local.test."},
		"with something unknown": {func(m *dns.Msg) { m.Rcode = 3841 & 0xF }, true, "server"},
	} {
		t.Run(name, func(t *testing.T) {
			config := local
			config.Servers = []string{fakeServer(t, config, c.answer, c.sign)}
			z := open(t, config)
			_, err := z.Get(t.Context(), "x.local.test.", "A")
			_, swapErr := z.Swap(t.Context(), provider.Change{New: set("x.local.test.", "A", time.Minute, "192.0.2.1")})
			if name == "with something unknown" {
				return // any answer will do, but for a crash
			}
			for _, err := range []error{err, swapErr} {
				if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v; want %q", err, c.want)
				}
			}
		})
	}
}

func fakeServer(t *testing.T, c rfc2136.Config, answer func(*dns.Msg), sign bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up, done := make(chan struct{}), make(chan struct{})
	s := &dns.Server{Listener: l, TsigSecret: map[string]string{c.KeyName: c.Secret}, NotifyStartedFunc: func() { close(up) },
		MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Authoritative = true
			answer(m)
			if sign {
				m.SetTsig(c.KeyName, dns.HmacSHA256, 300, time.Now().Unix())
			}
			w.WriteMsg(m)
		})}
	go func() { defer close(done); s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() { s.Shutdown(); <-done })
	return l.Addr().String()
}

// A server that says SERVFAIL to an update may have made the change.
func TestUpdateFails(t *testing.T) {
	c := localServer(t)
	soa := &dns.SOA{Hdr: dns.RR_Header{Name: c.Zone, Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.", Mbox: "m.", Serial: 7}
	updates := 0
	c.Servers = []string{fakeServer(t, c, func(m *dns.Msg) {
		switch {
		case m.Opcode == dns.OpcodeUpdate:
			updates++
			m.Rcode = dns.RcodeServerFailure
		case m.Question[0].Qtype == dns.TypeSOA:
			m.Answer = []dns.RR{soa}
		}
	}, true)}
	_, err := open(t, c).Swap(t.Context(), provider.Change{New: set("x."+c.Zone, "A", time.Minute, "192.0.2.1")})
	if err == nil || !strings.Contains(err.Error(), "outcome unknown") || !strings.Contains(err.Error(), "SERVFAIL") {
		t.Errorf("%v", err)
	}
	if updates < 2 || updates > 10 {
		t.Errorf("asked %d times", updates)
	}
}

// A server whose serial is not that of the zone it updates is recognised.
func TestInlineSigningIsRecognised(t *testing.T) {
	c := bind(t, "inline.test.")
	swap(t, open(t, c), nil, set(fresh(c.Zone), "A", time.Minute, "192.0.2.1"))
	c.InlineSigning = false
	x := fresh(c.Zone)
	_, err := open(t, c).Swap(t.Context(), provider.Change{New: set(x, "A", time.Minute, "192.0.2.1")})
	if err == nil || !strings.Contains(err.Error(), "set InlineSigning") || errors.Is(err, provider.ErrConflict) {
		t.Errorf("%v", err)
	}
	if got := get(t, open(t, c), x, "A"); !strings.Contains(got, "not found") {
		t.Errorf("it was made all the same: %s", got)
	}
}

func TestConfigComplaints(t *testing.T) {
	_, err := rfc2136.New(rfc2136.Config{Zone: "Example.test", Servers: []string{"a:b:c", ":53"}, Secondaries: []string{"x:"}, Secret: "no base64!", Algorithm: "md5", Timeout: -1})
	for _, want := range []string{"Zone", "Servers[0]", "Servers[1]", "Secondaries[0]", "KeyName", "Secret: not base64", "Algorithm", "Timeout"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no complaint about %s in: %v", want, err)
		}
	}
	if err != nil && strings.Contains(err.Error(), "no base64!") {
		t.Errorf("the secret is in: %v", err)
	}
	for secret, want := range map[string]string{"": "empty", "c2hvcnQ=": "5 bytes"} {
		if _, err := rfc2136.New(rfc2136.Config{Zone: "a.", Servers: []string{"::1"}, KeyName: "k", Secret: secret}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("secret of length %d: %v", len(secret), err)
		}
	}
	if _, err := rfc2136.New(rfc2136.Config{Zone: "a.", KeyName: "k", Secret: "MTIzNDU2Nzg5MDEyMzQ1Ng=="}); err == nil || !strings.Contains(err.Error(), "Servers") {
		t.Errorf("no servers: %v", err)
	}
}

// The next address is tried if the one before gives no connection; and that
// only.
func TestServersInOrder(t *testing.T) {
	c := localServer(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	n := newNetwork(t, c.Servers[0])
	c.Servers = []string{dead.Addr().String(), n.addr, c.Servers[0]}
	c.Timeout = 200 * time.Millisecond
	z := open(t, c)
	swap(t, z, nil, set("x.local.test.", "A", time.Minute, "192.0.2.1"))
	if len(n.kept) != 1 {
		t.Errorf("%d updates went to the second address", len(n.kept))
	}
	n.deaf.Store(true) // it connects, and says nothing
	if _, err := z.Get(t.Context(), "x.local.test.", "A"); err == nil || !strings.Contains(err.Error(), n.addr) {
		t.Errorf("%v", err)
	}
	c.Servers = []string{dead.Addr().String(), dead.Addr().String()}
	if _, err := open(t, c).Get(t.Context(), "x.local.test.", "A"); err == nil || !strings.Contains(err.Error(), dead.Addr().String()) {
		t.Errorf("%v", err)
	}
}

// What does not fit into a message is refused before anything is sent.
func TestTooLarge(t *testing.T) {
	c := localServer(t)
	z, n := through(t, c, time.Second)
	var values []string
	for i := range 4000 {
		values = append(values, fmt.Sprintf("10.0.%d.%d", i/250, i%250))
	}
	slices.Sort(values)
	big := set("x.local.test.", "A", time.Minute, values...)
	_, err := z.Swap(t.Context(), provider.Change{New: big})
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "more than a message holds") || len(n.kept) > 0 {
		t.Errorf("%d updates sent; %v", len(n.kept), err)
	}
	_, err = z.Swap(t.Context(), provider.Change{New: set("x.local.test.", "TXT", time.Minute, strings.Repeat("x", 70000))})
	if err == nil || len(n.kept) > 0 || strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("%d updates sent; %v", len(n.kept), err)
	}
	big.Values = values[:1500] // far more than UDP carries
	swap(t, z, nil, big)
	less := set("x.local.test.", "A", time.Minute, "192.0.2.1")
	swap(t, z, big, less)
	swap(t, z, less, nil)
}
