package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

var knot = image{"knot", debian{packages: []string{"knot"}}}

// Knot starts a primary Knot DNS, unless the process has done so, with the
// zones plain.test., child.plain.test. and signed.test. (signed in place). It has
// no secondary.
func Knot(t testing.TB) *DNS {
	t.Helper()
	return once(t, knot.name, func() *DNS {
		t.Helper()
		secret := make([]byte, 32)
		rand.Read(secret)
		d := &DNS{KeyName: "holdfast.", Secret: base64.StdEncoding.EncodeToString(secret)}
		conf := "server:\n  rundir: /run/knot\n  listen: 0.0.0.0@53\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: /var/lib/knot\n" +
			"key:\n  - id: holdfast.\n    algorithm: hmac-sha256\n    secret: " + d.Secret + "\n" +
			"acl:\n  - id: holdfast\n    key: holdfast.\n    action: [query, update]\nzone:\n"
		run := "set -e\nmkdir -p /run/knot /var/lib/knot\ncd /var/lib/knot\n"
		for zone, more := range map[string]string{"plain.test": "", "child.plain.test": "", "signed.test": "    dnssec-signing: on\n"} {
			conf += fmt.Sprintf("  - domain: %s\n    storage: /var/lib/knot\n    file: %s.zone\n    acl: holdfast\n%s", zone, zone, more)
			run += fmt.Sprintf("cat > %s.zone <<'END'\n$TTL 60\n@ SOA ns1 admin 1 3600 600 86400 60\n@ NS ns1\nns1 A 127.0.0.1\nEND\n", zone)
		}
		var files []testcontainers.ContainerFile
		for name, content := range map[string]string{"knot.conf": conf, "run": run + "exec knotd -c /etc/knot.conf\n"} {
			files = append(files, testcontainers.ContainerFile{Reader: strings.NewReader(content), ContainerFilePath: "/etc/" + name, FileMode: 0o644})
		}
		d.server = service{
			image: knot, port: "53/tcp", more: []string{"53/udp"},
			up:  wait.ForAll(wait.ForListeningPort("53/tcp").SkipInternalCheck(), wait.ForLog("server started")),
			cmd: []string{"sh", "/etc/run"}, options: []testcontainers.ContainerCustomizer{testcontainers.WithFiles(files...)},
		}.start(t)
		var err error
		if d.UDP, err = d.container.PortEndpoint(context.Background(), "53/udp", ""); err != nil {
			t.Fatal(err)
		}
		return d
	})
}
