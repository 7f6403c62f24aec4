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

// A hold that notes what it is asked.
type hold struct {
	leaving   string
	replaces  map[string]provider.Version
	renew     func() error
	arrived   func(manifest string) error
	told      []string
	released  int
	cancelled bool
}

func (h *hold) Leaving(key string) bool              { return key == h.leaving }
func (h *hold) Replaces(key string) provider.Version { return h.replaces[key] }
func (h *hold) Renew(context.Context) error {
	if h.renew != nil {
		return h.renew()
	}
	return nil
}

func (h *hold) Arrived(_ context.Context, manifest string) error {
	h.told = append(h.told, manifest)
	if h.arrived != nil {
		return h.arrived(manifest)
	}
	return nil
}

func (h *hold) Release(ctx context.Context) error {
	h.released++
	h.cancelled = ctx.Err() != nil
	return nil
}

func TestHold(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	manifests := generate(t, from, 9)
	going := needed(t, from, manifests[4])
	put(t, to, going.Key, read(t, from, going.Key))
	f := providertest.NewFaulty(to, nil)
	c := configOf(from, f)
	h := &hold{leaving: going.Key}
	var announced []string
	c.Hold = func(_ context.Context, missing []provider.Info) (replicate.Hold, error) {
		for _, m := range missing {
			announced = append(announced, m.Key)
		}
		for _, call := range f.Calls() {
			if call.Key == "" && h.released == 0 {
				t.Error("the destination was listed before the copy was announced")
			}
		}
		return h, nil
	}
	r, err := replicate.Copy(t.Context(), c)
	if !errors.Is(err, replicate.ErrLeaving) || !strings.Contains(err.Error(), going.Key) {
		t.Errorf("error %v", err)
	}
	if len(announced) != 9 || h.released != 1 {
		t.Errorf("%d points announced, released %d times", len(announced), h.released)
	}
	if !slices.Equal(h.told, r.Arrived) {
		t.Errorf("told of %v, arrived %v", h.told, r.Arrived)
	}
	for m := range users(t, from, going.Key) {
		if slices.Contains(r.Arrived, m) {
			t.Errorf("%s relies on an object that is about to be deleted", m)
		}
	}

	// Released, with a context that still works, although the run is cancelled.
	put(t, from, "points/950", []byte(`{"objects":[]}`))
	c.To = to
	ctx, stop := context.WithCancel(t.Context())
	c.Progress = func(replicate.Progress) { stop() }
	if _, err := replicate.Copy(ctx, c); !errors.Is(err, context.Canceled) || h.released != 2 || h.cancelled {
		t.Errorf("cancelled: %v, released %d times, context cancelled: %t", err, h.released, h.cancelled)
	}
}

func TestHoldRefused(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 2)
	c := configOf(from, to)
	c.Hold = func(context.Context, []provider.Info) (replicate.Hold, error) { return nil, errUnreachable }
	if _, err := replicate.Copy(t.Context(), c); !errors.Is(err, errUnreachable) || len(keys(t, to, "")) != 0 {
		t.Errorf("%v; %d objects copied", err, len(keys(t, to, "")))
	}
}

// What a hold has lost has not arrived, and nothing more is copied.
func TestHoldLost(t *testing.T) {
	over := errors.New("over")
	for name, lose := range map[string]func(h *hold){
		"before an object": func(h *hold) { h.renew = func() error { return over } },
		"after a manifest": func(h *hold) { h.arrived = func(string) error { return over } },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := providertest.NewMemory(), providertest.NewMemory()
			generate(t, from, 3)
			c, h := configOf(from, to), &hold{}
			lose(h)
			c.Hold = func(context.Context, []provider.Info) (replicate.Hold, error) { return h, nil }
			r, err := replicate.Copy(t.Context(), c)
			if !errors.Is(err, over) || len(r.Arrived) != 0 || len(keys(t, to, "points/")) > 1 || h.released != 1 {
				t.Errorf("%v; arrived %v, %d manifests, released %d times", err, r.Arrived, len(keys(t, to, "points/")), h.released)
			}
		})
	}
}

// A manifest replaces exactly what the hold says.
func TestHoldReplaces(t *testing.T) {
	for _, changed := range []bool{false, true} {
		from, to := providertest.NewMemory(), providertest.NewMemory()
		m := generate(t, from, 1)[0]
		put(t, to, m, []byte("tombstone"))
		c := configOf(from, to)
		c.Hold = func(ctx context.Context, _ []provider.Info) (replicate.Hold, error) {
			info, err := to.Stat(ctx, m)
			if changed {
				if _, err := to.Put(ctx, m, provider.Bytes([]byte("another")), provider.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			return &hold{replaces: map[string]provider.Version{m: info.Version}}, err
		}
		r, err := replicate.Copy(t.Context(), c)
		if arrived := len(r.Arrived) == 1; arrived == changed || (err == nil) == changed {
			t.Errorf("changed since: %t; arrived: %t, %v", changed, arrived, err)
		}
	}
}
