// Command bench compares Holdfast with restic and borg: the same data, the
// same file system, encryption and compression on, each step in a process of
// its own, the tools in turn, the order reversed from round to round.
//
//	make bench-backup                            # everything: 1.5 GiB, 3 rounds
//	make bench-backup BENCH='-size 300 -rounds 5'  # MiB; quicker
//	make bench-backup BENCH='far -latency 20ms'    # Holdfast alone, each request 20 ms away
//
// Restic and borg come from the newest suite of Debian that the host's
// mirror serves. They are unpacked into the user's cache directory and
// started from there; nothing is installed, and root is not needed. It runs
// on Linux.
//
// A step ends when what it has written is on the disk: Holdfast returns only
// then, and for every tool the runner waits for the file system on top.
// Processor time and ratios hold on a busy machine; the clock does not.
//
// The output is a table of medians, and lines for programs to read:
//
//	ratio NAME VALUE LIMIT
//
// where VALUE is what Holdfast took divided by what restic took, and LIMIT
// what it should not exceed. Two of them are not ratios: changed-stored-MiB
// and peak-memory-MB (10^6 bytes).
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// maxProcs is the number of processors that programs written in Go use.
const maxProcs = "2"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// run is the comparison, or one of the programs that it starts in processes
// of their own.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "drive":
			return drive(ctx, args[1:])
		case "data":
			return data(args[1:])
		case "same":
			return sameTree(args[1], args[2])
		case "scale":
			return scale(ctx, args[1:])
		case "far":
			return far(ctx, args[1:], os.Stdout)
		case "small":
			return manyFiles(args[1:])
		case "walk":
			return walk(args[1:])
		case "blob":
			return blob(ctx, args[1:], os.Stdout)
		case "postgres":
			return postgresBench(ctx, args[1:], os.Stdout)
		case "delay":
			return delay(ctx, args[1:])
		case "client":
			return client(ctx, args[1:])
		}
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var b bench
	size := flags.Int64("size", fullSize>>20, "MiB of data")
	seed := flags.Uint64("seed", 1, "of the data")
	rounds := flags.Int("rounds", 3, "of everything; the table holds the medians")
	names := flags.String("tools", "holdfast,restic,borg", "which to run")
	dir := flags.String("dir", "", "where data and repositories are put for the time; default: the user's cache directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *size < 16 || *rounds < 1 {
		return errors.New("-size is at least 16, -rounds at least 1")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	cache = filepath.Join(cache, "holdfast-bench")
	if *dir == "" {
		*dir = cache
	}
	for _, d := range []string{cache, *dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	if b.dir, err = os.MkdirTemp(*dir, "run-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	b.data = dataset{seed: *seed, size: *size << 20}
	b.samples = map[key][]sample{}
	if err := b.choose(*names, cache); err != nil {
		return err
	}
	for round := range *rounds {
		if err := b.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	b.report(os.Stdout)
	return nil
}

// data is the program that makes and changes the data:
//
//	data DIRECTORY SEED SIZE STEP
func data(args []string) error {
	if len(args) != 4 {
		return errors.New("data: want DIRECTORY SEED SIZE STEP")
	}
	seed, errSeed := strconv.ParseUint(args[1], 10, 64)
	size, errSize := strconv.ParseInt(args[2], 10, 64)
	step, errStep := strconv.Atoi(args[3])
	if err := errors.Join(errSeed, errSize, errStep); err != nil {
		return err
	}
	d := dataset{dir: args[0], seed: seed, size: size}
	if step == 0 {
		return d.generate()
	}
	return d.mutate(step)
}

type bench struct {
	dir     string
	data    dataset
	tools   []*tool
	make    []func(dir string) (*tool, error)
	samples map[key][]sample
}

type key struct{ tool, step string }

// Steps, in this order.
const (
	stepInit      = "init"
	stepFull      = "full"
	stepUnchanged = "unchanged"
	stepChanged   = "changed 1%"
	stepRestore   = "restore"
	stepVerify    = "verify all"
	stepPrune     = "prune 11 to 3"
)

var steps = []string{stepInit, stepFull, stepUnchanged, stepChanged, stepRestore, stepVerify, stepPrune}

const points = 11 // of which pruning keeps 3

// choose finds the tools and notes how to set them up anew in every round.
func (b *bench) choose(names, cache string) error {
	var found peers
	for _, name := range slices.Compact(splitList(names)) {
		if name != "holdfast" && found.root == "" {
			var err error
			if found, err = install(cache, backupPeers); err != nil {
				return err
			}
		}
		switch name {
		case "holdfast":
			b.make = append(b.make, holdfast)
		case "restic":
			b.make = append(b.make, func(dir string) (*tool, error) { return restic(found, dir) })
		case "borg":
			b.make = append(b.make, func(dir string) (*tool, error) { return borg(found, dir) })
		default:
			return fmt.Errorf("-tools: %q, want holdfast, restic or borg", name)
		}
	}
	return nil
}

func (b *bench) round(ctx context.Context, n int) error {
	work := filepath.Join(b.dir, fmt.Sprint("round", n))
	b.data.dir = filepath.Join(work, "data")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	defer empty(work)
	if err := b.change(ctx, 0); err != nil {
		return err
	}
	b.tools = nil
	for i, mk := range b.make {
		dir := filepath.Join(work, fmt.Sprint(i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		t, err := mk(dir)
		if err != nil {
			return err
		}
		b.tools = append(b.tools, t)
	}
	order := slices.Clone(b.tools)
	if n%2 == 1 {
		slices.Reverse(order)
	}
	each := func(step string, f func(*tool) []command) error {
		for _, t := range order {
			fmt.Fprintf(os.Stderr, "round %d, %s, %s, load %s\n", n+1, cmp.Or(step, "on the way"), t.name, load())
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := syncDir(b.dir); err != nil { // what was written before is nobody's cost
				return err
			}
			s, err := measure(f(t), t.repo, b.dir)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", step, t.name, err)
			}
			if step != "" {
				k := key{t.name, step}
				b.samples[k] = append(b.samples[k], s)
			}
		}
		return nil
	}
	point := 0
	save := func(step string) error {
		point++
		return each(step, func(t *tool) []command { return t.backup(b.data.dir, fmt.Sprint("p", point)) })
	}
	restored := func(t *tool) string { return filepath.Join(filepath.Dir(t.repo), "restored") }
	todo := []func() error{
		func() error { return each(stepInit, func(t *tool) []command { return t.init() }) },
		func() error { return save(stepFull) },
		func() error { return save(stepUnchanged) },
		func() error { return b.change(ctx, 1) },
		func() error { return save(stepChanged) },
		func() error {
			for _, t := range order {
				if err := os.Mkdir(restored(t), 0o700); err != nil {
					return err
				}
			}
			return each(stepRestore, func(t *tool) []command { return t.restore(restored(t), fmt.Sprint("p", point)) })
		},
		func() error {
			for _, t := range order {
				if err := b.self(ctx, "same", b.data.dir, restored(t)); err != nil {
					return fmt.Errorf("%s restored something else: %w", t.name, err)
				}
				if err := empty(restored(t)); err != nil {
					return err
				}
			}
			return nil
		},
		func() error { return each(stepVerify, func(t *tool) []command { return t.check() }) },
	}
	for _, f := range todo {
		if err := f(); err != nil {
			return err
		}
	}
	for point < points {
		if err := b.change(ctx, point); err != nil {
			return err
		}
		if err := save(""); err != nil {
			return err
		}
	}
	if err := each(stepPrune, func(t *tool) []command { return t.prune(3) }); err != nil {
		return err
	}
	return each("", func(t *tool) []command { return t.check() })
}

// empty frees the space of all files below dir and keeps the files. For
// minutes after files were deleted, some file systems (ext4 without a
// journal) look at every one of them again for each new one, which made the
// next restore spend several times its processor time in the kernel.
func empty(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		return os.Truncate(path, 0)
	})
}

// change brings the data to a step, and lets the clock move on so far that
// no tool has reason to doubt the times of files.
func (b *bench) change(ctx context.Context, step int) error {
	d := b.data
	if err := b.self(ctx, "data", d.dir, fmt.Sprint(d.seed), fmt.Sprint(d.size), fmt.Sprint(step)); err != nil {
		return err
	}
	select {
	case <-time.After(2500 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// self runs a part of this program in a process of its own.
func (b *bench) self(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}
