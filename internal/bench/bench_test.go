package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func small(t *testing.T) dataset {
	t.Helper()
	return dataset{dir: filepath.Join(t.TempDir(), "data"), seed: 7, size: 16 << 20}
}

func TestDataFollowsFromSeed(t *testing.T) {
	a, b := small(t), small(t)
	for _, d := range []dataset{a, b} {
		if err := d.generate(); err != nil {
			t.Fatal(err)
		}
		for k := range maxSteps {
			if err := d.mutate(k + 1); err != nil {
				t.Fatalf("step %d: %v", k+1, err)
			}
		}
	}
	if err := sameTree(a.dir, b.dir); err != nil {
		t.Error(err)
	}
	size, files, err := usage(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	if size < a.size*9/10 || size > a.size*14/10 || files < a.scale(smallFiles) {
		t.Errorf("%d bytes in %d files", size, files)
	}
	c := small(t)
	c.seed++
	if err := c.generate(); err != nil {
		t.Fatal(err)
	}
	if sameTree(a.dir, c.dir) == nil {
		t.Error("another seed made the same data")
	}
}

// The comparison of what was restored notices one byte, a missing file and
// one too many.
func TestSameTreeNotices(t *testing.T) {
	for name, harm := range map[string]func(dir string) error{
		"byte": func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, "pages/0"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte("\x01"), 1<<20-1)
			return err
		},
		"missing": func(dir string) error { return os.Remove(filepath.Join(dir, "text/3.log")) },
		"shorter": func(dir string) error { return os.Truncate(filepath.Join(dir, "text/3.log"), 100) },
		"surplus": func(dir string) error { return os.WriteFile(filepath.Join(dir, "surplus"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := small(t), small(t)
			for _, d := range []dataset{a, b} {
				if err := d.generate(); err != nil {
					t.Fatal(err)
				}
			}
			if err := harm(b.dir); err != nil {
				t.Fatal(err)
			}
			if sameTree(a.dir, b.dir) == nil {
				t.Error("not noticed")
			}
		})
	}
}

func TestRatios(t *testing.T) {
	b := bench{data: dataset{size: fullSize}, tools: []*tool{{name: "holdfast"}, {name: "restic"}}, samples: map[key][]sample{
		{"holdfast", stepFull}: {{wall: 9 * time.Second, memory: 1}, {wall: time.Second, memory: 100e6}, {wall: 2 * time.Second, memory: 200e6}},
		{"restic", stepFull}:   {{wall: 4 * time.Second}},
	}}
	var out bytes.Buffer
	b.report(&out)
	for _, want := range []string{"ratio full-wall 0.500 0.45\n", "ratio peak-memory-MB 100.0 120\n", "# no ratio prune-wall"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
}

// A whole round of Holdfast alone, which needs no peers: what is restored is
// what was there.
func TestRound(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "bench")
	if err := quiet("go", "build", "-o", exe, "."); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	out, err := output(command{argv: []string{exe, "-size", "16", "-rounds", "1", "-tools", "holdfast", "-dir", t.TempDir()}, env: []string{"XDG_CACHE_HOME=" + t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if out == "" {
		t.Error("no output")
	}
	if err := run(context.Background(), []string{"-size", "1"}); err == nil {
		t.Error("a size of 1 MiB was accepted")
	}
}

func TestDebianSource(t *testing.T) {
	f := filepath.Join(t.TempDir(), "debian.sources")
	text := "Types: deb\n# a comment\nURIs: http://mirror.example/debian http://other.example/\nSuites: one two\nSigned-By: /keys.gpg\n\nTypes: deb\nURIs: http://security.example/\nSigned-By: /other.gpg\n"
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mirror, keys, err := debianSource(f)
	if err != nil || mirror != "http://mirror.example/debian" || keys != "/keys.gpg" {
		t.Errorf("%q, %q, %v", mirror, keys, err)
	}
	if err := os.WriteFile(f, []byte("Types: deb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := debianSource(f); err == nil {
		t.Error("a file without URIs was accepted")
	}
}

// TestScale runs the comparison of sizes with few files.
func TestScale(t *testing.T) {
	self := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), self, "scale", "-files", "16000", "-rounds", "1", "-dir", t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range scaleSteps {
		if n := strings.Count(string(out), "  "+step+"  "); n != 3 {
			t.Errorf("%s is %d times in the table, want once for each size:\n%s", step, n, out)
		}
	}
	if !strings.Contains(string(out), "ratio unchanged-over-walk-wall ") {
		t.Errorf("no ratio to the walk:\n%s", out)
	}
}

// TestBlob runs Holdfast alone against its server, near and far: what arrives
// is what was sent.
func TestBlob(t *testing.T) {
	self := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), self, "blob", "-tools", "holdfast", "-rounds", "1", "-large", "2", "-size", "20", "-small", "60", "-list", "2500", "-latency", "5ms", "-dir", t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"upload small, holdfast: PutObject 1.00\n", "copy large, holdfast: CopyObject 1.00, ListObjectsV2 0.50\n", "download small, holdfast: GetObject 1.00, "} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q:\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), " list  holdfast "); n != 2 {
		t.Errorf("%d lists, want one near and one far:\n%s", n, out)
	}
}

// What is sent through the distance arrives late, whole and in order, in both
// directions.
func TestDelay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	from, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const rtt = 50 * time.Millisecond
	go delay(ctx, []string{from, l.Addr().String(), rtt.String()})
	var c net.Conn
	for range 100 {
		if c, err = net.Dial("tcp", from); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	began := time.Now()
	go func() {
		c.Write(sent)
		c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
	if took := time.Since(began); took < 2*rtt {
		t.Errorf("there and back in %v, and to open it takes as long", took)
	}
}
