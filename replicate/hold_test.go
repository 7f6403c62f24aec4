package replicate_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

func TestHold(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	manifests := generate(t, from, 9)
	going := needed(t, from, manifests[4])
	put(t, to, going.Key, read(t, from, going.Key))
	f := providertest.NewFaulty(to, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := configOf(from, f)
	var announced []string
	released := 0
	c.Hold = func(_ context.Context, missing []provider.Info) (func(string) bool, func(context.Context) error, error) {
		for _, m := range missing {
			announced = append(announced, m.Key)
		}
		for _, call := range f.Calls() {
			if call.Key == "" && released == 0 {
				t.Error("the destination was listed before the copy was announced")
			}
		}
		leaving := func(key string) bool { return key == going.Key }
		release := func(ctx context.Context) error { released++; return ctx.Err() }
		return leaving, release, nil
	}
	r, err := replicate.Copy(ctx, c)
	if !errors.Is(err, replicate.ErrLeaving) || !strings.Contains(err.Error(), going.Key) {
		t.Errorf("error %v", err)
	}
	if len(announced) != 9 || released != 1 {
		t.Errorf("%d points announced, released %d times", len(announced), released)
	}
	for m := range users(t, from, going.Key) {
		if slices.Contains(r.Arrived, m) {
			t.Errorf("%s relies on an object that is about to be deleted", m)
		}
	}

	// Released, with a context that still works, although the run is cancelled.
	f.Use(func(c providertest.Call) providertest.Fault { cancel(); return providertest.Fault{} })
	put(t, from, "points/950", []byte(`{"objects":[]}`))
	inner := c.Hold
	c.Hold = func(ctx context.Context, m []provider.Info) (func(string) bool, func(context.Context) error, error) {
		leaving, release, err := inner(context.WithoutCancel(ctx), m)
		return leaving, func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Error("release got a cancelled context")
			}
			return release(ctx)
		}, err
	}
	c.To = to
	ctx, stop := context.WithCancel(t.Context())
	c.Progress = func(replicate.Progress) { stop() }
	if _, err := replicate.Copy(ctx, c); !errors.Is(err, context.Canceled) || released != 2 {
		t.Errorf("cancelled: %v, released %d times", err, released)
	}
}

func TestHoldRefused(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 2)
	c := configOf(from, to)
	c.Hold = func(context.Context, []provider.Info) (func(string) bool, func(context.Context) error, error) {
		return nil, nil, errUnreachable
	}
	if _, err := replicate.Copy(t.Context(), c); !errors.Is(err, errUnreachable) || len(keys(t, to, "")) != 0 {
		t.Errorf("%v; %d objects copied", err, len(keys(t, to, "")))
	}
}
