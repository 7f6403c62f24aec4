//go:build unix

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// asProgram makes the test binary be the quickstart: its processes are real
// processes, with the race detector in each of them if the test has it.
const asProgram = "HOLDFAST_QUICKSTART_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Setenv(asProgram, "1") // for whatever is started from here on
	flag.Parse()
	flag.Set("test.parallel", "4") // they mostly wait
	os.Exit(m.Run())
}

// fast makes a whole story of a few seconds.
var fast = []string{"-interval", "50ms", "-backups", "2", "-archive", "200000", "-pace", "5ms", "-lease", "2s", "-step-timeout", "3s", "-restore-timeout", "5s"}

// quickstart starts the program; crashAt may be empty.
func quickstart(t *testing.T, crashAt string, args ...string) (output string, err error) {
	t.Helper()
	cmd := program(t, crashAt, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

func program(t *testing.T, crashAt string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append(os.Environ(), crashVariable+"="+crashAt)
	return cmd
}

// stateOf is a state directory whose processes are gone when the test ends,
// whatever happens.
func stateOf(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "state")
	t.Cleanup(func() {
		if _, err := (fleet{dir}).stopAll(context.Background(), forget); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	return dir
}

func killed(err error) bool {
	e, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// checkOutcome judges a finished story from what its processes left, not from
// what it said: the client's account, the ledger at home, the intervals in
// which the services were writable.
func checkOutcome(t *testing.T, dir string) *stageLog {
	t.Helper()
	log, err := openStageLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(log.Done) != len(stages) || log.Facts.Loss == nil || log.Facts.Final == nil {
		t.Fatalf("the story is not complete: %d of %d stages", len(log.Done), len(stages))
	}
	for _, name := range (fleet{dir}).known() {
		if _, alive := (fleet{dir}).find(name); alive {
			t.Errorf("%s still runs", name)
		}
	}
	intervals, err := writableIntervals(dir, primarySite, standbySite)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkIntervals(intervals); err != nil {
		t.Error(err)
	}
	sites := []string{}
	for _, w := range intervals {
		if len(sites) == 0 || sites[len(sites)-1] != w.Site {
			sites = append(sites, w.Site)
		}
	}
	if want := []string{primarySite, standbySite, primarySite}; !slices.Equal(sites, want) {
		t.Errorf("writable were, in this order, %v, want %v", sites, want)
	}
	checkRecords(t, dir, log, intervals)
	return log
}

func checkRecords(t *testing.T, dir string, log *stageLog, intervals []window) {
	t.Helper()
	var acks []ack
	if err := readLines(filepath.Join(dir, "client", "acknowledged.jsonl"), &acks); err != nil {
		t.Fatal(err)
	}
	var sc serviceConfig
	if err := readJSON((layout{dir}).config(serviceProcess(primarySite)), &sc); err != nil {
		t.Fatal(err)
	}
	records, _, err := readLedger(sc.Data)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkAccepted(intervals, records); err != nil {
		t.Error(err)
	}
	lost := []string{}
	for _, a := range acks {
		if a.N > len(records) || records[a.N-1].Sum != a.Sum {
			lost = append(lost, a.Key)
			if a.Site != primarySite {
				t.Errorf("%s, acknowledged by %s, is lost", a.Key, a.Site)
			}
		}
	}
	if reported := log.Facts.Loss.Lost; len(lost) > len(reported) || len(lost) > 0 && !slices.Equal(lost, reported) {
		t.Errorf("lost %v, reported %v", lost, reported)
	}
	bySite := map[string]int{}
	for _, a := range acks {
		bySite[fmt.Sprintf("%s/%d", a.Site, a.Epoch)]++
	}
	if len(bySite) < 3 {
		t.Errorf("acknowledged by site and epoch: %v, want three of them", bySite)
	}
}

func TestStory(t *testing.T) {
	t.Parallel()
	dir := stateOf(t)
	for range 2 { // the second run finds a directory that was used before
		out, err := quickstart(t, "", append([]string{"-dir", dir, "-keep"}, fast...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		log := checkOutcome(t, dir)
		if log.Resumed != 0 {
			t.Errorf("resumed %d times", log.Resumed)
		}
		for _, ext := range []string{".html", ".json"} {
			if _, err := os.Stat(filepath.Join(dir, "report", "report-"+log.Run+ext)); err != nil {
				t.Error(err)
			}
		}
	}
}

// There is never a second process of a name: whoever starts one too many
// (an orchestrator that came back before the first had said where it is) gets
// the first one.
func TestOneProcessPerName(t *testing.T) {
	t.Parallel()
	f := fleet{stateOf(t)}
	if err := os.MkdirAll(filepath.Join(f.dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(f.dir, "client"), 0o700); err != nil {
		t.Fatal(err)
	}
	in, err := f.start(t.Context(), pagerProcess)
	if err != nil {
		t.Fatal(err)
	}
	err = program(t, "", processCommand, f.dir, pagerProcess).Run()
	if !errors.Is(exitedBecause(err), errAlreadyRunning) {
		t.Errorf("a second process of the name: %v", err)
	}
	if again, err := f.start(t.Context(), pagerProcess); err != nil || again != in {
		t.Errorf("started again: %+v, %v; want %+v", again, err, in)
	}
	d, err := f.kill(t.Context(), pagerProcess)
	if err != nil || d.PID != in.PID || in.alive() || d.GoneBy == 0 {
		t.Errorf("killed: %+v, %v", d, err)
	}
}

// crashPoints are all points of the story at which the orchestrator can be
// made to die: around every stage, and within every step of every operation,
// before and after its effect.
func crashPoints(t *testing.T) []string {
	var points []string
	around := func(name string) { points = append(points, name+":before", name+":after") }
	for _, s := range stages {
		around(s.name)
	}
	points = append(points, "increment-1:after", "kill-local-a.service:after", "kill-local-a.store:after")
	for op, kind := range map[string]failover.Kind{"test": failover.Test, "failover": failover.Failover, "failback": failover.Failback} {
		points = append(points, op+".planned:after")
		p, err := failover.NewPlan(failover.PlanConfig{Kind: kind, Service: service, From: "a", To: "b", Created: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range p.Steps {
			around(op + "." + s.Name)
		}
	}
	slices.Sort(points)
	return points
}

// some are the crash points that are tested without HOLDFAST_LONG.
var some = []string{"failover.fence:after", "failover.start:after", "failover.traffic:before", "failback.quiesce:after"}

func TestResumeAfterKill(t *testing.T) {
	all := crashPoints(t)
	for _, p := range some {
		if !slices.Contains(all, p) {
			t.Errorf("%s is no crash point any more", p)
		}
	}
	points := some
	if os.Getenv("HOLDFAST_LONG") != "" {
		points = all
	}
	for _, p := range points {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			dir := stateOf(t)
			out, err := quickstart(t, p, append([]string{"-dir", dir, "-keep"}, fast...)...)
			if !killed(err) {
				t.Fatalf("it was to be killed at %s, but: %v\n%s", p, err, out)
			}
			again, err := quickstart(t, "", "-dir", dir, "-keep", "-resume")
			if err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, again)
			}
			if log := checkOutcome(t, dir); log.Resumed != 1 {
				t.Errorf("resumed %d times", log.Resumed)
			}
			if t.Failed() {
				t.Logf("%s\n%s", out, again)
			}
		})
	}
}

// A run is killed again and again, each time a step further.
func TestResumeAfterManyKills(t *testing.T) {
	t.Parallel()
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("takes half a minute; set HOLDFAST_LONG=1")
	}
	kills := []string{"test.start:after", "failover.fence:after", "failover.restore:before", "failover.start:after", "failback.final-sync:after", "report:before"}
	dir := stateOf(t)
	args := append([]string{"-dir", dir, "-keep"}, fast...)
	for _, p := range kills {
		if out, err := quickstart(t, p, args...); !killed(err) {
			t.Fatalf("it was to be killed at %s, but: %v\n%s", p, err, out)
		}
		args = []string{"-dir", dir, "-keep", "-resume"}
	}
	if out, err := quickstart(t, "", args...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if log := checkOutcome(t, dir); log.Resumed != len(kills) {
		t.Errorf("resumed %d times, want %d", log.Resumed, len(kills))
	}
}

// After Ctrl-C nothing runs any more, and a resumed story starts it again.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	dir := stateOf(t)
	cmd := program(t, "", append([]string{"-dir", dir}, fast...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	for {
		if log, err := openStageLog(dir); err == nil && !log.Done["drill"].Ended.IsZero() {
			break
		}
		select {
		case err := <-exited:
			t.Fatalf("%v\n%s", err, out.String())
		case <-time.After(time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := <-exited; err == nil || killed(err) {
		t.Errorf("exit: %v, want an error", err)
	}
	known := (fleet{dir}).known()
	if len(known) < 5 {
		t.Errorf("known are only %v", known)
	}
	for _, name := range known {
		if _, alive := (fleet{dir}).find(name); alive {
			t.Errorf("%s still runs", name)
		}
	}
	if again, err := quickstart(t, "", "-dir", dir, "-keep", "-resume"); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out.String(), again)
	}
	checkOutcome(t, dir)
}

// What a crashed run left in a temporary directory is found by the next one.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	run := func(crashAt string, args ...string) (string, error) {
		cmd := program(t, crashAt, append(args, fast...)...)
		cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("disaster:before"); !killed(err) {
		t.Fatalf("%v\n%s", err, out)
	}
	left, err := filepath.Glob(filepath.Join(tmp, tempPattern+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("left %v, %v", left, err)
	}
	f := fleet{left[0]}
	t.Cleanup(func() { f.stopAll(context.Background(), forget) })
	var old []instance
	for _, name := range f.known() {
		if in, alive := f.find(name); alive {
			old = append(old, in)
		}
	}
	if len(old) < 7 {
		t.Fatalf("of the crashed run only %v live", old)
	}
	out, err := run("")
	if err != nil || !strings.Contains(out, "removed what a crashed run left in "+left[0]) {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, in := range old {
		if in.alive() {
			t.Errorf("%s of the crashed run still runs", in.Name)
		}
	}
	if _, err := os.Stat(left[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", left[0], err)
	}
	// Of the run that ended well only report and stage log stay.
	kept, _ := filepath.Glob(filepath.Join(tmp, tempPattern+"*", "*"))
	if len(kept) != 3 {
		t.Errorf("kept %v, want report, story.json and run", kept)
	}
}
