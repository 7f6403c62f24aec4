package providertest_test

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-go/holdfast/provider"
)

// afterwards makes Warm do what is given after what it does.
func afterwards(b *broken, change func(ctx context.Context, key string, state provider.State, err error) (provider.State, error)) {
	b.warm = func(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
		state, err := b.good.Warm(ctx, key, o)
		return change(ctx, key, state, err)
	}
}

var brokenWarms = []breakage{
	{"calls what is in a cold tier lost", func(b *broken) {
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			rc, info, err := b.good.Get(ctx, key, o)
			if errors.Is(err, provider.ErrCold) {
				err = provider.ErrNotFound
			}
			return rc, info, err
		}
	}, []string{"blob/warm"}},

	{"says Ready before it is", func(b *broken) {
		afterwards(b, func(_ context.Context, _ string, state provider.State, err error) (provider.State, error) {
			if err == nil {
				state = provider.Ready
			}
			return state, err
		})
	}, []string{"blob/warm"}},

	{"writes what it warms anew", func(b *broken) {
		afterwards(b, func(ctx context.Context, key string, state provider.State, err error) (provider.State, error) {
			if err == nil && state == provider.Ready {
				rc, _, _ := b.good.Get(ctx, key, provider.GetOptions{})
				body, _ := io.ReadAll(rc)
				_, err = b.good.Put(ctx, key, provider.Bytes(body), provider.PutOptions{})
			}
			return state, err
		})
	}, []string{"blob/warm", "blob/warm-readable"}},

	{"refuses to be asked again", func(b *broken) {
		asked := map[string]bool{}
		afterwards(b, func(_ context.Context, key string, state provider.State, err error) (provider.State, error) {
			if err == nil && state == provider.Pending && asked[key] {
				return "", errors.New("RestoreAlreadyInProgress")
			}
			asked[key] = true
			return state, err
		})
	}, []string{"blob/warm", "blob/warm-again"}},

	{"says Pending of what can be read", func(b *broken) {
		afterwards(b, func(ctx context.Context, key string, state provider.State, err error) (provider.State, error) {
			if info, statErr := b.good.Stat(ctx, key); statErr == nil && info.Size == int64(len("at hand")) && err == nil {
				state = provider.Pending
			}
			return state, err
		})
	}, []string{"blob/warm-readable"}},

	{"takes any number of days", func(b *broken) {
		b.warm = func(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
			return b.good.Warm(ctx, key, provider.WarmOptions{Urgent: o.Urgent})
		}
	}, []string{"blob/warm-readable"}},

	{"warms what is not there", func(b *broken) {
		afterwards(b, func(_ context.Context, _ string, state provider.State, err error) (provider.State, error) {
			if errors.Is(err, provider.ErrNotFound) {
				return provider.Ready, nil
			}
			return state, err
		})
	}, []string{"blob/warm-missing"}},

	{"warms for callers who have gone", func(b *broken) {
		b.warm = func(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
			return b.good.Warm(context.WithoutCancel(ctx), key, o)
		}
	}, []string{"blob/warm-ended"}},

	{"does not tell why", func(b *broken) {
		afterwards(b, func(_ context.Context, _ string, state provider.State, err error) (provider.State, error) {
			if err != nil {
				err = fmt.Errorf("warm: %v", err)
			}
			return state, err
		})
	}, []string{"blob/warm-missing", "blob/warm-ended"}},
}
