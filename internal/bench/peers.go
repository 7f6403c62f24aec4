package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A tool is a backup program with a repository of its own. Its functions say
// what to run for a step; a step may take several commands.
type tool struct {
	name, version string
	repo          string // the directory that it stores into

	init    func() []command
	backup  func(data, point string) []command
	restore func(to, point string) []command
	check   func() []command         // reads and verifies all data
	prune   func(keep int) []command // forgets all but the newest points and frees their space
}

// A command is one process.
type command struct {
	argv []string
	dir  string
	env  []string // beside PATH and HOME; passwords are here, never in argv

	stdout io.Writer // nil: shown if it fails
}

// restic is run with its defaults, which encrypt and compress and look at
// every chunk again before it is stored.
func restic(p peers, dir string) (*tool, error) {
	env := []string{"RESTIC_PASSWORD=" + rand.Text(), "RESTIC_CACHE_DIR=" + filepath.Join(dir, "cache"), "RESTIC_PROGRESS_FPS=0.01"}
	repo := filepath.Join(dir, "repo")
	run := func(args ...string) command {
		return command{argv: append(p.restic(), append([]string{"-q", "-r", repo}, args...)...), env: env}
	}
	version, err := output(command{argv: append(p.restic(), "version")})
	return &tool{
		name: "restic", version: version, repo: repo,
		init: func() []command { return []command{run("init")} },
		backup: func(data, _ string) []command {
			c := run("backup", ".")
			c.dir = data
			return []command{c}
		},
		restore: func(to, _ string) []command { return []command{run("restore", "latest", "--target", to)} },
		check:   func() []command { return []command{run("check", "--read-data")} },
		prune: func(keep int) []command {
			return []command{run("forget", "--prune", "--keep-last", fmt.Sprint(keep))}
		},
	}, err
}

// borg is run with its fast authenticated mode and its lightest zstd.
func borg(p peers, dir string) (*tool, error) {
	env := append(p.borgEnv(), "BORG_PASSPHRASE="+rand.Text(), "BORG_BASE_DIR="+filepath.Join(dir, "base"))
	repo := filepath.Join(dir, "repo")
	run := func(args ...string) command { return command{argv: append(p.borg(), args...), env: env} }
	in := func(dir string, c command) []command {
		c.dir = dir
		return []command{c}
	}
	version, err := output(command{argv: append(p.borg(), "--version"), env: p.borgEnv()})
	return &tool{
		name: "borg", version: version, repo: repo,
		init: func() []command { return []command{run("init", "-e", "repokey-blake2", repo)} },
		backup: func(data, point string) []command {
			return in(data, run("create", "-C", "zstd,1", repo+"::"+point, "."))
		},
		restore: func(to, point string) []command { return in(to, run("extract", repo+"::"+point)) },
		check:   func() []command { return []command{run("check", "--verify-data", repo)} },
		prune: func(keep int) []command {
			return []command{run("prune", "--keep-last", fmt.Sprint(keep), repo), run("compact", repo)}
		},
	}, err
}

func (c command) cmd() *exec.Cmd {
	cmd := exec.Command(c.argv[0], c.argv[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "LC_ALL=C.UTF-8", "GOMAXPROCS=" + maxProcs}, c.env...)
	return cmd
}

func output(c command) (string, error) {
	b, err := c.cmd().CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", c.argv[0], err, b)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return first, nil
}
