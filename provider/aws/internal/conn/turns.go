package conn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Turns asks one of several places that can each do the same, and the next one
// when that cannot. It begins with one chosen by chance and stays with one that
// does it. It is safe for concurrent use.
type Turns struct {
	places  int
	retryer aws.Retryer
	at      atomic.Uint32
}

// rounds is how often all are asked, with pauseOfTurns in between.
const (
	rounds       = 2
	pauseOfTurns = time.Second
)

// NewTurns takes turns among places, which are numbered from 0. The retryer
// knows which errors pass, and renews credentials by the way.
func NewTurns(places int, r aws.Retryer) *Turns {
	t := &Turns{places: places, retryer: r}
	t.at.Store(rand.Uint32N(uint32(places)))
	return t
}

// Begin has the next call begin with a place.
func (t *Turns) Begin(place int) { t.at.Store(uint32(place)) }

// Take calls do with one place after the other until one has answered for all.
func (t *Turns) Take(ctx context.Context, do func(place int) error) error {
	var failed []error
	for round := range rounds {
		failed = failed[:0]
		if round > 0 {
			select {
			case <-time.After(pauseOfTurns):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for range t.places {
			at := t.at.Load()
			err := do(int(at % uint32(t.places)))
			if err == nil {
				return nil
			}
			_, last := errors.AsType[*Last](err)
			if !last && !t.elsewhere(err) {
				return err
			}
			t.at.CompareAndSwap(at, (at+1)%uint32(t.places))
			if last || ctx.Err() != nil {
				return err
			}
			failed = append(failed, err)
		}
	}
	return &noAnswer{failed}
}

// elsewhere says of an error whether another place may do better.
func (t *Turns) elsewhere(err error) bool {
	if _, ok := errors.AsType[*UnsentError](err); ok {
		return false
	}
	status := StatusOf(err)
	return t.retryer.IsErrorRetryable(err) || status == 0 || status == http.StatusTooManyRequests || status >= 500 ||
		CodeOf(err) == "EndpointTemporarilyUnavailableException"
}

// Last is an error after which no other place is asked the same, though it may
// do better.
type Last struct{ Err error }

func (l *Last) Error() string { return l.Err.Error() }

// Unwrap returns Err.
func (l *Last) Unwrap() error { return l.Err }

// UnsentError is one that was met before anything was sent to anybody.
type UnsentError struct{ Err error }

func (u *UnsentError) Error() string { return u.Err.Error() }

// Unwrap returns Err.
func (u *UnsentError) Unwrap() error { return u.Err }

// Unsent: the place has seen nothing of the request.
func Unsent(err error) bool {
	if _, ok := errors.AsType[*UnsentError](err); ok {
		return true
	}
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// noAnswer: every place was asked, and none could do it.
type noAnswer struct{ errs []error }

func (n *noAnswer) Error() string {
	var all []string
	for _, err := range n.errs {
		all = append(all, err.Error())
	}
	return fmt.Sprintf("none of the %d endpoints does it: %s", len(n.errs), strings.Join(all, "; "))
}

func (n *noAnswer) Unwrap() []error { return n.errs }
