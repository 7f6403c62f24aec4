package failover

import "time"

// A moment is read from two clocks, of which [moment.ago] believes the one
// that says more.
//
// Go's monotonic clock is CLOCK_MONOTONIC on Linux, and mach_absolute_time on
// macOS: both stand still while the machine sleeps. A site that was suspended
// for an hour would believe itself in charge when it wakes up, because the
// clock says that it read so a second ago. The boot clock goes on.
type moment struct {
	at   time.Time // with a monotonic reading
	boot time.Duration
}

func thisMoment() moment { return moment{time.Now(), sinceBoot()} }

// ago is how long ago the moment was, at least.
func (m moment) ago() time.Duration { return max(time.Since(m.at), sinceBoot()-m.boot) }
