package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// blob compares provider/aws with rclone on one S3 server of this machine:
//
//	make bench-blob                              # everything
//	make bench-blob BENCH='-rounds 1 -small 500' # quicker
//
// What is uploaded, copied by the server, downloaded and listed are a
// large object, alone, so that its parts have the server's processors to
// themselves, and many small ones. Each step is a process of its own, the tools
// in turn, the order reversed from round to round. Rclone is that of Debian,
// with its defaults, and with as many objects under way as Holdfast has, which
// is 16 times as many. A ratio is to the defaults, one with "wide" to the other:
// where both have to send the same requests and may send as many at once, it is
// the server that decides how long they take. Everything is done once near the
// server and once with a distance between (see delay).
//
// The output is as that of the comparison of backups: medians, and lines
//
//	ratio NAME VALUE LIMIT
//
// Near, what counts is the processor time of the client alone; far, the clock.
//
// The server is versitygw, over a directory. A ratio of the clock says little
// on a busy machine.
func blob(ctx context.Context, args []string, out io.Writer) (err error) {
	flags := flag.NewFlagSet("blob", flag.ContinueOnError)
	var b blobBench
	flags.IntVar(&b.rounds, "rounds", 3, "of everything; the table holds the medians")
	flags.IntVar(&b.large, "large", 1, "large objects")
	size := flags.Int64("size", 1024, "MiB of each of them")
	flags.IntVar(&b.small, "small", 5000, "small objects of 4 KiB")
	flags.IntVar(&b.listed, "list", 100_000, "keys to list")
	flags.DurationVar(&b.rtt, "latency", 20*time.Millisecond, "of a round trip to the far server")
	only := flags.String("only", near+","+distant, "which distances")
	names := flags.String("tools", "", "which to run; empty: all")
	server := flags.String("server", "", "versitygw; empty: built from the module beside this one")
	dir := flags.String("dir", "", "where data is put for the time; default: the user's cache directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.rounds < 1 || b.large < 1 || *size < 1 || b.small < 1 || b.listed < 1 {
		return errors.New("blob: a number that is not positive")
	}
	b.size = *size << 20
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "holdfast-bench")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return err
	}
	if *dir == "" {
		*dir = cache
	}
	if b.dir, err = os.MkdirTemp(*dir, "blob-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	if *server == "" {
		if *server, err = buildServer(ctx, cache); err != nil {
			return err
		}
	}
	if b.tools, err = transfers(cache, *names); err != nil {
		return err
	}
	b.samples = map[blobKey][]blobSample{}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	root := filepath.Join(b.dir, "server")
	if b.server, err = startServer(ctx, *server, root, filepath.Join(b.dir, "access.log")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.stop()) }()
	for _, distance := range strings.Split(*only, ",") {
		if err := b.at(ctx, distance); err != nil {
			return fmt.Errorf("%s: %w", distance, err)
		}
	}
	b.report(out)
	return nil
}

type blobBench struct {
	dir          string
	rounds       int
	large, small int
	size         int64 // of a large object
	listed       int
	rtt          time.Duration
	tools        []transfer
	server       *gateway
	logged       int64 // bytes of its log that have been looked at
	samples      map[blobKey][]blobSample
}

type blobKey struct{ distance, step, tool string }

// A blobSample is what one step has cost, and asked of the server.
type blobSample struct {
	sample
	requests map[string]int
}

const (
	near    = "near"
	distant = "far"
)

// smallSize is that of a small object.
const smallSize = 4 << 10

// prepare makes the files to upload and the keys to list. Of these, the
// files are put where the server keeps them: uploading is another step.
func (b *blobBench) prepare(ctx context.Context) error {
	random := rand.NewChaCha8([32]byte{1})
	write := func(path string, size int64) error {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, random, size)
		return errors.Join(err, f.Close(), ctx.Err())
	}
	for i := range b.large {
		if err := write(filepath.Join(b.dir, "large", fmt.Sprintf("%d.bin", i)), b.size); err != nil {
			return err
		}
	}
	for i := range b.small {
		if err := write(filepath.Join(b.dir, "small", fmt.Sprintf("d%02d", i%50), fmt.Sprintf("f%06d", i)), smallSize); err != nil {
			return err
		}
	}
	for i := range b.listed {
		if err := write(filepath.Join(b.dir, "server", listBucket, fmt.Sprintf("d%03d", i%250), fmt.Sprintf("f%06d", i)), 0); err != nil {
			return err
		}
	}
	return syncDir(b.dir)
}

