package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	attempts   = 4
	firstPause = time.Second      // doubles each time
	longest    = 30 * time.Second // even if the other side asks for more
)

// passing marks an error that another attempt may not meet.
type passing struct {
	error
	after time.Duration // what the other side asked for; 0 if nothing
}

func (p *passing) Unwrap() error { return p.error }

// retry calls attempt until it returns nil or an error that is not passing.
// Pauses vary by a half, so that many senders do not come back together.
func retry(ctx context.Context, attempt func(context.Context) error) error {
	pause := firstPause
	for n := 1; ; n++ {
		err := attempt(ctx)
		p, again := errors.AsType[*passing](err)
		if !again {
			return err
		}
		if n == attempts {
			return fmt.Errorf("%d attempts: %w", n, p.error)
		}
		wait := max(pause/2+rand.N(pause), min(p.after, longest))
		pause *= 2
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return errors.Join(p.error, ctx.Err())
		}
	}
}
