package testenv

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

// A server is one that runs in a container of its own. Each kind of server
// embeds it.
type server struct {
	Name     string // "minio", "versitygw", ...
	Endpoint string // "http://localhost:32768"

	container *testcontainers.DockerContainer
}

// A service says how a server is started from its image.
type service struct {
	image   image
	port    string        // that of the Endpoint: "9000/tcp"
	more    []string      // other ports that are published
	scheme  string        // of the Endpoint; empty: "host:port" without one
	up      wait.Strategy // nil: when it listens on the port
	cmd     []string
	env     map[string]string
	options []testcontainers.ContainerCustomizer // what else it takes
}

// once returns the one server of a kind in this process: the first test that
// asks starts it, and Main stops it. S is a kind of server.
func once[S any](t testing.TB, name string, start func() S) S {
	t.Helper()
	if !managed {
		t.Fatal("a package that starts servers needs: func TestMain(m *testing.M) { testenv.Main(m) }")
	}
	started.Lock()
	defer started.Unlock()
	if s, ok := started.servers[name]; ok {
		return s.(S)
	}
	s := start() // or ends the test
	started.servers[name] = s
	return s
}

// start starts a server, within once. It ends the test if it cannot.
func (d service) start(t testing.TB) server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // the image may have to be made
	defer cancel()
	docker, err := connect(ctx)
	if err != nil {
		absent(t, err)
	}
	defer docker.Close()
	sweep(ctx, docker)
	image, err := d.image.prepare(ctx, docker, func(what string) { t.Log(what) })
	if err != nil {
		absent(t, err)
	}
	up := d.up
	if up == nil {
		up = wait.ForListeningPort(d.port).SkipInternalCheck()
	}
	s := server{Name: d.image.name}
	options := append([]testcontainers.ContainerCustomizer{
		testcontainers.WithEnv(d.env),
		testcontainers.WithCmd(d.cmd...),
		testcontainers.WithExposedPorts(append([]string{d.port}, d.more...)...),
		testcontainers.WithLabels(map[string]string{label: s.Name}),
		testcontainers.WithWaitStrategyAndDeadline(patience, up),
	}, d.options...)
	stop := func() error { return testcontainers.TerminateContainer(s.container, testcontainers.StopTimeout(0)) }
	s.container, err = testcontainers.Run(ctx, image, options...)
	for range 40 {
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			break
		}
		// Docker takes one port after the other, and gives up after ten. Tests
		// with many connections can have more in a row.
		if err = stop(); err == nil {
			s.container, err = testcontainers.Run(ctx, image, options...)
		}
	}
	started.stop = append(started.stop, stop)
	if err != nil {
		t.Fatalf("start %s: %v\n%s", s.Name, err, s.logs(ctx))
	}
	if s.Endpoint, err = s.container.PortEndpoint(ctx, d.port, d.scheme); err != nil {
		t.Fatal(err)
	}
	return s
}

// logs is the end of what the server has said.
func (s *server) logs(ctx context.Context) string {
	if s.container == nil {
		return ""
	}
	r, err := s.container.Logs(ctx)
	if err != nil {
		return ""
	}
	defer r.Close()
	b, _ := io.ReadAll(r)
	return string(b[max(0, len(b)-4096):])
}
