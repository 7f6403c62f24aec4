package gcp

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// watched is the transport below the SDK, which sees every single request that
// the SDK makes of one call.
type watched struct{ base http.RoundTripper }

// RoundTrip notes attempts that may have had their effect although the SDK
// makes others after them, and waits where the service asks for it before the
// SDK hears that it may try again.
func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Query().Get("alt") == "media" {
		// Else the service, or package http, unpacks what somebody has stored
		// with a Content-Encoding, and other bytes arrive than are stored.
		req = req.Clone(req.Context())
		req.Header.Set("Accept-Encoding", "gzip")
	}
	leave, err := remote.Enter(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := w.base.RoundTrip(req)
	if err != nil {
		leave(remote.NoAnswer(req.Context()))
	} else {
		leave(remote.Answered(resp.StatusCode, resp.Header, false))
	}
	if c, ok := req.Context().Value(clockKey{}).(*clock); ok && err == nil {
		c.answered(resp)
	}
	if a, ok := req.Context().Value(attemptsKey{}).(*attempts); ok && (err != nil || mayHaveHappened(resp.StatusCode)) {
		a.unanswered.Store(true)
	}
	if err == nil && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable) {
		wait := time.NewTimer(remote.RetryAfter(resp.Header, time.Now()))
		defer wait.Stop()
		select {
		case <-req.Context().Done():
		case <-wait.C:
		}
	}
	return resp, err
}

// mayHaveHappened says of an answer whether the service may have carried the
// request out all the same.
func mayHaveHappened(status int) bool {
	return status == http.StatusRequestTimeout || status >= 500 && status != http.StatusNotImplemented
}

// attempts are those that the SDK makes of one call with its ctx.
type attempts struct{ unanswered atomic.Bool }

type attemptsKey struct{}

func (a *attempts) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptsKey{}, a)
}

// mayHave says of a failed call whether it may have been carried out.
func (a *attempts) mayHave(err error) bool {
	status := statusOf(err)
	return a.unanswered.Load() || status == 0 || mayHaveHappened(status)
}

// A clock is that of the service, as of its last answer to a call with its ctx.
type clock struct{ date atomic.Pointer[time.Time] }

type clockKey struct{}

func (c *clock) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, clockKey{}, c)
}

func (c *clock) answered(resp *http.Response) {
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		c.date.Store(&date)
	}
}

// now is ours if the service has not said its.
func (c *clock) now() time.Time {
	if date := c.date.Load(); date != nil {
		return *date
	}
	return time.Now()
}
