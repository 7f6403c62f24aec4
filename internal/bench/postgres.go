package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// postgresBench compares backup/postgres with pgBackRest and pg_basebackup, on
// one cluster of PostgreSQL 17 whose data does not compress much:
//
//	make bench-postgres                              # 1.3 GiB, 3 rounds
//	make bench-postgres BENCH='-size 300 -rounds 1'  # MiB; quicker
//
// Everything runs in one container, as the user who owns the cluster, on one
// disk: the server, too. A step is a process of its own, the tools in turn, the
// order reversed from round to round. All keep page checksums on and check
// them. Holdfast and pgBackRest encrypt and compress with zstd, pgBackRest with
// bundles, block-incremental backups and two processes, level 1; pg_basebackup
// does neither, and writes a tar file. Over the network Holdfast shows its
// defaults, and "snappy", which compresses with Snappy and has the server compute
// the checksums that pg_basebackup has it compute, CRC-32C. All make what they write durable, and the
// runner waits for the file system on top. Processor time is that of the
// container, with what the server does for a tool; memory that of a tool's
// largest process.
//
// The server summarizes its WAL, so that the stream is of what has changed.
//
// Between the full and the incremental backup one row in a hundred is changed,
// those of one stretch of a table. Before the delta restore a file is removed
// and another damaged.
func postgresBench(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("postgres", flag.ContinueOnError)
	var b pgBench
	image := flags.String("image", "", "of the container; see the Makefile")
	flags.StringVar(&b.dir, "inside", "", "where to work; set in the container")
	flags.IntVar(&b.size, "size", 1331, "MiB of data, about")
	flags.IntVar(&b.rounds, "rounds", 3, "of everything; the table holds the medians")
	dir := flags.String("dir", "", "where data is put for the time; default: the user's cache directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if b.size < 100 || b.rounds < 1 {
		return errors.New("postgres: -size is at least 100, -rounds at least 1")
	}
	if b.dir != "" {
		return b.run(ctx, out)
	}
	if *image == "" {
		return errors.New("postgres: -image is required; use make bench-postgres")
	}
	if *dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return err
		}
		*dir = filepath.Join(cache, "holdfast-bench")
		if err := os.MkdirAll(*dir, 0o700); err != nil {
			return err
		}
	}
	work, err := os.MkdirTemp(*dir, "postgres-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o777); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker", append([]string{"run", "--rm", "--init", "--network", "none", "--shm-size", "1g", "--user", "postgres", "-v", "/tmp/w/prof2:/prof",
		"-v", work + ":/work", "-v", self + ":/bench:ro", "-e", "HOME=/work", *image, "/bench", "postgres", "-inside", "/work"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err = cmd.Run()
	// What the container's user left belongs to nobody here.
	exec.Command("docker", "run", "--rm", "-v", work+":/work", *image, "sh", "-c", "rm -rf /work/*").Run()
	return err
}

type pgBench struct {
	dir          string
	size, rounds int
	samples      map[key][]sample
	loaded       int64 // bytes of the cluster
	rows         int   // of the filler table
	next         int   // row to change
}

const pgBin = "/usr/lib/postgresql/17/bin/"

// Steps, in this order.
const (
	pgFull    = "full"
	pgRemote  = "full, remote"
	pgChanged = "changed 1%"
	pgRestore = "restore"
	pgDelta   = "delta restore"
)

var pgSteps = []string{pgFull, pgRemote, pgChanged, pgRestore, pgDelta}

func (b *pgBench) run(ctx context.Context, out io.Writer) error {
	b.samples = map[key][]sample{}
	if err := b.start(ctx); err != nil {
		return err
	}
	defer b.sh(context.WithoutCancel(ctx), pgBin+"pg_ctl stop -s -m immediate -D "+b.dir+"/data")
	for n := range b.rounds {
		if err := b.round(ctx, n); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	return b.report(out)
}

// start makes the cluster and its data: rows that compress to half, and the
// tables of pgbench, which compress to a twentieth.
func (b *pgBench) start(ctx context.Context) error {
	b.rows = b.size * 2 / 3 << 20 / 170
	scale := max(1, b.size/3/16)
	settings := fmt.Sprintf(`shared_buffers = 128MB
autovacuum = off
listen_addresses = '127.0.0.1'
unix_socket_directories = '%[1]s'
max_wal_size = 4GB
checkpoint_timeout = 1h
summarize_wal = on
archive_mode = on
archive_command = 'test ! -e %[1]s/archive || pgbackrest --config=%[1]s/pgbackrest.conf --stanza=main archive-push %%p'
`, b.dir)
	if err := os.WriteFile(b.dir+"/settings", []byte(settings), 0o600); err != nil {
		return err
	}
	for _, command := range []string{
		pgBin + "initdb -D data -U postgres --data-checksums --auth=trust >/dev/null && cat settings >> data/postgresql.conf",
		pgBin + "pg_ctl start -w -s -D data -l log",
		pgBin + "pgbench -h $PWD -U postgres -i -q -s " + fmt.Sprint(scale) + " postgres 2>/dev/null",
		b.psql(fmt.Sprintf("create table filler as select g, md5(g::text) || md5((g * 7)::text) as noise, repeat('status=ok region=eu-west-1 ', 2) as text from generate_series(1, %d) g", b.rows)),
		b.psql("create index on filler (g)"), b.psql("vacuum freeze"), b.psql("checkpoint"),
	} {
		if err := b.sh(ctx, command); err != nil {
			return err
		}
	}
	var err error
	b.loaded, _, err = usage(b.dir + "/data/base")
	return err
}

func (b *pgBench) psql(sql string) string {
	return pgBin + "psql -h $PWD -U postgres -Xqc '" + strings.ReplaceAll(sql, "'", `'\''`) + "' postgres"
}

func (b *pgBench) sh(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", script, err, out)
	}
	return nil
}

// rest lets the clock move on so far that no tool has reason to doubt the times
// of files.
func rest(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Second):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *pgBench) round(ctx context.Context, n int) error {
	work := filepath.Join(b.dir, "round")
	if err := os.Mkdir(work, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	all, err := b.tools(ctx, work)
	if err != nil {
		return err
	}
	if n%2 == 1 {
		slices.Reverse(all)
	}
	for _, step := range pgSteps {
		if err := b.before(ctx, step, work); err != nil {
			return err
		}
		for _, t := range all {
			commands := t.steps[step]
			if commands == nil {
				continue
			}
			fmt.Fprintf(os.Stderr, "round %d, %s, %s, load %s\n", n+1, step, t.name, load())
			if err := syncDir(b.dir); err != nil {
				return err
			}
			before, err := containerTime()
			if err != nil {
				return err
			}
			s, err := measure(commands, t.repo, b.dir)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", step, t.name, err)
			}
			after, err := containerTime()
			if err != nil {
				return err
			}
			s.cpu = after - before
			fmt.Fprintf(os.Stderr, "  %.2f s, %.2f CPU s\n", s.wall.Seconds(), s.cpu.Seconds())
			b.samples[key{t.name, step}] = append(b.samples[key{t.name, step}], s)
		}
	}
	return b.verify(ctx, all)
}

// before makes a step's beginning.
func (b *pgBench) before(ctx context.Context, step, work string) error {
	switch step {
	case pgFull:
		if err := b.sh(ctx, b.psql("checkpoint")); err != nil {
			return err
		}
		return rest(ctx)
	case pgChanged:
		first, count := b.next, b.rows/100
		b.next = (b.next + count) % (b.rows - count)
		if err := b.sh(ctx, b.psql(fmt.Sprintf("update filler set noise = md5(noise) || md5(noise || g) where g > %d and g <= %d", first, first+count))); err != nil {
			return err
		}
		if err := b.sh(ctx, b.psql("checkpoint")); err != nil {
			return err
		}
		return rest(ctx)
	case pgDelta:
		return b.sh(ctx, `for d in round/*/restored; do rm $d/global/pg_filenode.map; f=$(find $d/base -type f -size +1000k | sort | head -1); dd if=/dev/zero of=$f bs=8k count=16 seek=20 conv=notrunc status=none; done`)
	}
	return nil
}

// containerTime is the processor time of everything in the container.
func containerTime() (time.Duration, error) {
	b, err := os.ReadFile("/sys/fs/cgroup/cpu.stat")
	if err != nil { // where cgroups are of the first version
		b, err = os.ReadFile("/sys/fs/cgroup/cpuacct/cpuacct.usage")
		if err != nil {
			return 0, err
		}
		var ns int64
		_, err = fmt.Sscan(string(b), &ns)
		return time.Duration(ns), err
	}
	for line := range strings.Lines(string(b)) {
		var us int64
		if n, _ := fmt.Sscanf(line, "usage_usec %d", &us); n == 1 {
			return time.Duration(us) * time.Microsecond, nil
		}
	}
	return 0, errors.New("cpu.stat has no usage_usec")
}

// verify looks whether what Holdfast restored is what PostgreSQL's own tool takes
// for whole.
func (b *pgBench) verify(ctx context.Context, all []pgTool) error {
	for _, t := range all {
		if t.restored == "" || t.name == "pgbackrest" {
			continue
		}
		if err := b.sh(ctx, pgBin+"pg_verifybackup -q --no-parse-wal "+t.restored); err != nil {
			return fmt.Errorf("%s restored something else: %w", t.name, err)
		}
	}
	return nil
}
