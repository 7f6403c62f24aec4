//go:build linux || darwin

package failover

import (
	"time"

	"golang.org/x/sys/unix"
)

// sinceBoot reads the clock that counts sleep, too: CLOCK_BOOTTIME on Linux,
// CLOCK_MONOTONIC on macOS. Without such a clock it stands still, and only
// Go's own clock counts.
func sinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(bootClock, &ts); err != nil {
		return 0 // Linux before 2.6.39
	}
	return time.Duration(ts.Nano())
}
