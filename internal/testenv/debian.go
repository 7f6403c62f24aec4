package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/testcontainers/testcontainers-go"
)

// A debian is an image of packages of Debian, and of what is put beside them:
//
//	bind = image{"bind", debian{packages: []string{"bind9", "bind9-dnsutils"}}}
//
// What the server reads can also be given to the container when it starts
// (testcontainers.ContainerFile in service.options), which makes no new image.
type debian struct {
	packages []string

	// files go into the image: path in it, content.
	files map[string]string

	// fill puts what is not from Debian into dir, from where a COPY of steps
	// takes it; nil: nothing. filled says what that is, with its version: it
	// is all that is known of it before.
	fill   func(ctx context.Context, dir string, say func(string)) error
	filled string

	steps []string // of the Dockerfile, after the packages and files
}

func (d debian) hash() (string, error) {
	parts := []string{d.filled, debianBase, strings.Join(baseOptions, " "), d.dockerfile("")}
	for _, name := range d.sortedFiles() {
		parts = append(parts, name, d.files[name])
	}
	return hashOf(parts...), nil
}

func (d debian) sortedFiles() []string {
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d debian) dockerfile(base string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "FROM %s\n", base)
	if len(d.packages) > 0 {
		fmt.Fprintf(&b, "RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends %s"+
			" && rm -rf /var/lib/apt/lists/*\n", strings.Join(d.packages, " "))
	}
	for i, name := range d.sortedFiles() {
		fmt.Fprintf(&b, "COPY file%d %s\n", i, name)
	}
	for _, s := range d.steps {
		b.WriteString(s + "\n")
	}
	return b.String()
}

func (d debian) make(ctx context.Context, docker *testcontainers.DockerProvider, dir string, say func(string)) error {
	base, err := prepareBase(ctx, docker, filepath.Dir(dir), say)
	if err != nil {
		return err
	}
	for i, name := range d.sortedFiles() {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte(d.files[name]), 0o644); err != nil {
			return err
		}
	}
	if d.fill != nil {
		if err := d.fill(ctx, dir, say); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(d.dockerfile(base)), 0o600)
}

const (
	debianBase  = "trixie"
	publicImage = "debian:trixie-slim" // serves as the base where somebody has pulled it
	keyring     = "/usr/share/keyrings/debian-archive-keyring.gpg"
)

// baseOptions leave out what no server reads.
var baseOptions = []string{
	"--variant=minbase", "--include=ca-certificates",
	"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*",
}

// prepareBase returns the name of an image with Debian alone, which is there
// then. It is made with the host's sources of packages, so that it is had
// where packages are had.
func prepareBase(ctx context.Context, docker *testcontainers.DockerProvider, dir string, say func(string)) (string, error) {
	name := "holdfast-testenv/debian:" + hashOf(append(baseOptions, debianBase)...)
	for _, have := range []string{name, publicImage} {
		if _, err := docker.Client().ImageInspect(ctx, have); err == nil {
			return have, nil
		}
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return "", &missingError{"no mmdebstrap, which makes images of Debian; install it, or `docker pull " + publicImage + "`, and run `make servers` once"}
	}
	dir, err := os.MkdirTemp(dir, "base")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	tar := filepath.Join(dir, "base.tar")
	from := []string{debianBase, tar}
	if sources := sourcesList(); sources != "" {
		list := filepath.Join(dir, "sources.list")
		if err := os.WriteFile(list, []byte(sources), 0o600); err != nil {
			return "", err
		}
		from = append(from, list)
	}
	say("making an image of Debian " + debianBase + ", once")
	options := slices.Concat(baseOptions, hostAptOptions(ctx), from)
	if out, err := exec.CommandContext(ctx, "mmdebstrap", options...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mmdebstrap: %w\n%s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "docker", "import", "-c", `CMD ["bash"]`, tar, name).CombinedOutput(); err != nil {
		return "", fmt.Errorf("docker import: %w\n%s", err, out)
	}
	return name, nil
}

// sourcesList is that of Debian, from where this host has its own packages. It
// is empty if this is no such host: mmdebstrap knows where they are.
func sourcesList() string {
	var archive, security string
	found, _ := filepath.Glob("/etc/apt/sources.list.d/*")
	for _, file := range append(found, "/etc/apt/sources.list") {
		b, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for word := range strings.FieldsSeq(string(b)) {
			switch url := strings.TrimSuffix(word, "/"); {
			case !strings.Contains(url, "://") || strings.Contains(url, "snapshot."):
			case strings.HasSuffix(url, "/debian"):
				archive = url
			case strings.HasSuffix(url, "/debian-security"):
				security = url
			}
		}
	}
	if archive == "" || security == "" {
		return ""
	}
	signed := "deb [signed-by=" + keyring + "] "
	return signed + archive + " " + debianBase + " main\n" + signed + archive + " " + debianBase + "-updates main\n" +
		signed + security + " " + debianBase + "-security main\n"
}

// hostAptOptions are those settings of the host's apt without which packages
// cannot be had here.
func hostAptOptions(ctx context.Context) (options []string) {
	out, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		for _, name := range []string{"Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::http::Proxy ", "Acquire::https::Proxy "} {
			if strings.HasPrefix(line, name) {
				options = append(options, "--aptopt="+strings.TrimSuffix(strings.TrimSpace(line), ";"))
			}
		}
	}
	return options
}
