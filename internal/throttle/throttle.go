// Package throttle holds readers to a rate in bytes per second that can be
// changed while they run. One [Limiter] is shared by all who use one link;
// what they read together stays under its rate.
//
// It limits bytes, not requests, and knows nothing of where they come from.
package throttle

import (
	"context"
	"io"
	"time"

	"golang.org/x/time/rate"
)

// Limiter is a rate shared by any number of readers; make one with [New]. A nil
// *Limiter is no limit.
type Limiter struct {
	bucket *rate.Limiter
}

// burst divides a second: what one part of it allows may pass at once. It is
// also the most that a reader reads before it waits, so a new rate is felt
// after about so long.
const burst = 10

// New returns a Limiter of so many bytes per second; 0 or less is no limit.
func New(bytesPerSecond int64) *Limiter {
	l := &Limiter{rate.NewLimiter(rate.Inf, 0)}
	l.Set(bytesPerSecond)
	return l
}

// Set changes the rate, from now on and for readers already waiting after at
// most the wait they have begun. 0 or less is no limit.
func (l *Limiter) Set(bytesPerSecond int64) {
	if bytesPerSecond <= 0 {
		l.bucket.SetLimit(rate.Inf)
		return
	}
	l.bucket.SetBurst(int(max(1, min(bytesPerSecond/burst, 1<<30))))
	l.bucket.SetLimit(rate.Limit(bytesPerSecond))
}

// Limit returns the rate in bytes per second; 0 is no limit.
func (l *Limiter) Limit() int64 {
	if l == nil || l.bucket.Limit() == rate.Inf {
		return 0
	}
	return int64(l.bucket.Limit())
}

// Wait returns when n more bytes may have passed, or with the error of ctx.
func (l *Limiter) Wait(ctx context.Context, n int) error {
	if l == nil {
		return ctx.Err()
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := l.most(n)
		now := time.Now()
		r := l.bucket.ReserveN(now, part)
		if !r.OK() {
			continue // Set made the burst smaller meanwhile
		}
		if err := sleep(ctx, r.DelayFrom(now)); err != nil {
			r.Cancel()
			return err
		}
		n -= part
	}
	return ctx.Err()
}

// most returns how many of n bytes may be asked for at once.
func (l *Limiter) most(n int) int {
	if l == nil || l.bucket.Limit() == rate.Inf {
		return n
	}
	return min(n, max(1, l.bucket.Burst()))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reader returns a reader of r that delivers bytes no faster than l allows.
// When ctx ends, so does the reader, with the error of ctx.
func (l *Limiter) Reader(ctx context.Context, r io.Reader) io.Reader {
	return &reader{ctx, l, r}
}

type reader struct {
	ctx context.Context // an io.Reader has no other way to be cancelled
	l   *Limiter
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p[:r.l.most(len(p))])
	if waitErr := r.l.Wait(r.ctx, n); waitErr != nil {
		return n, waitErr
	}
	return n, err
}

// ReaderAt is [Limiter.Reader] for random access; it may be used concurrently
// if r may.
func (l *Limiter) ReaderAt(ctx context.Context, r io.ReaderAt) io.ReaderAt {
	return &readerAt{ctx, l, r}
}

type readerAt struct {
	ctx context.Context
	l   *Limiter
	r   io.ReaderAt
}

func (r *readerAt) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for {
		if err := r.ctx.Err(); err != nil {
			return done, err
		}
		part := p[done:]
		part = part[:r.l.most(len(part))]
		n, err := r.r.ReadAt(part, off+int64(done))
		done += n
		if waitErr := r.l.Wait(r.ctx, n); waitErr != nil {
			return done, waitErr
		}
		if err != nil || done == len(p) {
			return done, err
		}
	}
}
