package local_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func dnsClient(t testing.TB, addr string, secondaries ...string) *local.DNS {
	t.Helper()
	d, err := local.NewDNS(local.DNSConfig{
		Server: addr, Zone: testZone, KeyName: testKey.Name, Secret: testKey.Secret, Secondaries: secondaries,
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDNSConformance(t *testing.T) {
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return dnsClient(t, addr) }, providertest.DNSOptions{
		Zone:   testZone,
		Second: func() (provider.DNSProvider, error) { return dnsClient(t, addr), nil },
	})
}

// A change survives the death of the server process at any moment, if it was
// acknowledged, and is there whole or not at all if it was not.
func TestDNSServerKilled(t *testing.T) {
	dir := t.TempDir()
	var acked *provider.RecordSet // the newest that was acknowledged
	state := func(i int) *provider.RecordSet {
		return &provider.RecordSet{Name: "a." + testZone, Type: "TXT", TTL: time.Minute, Values: []string{fmt.Sprint("state ", i)}}
	}
	twin := func(rs *provider.RecordSet) *provider.RecordSet {
		if rs == nil {
			return nil
		}
		c := *rs
		c.Name = "b." + testZone
		return &c
	}
	for round := range 6 {
		addr, kill := startDNSProcess(t, dir)
		d := dnsClient(t, addr)
		// What an unacknowledged swap left is for the reader to find out.
		got, err := d.Get(t.Context(), "a."+testZone, "TXT")
		switch {
		case err == nil:
			if acked != nil && number(t, got) < number(t, *acked) {
				t.Fatalf("%q is served after %q was acknowledged", got.Values, acked.Values)
			}
			acked = &got
		case !errors.Is(err, provider.ErrNotFound) || acked != nil:
			t.Fatalf("after the kill: %v; %v was acknowledged", err, acked)
		}
		other, err := d.Get(t.Context(), "b."+testZone, "TXT")
		if acked != nil && (err != nil || other.Values[0] != acked.Values[0]) {
			t.Fatalf("half of a swap is served: %v beside %v, %v", other.Values, acked.Values, err)
		}
		killed := time.AfterFunc(time.Duration(20+round*13)*time.Millisecond, kill)
		for i := round * 100_000; ; i++ {
			next := state(i)
			_, err := d.Swap(t.Context(), provider.Change{Old: acked, New: next}, provider.Change{Old: twin(acked), New: twin(next)})
			if errors.Is(err, provider.ErrConflict) {
				t.Fatalf("nobody else swaps, and yet: %v", err)
			}
			if err != nil {
				break // killed
			}
			acked = next
		}
		killed.Stop()
		kill()
	}
	if acked == nil {
		t.Error("no swap was ever acknowledged; the test has shown nothing")
	}
}

func number(t *testing.T, rs provider.RecordSet) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(rs.Values[0], "state %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

const dnsProcess = "HOLDFAST_TEST_DNS_DIR"

// TestDNSProcess is not a test: it is the server of startDNSProcess.
func TestDNSProcess(t *testing.T) {
	dir := os.Getenv(dnsProcess)
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	s, err := local.NewDNSServer(dnsServerConfig(dir))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("addr", s.Addr())
	t.Fatal(s.Serve(t.Context()))
}

// startDNSProcess runs a server in a process of its own; kill ends it without
// a warning, and may be called again.
func startDNSProcess(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDNSProcess$")
	cmd.Env = append(os.Environ(), dnsProcess+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(kill)
	if _, err := fmt.Fscanf(out, "addr %s\n", &addr); err != nil {
		t.Fatalf("the server says nothing: %v", err)
	}
	return addr, kill
}

// A swap whose answer is lost may have been made: the error is no ErrConflict
// and says so.
func TestDNSAnswerLost(t *testing.T) {
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	p := newDNSProxy(t, addr)
	d := dnsClient(t, p.addr)
	rs := &provider.RecordSet{Name: "a." + testZone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
	p.lose.Store(true)
	_, err := d.Swap(t.Context(), provider.Change{New: rs})
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Fatalf("err = %v", err)
	}
	p.lose.Store(false)
	if got, err := d.Get(t.Context(), rs.Name, rs.Type); err != nil || got.Values[0] != rs.Values[0] {
		t.Errorf("the swap was made, and yet: %v, %v", got, err)
	}
	if n := serial(t, addr); n != 2 {
		t.Errorf("the zone is at serial %d: the swap was made %d times", n, n-1)
	}
}

// A dnsProxy forwards connections and, while lose is set, closes them instead
// of delivering the answer to an UPDATE.
type dnsProxy struct {
	addr string
	lose atomic.Bool
}

func newDNSProxy(t *testing.T, target string) *dnsProxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &dnsProxy{addr: ln.Addr().String()}
	var wg sync.WaitGroup
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.forward(c, target) })
		}
	})
	return p
}

func (p *dnsProxy) forward(c net.Conn, target string) {
	defer c.Close()
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer s.Close()
	client, server := &dns.Conn{Conn: c}, &dns.Conn{Conn: s}
	for {
		q, err := client.ReadMsgHeader(nil)
		if err != nil {
			return
		}
		if _, err := server.Write(q); err != nil {
			return
		}
		a, err := server.ReadMsgHeader(nil)
		if err != nil {
			return
		}
		if opcode := int(q[2]>>3) & 0xF; opcode == dns.OpcodeUpdate && p.lose.Load() {
			return
		}
		if _, err := client.Write(a); err != nil {
			return
		}
	}
}

