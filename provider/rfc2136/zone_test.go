package rfc2136_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// localServer starts the server of provider/local, which needs no container.
func localServer(t testing.TB) rfc2136.Config {
	t.Helper()
	c := rfc2136.Config{Zone: "local.test.", KeyName: "holdfast.", Secret: "c2VjcmV0LW9mLXRoZS10ZXN0LXpvbmUtMTIzNDU2", Secondaries: []string{}}
	s, err := local.NewDNSServer(local.DNSServerConfig{
		Zone: c.Zone, Dir: t.TempDir(), Keys: []local.DNSKey{{Name: c.KeyName, Secret: c.Secret}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	c.Servers = []string{s.Addr()}
	return c
}

// bind is a zone of a real BIND; see testenv.DNS for which there are.
func bind(t testing.TB, zone string) rfc2136.Config {
	t.Helper()
	s := testenv.BIND(t)
	return rfc2136.Config{
		Zone: zone, Servers: []string{s.Endpoint}, KeyName: s.KeyName, Secret: s.Secret,
		Secondaries: []string{s.Secondary}, InlineSigning: zone == "inline.test.",
	}
}

func open(t testing.TB, c rfc2136.Config) *rfc2136.Zone {
	t.Helper()
	z, err := rfc2136.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func contract(t *testing.T, c rfc2136.Config, only ...string) {
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return open(t, c) }, providertest.DNSOptions{
		Zone: c.Zone, Second: func() (provider.DNSProvider, error) { return rfc2136.New(c) }, Only: only,
	})
}

// The contract on the server of provider/local, also where there is no Docker.
func TestContractLocal(t *testing.T) { contract(t, localServer(t)) }

// The contract on BIND, with a secondary that follows.
func TestContractBIND(t *testing.T) { contract(t, bind(t, "plain.test.")) }

// The contract on a zone that BIND signs in place.
func TestContractSigned(t *testing.T) { contract(t, bind(t, "signed.test.")) }

// inlineBreaks are the clauses that a zone signed inline does not keep: the
// table in the package comment.
var inlineBreaks = []string{"dns/ttl-race"}

// The contract on a zone that BIND signs inline, but for what it cannot keep.
func TestContractInline(t *testing.T) {
	c := bind(t, "inline.test.")
	var holds []string
	ended, cancel := context.WithCancel(context.Background())
	cancel() // all are skipped, and named
	for _, r := range providertest.CheckDNS(ended, open(t, c), providertest.DNSOptions{Zone: c.Zone}).Results {
		if !slices.Contains(inlineBreaks, r.ID) {
			holds = append(holds, r.ID)
		}
	}
	contract(t, c, holds...)
	r := providertest.CheckDNS(t.Context(), open(t, c), providertest.DNSOptions{Zone: c.Zone, Only: inlineBreaks})
	if failed := r.Failed(); len(failed) != len(inlineBreaks) {
		t.Errorf("said to break %q, and breaks %q: correct the table", inlineBreaks, failed)
	}
}

func set(name, typ string, ttl time.Duration, values ...string) *provider.RecordSet {
	return &provider.RecordSet{Name: name, Type: typ, TTL: ttl, Values: values}
}

func swap(t testing.TB, d provider.DNSProvider, from, to *provider.RecordSet) provider.ChangeRef {
	t.Helper()
	ref, err := d.Swap(t.Context(), provider.Change{Old: from, New: to})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func get(t testing.TB, d provider.DNSProvider, name, typ string) string {
	t.Helper()
	rs, err := d.Get(t.Context(), name, typ)
	if err != nil {
		return err.Error()
	}
	return rs.TTL.String() + " " + strings.Join(rs.Values, " | ")
}
