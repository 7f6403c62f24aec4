package rfc2136_test

import (
	"context"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

const (
	testZone   = "example.test."
	testKey    = "holdfast."
	testSecret = "c2VjcmV0LW9mLXRoZS10ZXN0LXpvbmUtMTIzNDU2"
)

// startLocal starts the server of provider/local, which needs no container.
func startLocal(t testing.TB) string {
	t.Helper()
	s, err := local.NewDNSServer(local.DNSServerConfig{
		Zone: testZone, Dir: t.TempDir(), Keys: []local.DNSKey{{Name: testKey, Secret: testSecret}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s.Addr()
}

func open(t testing.TB, addr string, change func(*rfc2136.Config)) *rfc2136.Zone {
	t.Helper()
	c := rfc2136.Config{Zone: testZone, Servers: []string{addr}, KeyName: testKey, Secret: testSecret, Secondaries: []string{}}
	if change != nil {
		change(&c)
	}
	z, err := rfc2136.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestContractOnLocalServer(t *testing.T) {
	addr := startLocal(t)
	providertest.TestDNSProvider(t, func(t *testing.T) provider.DNSProvider { return open(t, addr, nil) }, providertest.DNSOptions{
		Zone:   testZone,
		Second: func() (provider.DNSProvider, error) { return open(t, addr, nil), nil },
	})
}
