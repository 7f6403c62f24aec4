package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// peers is a directory into which Debian packages were unpacked. Their
// programs are started with the loader and the libraries that lie beside
// them, so nothing of the host is used or changed.
type peers struct {
	root   string
	loader string
	libs   string
}

// suites of Debian, the newest first.
var suites = []string{"forky", "trixie", "bookworm"}

// A bundle is the packages of some peers, in a directory of their own.
type bundle struct {
	suffix             string // of the directory
	packages, programs []string
}

var (
	backupPeers = bundle{"", []string{"restic", "borgbackup"}, []string{"restic", "borg", "python3"}}
	blobPeers   = bundle{"-rclone", []string{"rclone"}, []string{"rclone"}}
)

// install returns the peers, unpacked below cache; a later
// run finds them there.
func install(cache string, b bundle) (peers, error) {
	var errs []error
	for _, s := range suites {
		root := filepath.Join(cache, s+b.suffix)
		if p, err := open(root, b.programs); err == nil {
			return p, nil
		}
		if err := fetch(s, root, b.packages); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
			continue
		}
		return open(root, b.programs)
	}
	return peers{}, fmt.Errorf("cannot get %s; this needs Debian, apt-get, dpkg-deb and a reachable mirror: %w", strings.Join(b.packages, " and "), errors.Join(errs...))
}

// open looks for what fetch has unpacked.
func open(root string, programs []string) (peers, error) {
	p := peers{root: root}
	for _, need := range programs {
		if _, err := os.Stat(filepath.Join(root, "usr/bin", need)); err != nil {
			return p, err
		}
	}
	loaders, err := filepath.Glob(filepath.Join(root, "usr/lib*/ld-linux*.so.?"))
	if err == nil && len(loaders) == 0 {
		loaders, err = filepath.Glob(filepath.Join(root, "lib*/ld-linux*.so.?"))
	}
	if err != nil || len(loaders) == 0 {
		return p, errors.Join(err, fmt.Errorf("no dynamic loader below %s", root))
	}
	p.loader = loaders[0]
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return p, err
		}
		dirs = append(dirs, found...)
	}
	p.libs = strings.Join(dirs, ":")
	return p, nil
}

func (p peers) program(name string) []string {
	return []string{p.loader, "--library-path", p.libs, filepath.Join(p.root, "usr/bin", name)}
}

func (p peers) restic() []string { return p.program("restic") }
func (p peers) rclone() []string { return p.program("rclone") }

func (p peers) borg() []string {
	return append(p.program("python3"), "-s", filepath.Join(p.root, "usr/bin/borg"))
}

func (p peers) borgEnv() []string { return []string{"PYTHONHOME=" + filepath.Join(p.root, "usr")} }

// fetch downloads the packages of a suite with everything they need, by an
// apt that has directories of its own, and unpacks them. Apt verifies the
// signatures against the host's keys of Debian.
func fetch(suite, root string, packages []string) error {
	mirror, keys, err := debianSource("/etc/apt/sources.list.d/debian.sources")
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(root), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	for _, dir := range []string{"state/lists/partial", "cache/archives/partial", "root"} {
		if err := os.MkdirAll(filepath.Join(tmp, dir), 0o755); err != nil {
			return err
		}
	}
	list := filepath.Join(tmp, "source.list")
	if err := os.WriteFile(list, fmt.Appendf(nil, "deb [signed-by=%s] %s %s main\n", keys, mirror, suite), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "status"), nil, 0o644); err != nil {
		return err
	}
	options := []string{"-qq"}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null", "Dir::State=" + filepath.Join(tmp, "state"),
		"Dir::State::status=" + filepath.Join(tmp, "status"), "Dir::Cache=" + filepath.Join(tmp, "cache"),
		"Acquire::Languages=none", "APT::Sandbox::User=", "Debug::NoLocking=1",
	} {
		options = append(options, "-o", o)
	}
	download := append([]string{"install", "-y", "--no-install-recommends", "--download-only"}, packages...)
	for _, args := range [][]string{{"update"}, download} {
		if err := quiet("apt-get", append(options, args...)...); err != nil {
			return err
		}
	}
	archives, err := filepath.Glob(filepath.Join(tmp, "cache/archives/*.deb"))
	if err != nil {
		return err
	}
	for _, deb := range archives {
		if err := quiet("dpkg-deb", "-x", deb, filepath.Join(tmp, "root")); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(root); err != nil {
		return err
	}
	return os.Rename(filepath.Join(tmp, "root"), root)
}

// debianSource returns the first mirror and the keys of a host's sources.
func debianSource(file string) (mirror, keys string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), ":")
		value, _, _ = strings.Cut(strings.TrimSpace(value), " ")
		switch {
		case name == "URIs" && mirror == "":
			mirror = value
		case name == "Signed-By" && keys == "":
			keys = value
		}
	}
	if mirror == "" || keys == "" {
		return "", "", fmt.Errorf("%s names no URIs or no Signed-By", file)
	}
	return mirror, keys, nil
}

func quiet(name string, args ...string) error {
	b, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, args[len(args)-1], err, b)
	}
	return nil
}
