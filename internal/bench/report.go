package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

func splitList(s string) []string { return strings.Split(s, ",") }

// median is the middle of a tool's samples of a step, each quantity by
// itself; of an even number it is the lower one.
func (b *bench) median(tool, step string) (sample, bool) {
	all := b.samples[key{tool, step}]
	if len(all) == 0 {
		return sample{}, false
	}
	return medianOf(all), true
}

func medianOf(all []sample) sample {
	cpu := middle(all, func(s sample) float64 { return float64(s.cpu) })
	return sample{
		wall:    middle(all, func(s sample) float64 { return float64(s.wall) }).wall,
		cpu:     cpu.cpu,
		system:  cpu.system,
		memory:  middle(all, func(s sample) float64 { return float64(s.memory) }).memory,
		stored:  middle(all, func(s sample) float64 { return float64(s.stored) }).stored,
		objects: middle(all, func(s sample) float64 { return float64(s.objects) }).objects,
	}
}

func middle(all []sample, by func(sample) float64) sample {
	all = slices.SortedFunc(slices.Values(all), func(a, b sample) int { return cmp.Compare(by(a), by(b)) })
	return all[(len(all)-1)/2]
}

func (b *bench) report(out io.Writer) {
	fmt.Fprintf(out, "%d MiB, seed %d, %s processors of %d (%s), load %s\n", b.data.size>>20, b.data.seed, maxProcs, runtime.NumCPU(), processor(), load())
	for _, t := range b.tools {
		fmt.Fprintf(out, "%s: %s\n", t.name, t.version)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "step\ttool\twall s\tCPU s\tpeak MB\tstored MiB\tobjects\t")
	for _, step := range steps {
		for _, t := range b.tools {
			if s, ok := b.median(t.name, step); ok {
				fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.0f\t%.1f\t%d\t\n", step, t.name, s.wall.Seconds(), s.cpu.Seconds(),
					float64(s.memory)/1e6, float64(s.stored)/(1<<20), s.objects)
			}
		}
	}
	w.Flush()
	fmt.Fprintln(out)
	b.ratios(out)
}

// ratios prints what Holdfast is held to.
func (b *bench) ratios(out io.Writer) {
	wall := func(s sample) float64 { return s.wall.Seconds() }
	for _, r := range []struct {
		name, step string
		of         func(sample) float64
		limit      float64
	}{
		{"full-wall", stepFull, wall, 0.45},
		{"full-cpu", stepFull, func(s sample) float64 { return s.cpu.Seconds() }, 0.5},
		{"full-stored", stepFull, func(s sample) float64 { return float64(s.stored) }, 1.02},
		{"unchanged-wall", stepUnchanged, wall, 0.2},
		{"changed-wall", stepChanged, wall, 0.3},
		{"restore-wall", stepRestore, wall, 0.7},
		{"verify-wall", stepVerify, wall, 0.65},
		{"prune-wall", stepPrune, wall, 0.4},
	} {
		ours, ok1 := b.median("holdfast", r.step)
		theirs, ok2 := b.median("restic", r.step)
		if ok1 && ok2 {
			fmt.Fprintf(out, "ratio %s %.3f %g\n", r.name, r.of(ours)/r.of(theirs), r.limit)
		} else {
			fmt.Fprintf(out, "# no ratio %s: the step was not run by both\n", r.name)
		}
	}
	if s, ok := b.median("holdfast", stepChanged); ok {
		scaled := 12 * float64(b.data.size) / fullSize
		fmt.Fprintf(out, "ratio changed-stored-MiB %.2f %.2f\n", float64(s.stored)/(1<<20), scaled)
	}
	var peak int64
	for _, step := range steps {
		if s, ok := b.median("holdfast", step); ok {
			peak = max(peak, s.memory)
		}
	}
	fmt.Fprintf(out, "ratio peak-memory-MB %.1f 120\n", float64(peak)/1e6)
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
