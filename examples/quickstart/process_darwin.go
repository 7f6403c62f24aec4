package main

import (
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

const zombie = 5 // SZOMB of <sys/proc.h>

// processBegan tells when the process of a pid began, in a form that only
// equals that of the same process. A zombie has ended: it is fs.ErrNotExist
// like a pid that nobody has.
func processBegan(pid int) (string, error) {
	k, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || k.Proc.P_pid != int32(pid) || k.Proc.P_stat == zombie {
		return "", fs.ErrNotExist
	}
	return fmt.Sprintf("%d.%06d", k.Proc.P_starttime.Sec, k.Proc.P_starttime.Usec), nil
}

// clock is the machine's clock since boot in nanoseconds, the same for every
// process and never set back: instants of different processes can be compared.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // the clock id is valid on every macOS since 10.12
	}
	return ts.Nano()
}
