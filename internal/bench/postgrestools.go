package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
)

// A pgTool backs up a cluster. It has commands for the steps that it takes.
type pgTool struct {
	name, repo, restored string
	steps                map[string][]command
}

// tools are set up anew in every round.
func (b *pgBench) tools(ctx context.Context, work string) ([]pgTool, error) {
	first, err := b.pgBackRest(ctx, work)
	if err != nil {
		return nil, err
	}
	all := []pgTool{first}
	for _, c := range [][3]string{{"local"}, {"stream"}, {"stream", "snappy", "CRC32C"}, {"parallel"}} {
		t, err := b.holdfast(work, c[0], c[1], c[2])
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	dir := filepath.Join(work, "basebackup")
	return append(all, pgTool{name: "pg_basebackup", repo: dir, steps: map[string][]command{
		pgRemote: {{argv: []string{pgBin + "pg_basebackup", "-Ft", "-D", dir, "-c", "fast", "-h", "127.0.0.1", "-U", "postgres"}}},
	}}), nil
}

func (b *pgBench) pgBackRest(ctx context.Context, work string) (pgTool, error) {
	dir := filepath.Join(work, "pgbackrest")
	t := pgTool{name: "pgbackrest", repo: filepath.Join(dir, "repo"), restored: filepath.Join(dir, "restored")}
	conf := filepath.Join(b.dir, "pgbackrest.conf")
	text := fmt.Sprintf(`[global]
repo1-path=%s
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=%s
repo1-bundle=y
repo1-block=y
compress-type=zst
compress-level=1
process-max=2
start-fast=y
log-path=%[3]s
lock-path=%[3]s/lock
spool-path=%[3]s/spool
log-level-file=off
[main]
pg1-path=%[4]s/data
pg1-socket-path=%[4]s
pg1-user=postgres
`, t.repo, rand.Text(), dir, b.dir)
	for _, d := range []string{dir, t.restored} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return t, err
		}
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return t, err
	}
	run := func(args ...string) []command {
		return []command{{argv: append([]string{"pgbackrest", "--config=" + conf, "--stanza=main"}, args...)}}
	}
	t.steps = map[string][]command{
		pgFull:    run("--type=full", "backup"),
		pgChanged: run("--type=incr", "backup"),
		pgRestore: run("--pg1-path="+t.restored, "restore"),
		pgDelta:   run("--pg1-path="+t.restored, "--delta", "restore"),
	}
	return t, b.sh(ctx, "pgbackrest --config="+conf+" --stanza=main stanza-create && touch archive")
}

// holdfast reads the cluster in one way: the directory, or what the server
// sends over TCP. With no compression and no checksums given it uses its
// defaults.
func (b *pgBench) holdfast(work, reader, compression, checksums string) (pgTool, error) {
	self, err := os.Executable()
	if err != nil {
		return pgTool{}, err
	}
	dir := filepath.Join(work, "holdfast-"+reader+compression)
	t := pgTool{name: strings.TrimSpace("holdfast " + reader + " " + compression), repo: filepath.Join(dir, "repo")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return t, err
	}
	run := func(step string, args ...string) []command {
		return []command{{argv: append([]string{self, "drive", filepath.Join(dir, "key"), t.repo, step}, args...)}}
	}
	var made sample
	if err := made.run(run("init")[0]); err != nil {
		return t, err
	}
	if reader != "local" {
		conn := "host=127.0.0.1 user=postgres"
		t.steps = map[string][]command{
			pgRemote:  run("pg-backup", reader, conn, "", "full", compression, checksums),
			pgChanged: run("pg-backup", reader, conn, "", "incremental", compression, checksums),
		}
		return t, nil
	}
	t.restored = filepath.Join(dir, "restored")
	conn, data := "host="+b.dir+" user=postgres", b.dir+"/data"
	t.steps = map[string][]command{
		pgFull:    run("pg-backup", reader, conn, data, "full", compression, checksums),
		pgChanged: run("pg-backup", reader, conn, data, "incremental", compression, checksums),
		pgRestore: run("pg-restore", t.restored, "false"),
		pgDelta:   run("pg-restore", t.restored, "true"),
	}
	return t, nil
}

var pgNames = []string{"holdfast local", "holdfast stream", "holdfast stream snappy", "holdfast parallel", "pgbackrest", "pg_basebackup"}

func (b *pgBench) median(name, step string) (sample, bool) {
	all := b.samples[key{name, step}]
	if len(all) == 0 {
		return sample{}, false
	}
	return medianOf(all), true
}

func (b *pgBench) report(out io.Writer) error {
	fmt.Fprintf(out, "%d MiB in %d rounds, %s processors of %d (%s), load %s\n", b.loaded>>20, b.rounds, maxProcs, runtime.NumCPU(), processor(), load())
	for _, c := range []command{{argv: []string{"pgbackrest", "version"}}, {argv: []string{pgBin + "pg_basebackup", "--version"}}} {
		version, err := output(c)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, version)
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "step\ttool\twall s\tCPU s\tpeak MB\tstored MiB\t")
	for _, step := range pgSteps {
		for _, name := range pgNames {
			if s, ok := b.median(name, step); ok {
				fmt.Fprintf(w, "%s\t%s\t%.2f\t%.2f\t%.0f\t%.1f\t\n", step, name, s.wall.Seconds(), s.cpu.Seconds(), float64(s.memory)/1e6, float64(s.stored)/(1<<20))
			}
		}
	}
	w.Flush()
	fmt.Fprintln(out)
	wall := func(s sample) float64 { return s.wall.Seconds() }
	for _, r := range []struct {
		name, step, ours, theirs string
		of                       func(sample) float64
		limit                    float64
	}{
		{"postgres-full-wall", pgFull, "holdfast local", "pgbackrest", wall, 0.9},
		{"postgres-remote-wall", pgRemote, "holdfast stream snappy", "pg_basebackup", wall, 1.5},
		{"postgres-changed-wall", pgChanged, "holdfast stream", "pgbackrest", wall, 0.5},
		{"postgres-changed-stored", pgChanged, "holdfast stream", "pgbackrest", func(s sample) float64 { return float64(s.stored) }, 1},
		{"postgres-restore-wall", pgRestore, "holdfast local", "pgbackrest", wall, 1},
		{"postgres-delta-wall", pgDelta, "holdfast local", "pgbackrest", wall, 1},
	} {
		ours, ok1 := b.median(r.ours, r.step)
		theirs, ok2 := b.median(r.theirs, r.step)
		if ok1 && ok2 {
			fmt.Fprintf(out, "ratio %s %.3f %g\n", r.name, r.of(ours)/r.of(theirs), r.limit)
		}
	}
	return nil
}
