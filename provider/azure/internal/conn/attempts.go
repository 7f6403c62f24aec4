package conn

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Unanswered says of an attempt whether the service may have carried it out
// although it did not say so.
func Unanswered(resp *http.Response, err error) bool {
	if err != nil {
		return true
	}
	return resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented || resp.StatusCode == http.StatusRequestTimeout
}

// Attempts watches the attempts that the SDK makes of one call.
type Attempts struct {
	unanswered atomic.Bool
	status     atomic.Int32
}

type attemptsKey struct{}

// In is ctx for a call whose attempts a is to see.
func (a *Attempts) In(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptsKey{}, a)
}

// Unanswered: an attempt may have had its effect although the SDK made others
// after it, or failed.
func (a *Attempts) Unanswered() bool { return a.unanswered.Load() }

// Status is that of the last answer, or 0.
func (a *Attempts) Status() int { return int(a.status.Load()) }

// watcher stands before the transport and notes what becomes of attempts.
type watcher struct{}

func (watcher) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if a, ok := req.Raw().Context().Value(attemptsKey{}).(*Attempts); ok {
		if Unanswered(resp, err) {
			a.unanswered.Store(true)
		}
		if err == nil {
			a.status.Store(int32(resp.StatusCode))
		}
	}
	return resp, err
}

// renewal asks once more when the service does not take the token: its clock
// decides whether one has expired, and the SDK, which goes by ours, has
// dropped the token when it saw the answer.
type renewal struct{}

func (renewal) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if err := req.RewindBody(); err != nil {
		return resp, nil
	}
	resp.Body.Close()
	return req.Next()
}
