package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A fleet starts, finds and kills the processes of one state directory. Each
// of them is this very program, started again with a hidden sub-command; each
// outlives the orchestrator, which may crash and come back.
//
// A process is known by three files under run/:
//
//	NAME.lock   held by the process while it lives, so there is never a second
//	NAME.json   its pid, when that pid began, and where it listens
//	NAME.want   exists while the process should be running
//
// The start time is what makes a pid safe to kill: a pid that was reused by
// somebody else began at another moment.
type fleet struct {
	dir string // the state directory
}

// instance is what a process says about itself in NAME.json.
type instance struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Began string `json:"began"`          // as processBegan tells it
	Addr  string `json:"addr,omitempty"` // host:port it serves
}

// death is one line of deaths.jsonl: evidence that a process was gone.
type death struct {
	instance
	GoneBy int64     `json:"gone_by"` // machine clock (see clock) at which it was seen to be gone
	Time   time.Time `json:"time"`
}

func (f fleet) path(name, suffix string) string {
	return filepath.Join(f.dir, "run", name+suffix)
}

// find returns what the latest process of that name said about itself and
// whether it is alive.
func (f fleet) find(name string) (instance, bool) {
	var in instance
	b, err := os.ReadFile(f.path(name, ".json"))
	if err != nil || json.Unmarshal(b, &in) != nil {
		return instance{}, false
	}
	return in, in.alive()
}

func (in instance) alive() bool {
	began, err := processBegan(in.PID)
	return err == nil && began == in.Began
}

// addr is where the process serves, or served last.
func (f fleet) addr(name string) string {
	in, _ := f.find(name)
	return in.Addr
}

// start makes sure that the process runs, and waits until it serves.
func (f fleet) start(ctx context.Context, name string) (instance, error) {
	if err := os.WriteFile(f.path(name, ".want"), nil, 0o600); err != nil {
		return instance{}, err
	}
	if in, ok := f.find(name); ok {
		return in, nil
	}
	exe, err := os.Executable()
	if err != nil {
		return instance{}, err
	}
	log, err := os.OpenFile(f.path(name, ".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return instance{}, err
	}
	defer log.Close()
	cmd := exec.Command(exe, processCommand, f.dir, name)
	cmd.Dir, cmd.Stdout, cmd.Stderr = f.dir, log, log
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return instance{}, fmt.Errorf("start %s: %w", name, err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	for {
		// Usually this is the process just started; after a crash it may be
		// one that the dead orchestrator had started a moment before.
		if in, ok := f.find(name); ok {
			return in, nil
		}
		select {
		case <-ctx.Done():
			return instance{}, ctx.Err()
		case <-deadline.C:
			return instance{}, fmt.Errorf("start %s: not ready after 30 s, see %s", name, log.Name())
		case err := <-exited:
			if errors.Is(exitedBecause(err), errAlreadyRunning) {
				exited = nil // the other one will tell its address
				continue
			}
			return instance{}, fmt.Errorf("start %s: %w\n%s", name, err, tail(log.Name()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// kill ends the process at once (SIGKILL) and returns the evidence: the
// moment at which it was seen to be gone. A process that is gone already is
// killed successfully.
func (f fleet) kill(ctx context.Context, name string) (death, error) {
	if err := os.Remove(f.path(name, ".want")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return death{}, err
	}
	return f.end(ctx, name)
}

func (f fleet) end(ctx context.Context, name string) (death, error) {
	in, alive := f.find(name)
	if alive {
		// On Linux the handle is a pidfd: it cannot come to mean another
		// process between the check and the signal.
		p, err := os.FindProcess(in.PID)
		if err != nil {
			return death{}, err
		}
		if in.alive() {
			if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return death{}, fmt.Errorf("kill %s (pid %d): %w", name, in.PID, err)
			}
		}
		p.Release()
	}
	for in.PID != 0 && in.alive() {
		select {
		case <-ctx.Done():
			return death{}, ctx.Err()
		case <-time.After(2 * time.Millisecond):
		}
	}
	d := death{instance: in, GoneBy: clock(), Time: time.Now().UTC()}
	if in.PID == 0 {
		d.Name = name
		return d, nil // it never ran
	}
	return d, appendLine(filepath.Join(f.dir, "run", "deaths.jsonl"), d)
}

// wanted lists the processes that should be running.
func (f fleet) wanted() []string { return f.named(".want") }

// known lists every process that ever ran here.
func (f fleet) known() []string { return f.named(".json") }

func (f fleet) named(suffix string) []string {
	paths, _ := filepath.Glob(f.path("*", suffix))
	names := make([]string, 0, len(paths))
	for _, p := range paths {
		if n := strings.TrimSuffix(filepath.Base(p), suffix); n != orchestratorName {
			names = append(names, n)
		}
	}
	return names // Glob sorts
}

// afterwards says whether a process that is stopped is started again when the
// story is resumed.
type afterwards string

const (
	remember afterwards = "remember" // it is still wanted
	forget   afterwards = "forget"
)

// stopAll ends every process of the state directory and says how many were
// alive.
func (f fleet) stopAll(ctx context.Context, then afterwards) (stopped int, err error) {
	names := append(f.known(), f.wanted()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if _, ok := f.find(name); ok {
			stopped++
		}
		stop := f.kill
		if then == remember {
			stop = f.end
		}
		_, e := stop(ctx, name)
		err = errors.Join(err, e)
	}
	return stopped, err
}

// tail returns the last lines of a log, for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-5):], "\n  ")
}
