package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/provider"
)

// Tags implements [provider.Tagger].
func (m *Memory) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	obj, err := m.find(ctx, key)
	if err == nil && v != "" && v != obj.info.Version {
		err = provider.ErrNotFound
	}
	if err != nil {
		return nil, memoryError("tags", key, err)
	}
	return maps.Clone(obj.tags), nil
}

// SetTags implements [provider.Tagger].
func (m *Memory) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	kept, err := keptTags(ctx, key, tags)
	if err != nil {
		return memoryError("set tags", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.objects[key]
	if !ok || v != "" && v != obj.info.Version {
		return memoryError("set tags", key, provider.ErrNotFound)
	}
	obj.tags = kept
	m.objects[key] = obj
	return nil
}

// Tags implements [provider.Tagger].
func (b *Bucket) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	obj, err := b.find(ctx, key, v)
	if err != nil {
		return nil, bucketError("tags", key, err)
	}
	return maps.Clone(obj.tags), nil
}

// SetTags implements [provider.Tagger].
func (b *Bucket) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	kept, err := keptTags(ctx, key, tags)
	if err != nil {
		return bucketError("set tags", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v == "" {
		if p := b.present(key); p != nil {
			p.tags = kept
			return nil
		}
	}
	for _, have := range b.keys[key] {
		if v != "" && have.info.Version == v {
			have.tags = kept
			return nil
		}
	}
	return bucketError("set tags", key, provider.ErrNotFound)
}

// keptTags is what a store in memory keeps of tags: a copy, if they are of the
// contract.
func keptTags(ctx context.Context, key string, tags map[string]string) (map[string]string, error) {
	if err := errors.Join(checkMemoryKey(key), ctx.Err()); err != nil || len(tags) == 0 {
		return nil, err
	}
	unkept := func(r rune) bool {
		return r == utf8.RuneError || r > '~' || !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" +-.:=_/", r))
	}
	for k, v := range tags {
		if len(tags) > 10 || k == "" || len(k) > 128 || len(v) > 256 || strings.ContainsFunc(k+v, unkept) || strings.TrimSpace(k) != k || strings.TrimSpace(v) != v {
			return nil, fmt.Errorf("the tag %q: %w", k, errors.ErrUnsupported)
		}
	}
	return maps.Clone(tags), nil
}
