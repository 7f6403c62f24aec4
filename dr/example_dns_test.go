package dr_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/rfc2136"
)

// rfc2136Zone opens the zone of a configuration whose primary server takes
// DNS UPDATE. It is what a program puts into Parts.DNS.
func rfc2136Zone(ctx context.Context, d dr.DNS) (provider.DNSProvider, error) {
	secret, err := d.Secrets["tsig"].Resolve(ctx)
	if err != nil {
		return nil, err
	}
	return rfc2136.New(rfc2136.Config{
		Zone:        strings.TrimSuffix(d.Zone, ".") + ".",
		Servers:     strings.Fields(d.Options["server"]),
		Secondaries: d.Servers,
		KeyName:     d.Options["key"], Secret: secret,
	})
}

// The zone of the service name lies on a server that takes DNS UPDATE (BIND,
// Knot, PowerDNS): the configuration names server and key, a program knows
// provider/rfc2136. Check sees whether a failover could move the name.
func ExampleParts_dns() {
	dir, err := os.MkdirTemp("", "holdfast")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	const tsig = "bm90IGEgc2VjcmV0LCBhbiBleGFtcGxlIQ=="
	addr, stop := exampleServer(filepath.Join(dir, "zone"), tsig)
	defer stop()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	for path, content := range map[string]string{"standby.key": id.String(), "tsig": tsig} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	config, err := dr.Load(strings.NewReader(strings.NewReplacer("DIR", filepath.ToSlash(dir), "KEY", id.Recipient().String(), "ADDR", addr).Replace(`
name: example
sites:
  primary: {region: local-a, bucket: "file://DIR/a"}
  standby: {region: local-b, bucket: "file://DIR/b"}
targets:
  - {name: site, type: files, source: DIR/site, every: 5m, retention: 30d, rpo: 15m, rto: 1h}
recipients:
  - {name: standby, key: KEY, home: standby, identity: "file:DIR/standby.key"}
drill: {scratch: DIR/scratch}
dns:
  zone: example.test
  name: www.example.test
  primary: 192.0.2.1
  standby: 198.51.100.7
  servers: ["ADDR"]
  options: {server: "ADDR", key: holdfast}
  secrets: {tsig: "file:DIR/tsig"}
`)))
	if err != nil {
		log.Fatal(err)
	}
	parts := localParts()
	parts.DNS = rfc2136Zone
	planner, err := dr.New(config, parts)
	if err != nil {
		log.Fatal(err)
	}
	for _, f := range dr.Faults(planner.Check(context.Background())) {
		if strings.HasPrefix(f.Field, "dns") {
			fmt.Println(f)
		}
	}
	// Output:
	// dns.name: www.example.test has no A record; create it, pointing to 192.0.2.1
}

// exampleServer stands for the server of the zone.
func exampleServer(dir, secret string) (addr string, stop func()) {
	s, err := local.NewDNSServer(local.DNSServerConfig{Zone: "example.test.", Dir: dir, Keys: []local.DNSKey{{Name: "holdfast.", Secret: secret}}})
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(ctx) }()
	return s.Addr(), func() { cancel(); <-done }
}
