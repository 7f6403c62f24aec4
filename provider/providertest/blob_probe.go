package providertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

// put stores content under a name.
func (p *probe) put(ctx context.Context, name, content string, o provider.PutOptions) (provider.Info, error) {
	info, err := p.store.Put(ctx, p.key(name), strings.NewReader(content), o)
	if err != nil {
		return info, fmt.Errorf("put %q: %w", name, err)
	}
	return info, nil
}

// putAll stores an object with its own name as content for each name.
func (p *probe) putAll(ctx context.Context, names []string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for _, name := range names {
		g.Go(func() error {
			_, err := p.put(ctx, name, name, provider.PutOptions{})
			return err
		})
	}
	return g.Wait()
}

// read returns the bytes of a part of an object.
func read(ctx context.Context, s provider.BlobStore, key string, o provider.GetOptions) ([]byte, provider.Info, error) {
	r, info, err := s.Get(ctx, key, o)
	if err != nil {
		return nil, info, err
	}
	b, err := io.ReadAll(r)
	return b, info, errors.Join(err, r.Close())
}

// holds checks that both handles find content, and nothing else, under a name.
func (p *probe) holds(ctx context.Context, name, content string) error {
	for _, s := range []provider.BlobStore{p.store, p.second} {
		b, info, err := read(ctx, s, p.key(name), provider.GetOptions{})
		if err != nil {
			return fmt.Errorf("get %q: %w", name, err)
		}
		if err := same(b, []byte(content)); err != nil {
			return fmt.Errorf("get %q: %w", name, err)
		}
		if info.Size != int64(len(content)) {
			return fmt.Errorf("get %q: Info.Size is %d, want %d", name, info.Size, len(content))
		}
	}
	return nil
}

// absent checks that nothing at all is seen of a name.
func (p *probe) absent(ctx context.Context, name string) error {
	return p.absentKey(ctx, p.key(name))
}

func (p *probe) absentKey(ctx context.Context, key string) error {
	for _, s := range []provider.BlobStore{p.store, p.second} {
		r, _, err := s.Get(ctx, key, provider.GetOptions{})
		if err == nil {
			r.Close()
		}
		if err := want(err, provider.ErrNotFound, provider.ErrInvalidKey); err != nil {
			return fmt.Errorf("get %q, where nothing may be: %w", key, err)
		}
		_, err = s.Stat(ctx, key)
		if err := want(err, provider.ErrNotFound, provider.ErrInvalidKey); err != nil {
			return fmt.Errorf("stat %q, where nothing may be: %w", key, err)
		}
		for info, err := range s.List(ctx, key, provider.ListOptions{}) {
			if err != nil && !errors.Is(err, provider.ErrInvalidKey) {
				return fmt.Errorf("list %q: %w", key, err)
			}
			if err == nil && info.Key == key {
				return fmt.Errorf("list shows %q, where nothing may be", key)
			}
		}
	}
	return nil
}

// list returns the names below prefix, which is within the probe's own.
func (p *probe) list(ctx context.Context, s provider.BlobStore, prefix string, o provider.ListOptions) ([]string, error) {
	if o.StartAfter != "" {
		o.StartAfter = p.prefix + o.StartAfter
	}
	var names []string
	for info, err := range s.List(ctx, p.prefix+prefix, o) {
		if err != nil {
			return names, fmt.Errorf("list %q: %w", prefix, err)
		}
		name, ok := strings.CutPrefix(info.Key, p.prefix)
		if !ok {
			return names, fmt.Errorf("list %q: yields %q, which does not begin with it", prefix, info.Key)
		}
		names = append(names, name)
	}
	return names, nil
}

// want checks that err matches one of the given errors.
func want(err error, targets ...error) error {
	for _, t := range targets {
		if errors.Is(err, t) {
			return nil
		}
	}
	if err == nil {
		return fmt.Errorf("no error, want %q", targets[0])
	}
	return fmt.Errorf("error does not match %q: %w", targets[0], err)
}

// same compares contents and says where they part.
func same(got, want []byte) error {
	if bytes.Equal(got, want) {
		return nil
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	return fmt.Errorf("got %d bytes, want %d; the first difference is at %d", len(got), len(want), at)
}

// noise returns n bytes that no compression shortens, the same for one seed.
func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}
