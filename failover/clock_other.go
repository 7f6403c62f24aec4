//go:build !linux && !darwin

package failover

import "time"

// sinceBoot has no clock to read here: only Go's own counts. On Windows that
// one counts sleep; on the BSDs it does not.
func sinceBoot() time.Duration { return 0 }
