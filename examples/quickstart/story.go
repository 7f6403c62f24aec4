package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// A stage is one part of the story. Its run may be repeated: what a crashed
// orchestrator has done already is found done.
type stage struct {
	name  string
	title string
	run   func(*story, context.Context) error
}

// stages is the story in its order.
var stages = []stage{
	{"setup", "Set up two sites and a witness", (*story).setUp},
	{"config", "Judge the configuration, then check it against the world", (*story).checkConfig},
	{"full", "First full backup, and its way to the standby", (*story).fullBackup},
	{"drill", "Test failover, isolated; it is what lets automatic mode arm", (*story).testFailover},
	{"increments", "Incremental backups while the service is in use; retention", (*story).increments},
	{"disaster", "Kill the primary site", (*story).disaster},
	{"failover", "Health checks find out; the standby takes over by itself", (*story).failover},
	{"records", "Count what the standby has, and what was lost", (*story).countRecords},
	{"return", "The old primary comes back", (*story).oldPrimaryReturns},
	{"failback", "Fail back without losing anything", (*story).failback},
	{"report", "Evidence", (*story).writeReport},
}

// story is the orchestrator.
type story struct {
	layout
	*printer
	fleet fleet
	log   *stageLog
	keep  bool

	verdicts <-chan failover.Verdict // of the health checks, once they run
}

// tell tells the story of a state directory from where it stands to its end,
// and cleans up.
func tell(ctx context.Context, dir string, s settings, resume, keep bool) (err error) {
	f := fleet{dir}
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		return err
	}
	release, err := lockFile(f.path(orchestratorName, ".lock"))
	if errors.Is(err, errAlreadyRunning) {
		return fmt.Errorf("another quickstart is at work in %s", dir)
	}
	if err != nil {
		return err
	}
	defer release()
	if err := f.announce(orchestratorName, ""); err != nil {
		return err
	}
	log, err := takeUp(ctx, f, s, resume)
	if err != nil {
		return err
	}
	if err := (layout{dir}).make(); err != nil {
		return err
	}
	st := &story{layout: layout{dir}, printer: newPrinter(os.Stdout, log.Started), fleet: f, log: log, keep: keep}
	defer func() { err = errors.Join(err, st.cleanUp(err)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the health checks
	stages := stages
	if st.postgres() {
		stages = postgresStages
	}
	if err := st.resume(ctx, len(stages)); err != nil {
		return err
	}
	for i, sg := range stages {
		if _, done := log.Done[sg.name]; done {
			continue
		}
		st.stage(i+1, len(stages), sg.title)
		crash(sg.name + ":before")
		began := time.Now().UTC()
		if err := sg.run(st, ctx); err != nil {
			return fmt.Errorf("stage %q: %w", sg.name, err)
		}
		crash(sg.name + ":after")
		if err := log.finish(sg.name, began); err != nil {
			return err
		}
	}
	return nil
}

// takeUp reads the stage log to resume, or begins a new one, for which
// nothing of an earlier run may remain.
func takeUp(ctx context.Context, f fleet, s settings, resume bool) (*stageLog, error) {
	if resume {
		l, err := openStageLog(f.dir)
		if err != nil {
			return nil, err
		}
		l.Resumed++
		return l, l.save()
	}
	if _, err := f.stopAll(ctx, forget); err != nil {
		return nil, err
	}
	if err := (layout(f)).clear(); err != nil {
		return nil, err
	}
	l := newStageLog(f.dir, s)
	return l, l.save()
}

// resume brings back the processes that should be running: usually they are,
// for they outlive the orchestrator.
func (st *story) resume(ctx context.Context, stages int) error {
	if st.log.Resumed == 0 {
		fmt.Fprintf(st.out, "Holdfast quickstart: two sites and a witness on this machine\nstate: %s\n", st.dir)
		return nil
	}
	if len(st.log.Done) == stages {
		return nil // only cleaning up was left
	}
	fmt.Fprintf(st.out, "Holdfast quickstart, resumed (%d)\nstate: %s\n", st.log.Resumed, st.dir)
	for _, name := range st.fleet.wanted() {
		if _, err := st.fleet.start(ctx, name); err != nil {
			return err
		}
	}
	if st.postgres() {
		return st.resumePostgres(ctx)
	}
	return nil
}

// cleanUp ends all processes. If all went well only the report stays, unless
// -keep was given; after a failure everything stays, to be looked at or
// resumed.
func (st *story) cleanUp(failed error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var servers error
	if st.postgres() {
		servers = st.leaveClusters(ctx)
	}
	n, err := st.fleet.stopAll(ctx, remember)
	err = errors.Join(err, servers)
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	if failed != nil {
		fmt.Fprintf(st.out, "\nstopped %d processes; to go on from here: quickstart -resume -dir %s\n", n, st.dir)
		return nil
	}
	fmt.Fprintln(st.out)
	st.ok("stopped %d processes", n)
	if st.keep {
		st.note("kept %s", st.dir)
	} else if err := st.clear(); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return os.Remove(st.fleet.path(orchestratorName, ".json")) // an end, not a crash
}

// crashVariable makes the orchestrator end as if by kill -9 at a point of the
// story, "failover:before" or "step.fence:after". The test goes through all.
const crashVariable = "HOLDFAST_QUICKSTART_CRASH"

func crash(point string) {
	if os.Getenv(crashVariable) == point {
		killSelf()
	}
}
