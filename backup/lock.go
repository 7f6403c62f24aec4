package backup

import (
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Lock says for how long the store shall refuse to delete or replace what is
// written, whoever asks. The zero value is not at all; a store that cannot
// do it refuses to write.
type Lock struct {
	Mode provider.LockMode

	// Keep is how long every point is protected at least, from when it was
	// committed. What a new point relies on instead of storing it again is
	// locked at least that long.
	Keep time.Duration

	// Ahead is how much longer than that each object is locked, so that later
	// points can rely on it, too. When it is used up, what they need is stored
	// once more: with a fifth of Keep or more that is rare.
	Ahead time.Duration

	// Raw is for how long segments of logs are locked that [Log.Compact]
	// replaces; default Keep+Ahead. Compacted ones are locked for Keep+Ahead.
	Raw time.Duration
}

func (l Lock) isZero() bool { return l == Lock{} }

func (l Lock) valid() error {
	if l.isZero() {
		return nil
	}
	var errs []error
	if l.Mode != provider.Governance && l.Mode != provider.Compliance {
		errs = append(errs, fmt.Errorf("field Lock.Mode is %.20q, want %q or %q", l.Mode, provider.Governance, provider.Compliance))
	}
	if l.Keep <= 0 || l.Ahead < 0 || l.Raw < 0 {
		errs = append(errs, fmt.Errorf("field Lock: Keep %v, Ahead %v, Raw %v: want Keep above zero and none below", l.Keep, l.Ahead, l.Raw))
	}
	return errors.Join(errs...)
}

// retention is that of an object written now, in whole seconds.
func (l Lock) retention(now time.Time) provider.Retention {
	return l.until(now, l.Keep+l.Ahead)
}

// raw is that of a segment that was not compacted.
func (l Lock) raw(now time.Time) provider.Retention {
	if l.Raw > 0 {
		return l.until(now, l.Raw)
	}
	return l.retention(now)
}

func (l Lock) until(now time.Time, d time.Duration) provider.Retention {
	if l.isZero() {
		return provider.Retention{}
	}
	return provider.Retention{Mode: l.Mode, Until: now.UTC().Add(d + time.Second).Truncate(time.Second)}
}

// put are the options for what is kept as long as a point.
func (c Config) put() provider.PutOptions {
	return provider.PutOptions{Retain: c.Lock.retention(time.Now())}
}

// outlasts reports whether a pack that is locked until then, in seconds since
// 1970, is protected for long enough to be relied on by a point made now.
func (l Lock) outlasts(locked int64, now time.Time) bool {
	return l.isZero() || locked >= now.Add(l.Keep).Unix()
}

// lockEnd is the end of a retention as indexes record it; 0 if there is none.
func lockEnd(r provider.Retention) int64 {
	if r.IsZero() {
		return 0
	}
	return r.Until.Unix()
}
