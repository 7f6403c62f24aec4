package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A sample is what one step has cost.
type sample struct {
	wall, cpu time.Duration
	system    time.Duration // of cpu, in the kernel
	memory    int64         // bytes, the peak of the largest process
	stored    int64         // bytes that the repository has grown by
	objects   int           // files that the repository has more
}

// measure runs the commands of a step. The clock runs until what they have
// written below durable is on the disk, so that none is faster for having
// left that to the kernel.
func measure(commands []command, repo, durable string) (sample, error) {
	bytesBefore, objectsBefore, err := usage(repo)
	if err != nil {
		return sample{}, err
	}
	var s sample
	for _, c := range commands {
		if err := s.run(c); err != nil {
			return s, err
		}
	}
	start := time.Now()
	if err := syncDir(durable); err != nil {
		return s, err
	}
	s.wall += time.Since(start)
	stored, objects, err := usage(repo)
	s.stored, s.objects = stored-bytesBefore, objects-objectsBefore
	return s, err
}

func (s *sample) run(c command) error {
	var out bytes.Buffer
	cmd := c.cmd()
	cmd.Stdout, cmd.Stderr = &out, &out
	if c.stdout != nil {
		cmd.Stdout = c.stdout
	}
	start := time.Now()
	err := cmd.Run()
	s.wall += time.Since(start)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(c.argv, " "), err, out.Bytes())
	}
	s.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	s.system += cmd.ProcessState.SystemTime()
	// The kernel counts the memory of the process that starts another as
	// that one's, so this program must stay small: what needs memory, such
	// as making the data, runs in a process of its own.
	s.memory = max(s.memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	return nil
}

// syncDir waits until the file system that holds dir is on its disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Syncfs(int(d.Fd()))
}

// usage returns the bytes and the number of the files below dir, which need
// not exist.
func usage(dir string) (size int64, n int, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if os.IsNotExist(err) && path == dir {
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		size += fi.Size()
		n++
		return nil
	})
	return size, n, err
}

func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(b), " ")
	return first
}
