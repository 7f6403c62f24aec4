package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// scale shows how the cost of each step grows with the number of files, all
// of them small:
//
//	scale [-files N] [-rounds N] [-dir DIRECTORY]
//
// It backs up a sixteenth of them, a quarter and all, and prints what each
// step takes for a file, the making of the files included. A bare walk of the
// directories (one lstat for each file) is measured beside the unchanged backup,
// in turn with it.
func scale(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("scale", flag.ContinueOnError)
	files := flags.Int("files", 1_000_000, "number of files")
	rounds := flags.Int("rounds", 3, "of the unchanged backup and the walk; the table holds the medians")
	dir := flags.String("dir", "", "where files and repository are put for the time; default: the user's cache directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *files < 16000 || *rounds < 1 {
		return errors.New("-files is at least 16,000, -rounds at least 1")
	}
	if *dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*dir = filepath.Join(cache, "holdfast-bench")
	}
	if err := os.MkdirAll(*dir, 0o700); err != nil {
		return err
	}
	work, err := os.MkdirTemp(*dir, "scale-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	s := &scaled{b: bench{dir: work, samples: map[key][]sample{}}, work: work, rounds: *rounds}
	for _, n := range []int{*files / 16, *files / 4, *files} {
		if err := s.size(ctx, n); err != nil {
			return fmt.Errorf("%d files: %w", n, err)
		}
	}
	s.report()
	return nil
}

// Steps of scale, by the names that drive knows.
const (
	scaleMake      = "making"
	scaleFull      = "full"
	scaleUnchanged = "unchanged"
	scaleWalk      = "bare walk"
	scaleRestore   = "restore"
	scaleCheck     = "check"
	scalePrune     = "prune"
)

var scaleSteps = []string{scaleMake, scaleFull, scaleUnchanged, scaleWalk, scaleRestore, scaleCheck, scalePrune}

type scaled struct {
	b        bench
	work     string
	rounds   int
	sizes    []int
	requests map[key]int64
}

// size runs all steps with n files.
func (s *scaled) size(ctx context.Context, n int) error {
	s.sizes = append(s.sizes, n)
	if s.requests == nil {
		s.requests = map[key]int64{}
	}
	dir := filepath.Join(s.work, strconv.Itoa(n))
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	t, err := holdfast(dir)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	run := func(step string, commands []command) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%d files, %s, load %s\n", n, step, load())
		if err := syncDir(dir); err != nil {
			return err
		}
		count := filepath.Join(dir, "requests")
		for i := range commands {
			commands[i].env = append(commands[i].env, countRequests+"="+count)
		}
		m, err := measure(commands, t.repo, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
		k := key{strconv.Itoa(n), step}
		s.b.samples[k] = append(s.b.samples[k], m)
		b, err := os.ReadFile(count)
		if err == nil {
			s.requests[k], err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
			err = errors.Join(err, os.Remove(count))
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	if err := run(scaleMake, []command{{argv: []string{self, "small", data, strconv.Itoa(n)}}}); err != nil {
		return err
	}
	time.Sleep(2500 * time.Millisecond) // files touched within two seconds of a backup are read again by the next one
	if err := run("init", t.init()); err != nil {
		return err
	}
	if err := run(scaleFull, t.backup(data, "")); err != nil {
		return err
	}
	for range s.rounds {
		if err := run(scaleWalk, []command{{argv: []string{self, "walk", data}}}); err != nil {
			return err
		}
		if err := run(scaleUnchanged, t.backup(data, "")); err != nil {
			return err
		}
	}
	out := filepath.Join(dir, "restored")
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	for _, step := range []struct {
		name     string
		commands []command
	}{
		{scaleRestore, t.restore(out, "")},
		{scaleCheck, []command{{argv: []string{self, "drive", filepath.Join(dir, "key"), t.repo, "structure"}}}},
		{scalePrune, []command{{argv: []string{self, "drive", filepath.Join(dir, "key"), t.repo, "prune", "1"}}}},
	} {
		if err := run(step.name, step.commands); err != nil {
			return err
		}
	}
	return s.b.self(ctx, "same", data, out)
}

// report prints the table, and the lines for programs.
func (s *scaled) report() {
	fmt.Printf("%s processors (%s), load %s\n\n", maxProcs, processor(), load())
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "step\tfiles\twall s\tCPU s\tCPU µs/file\tin the kernel\tpeak MB\trequests\t")
	get := func(n int, step string) sample {
		m, _ := s.b.median(strconv.Itoa(n), step)
		return m
	}
	for _, step := range scaleSteps {
		for _, n := range s.sizes {
			m := get(n, step)
			fmt.Fprintf(w, "%s\t%d\t%.2f\t%.2f\t%.1f\t%.1f\t%.0f\t%d\t\n", step, n, m.wall.Seconds(), m.cpu.Seconds(),
				m.cpu.Seconds()*1e6/float64(n), m.system.Seconds()*1e6/float64(n), float64(m.memory)/1e6, s.requests[key{strconv.Itoa(n), step}])
		}
	}
	w.Flush()
	fmt.Println()
	first, last := s.sizes[0], s.sizes[len(s.sizes)-1]
	times := float64(last) / float64(first)
	growth := func(step string) float64 {
		return get(last, step).cpu.Seconds() / get(first, step).cpu.Seconds() / times
	}
	for _, step := range []string{scaleFull, scaleUnchanged, scaleCheck, scalePrune} {
		fmt.Printf("ratio growth-cpu-%s %.3f %.3f\n", step, growth(step), 1.25)
	}
	// Nearly all of a restore of small files is their creation, which the
	// kernel does dearer the more there are.
	fmt.Printf("ratio growth-cpu-restore-over-making %.3f %.3f\n", growth(scaleRestore)/growth(scaleMake), 1.25)
	fmt.Printf("ratio unchanged-over-walk-wall %.3f %.3f\n", get(last, scaleUnchanged).wall.Seconds()/get(last, scaleWalk).wall.Seconds(), 2.0)
	fmt.Printf("ratio unchanged-over-walk-cpu %.3f %.3f\n", get(last, scaleUnchanged).cpu.Seconds()/get(last, scaleWalk).cpu.Seconds(), 2.0)
}

// manyFiles is the program that makes files:
//
//	small DIRECTORY N
func manyFiles(args []string) error {
	if len(args) != 2 {
		return errors.New("small: want DIRECTORY N")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	const perDir = 200
	var dir string
	x := uint64(88172645463325252)
	buf := make([]byte, 1024)
	for i := range n {
		if i%perDir == 0 {
			dir = filepath.Join(args[0], fmt.Sprintf("%03d", i/perDir/100), fmt.Sprintf("%02d", i/perDir%100))
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		size := 64 + i*7919%960
		for j := range size {
			if j%16 == 0 { // half noise, half text: about as compressible as configuration is
				x ^= x << 13
				x ^= x >> 7
				x ^= x << 17
			}
			buf[j] = "0123456789abcdef"[x>>(j%16*4)&15]
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%07d.conf", i)), buf[:size], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// walk is the program that does nothing but look at every file.
func walk(args []string) error {
	if len(args) != 1 {
		return errors.New("walk: want DIRECTORY")
	}
	n := 0
	err := filepath.WalkDir(args[0], func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		_, err = d.Info()
		n++
		return err
	})
	if n < 2 {
		err = errors.Join(err, fmt.Errorf("%d entries", n))
	}
	return err
}
