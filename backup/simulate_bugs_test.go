package backup_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// foresight lists what is below some prefixes before the session is recorded.
type foresight struct {
	provider.BlobStore
	prefixes []string
	mu       sync.Mutex
	seen     map[string][]provider.Info
}

func foreseeing(prefixes ...string) func(provider.BlobStore) provider.BlobStore {
	return func(s provider.BlobStore) provider.BlobStore { return &foresight{BlobStore: s, prefixes: prefixes} }
}

func (f *foresight) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.HasPrefix(key, "sessions/") {
		all := map[string][]provider.Info{}
		for _, prefix := range f.prefixes {
			for info, err := range f.BlobStore.List(ctx, prefix, provider.ListOptions{}) {
				if err == nil {
					all[prefix] = append(all[prefix], info)
				}
			}
		}
		f.mu.Lock()
		f.seen = all
		f.mu.Unlock()
	}
	return f.BlobStore.Put(ctx, key, b, o)
}

func (f *foresight) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if !slices.Contains(f.prefixes, prefix) {
		return f.BlobStore.List(ctx, prefix, o)
	}
	return func(yield func(provider.Info, error) bool) {
		f.mu.Lock()
		all := f.seen[prefix]
		f.mu.Unlock()
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

// manifestFirst says that packs are stored, and stores them after the
// manifest.
type manifestFirst struct {
	provider.BlobStore
	mu   sync.Mutex
	held []func() error
}

func (m *manifestFirst) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(key, "data/"), strings.HasPrefix(key, "meta/"):
		all := make([]byte, b.Size())
		if _, err := b.ReadAt(all, 0); err != nil && !errors.Is(err, io.EOF) {
			return provider.Info{}, err
		}
		m.held = append(m.held, func() error {
			_, err := m.BlobStore.Put(ctx, key, provider.Bytes(all), o)
			return err
		})
		return provider.Info{Key: key, Size: b.Size()}, nil
	case strings.HasPrefix(key, "points/"):
		info, err := m.BlobStore.Put(ctx, key, b, o)
		for _, put := range m.held {
			err = errors.Join(err, put())
		}
		m.held = nil
		return info, err
	}
	return m.BlobStore.Put(ctx, key, b, o)
}

// hasty waits for no session.
type hasty struct{ provider.BlobStore }

func (h hasty) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if prefix == "sessions/" {
		return func(func(provider.Info, error) bool) {}
	}
	return h.BlobStore.List(ctx, prefix, o)
}

// planFirst deletes the plan of a generation before its packs.
type planFirst struct {
	provider.BlobStore
	mu   sync.Mutex
	plan string
}

func (p *planFirst) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := p.BlobStore.Put(ctx, key, b, o)
	if plan, _, ok := strings.Cut(key, ".deleting-"); ok {
		p.mu.Lock()
		p.plan = plan
		p.mu.Unlock()
	}
	return info, err
}

func (p *planFirst) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	p.mu.Lock()
	plan := p.plan
	if isPack(key) {
		p.plan = ""
	}
	p.mu.Unlock()
	if plan != "" && isPack(key) {
		if err := p.BlobStore.Delete(ctx, plan, provider.DeleteOptions{}); err != nil {
			return err
		}
	}
	return p.BlobStore.Delete(ctx, key, o)
}

func isPack(key string) bool {
	return strings.HasPrefix(key, "data/") || strings.HasPrefix(key, "meta/")
}

// enoughSeeds is how many simulations may be needed to find a bug; most take
// less than a hundred.
const enoughSeeds = 600

// Bugs put in on purpose are found.
func TestSimulateFindsBugs(t *testing.T) {
	for name, b := range map[string]bug{
		"manifest before data":           {writer: func(s provider.BlobStore) provider.BlobStore { return &manifestFirst{BlobStore: s} }},
		"prune without its second phase": {pruner: func(s provider.BlobStore) provider.BlobStore { return hasty{s} }},
		"condemned packs listed before the session": {writer: foreseeing("condemned/"), operations: 60,
			critical: func(r *request) bool {
				return r.op == "put" && strings.HasPrefix(r.key, "sessions/") || r.op == "delete" && isPack(r.key)
			}},
		"packs that are gone adopted": {writer: foreseeing("data/", "meta/"), operations: 60,
			lethal:   func(r *request) bool { return r.op == "put" && strings.HasPrefix(r.key, "index/") },
			critical: func(r *request) bool { return r.op == "put" && strings.HasPrefix(r.key, "sessions/") }},
		"plan deleted before the packs": {pruner: func(s provider.BlobStore) provider.BlobStore { return &planFirst{BlobStore: s} }, operations: 60, steady: true,
			critical: func(r *request) bool { return r.op == "delete" && isPack(r.key) }},
		"copies without a hold": {unheld: true, operations: 60},
		"delayed listings":      {delay: 40},
	} {
		if !long() && b.operations > 0 {
			continue // these take longer
		}
		t.Run(name, func(t *testing.T) {
			for seed := *firstSeed; seed < *firstSeed+enoughSeeds; seed++ {
				for _, v := range simulate(t, seed, b).violations {
					if strings.Contains(v, "lacks a chunk") || strings.Contains(v, "is not whole") || strings.HasPrefix(v, "restore") {
						t.Logf("seed %d: %s", seed, v)
						return
					}
				}
			}
			t.Errorf("not found with %d seeds", enoughSeeds)
		})
	}
}
