package remote

import (
	"context"
	"time"
)

const (
	longestLook = time.Minute
	grace       = 3 * time.Second
)

// Aftermath is a ctx in which to find out, or to undo, what became of a request
// that failed: for a minute, and for three seconds after ctx has ended, because
// whoever has ended it wants to know soon.
func Aftermath(ctx context.Context) (context.Context, context.CancelFunc) {
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestLook)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(grace):
			cancel()
		case <-look.Done():
		}
	})
	return look, func() { stop(); cancel() }
}
