package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	processCommand   = "process"      // hidden sub-command: quickstart process DIR NAME
	orchestratorName = "orchestrator" // its lock and its pid live under run/, too
	exitAlready      = 17             // exit status: another process has the name

	// A process whose orchestrator is gone for so long ends itself, so that a
	// crashed run nobody resumes leaves nothing behind for ever.
	orphanAge = 10 * time.Minute
)

var errAlreadyRunning = errors.New("a process of that name is running")

func exitedBecause(err error) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == exitAlready {
		return errAlreadyRunning
	}
	return err
}

// runProcess is what a started process does: take the name, do the job that
// the name stands for, until it is killed.
func runProcess(dir, name string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	f := fleet{dir}
	release, err := lockFile(f.path(name, ".lock"))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return exitAlready
	}
	defer release()
	ctx, cancel := context.WithCancelCause(ctx)
	go f.watchOrchestrator(ctx, cancel)

	_, kind, _ := strings.Cut(name, ".")
	job, ok := map[string]func(context.Context, fleet, string) error{
		"store":   serveStore,
		"dns":     serveDNS,
		"service": serveService,
		"client":  runClient,
		"pager":   servePager,
	}[kind]
	if !ok {
		fmt.Fprintf(os.Stderr, "no process of the kind %q\n", kind)
		return 2
	}
	if err := job(ctx, f, name); err != nil && ctx.Err() == nil {
		fmt.Fprintf(os.Stderr, "%s %s: %v\n", time.Now().UTC().Format(time.RFC3339Nano), name, err)
		return 1
	}
	return 0
}

// announce tells the world that this process serves at addr. It fails if the
// process was to be killed before it could say so: whoever kills it takes its
// .want away first and then looks for its .json, so one of the two notices.
func (f fleet) announce(name, addr string) error {
	began, err := processBegan(os.Getpid())
	if err != nil {
		return err
	}
	if err := writeJSON(f.path(name, ".json"), instance{Name: name, PID: os.Getpid(), Began: began, Addr: addr}); err != nil {
		return err
	}
	if _, err := os.Stat(f.path(name, ".want")); err != nil && name != orchestratorName {
		return fmt.Errorf("not wanted any more: %w", err)
	}
	return nil
}

// listen takes the port the process had before, if it had one and it is still
// free: those who know the old address keep being right. Otherwise the kernel
// chooses.
func (f fleet) listen(name string) (net.Listener, error) {
	if old := f.addr(name); old != "" {
		if l, err := net.Listen("tcp", old); err == nil {
			return l, nil
		}
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

// watchOrchestrator ends ctx when the state directory is gone, or when there
// has been no orchestrator for orphanAge.
func (f fleet) watchOrchestrator(ctx context.Context, end context.CancelCauseFunc) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	seen := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, ok := f.find(orchestratorName); ok {
			seen = time.Now()
		}
		if _, err := os.Stat(filepath.Join(f.dir, "run")); err != nil {
			end(fmt.Errorf("state directory: %w", err))
		}
		if time.Since(seen) > orphanAge {
			end(fmt.Errorf("no orchestrator for %v", orphanAge))
		}
	}
}
