package remote_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-3": 0, "86400": time.Minute, "999999999999": time.Minute, "soon": 0,
		now.Add(5 * time.Second).Format(http.TimeFormat): 5 * time.Second,
		now.Add(time.Hour).Format(http.TimeFormat):       time.Minute,
		now.Add(-time.Hour).Format(http.TimeFormat):      0,
	} {
		if got := remote.RetryAfter(http.Header{"Retry-After": {header}}, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
	for header, want := range map[string]time.Duration{"250": 250 * time.Millisecond, "-1": 0, "99999999": time.Minute, "x": 3 * time.Second} {
		if got := remote.RetryAfter(http.Header{"X-Ms-Retry-After-Ms": {header}, "Retry-After": {"3"}}, now); got != want {
			t.Errorf("%q ms: %v, want %v", header, got, want)
		}
	}
}

func TestAnswered(t *testing.T) {
	header := http.Header{"Retry-After": {"2"}}
	for _, c := range []struct {
		status   int
		declined bool
		want     remote.Outcome
	}{
		{200, false, remote.Outcome{Status: 200}},
		{206, false, remote.Outcome{Status: 206}},
		{404, false, remote.Outcome{Status: 404, Refused: true}},
		{501, false, remote.Outcome{Status: 501, Refused: true}},
		{408, false, remote.Outcome{Status: 408, Failed: true, Unknown: true}},
		{500, true, remote.Outcome{Status: 500, Failed: true, Unknown: true}},
		{504, false, remote.Outcome{Status: 504, Failed: true, Unknown: true}},
		{429, false, remote.Outcome{Status: 429, Failed: true, Throttled: true, After: 2 * time.Second}},
		{503, true, remote.Outcome{Status: 503, Failed: true, Throttled: true, After: 2 * time.Second}},
		{503, false, remote.Outcome{Status: 503, Failed: true, Throttled: true, Unknown: true, After: 2 * time.Second}},
	} {
		if got := remote.Answered(c.status, header, c.declined); got != c.want {
			t.Errorf("%d: %+v, want %+v", c.status, got, c.want)
		}
		err := remote.Throttled(c.status, header)
		if got := errors.Is(err, provider.ErrThrottled); got != c.want.Throttled || got && provider.RetryAfter(err) != 2*time.Second {
			t.Errorf("%d: %v", c.status, err)
		}
	}
	if err := remote.Throttled(503, nil); err != provider.ErrThrottled || provider.RetryAfter(err) != 0 {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	if o := remote.NoAnswer(ended); !o.Failed || !o.Unknown {
		t.Errorf("%+v", o)
	}
	cancel()
	if o := remote.NoAnswer(ended); o.Failed || !o.Unknown {
		t.Errorf("of what was cancelled: %+v", o)
	}
}

type gate struct{ left []remote.Outcome }

func (g *gate) Enter(context.Context) (func(remote.Outcome), error) {
	return func(o remote.Outcome) { g.left = append(g.left, o) }, nil
}

func TestEnter(t *testing.T) {
	leave, err := remote.Enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leave(remote.Outcome{}) // where there is no gate
	g := &gate{}
	if leave, err = remote.Enter(remote.Through(t.Context(), g)); err != nil {
		t.Fatal(err)
	}
	if leave(remote.Outcome{Status: 7}); len(g.left) != 1 || g.left[0].Status != 7 {
		t.Errorf("%+v", g.left)
	}
}