// A server that answers without a signature, or not as an authority, is not
// believed.
func TestDNSUnsignedAnswer(t *testing.T) {
	for name, sign := range map[string]bool{"unsigned": false, "not authoritative": true} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			srv := &dns.Server{Listener: ln, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept },
				TsigSecret: map[string]string{testKey.Name: testKey.Secret},
				Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
					m := new(dns.Msg).SetReply(r)
					m.Authoritative = !sign
					if r.Question[0].Qtype == dns.TypeSOA {
						soa, _ := dns.NewRR(testZone + " 60 IN SOA ns. h. 7 1 1 1 1")
						m.Answer = append(m.Answer, soa)
					}
					if sign {
						signed(m)
					}
					w.WriteMsg(m)
				})}
			go srv.ActivateAndServe()
			t.Cleanup(func() { ln.Close() })
			d := dnsClient(t, ln.Addr().String())
			if rs, err := d.Get(t.Context(), "a."+testZone, "A"); err == nil || errors.Is(err, provider.ErrNotFound) {
				t.Errorf("get: %v, %v", rs, err)
			}
			rs := &provider.RecordSet{Name: "a." + testZone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
			if ref, err := d.Swap(t.Context(), provider.Change{New: rs}); err == nil || errors.Is(err, provider.ErrConflict) {
				t.Errorf("swap: %v, %v", ref, err)
			}
			if st, err := d.Status(t.Context(), testZone+"/1"); err == nil || errors.Is(err, provider.ErrNotFound) {
				t.Errorf("status: %v, %v", st, err)
			}
		})
	}
}

// A change is in sync when the secondaries serve it.
func TestDNSSecondary(t *testing.T) {
	primary, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	secondary, stop := startDNS(t, dnsServerConfig(t.TempDir())) // updated by hand
	d := dnsClient(t, primary, secondary)
	rs := &provider.RecordSet{Name: "a." + testZone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
	ref, err := d.Swap(t.Context(), provider.Change{New: rs})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := d.Status(t.Context(), ref); st != provider.ChangePending || err != nil {
		t.Errorf("before the secondary has it: %v, %v", st, err)
	}
	insert(t, secondary, "a.example.test. 60 IN A 192.0.2.1")
	if st, err := d.Status(t.Context(), ref); st != provider.ChangeInSync || err != nil {
		t.Errorf("when the secondary has it: %v, %v", st, err)
	}
	if _, err := d.Status(t.Context(), testZone+"/2"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a change that the primary has not had: %v", err)
	}
	stop()
	if st, err := d.Status(t.Context(), ref); err == nil || !strings.Contains(err.Error(), secondary) {
		t.Errorf("with the secondary away: %v, %v", st, err)
	}
}

func TestDNSConfig(t *testing.T) {
	_, err := local.NewDNS(local.DNSConfig{Server: "x", Zone: "a", KeyName: "k", Secret: "not base64, a secret", Secondaries: []string{"y"}, Timeout: -1})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"Server", "Zone", "KeyName", "Secondaries[0]", "Timeout"} {
		if !strings.Contains(err.Error(), "DNSConfig."+field) {
			t.Errorf("nothing about %s in %v", field, err)
		}
	}
	if _, err := local.NewDNS(local.DNSConfig{Server: "127.0.0.1:53", Zone: testZone, KeyName: "k.", Secret: "not base64, a secret"}); err == nil ||
		!strings.Contains(err.Error(), "DNSConfig.Secret") || strings.Contains(err.Error(), "a secret") {
		t.Errorf("err = %v", err)
	}
	addr, _ := startDNS(t, dnsServerConfig(t.TempDir()))
	for what, c := range map[string]local.DNSConfig{
		"wrong key":  {Server: addr, Zone: testZone, KeyName: "other.", Secret: testKey.Secret},
		"wrong zone": {Server: addr, Zone: "other.test.", KeyName: testKey.Name, Secret: testKey.Secret},
	} {
		d, err := local.NewDNS(c)
		if err != nil {
			t.Fatal(err)
		}
		rs := &provider.RecordSet{Name: "a." + c.Zone, Type: "A", TTL: time.Minute, Values: []string{"192.0.2.1"}}
		_, getErr := d.Get(t.Context(), rs.Name, rs.Type)
		_, swapErr := d.Swap(t.Context(), provider.Change{New: rs})
		for _, err := range []error{getErr, swapErr} {
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func ExampleDNS() {
	dir, err := os.MkdirTemp("", "zone")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	key := local.DNSKey{Name: "holdfast.", Secret: "bm90IGZvciByZWFsIHVzZSBhdCBhbGw="}
	server, err := local.NewDNSServer(local.DNSServerConfig{Zone: "example.test.", Dir: dir, Keys: []local.DNSKey{key}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()

	d, err := local.NewDNS(local.DNSConfig{Server: server.Addr(), Zone: "example.test.", KeyName: key.Name, Secret: key.Secret})
	if err != nil {
		log.Fatal(err)
	}
	primary := &provider.RecordSet{Name: "app.example.test.", Type: "A", TTL: 30 * time.Second, Values: []string{"192.0.2.1"}}
	standby := &provider.RecordSet{Name: "app.example.test.", Type: "A", TTL: 30 * time.Second, Values: []string{"198.51.100.1"}}
	if _, err := d.Swap(ctx, provider.Change{New: primary}); err != nil {
		log.Fatal(err)
	}
	ref, err := d.Swap(ctx, provider.Change{Old: primary, New: standby})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.Status(ctx, ref))
	_, err = d.Swap(ctx, provider.Change{Old: primary, New: standby})
	fmt.Println(errors.Is(err, provider.ErrConflict))
	cancel()
	fmt.Println(<-done)
	// Output:
	// insync <nil>
	// true
	// <nil>
}