const listBucket = "keys-to-list"

// at does all rounds at one distance.
func (b *blobBench) at(ctx context.Context, distance string) error {
	address := b.server.address
	switch distance {
	case near:
	case distant:
		from, stop, err := startDelay(ctx, address, b.rtt)
		if err != nil {
			return err
		}
		defer stop()
		address = from
	default:
		return fmt.Errorf("-only: want near or far")
	}
	env := b.server.env(address)
	for round := range b.rounds {
		order := slices.Clone(b.tools)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, s := range blobSteps {
			for _, t := range order {
				if err := b.step(ctx, distance, round, s, t, env); err != nil {
					return fmt.Errorf("round %d, %s, %s: %w", round+1, s.name, t.name, err)
				}
			}
		}
	}
	return nil
}

// A blobStep is a step of the comparison on one kind of objects.
type blobStep struct{ name, action, of string }

var blobSteps = []blobStep{
	{"upload large", "upload", "large"}, {"copy large", "copy", "large"}, {"download large", "download", "large"},
	{"upload small", "upload", "small"}, {"copy small", "copy", "small"}, {"download small", "download", "small"},
	{"list", "list", ""},
}

func (b *blobBench) step(ctx context.Context, distance string, round int, s blobStep, t transfer, env []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s, round %d, %s, %s, load %s\n", distance, round+1, s.name, t.name, load())
	uploaded := strings.ToLower(fmt.Sprintf("%s-%s-%s-%d", distance, s.of, t.name, round))
	copied, local, files := uploaded+"-copy", filepath.Join(b.dir, uploaded), filepath.Join(b.dir, s.of)
	var argv []string
	switch s.action {
	case "upload":
		argv = t.upload(files, uploaded)
		if err := os.Mkdir(filepath.Join(b.server.root, uploaded), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(filepath.Join(b.server.root, copied), 0o755); err != nil {
			return err
		}
	case "copy":
		argv = t.copy(uploaded, copied)
	case "download":
		argv = t.download(uploaded, local)
		if err := os.Mkdir(local, 0o755); err != nil {
			return err
		}
	case "list":
		argv = t.list(listBucket)
	}
	err := syncDir(b.dir) // what was written before is nobody's cost
	if err != nil {
		return err
	}
	var m blobSample
	c, listed := command{argv: argv, env: env}, lines(0)
	if s.action == "list" {
		c.stdout = &listed
	}
	if err := m.run(c); err != nil {
		return err
	}
	if s.action == "list" && int(listed) != b.listed {
		return fmt.Errorf("%d keys listed, want %d", listed, b.listed)
	}
	time.Sleep(50 * time.Millisecond) // the log is written behind the answers
	if m.requests, b.logged, err = b.server.requests(b.logged); err != nil {
		return err
	}
	k := blobKey{distance, s.name, t.name}
	b.samples[k] = append(b.samples[k], m)
	if err := b.verify(s, files, filepath.Join(b.server.root, copied), local); err != nil || s.action != "download" {
		return err
	}
	return empty(filepath.Join(b.server.root, uploaded)) // this was the last step with it
}

// verify compares what has arrived, and frees its space.
func (b *blobBench) verify(s blobStep, files, copied, local string) error {
	arrived := ""
	var err error
	switch s.action {
	case "copy": // the server keeps more than that beside it
		arrived = copied
		err = filepath.WalkDir(files, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			x, y := make([]byte, 64<<10), make([]byte, 64<<10)
			return sameFile(path, filepath.Join(copied, strings.TrimPrefix(path, files)), x, y)
		})
	case "download":
		arrived = local
		err = sameTree(files, local)
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("something else arrived: %w", err)
	}
	return empty(arrived)
}

// lines counts those that are written to it.
type lines int

func (n *lines) Write(p []byte) (int, error) {
	*n += lines(bytes.Count(p, []byte{'\n'}))
	return len(p), nil
}

// objects is how many objects a step handles.
func (b *blobBench) objects(step string) int {
	switch {
	case strings.HasSuffix(step, "large"):
		return b.large
	case strings.HasSuffix(step, "small"):
		return b.small
	}
	return b.listed
}
