package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/testcontainers/testcontainers-go"
)

// An npm is a server that npm's registry has, with what it depends on, in /NAME
// of an image of Debian. Its directory below servers has a package.json, and a
// package-lock.json with the hash of each package and the host of none:
//
//	npm install --omit-lockfile-registry-resolved --ignore-scripts
//
// The image is that of base with the packages in it.
type npm struct {
	module string
	base   debian
}

var npmFiles = []string{"package.json", "package-lock.json"}

func (n npm) read() (files []string, err error) {
	here, err := directory()
	if err != nil {
		return nil, err
	}
	for _, name := range npmFiles {
		b, err := os.ReadFile(filepath.Join(here, "servers", n.module, name))
		if err != nil {
			return nil, err
		}
		files = append(files, string(b))
	}
	return files, nil
}

func (n npm) hash() (string, error) {
	files, err := n.read()
	if err != nil {
		return "", err
	}
	base, err := n.debian().hash()
	return hashOf(append(files, base)...), err
}

func (n npm) make(ctx context.Context, docker *testcontainers.DockerProvider, dir string, say func(string)) error {
	return n.debian().make(ctx, docker, dir, say)
}

func (n npm) debian() debian {
	d := n.base
	d.fill, d.filled = n.fill, "npm ci"
	d.steps = append([]string{"ADD " + n.module + ".tar /" + n.module}, d.steps...)
	return d
}

// fill installs the packages, whose hashes npm compares, and runs none of
// their scripts. One archive goes to Docker faster than thirty thousand files.
func (n npm) fill(ctx context.Context, dir string, say func(string)) error {
	if _, err := exec.LookPath("npm"); err != nil {
		return &missingError{"no npm, which fetches " + n.module + "; install it, and run `make servers` once"}
	}
	files, err := n.read()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "npm") // not within dir, all of which goes to Docker
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for i, name := range npmFiles {
		if err := os.WriteFile(filepath.Join(work, name), []byte(files[i]), 0o600); err != nil {
			return err
		}
	}
	say("fetching " + n.module + ", once")
	for _, args := range [][]string{
		{"npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"},
		{"tar", "--create", "--exclude=*.map", "--exclude=*.d.ts", "--file=" + filepath.Join(dir, n.module+".tar"), "node_modules"},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", args[0], err, out)
		}
	}
	return nil
}
