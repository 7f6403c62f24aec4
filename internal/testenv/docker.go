package testenv

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

// Main runs the tests of a package and stops the servers they started.
func Main(m *testing.M) {
	managed = true
	code := m.Run()
	for _, stop := range started.stop {
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "testenv:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// What this process has started, and whether Main will stop it.
var (
	managed bool
	started struct {
		sync.Mutex
		servers map[string]*S3
		stop    []func() error
	}
)

// connect finds the Docker daemon.
func connect(ctx context.Context) (*testcontainers.DockerProvider, error) {
	setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	host := os.Getenv("DOCKER_HOST")
	if _, err := os.Stat("/.dockerenv"); err == nil && (host == "" || strings.HasPrefix(host, "unix:")) {
		setenv("TESTCONTAINERS_HOST_OVERRIDE", "localhost")
	}
	docker, err := testcontainers.NewDockerProvider()
	if err == nil {
		err = docker.Health(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("no Docker daemon: %w", err)
	}
	return docker, nil
}

func setenv(name, value string) {
	if _, ok := os.LookupEnv(name); !ok {
		os.Setenv(name, value)
	}
}

// absent ends a test that needs a server there is not.
func absent(t testing.TB, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v (required where CI=true; .ci/setup installs and starts it)", err)
	}
	t.Skipf("%v: its tests are skipped; start one, and run `make servers` once", err)
}

// label marks the containers of this package.
const label = "holdfast.testenv"

const patience = 2 * time.Minute // for a server to come up on a busy machine
