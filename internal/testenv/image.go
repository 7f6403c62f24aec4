package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/testcontainers/testcontainers-go"

	"github.com/holdfast-go/holdfast/internal/durable"
)

// A recipe says how an image is made. The image is named after the recipe's
// hash, made once, and kept; another recipe makes another image.
type recipe interface {
	// hash identifies all that the image is made from.
	hash() (string, error)

	// make fills dir with what the image is built from, a Dockerfile among
	// it. What an earlier attempt left in dir is of the same hash.
	make(ctx context.Context, docker *testcontainers.DockerProvider, dir string, say func(string)) error
}

// Prepare makes the images of all servers, unless they are there. It says
// what it makes to say.
func Prepare(ctx context.Context, say func(string)) error {
	docker, err := connect(ctx)
	if err != nil {
		return err
	}
	defer docker.Close()
	var errs []error
	for _, i := range images {
		_, err := i.prepare(ctx, docker, say)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// images are those of all servers.
var images = []image{versitygw, minio, fakegcs, azurite, moto, bind, knot, postgres}

// An image is that of one server.
type image struct {
	name string
	recipe
}

// prepare returns the full name of the image, which is there then.
func (i image) prepare(ctx context.Context, docker *testcontainers.DockerProvider, say func(string)) (string, error) {
	tag, err := i.hash()
	if err != nil {
		return "", fmt.Errorf("image of %s: %w", i.name, err)
	}
	repo := "holdfast-testenv/" + i.name
	full := repo + ":" + tag
	if _, err := docker.Client().ImageInspect(ctx, full); err == nil {
		return full, nil
	}
	unlock, dir, err := lockedCache(ctx, i.name, tag)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := docker.Client().ImageInspect(ctx, full); err == nil {
		return full, nil // another process was faster
	}
	if err := i.make(ctx, docker, dir, say); err != nil {
		return "", fmt.Errorf("image of %s: %w", i.name, err)
	}
	say("image " + full)
	_, err = docker.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: dir, Repo: repo, Tag: tag, KeepImage: true,
	}})
	if err != nil {
		return "", fmt.Errorf("image of %s: %w", i.name, err)
	}
	return full, nil
}

// lockedCache returns a directory that is kept, and holds a lock on all of
// them until unlock.
func lockedCache(ctx context.Context, name, hash string) (unlock func() error, dir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, "", err
	}
	all := filepath.Join(cache, "holdfast-testenv")
	dir = filepath.Join(all, name, hash)
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

// directory is where this package lies.
func directory() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	if ok && filepath.IsAbs(file) {
		return filepath.Dir(file), nil
	}
	// Compiled with -trimpath.
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/holdfast-go/holdfast/internal/testenv").Output()
	if err != nil {
		return "", fmt.Errorf("find the sources of the servers: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// hashOf identifies a list of strings.
func hashOf(parts ...string) string {
	var b []byte
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%x", sum[:8])
}
