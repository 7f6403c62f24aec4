package testenv

import (
	"context"
	"errors"
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
	started = struct {
		sync.Mutex
		servers map[string]any
		stop    []func() error
	}{servers: map[string]any{}}
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
		return nil, &missingError{fmt.Sprintf("no Docker daemon (%v); start one, and run `make servers` once", err)}
	}
	return docker, nil
}

func setenv(name, value string) {
	if _, ok := os.LookupEnv(name); !ok {
		os.Setenv(name, value)
	}
}

// A missingError says what this machine lacks, and what to do about it.
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

// absent ends a test whose server could not be made: where the machine lacks
// what that takes, it is skipped.
func absent(t testing.TB, err error) {
	t.Helper()
	missing, ok := errors.AsType[*missingError](err)
	if !ok {
		t.Fatal(err)
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v (required where CI=true; .ci/setup installs and starts it)", err)
	}
	t.Skipf("%v: its tests are skipped", missing)
}

// label marks the containers of this package.
const label = "holdfast.testenv"

const patience = 2 * time.Minute // for a server to come up on a busy machine
