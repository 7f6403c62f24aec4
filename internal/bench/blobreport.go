package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

func (b *blobBench) median(distance, step, tool string) (blobSample, bool) {
	all := b.samples[blobKey{distance, step, tool}]
	if len(all) == 0 {
		return blobSample{}, false
	}
	var costs []sample
	for _, s := range all {
		costs = append(costs, s.sample)
	}
	return blobSample{sample: medianOf(costs), requests: all[0].requests}, true
}

func (b *blobBench) report(out io.Writer) {
	fmt.Fprintf(out, "%d objects of %d MiB, %d of %d KiB, %d keys; far is %v away; %s processors of %d (%s), load %s\n",
		b.large, b.size>>20, b.small, smallSize>>10, b.listed, b.rtt, maxProcs, runtime.NumCPU(), processor(), load())
	for _, t := range b.tools {
		fmt.Fprintf(out, "%s: %s\n", t.name, t.version)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "distance\tstep\ttool\twall s\tCPU s\tpeak MB\trequests\t")
	for _, distance := range []string{near, distant} {
		for _, s := range blobSteps {
			for _, t := range b.tools {
				if m, ok := b.median(distance, s.name, t.name); ok {
					fmt.Fprintf(w, "%s\t%s\t%s\t%.2f\t%.2f\t%.0f\t%d\t\n", distance, s.name, t.name, m.wall.Seconds(), m.cpu.Seconds(),
						float64(m.memory)/1e6, total(m.requests))
				}
			}
		}
	}
	w.Flush()
	fmt.Fprintln(out, "\nrequests for each object (for each 1,000 keys of the list):")
	for _, s := range blobSteps {
		for _, t := range b.tools {
			for _, distance := range []string{near, distant} {
				if m, ok := b.median(distance, s.name, t.name); ok {
					fmt.Fprintf(out, "  %s, %s: %s\n", s.name, t.name, b.perObject(s.name, m.requests))
					break
				}
			}
		}
	}
	fmt.Fprintln(out)
	b.ratios(out)
}

func total(requests map[string]int) (n int) {
	for _, k := range requests {
		n += k
	}
	return n
}

func (b *blobBench) perObject(step string, requests map[string]int) string {
	objects := float64(b.objects(step))
	if step == "list" {
		objects /= 1000
	}
	var each []string
	for _, kind := range slices.Sorted(maps.Keys(requests)) {
		each = append(each, fmt.Sprintf("%s %.2f", kind, float64(requests[kind])/objects))
	}
	return strings.Join(each, ", ")
}

// ratios prints what Holdfast is held to.
func (b *blobBench) ratios(out io.Writer) {
	cpu := func(s blobSample) float64 { return s.cpu.Seconds() }
	wall := func(s blobSample) float64 { return s.wall.Seconds() }
	defaults := b.tools[:min(2, len(b.tools))]
	wide := slices.Delete(slices.Clone(b.tools), min(1, len(b.tools)), min(2, len(b.tools)))
	for _, r := range []struct {
		distance, what string
		of             func(blobSample) float64
		tools          []transfer
		limit          float64
	}{
		{near, "cpu", cpu, defaults, 0.8}, {near, "cpu-wide", cpu, wide, 1},
		{distant, "wall", wall, defaults, 0.8}, {distant, "wall-wide", wall, wide, 1},
	} {
		for _, s := range blobSteps {
			name := fmt.Sprintf("blob-%s-%s-%s", r.distance, strings.ReplaceAll(s.name, " ", "-"), r.what)
			if ours, theirs, ok := b.both(r.tools, r.distance, s.name, r.of); ok {
				fmt.Fprintf(out, "ratio %s %.3f %g\n", name, ours/theirs, r.limit)
			}
		}
	}
	memory := func(s blobSample) float64 { return float64(s.memory) }
	ours, theirs := 0.0, 0.0
	for _, distance := range []string{near, distant} {
		for _, s := range blobSteps {
			if a, b, ok := b.both(b.tools, distance, s.name, memory); ok {
				ours, theirs = max(ours, a), max(theirs, b)
			}
		}
	}
	fmt.Fprintf(out, "ratio blob-peak-memory-MB %.1f %d\n", ours/1e6, blobMemory)
	fmt.Fprintf(out, "# the peak of the better rclone of each step: %.1f MB\n", theirs/1e6)
}

// blobMemory is the limit of the memory of any step, in MB: that of a few large
// objects on their way.
const blobMemory = 200

// both returns the measure of Holdfast, the first of some tools, and the lowest
// of the others.
func (b *blobBench) both(tools []transfer, distance, step string, of func(blobSample) float64) (ours, theirs float64, ok bool) {
	m, ok := b.median(distance, step, tools[0].name)
	if !ok {
		return 0, 0, false
	}
	ours, ok = of(m), false
	for _, t := range tools[1:] {
		if m, has := b.median(distance, step, t.name); has && (!ok || of(m) < theirs) {
			theirs, ok = of(m), true
		}
	}
	return ours, theirs, ok
}
