package conn

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

const (
	firstWait = 250 * time.Millisecond
	mostWait  = 10 * time.Second
)

// Attempts watches the attempts that Do makes of one call.
type Attempts struct {
	// Unanswered: one of them may have been carried out although others were
	// made after it.
	Unanswered bool
}

// ErrAgain is wrapped by what an attempt returns that is to be made again
// although the service has answered.
var ErrAgain = errors.New("damaged on the way")

// Do asks until there is an answer that asking again would not change, waiting
// as long as the service asks for and else longer each time. A token that the
// service does not take is replaced once by a new one: the service's clock
// decides when it has expired, and the SDK goes by ours.
func Do[T any](ctx context.Context, s *Service, tries *Attempts, ask func(context.Context) (T, error)) (T, error) {
	renewed := false
	for attempt, wait := 1, firstWait; ; attempt++ {
		out, err := ask(ctx)
		if err == nil {
			return out, nil
		}
		if Unanswered(err) {
			tries.Unanswered = true
		}
		if StatusOf(err) == http.StatusUnauthorized && !renewed && s.authenticate(ctx) == nil {
			renewed = true
			attempt--
			continue
		}
		if attempt >= s.c.Attempts || ctx.Err() != nil || !passes(err) {
			return out, err
		}
		pause := max(rand.N(wait), wait/2, retryAfter(err, time.Now()))
		wait = min(2*wait, mostWait)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return out, err
		}
	}
}

// passes: the same request may be answered otherwise soon.
func passes(err error) bool {
	switch StatusOf(err) {
	case 0:
		return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return errors.Is(err, ErrAgain) || limited(err)
}

// Unanswered says of a failed attempt whether the service may have carried it
// out all the same.
func Unanswered(err error) bool {
	status := StatusOf(err)
	return err != nil && (status == 0 || status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented)
}

// limited: the service refuses because of the rate, which some of them say
// with 403.
func limited(err error) bool {
	return HasReason(err, "rateLimitExceeded", "userRateLimitExceeded")
}

// retryAfter is how long the answer asks to wait.
func retryAfter(err error, now time.Time) time.Duration {
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return remote.RetryAfter(e.Header, now)
	}
	return 0
}
