package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
)

// DNS is a running pair of authoritative name servers, of which the primary
// takes DNS UPDATE. Its Endpoint and Secondary are for TCP; UDP is the
// primary's for UDP. All are "host:port". The zones are:
//
//	plain.test.   sent to the secondary at every change
//	quiet.test.   the secondary hears of no change until somebody tells it
//	signed.test.  signed in place (dnssec-policy)
//	inline.test.  signed inline: what is served has a serial of its own
//	policy.test.  the key may change A records below free.policy.test. only
//	child.plain.test.  is served beside the zone that it is below
//
// In plain.test. is a wildcard, *.wild.plain.test., of types A and TXT.
type DNS struct {
	server
	Secondary string
	UDP       string

	// KeyName and Secret are a TSIG key for hmac-sha256 that may update every
	// zone. The key "strong." has the same secret, for hmac-sha512, and
	// "reader." may only read.
	KeyName, Secret string
}

var bind = image{"bind", debian{packages: []string{"bind9"}}}

// BIND starts two instances of BIND 9 in one container, unless the process has
// done so.
func BIND(t testing.TB) *DNS {
	t.Helper()
	return once(t, bind.name, func() *DNS {
		t.Helper()
		secret := make([]byte, 32)
		rand.Read(secret)
		d := &DNS{KeyName: "holdfast.", Secret: base64.StdEncoding.EncodeToString(secret)}
		d.server = service{
			image: bind, port: "53/tcp", more: []string{"53/udp", "5300/tcp"},
			up: wait.ForAll(wait.ForListeningPort("53/tcp").SkipInternalCheck(), wait.ForListeningPort("5300/tcp").SkipInternalCheck(),
				wait.ForLog("Transfer status: success").WithOccurrence(len(bindZones))),
			cmd:     []string{"sh", "/etc/bind/run"},
			options: []testcontainers.ContainerCustomizer{testcontainers.WithFiles(bindFiles(d.Secret)...)},
		}.start(t)
		for port, to := range map[string]*string{"53/udp": &d.UDP, "5300/tcp": &d.Secondary} {
			var err error
			if *to, err = d.container.PortEndpoint(context.Background(), port, ""); err != nil {
				t.Fatal(err)
			}
		}
		return d
	})
}

// Run runs a command in the servers' container and returns what it says.
func (d *DNS) Run(t testing.TB, command ...string) string {
	t.Helper()
	code, out, err := d.container.Exec(t.Context(), command, tcexec.Multiplexed())
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil || code != 0 {
		t.Fatalf("%q: exit %d, %v\n%s", command, code, err, said)
	}
	return string(said)
}

const (
	bindAll     = "update-policy { grant holdfast. zonesub ANY; grant strong. zonesub ANY; };"
	bindSigning = "dnssec-policy default; " + bindAll
)

var bindZones = []struct{ name, policy string }{
	{"plain.test", bindAll}, {"child.plain.test", bindAll}, {"quiet.test", bindAll},
	{"signed.test", bindSigning + " inline-signing no;"}, {"inline.test", bindSigning + " inline-signing yes;"},
	{"policy.test", "update-policy { grant holdfast. subdomain free.policy.test. A; };"},
}

func bindFiles(secret string) []testcontainers.ContainerFile {
	var primary, secondary, zones strings.Builder
	// With the usual tcp-listen-queue, of 10, racers wait a second for their next SYN.
	options := func(b *strings.Builder, name string, port int) {
		fmt.Fprintf(b, "options { directory %q; pid-file %q; session-keyfile none; listen-on port %d { any; }; listen-on-v6 { none; };\n"+
			" recursion no; dnssec-validation no; allow-transfer { any; }; allow-notify { any; }; notify explicit;\n"+
			" notify-delay 0; notify-rate 1000; serial-query-rate 1000; tcp-clients 1000; tcp-listen-queue 200; };\ncontrols {};\n",
			"/var/lib/bind/"+name, "/run/"+name+".pid", port)
	}
	options(&primary, "primary", 53)
	options(&secondary, "secondary", 5300)
	for name, algorithm := range map[string]string{"holdfast.": "hmac-sha256", "strong.": "hmac-sha512", "reader.": "hmac-sha256"} {
		fmt.Fprintf(&primary, "key %q { algorithm %s; secret %q; };\n", name, algorithm, secret)
	}
	for _, z := range bindZones {
		tell := "also-notify { 127.0.0.1 port 5300; };"
		if z.name == "quiet.test" {
			tell = ""
		}
		fmt.Fprintf(&primary, "zone %q { type primary; file \"%s.zone\"; %s %s };\n", z.name, z.name, z.policy, tell)
		fmt.Fprintf(&secondary, "zone %q { type secondary; file \"%s.zone\"; primaries { 127.0.0.1 port 53; }; };\n", z.name, z.name)
		fmt.Fprintf(&zones, "cat > primary/%s.zone <<'END'\n$TTL 60\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\n", z.name)
		if z.name == "plain.test" {
			zones.WriteString("*.wild A 192.0.2.77\n*.wild TXT wild\n")
		}
		zones.WriteString("END\n")
	}
	run := "set -e\nmkdir -p /var/lib/bind/primary /var/lib/bind/secondary\ncd /var/lib/bind\n" + zones.String() +
		"(named -g -c /etc/bind/primary.conf 2>&1 | tee /tmp/log) &\nuntil grep -q ' running$' /tmp/log; do sleep 0.05; done\n" +
		"exec named -g -c /etc/bind/secondary.conf\n"
	var files []testcontainers.ContainerFile
	for name, content := range map[string]string{"primary.conf": primary.String(), "secondary.conf": secondary.String(), "run": run} {
		files = append(files, testcontainers.ContainerFile{Reader: strings.NewReader(content), ContainerFilePath: "/etc/bind/" + name, FileMode: 0o644})
	}
	return files
}
