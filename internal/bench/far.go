package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// far runs the steps of Holdfast against a store in which every request, and
// every page of a listing, takes some time before it begins, as one in
// another region does:
//
//	bench far -size 300 -latency 20ms
//
// Bytes cost nothing beyond that: what is looked at is how many requests a
// step makes one after the other. There are no limits; besides a table there
// are lines
//
//	figure NAME VALUE UNIT
//
// with the requests for each GiB of data, and the seconds.
func far(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("far", flag.ContinueOnError)
	size := flags.Int64("size", 300, "MiB of data")
	latency := flags.Duration("latency", 20*time.Millisecond, "of every request")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *size < 16 || *latency < 0 {
		return errors.New("far: -size is at least 16, -latency not negative")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, "holdfast-far-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	b := bench{data: dataset{dir: filepath.Join(work, "data"), seed: 1, size: *size << 20}}
	t, err := holdfast(work)
	if err != nil {
		return err
	}
	if err := b.change(ctx, 0); err != nil {
		return err
	}
	restored := filepath.Join(work, "restored")
	if err := os.Mkdir(restored, 0o700); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "step\twall s\tCPU s\trequests\trequests/GiB\t")
	var figures strings.Builder
	for _, s := range []struct {
		name     string
		commands []command
		change   bool
	}{
		{"init", t.init(), false},
		{"full", t.backup(b.data.dir, ""), false},
		{"unchanged", t.backup(b.data.dir, ""), false},
		{"changed", t.backup(b.data.dir, ""), true},
		{"restore", t.restore(restored, ""), false},
		{"check", t.check(), false},
		{"prune", t.prune(1), false},
	} {
		if s.change {
			if err := b.change(ctx, 1); err != nil {
				return err
			}
		}
		count := filepath.Join(work, "requests")
		for i := range s.commands {
			s.commands[i].env = append(s.commands[i].env, countRequests+"="+count, addLatency+"="+latency.String())
		}
		m, err := measure(s.commands, t.repo, work)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		text, err := os.ReadFile(count)
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return err
		}
		perGiB := float64(n) * 1024 / float64(*size)
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%d\t%.0f\t\n", s.name, m.wall.Seconds(), m.cpu.Seconds(), n, perGiB)
		fmt.Fprintf(&figures, "figure far-%s-requests %.0f 1/GiB\nfigure far-%s-wall %.2f s\n", s.name, perGiB, s.name, m.wall.Seconds())
	}
	w.Flush()
	_, err = fmt.Fprintf(out, "\n%s", figures.String())
	return err
}
