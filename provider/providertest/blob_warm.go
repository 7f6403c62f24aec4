package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var warmClauses = []clause{
	cooling("warm", "An object in a cold tier is described and listed, and Get of it is ErrCold, until Warm says that it is Ready; then Get delivers it, under the Version it had.", warm),
	cooling("warm-again", "Warm of an object that is coming back, by several callers, is no error.", warmAgain),
	sentence("warm-readable", "Warm of an object that can be read is Ready, and changes nothing.", warmReadable),
	sentence("warm-missing", "Warm of a key without an object is ErrNotFound.", warmMissing),
	sentence("warm-ended", "Warm with a ctx that has ended fails with its error.", warmEnded),
}

// cooling is a clause about objects that options can move to a cold tier.
func cooling(id, text string, check func(context.Context, *probe) error) clause {
	return sentence(id, text, func(ctx context.Context, p *probe) error {
		if _, err := p.warmer(); err == nil && p.cool == nil {
			return &skippedError{"it waits until an object has come back from a cold tier; set Cool"}
		}
		return check(ctx, p)
	})
}

func (p *probe) warmer() (provider.Warmer, error) {
	w, ok := provider.As[provider.Warmer](p.store)
	if !ok {
		return nil, &unsupportedError{fmt.Errorf("no Warmer: %w", errors.ErrUnsupported)}
	}
	return w, nil
}

func warm(ctx context.Context, p *probe) error {
	w, err := p.warmer()
	if err != nil {
		return err
	}
	put, err := p.put(ctx, "cold", "what was cold", provider.PutOptions{Meta: map[string]string{"a": "b"}})
	if err != nil {
		return err
	}
	if err := p.cool(ctx, put.Key); err != nil {
		return fmt.Errorf("cool: %w", err)
	}
	if _, _, err := read(ctx, p.second, put.Key, provider.GetOptions{}); !errors.Is(err, provider.ErrCold) {
		return fmt.Errorf("get gives %v, want ErrCold", err)
	}
	if _, _, err := read(ctx, p.second, put.Key, provider.GetOptions{Offset: 5, Length: 3, Version: put.Version}); !errors.Is(err, provider.ErrCold) {
		return fmt.Errorf("get of a range of a version gives %v, want ErrCold", err)
	}
	info, err := p.second.Stat(ctx, put.Key)
	if err != nil || info.Size != put.Size || info.Version != put.Version || info.Meta["a"] != "b" {
		return fmt.Errorf("stat gives %+v, %v, want it as it was put: %+v", info, err, put)
	}
	var listed []string
	for info, err := range p.second.List(ctx, p.prefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		listed = append(listed, info.Key)
	}
	if !slices.Equal(listed, []string{put.Key}) {
		return fmt.Errorf("list gives %q", listed)
	}
	if err := p.brought(ctx, w, put.Key); err != nil {
		return err
	}
	body, got, err := read(ctx, p.second, put.Key, provider.GetOptions{Version: put.Version})
	if err != nil || string(body) != "what was cold" || got.Version != put.Version {
		return fmt.Errorf("get after Ready gives %q, version %q, %v; want version %q", body, got.Version, err, put.Version)
	}
	return nil
}

// brought follows an object until it is Ready. While it is Pending it cannot be
// read; a store may be faster than the answer.
func (p *probe) brought(ctx context.Context, w provider.Warmer, key string) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Minute) {
		state, err := w.Warm(ctx, key, provider.WarmOptions{Days: 1, Urgent: true})
		switch {
		case err != nil:
			return err
		case state == provider.Ready:
			return nil
		case state != provider.Pending:
			return fmt.Errorf("warm gives state %q", state)
		}
		if _, _, err := read(ctx, p.store, key, provider.GetOptions{}); err != nil && !errors.Is(err, provider.ErrCold) {
			return fmt.Errorf("get of an object that is coming back gives %v, want ErrCold", err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func warmAgain(ctx context.Context, p *probe) error {
	w, err := p.warmer()
	if err != nil {
		return err
	}
	put, err := p.put(ctx, "cold", "what was cold", provider.PutOptions{})
	if err == nil {
		err = p.cool(ctx, put.Key)
	}
	if err != nil {
		return err
	}
	for _, o := range []provider.WarmOptions{{}, {}, {Urgent: true}, {Days: 3}} {
		if state, err := w.Warm(ctx, put.Key, o); err != nil || state != provider.Pending && state != provider.Ready {
			return fmt.Errorf("warm with %+v gives %q, %v", o, state, err)
		}
	}
	if other, ok := provider.As[provider.Warmer](p.second); ok {
		if state, err := other.Warm(ctx, put.Key, provider.WarmOptions{}); err != nil {
			return fmt.Errorf("another caller gets %q, %v", state, err)
		}
	}
	return nil
}

func warmReadable(ctx context.Context, p *probe) error {
	w, err := p.warmer()
	if err != nil {
		return err
	}
	put, err := p.put(ctx, "readable", "at hand", provider.PutOptions{})
	if err != nil {
		return err
	}
	if state, err := w.Warm(ctx, put.Key, provider.WarmOptions{}); err != nil || state != provider.Ready {
		return fmt.Errorf("warm gives %q, %v, want Ready", state, err)
	}
	if _, err := w.Warm(ctx, put.Key, provider.WarmOptions{Days: -1}); err == nil {
		return errors.New("warm takes Days of -1")
	}
	if body, info, err := read(ctx, p.second, put.Key, provider.GetOptions{}); err != nil || string(body) != "at hand" || info.Version != put.Version {
		return fmt.Errorf("get gives %q, version %q, %v", body, info.Version, err)
	}
	return nil
}

func warmMissing(ctx context.Context, p *probe) error {
	w, err := p.warmer()
	if err != nil {
		return err
	}
	if state, err := w.Warm(ctx, p.key("missing"), provider.WarmOptions{}); !errors.Is(err, provider.ErrNotFound) {
		return fmt.Errorf("warm gives %q, %v, want ErrNotFound", state, err)
	}
	return nil
}

func warmEnded(ctx context.Context, p *probe) error {
	w, err := p.warmer()
	if err != nil {
		return err
	}
	put, err := p.put(ctx, "readable", "at hand", provider.PutOptions{})
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if state, err := w.Warm(ended, put.Key, provider.WarmOptions{}); !errors.Is(err, context.Canceled) {
		return fmt.Errorf("warm gives %q, %v, want context.Canceled", state, err)
	}
	return nil
}
