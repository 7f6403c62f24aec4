package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// processBegan tells when the process of a pid began, in a form that only
// equals that of the same process: boot id and clock ticks since boot (proc(5),
// field 22 of stat). A zombie has ended: it is fs.ErrNotExist like a pid that
// nobody has.
func processBegan(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	// The command, field 2, is in parentheses and may contain anything.
	_, rest, ok := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return "", fmt.Errorf("pid %d: unexpected /proc stat", pid)
	}
	if s := fields[0]; s == "Z" || s == "X" {
		return "", fs.ErrNotExist
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + "/" + fields[19], nil
}

// clock is the machine's clock since boot in nanoseconds, the same for every
// process and never set back: instants of different processes can be compared.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err) // the clock id is valid on every Linux since 2.6.39
	}
	return ts.Nano()
}
