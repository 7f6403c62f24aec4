package testenv

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/testcontainers/testcontainers-go"

	"github.com/holdfast-go/holdfast/internal/durable"
)

// A program is one that is built from the nested module into an image.
type program struct {
	image    string            // name of the image
	binaries map[string]string // file in the image: its package
}

var (
	minio = program{"minio", map[string]string{
		"minio":      "github.com/minio/minio",
		"minioadmin": "./minioadmin",
	}}
	versitygw = program{"versitygw", map[string]string{
		"versitygw": "github.com/versity/versitygw/cmd/versitygw",
	}}
)

// Prepare builds every server and its image, unless they are there. It says
// what it builds to say.
func Prepare(ctx context.Context, say func(string)) error {
	docker, err := connect(ctx)
	if err != nil {
		return err
	}
	defer docker.Close()
	for _, p := range []program{versitygw, minio} {
		if _, err := p.prepare(ctx, docker, say); err != nil {
			return err
		}
	}
	return nil
}

// prepare returns the name of the image, which is there then.
func (p program) prepare(ctx context.Context, docker *testcontainers.DockerProvider, say func(string)) (string, error) {
	src, err := sources()
	if err != nil {
		return "", err
	}
	repo, tag := "holdfast-testenv/"+p.image, src.hash
	name := repo + ":" + tag
	if _, err := docker.Client().ImageInspect(ctx, name); err == nil {
		return name, nil
	}
	unlock, dir, err := p.lockedCache(ctx, src)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := docker.Client().ImageInspect(ctx, name); err == nil {
		return name, nil // another process was faster
	}
	if err := p.build(ctx, src, dir, say); err != nil {
		return "", err
	}
	say("image " + name)
	_, err = docker.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: dir, Repo: repo, Tag: tag, KeepImage: true,
	}})
	if err != nil {
		return "", fmt.Errorf("image of %s: %w", p.image, err)
	}
	return name, nil
}

// lockedCache returns the directory that is kept for the program, and holds a
// lock on it until unlock.
func (p program) lockedCache(ctx context.Context, src source) (unlock func() error, dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, "", err
	}
	all := filepath.Join(cache, "holdfast-testenv")
	dir = filepath.Join(all, src.hash, p.image)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", err
	}
	root, err := os.OpenRoot(all)
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	unlock, err = durable.Lock(ctx, root, "lock") // one heavy build at a time
	return unlock, dir, err
}

// build makes the binaries that are missing in dir, and the Dockerfile.
func (p program) build(ctx context.Context, src source, dir string, say func(string)) error {
	var dockerfile strings.Builder
	dockerfile.WriteString("FROM scratch\nWORKDIR /tmp\n")
	for _, name := range slices.Sorted(maps.Keys(p.binaries)) {
		pkg := p.binaries[name]
		fmt.Fprintf(&dockerfile, "COPY %s /%s\n", name, name)
		out := filepath.Join(dir, name)
		if _, err := os.Stat(out); err == nil {
			continue
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		say("building " + name + ", once")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out+".new", pkg)
		cmd.Dir = src.dir
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=-mod=readonly", "GOWORK=off")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, output)
		}
		if err := os.Rename(out+".new", out); err != nil {
			return err
		}
	}
	dockerfile.WriteString("VOLUME /data /versions /iam\n")
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile.String()), 0o600)
}

// source is the nested module.
type source struct {
	dir  string
	hash string // of what the programs are built from
}

func sources() (source, error) {
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) { // -trimpath
		out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/holdfast-go/holdfast/internal/testenv").Output()
		if err != nil {
			return source{}, fmt.Errorf("find the sources of the servers: %w", err)
		}
		file = filepath.Join(strings.TrimSpace(string(out)), "build.go")
	}
	src := source{dir: filepath.Join(filepath.Dir(file), "servers")}
	h := sha256.New()
	for _, name := range []string{"go.mod", "go.sum", "minioadmin/main.go"} {
		b, err := os.ReadFile(filepath.Join(src.dir, name))
		if err != nil {
			return source{}, err
		}
		fmt.Fprintf(h, "%s %d\n%s", name, len(b), b)
	}
	src.hash = fmt.Sprintf("%x", h.Sum(nil)[:8])
	return src, nil
}
