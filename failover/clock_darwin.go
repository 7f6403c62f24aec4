package failover

import "golang.org/x/sys/unix"

const bootClock = unix.CLOCK_MONOTONIC // unlike that of Linux it counts sleep
