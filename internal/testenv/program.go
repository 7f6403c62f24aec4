package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/testcontainers/testcontainers-go"
)

// A program is a server in Go, alone in its image: the binaries of one nested
// module. Each has a module of its own, below servers, so that a change to one
// builds no other again.
type program struct {
	module   string            // its directory below servers
	binaries map[string]string // file in the image: its package
	volumes  []string          // directories for the server to write to
}

var (
	minio = image{"minio", program{"minio", map[string]string{
		"minio":      "github.com/minio/minio",
		"minioadmin": "./minioadmin",
	}, []string{"/data"}}}
	versitygw = image{"versitygw", program{"versitygw", map[string]string{
		"versitygw": "github.com/versity/versitygw/cmd/versitygw",
	}, []string{"/data", "/versions", "/iam"}}}
	fakegcs = image{"fakegcs", program{"fakegcs", map[string]string{
		"fake-gcs-server": "github.com/fsouza/fake-gcs-server",
	}, nil}}
)

func (p program) dir() (string, error) {
	here, err := directory()
	return filepath.Join(here, "servers", p.module), err
}

// hash is that of the Dockerfile and of all files of the module.
func (p program) hash() (string, error) {
	dir, err := p.dir()
	if err != nil {
		return "", err
	}
	parts := []string{p.dockerfile()}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		parts = append(parts, filepath.ToSlash(rel), string(b))
		return err
	})
	return hashOf(parts...), err
}

func (p program) dockerfile() string {
	var b strings.Builder
	b.WriteString("FROM scratch\nWORKDIR /tmp\n")
	for _, name := range slices.Sorted(maps.Keys(p.binaries)) {
		fmt.Fprintf(&b, "COPY %s /%s\n", name, name)
	}
	if len(p.volumes) > 0 {
		fmt.Fprintf(&b, "VOLUME %s\n", strings.Join(p.volumes, " "))
	}
	return b.String()
}

// make builds the binaries that are missing in dir.
func (p program) make(ctx context.Context, _ *testcontainers.DockerProvider, dir string, say func(string)) error {
	src, err := p.dir()
	if err != nil {
		return err
	}
	for name, pkg := range p.binaries {
		out := filepath.Join(dir, name)
		if _, err := os.Stat(out); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		say("building " + name + ", once")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out+".new", pkg)
		cmd.Dir = src
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=readonly", "GOWORK=off")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
		if err := os.Rename(out+".new", out); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(p.dockerfile()), 0o600)
}
