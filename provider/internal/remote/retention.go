package remote

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var errRetention = errors.New("want a mode and a time")

// CheckRetention refuses what is neither a retention nor zero.
func CheckRetention(r provider.Retention) error {
	if r.IsZero() || (r.Mode == provider.Governance || r.Mode == provider.Compliance) && !r.Until.IsZero() {
		return nil
	}
	return fmt.Errorf("retain: %w, got mode %q until %v", errRetention, r.Mode, r.Until)
}

// CheckLock refuses what is no retention.
func CheckLock(r provider.Retention) error {
	if r.IsZero() {
		return fmt.Errorf("lock: %w", errRetention)
	}
	return CheckRetention(r)
}

// WholeSeconds rounds up: that is what stores keep.
func WholeSeconds(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second).UTC()
	}
	return t.UTC()
}

// Weaker reports whether r would take something away from what old protects.
func Weaker(r, old provider.Retention) bool {
	return !old.IsZero() && (r.Until.Before(old.Until) || old.Mode == provider.Compliance && r.Mode != provider.Compliance)
}
