package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A gateway is the S3 server of a comparison: versitygw on a directory, with
// connections that stay open, as those of clouds do.
type gateway struct {
	address, access, secret string
	root, log               string
	cmd                     *exec.Cmd
	output                  *os.File
}

// serverSource is where the server is built from, seen from this directory,
// in which make starts the program.
const serverSource = "../testenv/servers/versitygw"

// buildServer builds the server into cache, unless it is there.
func buildServer(ctx context.Context, cache string) (string, error) {
	if _, err := os.Stat(serverSource); err != nil {
		return "", fmt.Errorf("start it in internal/bench, as make does, or give -server: %w", err)
	}
	out := filepath.Join(cache, "versitygw")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/versity/versitygw/cmd/versitygw")
	cmd.Dir = serverSource
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=readonly", "GOWORK=off")
	if b, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build versitygw: %w: %s", err, b)
	}
	return out, nil
}

// startServer starts the server program over root, in which each directory is
// a bucket.
func startServer(ctx context.Context, program, root, log string) (*gateway, error) {
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	g := &gateway{address: address, access: "bench", secret: rand.Text(), root: root, log: log}
	if g.output, err = os.Create(log + ".out"); err != nil {
		return nil, err
	}
	args := []string{"--quiet", "--keep-alive", "--port", address, "--access-log", log, "posix", root}
	g.cmd = exec.CommandContext(ctx, program, args...)
	g.cmd.Stdout, g.cmd.Stderr = g.output, g.output
	g.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+g.access, "ROOT_SECRET_ACCESS_KEY="+g.secret, "GOMAXPROCS="+maxProcs)
	if err := g.cmd.Start(); err != nil {
		return nil, errors.Join(err, g.output.Close())
	}
	if err := answers(ctx, address); err != nil {
		return nil, errors.Join(fmt.Errorf("versitygw: %w", err), g.stop())
	}
	return g, nil
}

func (g *gateway) stop() error {
	g.cmd.Process.Signal(syscall.SIGTERM)
	g.cmd.Wait() // it ends by the signal
	return g.output.Close()
}

// env is how both tools learn to reach a server at address. Secrets are here,
// never in argv.
func (g *gateway) env(address string) []string {
	endpoint := "http://" + address
	return []string{
		"BENCH_ENDPOINT=" + endpoint, "AWS_ACCESS_KEY_ID=" + g.access, "AWS_SECRET_ACCESS_KEY=" + g.secret, "AWS_REGION=us-east-1",
		"RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_S3_TYPE=s3", "RCLONE_CONFIG_S3_PROVIDER=Other", "RCLONE_CONFIG_S3_ENDPOINT=" + endpoint,
		"RCLONE_CONFIG_S3_ENV_AUTH=true", "RCLONE_CONFIG_S3_REGION=us-east-1", "RCLONE_CONFIG_S3_FORCE_PATH_STYLE=true",
	}
}

// requests returns how many requests the server has logged since it logged
// from bytes, and what kinds.
func (g *gateway) requests(from int64) (kinds map[string]int, to int64, err error) {
	f, err := os.Open(g.log)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, 0, err
	}
	kinds, to = map[string]int{}, from
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		to += int64(len(lines.Bytes())) + 1
		if line := lines.Text(); !strings.HasPrefix(line, "log starts") {
			kinds[kindOf(line)]++
		}
	}
	return kinds, to, lines.Err()
}

// kindOf is the operation of a line of the log: PutObject.
func kindOf(line string) string {
	for field := range strings.FieldsSeq(line) {
		if name, ok := strings.CutPrefix(field, "s3_"); ok {
			return name
		}
	}
	return "other"
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// answers waits until something listens.
func answers(ctx context.Context, address string) error {
	for end := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", address)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
