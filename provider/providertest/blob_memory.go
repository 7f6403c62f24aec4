package providertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/provider"
)

// Memory is a [provider.BlobStore] that keeps its objects in memory: the
// store for tests of code that uses one. It keeps the whole contract, locks
// included, takes every valid key, and waits for nothing but a mutex held for
// a moment, so it works inside a bubble of [testing/synctest].
type Memory struct {
	mu      sync.Mutex
	objects map[string]object
	puts    int64 // successful ones; makes every Version new
}

type object struct {
	info provider.Info
	body []byte            // never changed once stored
	cold *cold             // nil where it can be read
	tags map[string]string // never changed once stored
}

// cold is a tier that cannot be read at once. It is not changed.
type cold struct {
	takes time.Duration // until what was asked for is there
	asked time.Time     // zero: nobody has asked yet
}

func (c *cold) readable() bool {
	return c == nil || !c.asked.IsZero() && time.Since(c.asked) >= c.takes
}

var (
	_ provider.BlobStore = (*Memory)(nil)
	_ provider.Locker    = (*Memory)(nil)
	_ provider.Warmer    = (*Memory)(nil)
	_ provider.Copier    = (*Memory)(nil)
	_ provider.Tagger    = (*Memory)(nil)
)

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{objects: map[string]object{}}
}

// Get implements [provider.BlobStore].
func (m *Memory) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	obj, err := m.find(ctx, key)
	switch {
	case err != nil:
	case o.Version != "" && o.Version != obj.info.Version:
		err = provider.ErrNotFound
	case o.Offset < 0 || o.Length < 0 || o.Offset > 0 && o.Offset >= obj.info.Size:
		err = provider.ErrRange
	case !obj.cold.readable():
		err = provider.ErrCold
	}
	if err != nil {
		return nil, provider.Info{}, memoryError("get", key, err)
	}
	b := obj.body[o.Offset:]
	if o.Length > 0 {
		b = b[:min(o.Length, int64(len(b)))]
	}
	return io.NopCloser(bytes.NewReader(b)), obj.describe(time.Now()), nil
}

// Stat implements [provider.BlobStore].
func (m *Memory) Stat(ctx context.Context, key string) (provider.Info, error) {
	obj, err := m.find(ctx, key)
	if err != nil {
		return provider.Info{}, memoryError("stat", key, err)
	}
	return obj.describe(time.Now()), nil
}

// Put implements [provider.BlobStore]. It takes effect, and its conditions
// are judged, at one moment after the whole body has been read.
func (m *Memory) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := m.put(ctx, key, body, o)
	if err != nil {
		return provider.Info{}, memoryError("put", key, err)
	}
	return info, nil
}

func (m *Memory) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	if err := errors.Join(checkMemoryKey(key), checkMemoryMeta(o.Meta), checkMemoryRetention(o.Retain)); err != nil {
		return provider.Info{}, err
	}
	b, err := readBody(ctx, body)
	if err != nil {
		return provider.Info{}, err
	}
	sum := sha256.Sum256(b)
	if o.SHA256 != [32]byte{} && o.SHA256 != sum {
		return provider.Info{}, provider.ErrCorrupt
	}
	return m.commit(key, b, sum, nil, o)
}

// CopyFrom implements [provider.Copier]; any Memory is of the same service.
func (m *Memory) CopyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	info, err := m.copyFrom(ctx, key, from, source, o)
	if err != nil {
		return provider.Info{}, memoryError("copy", key, err)
	}
	return info, nil
}

func (m *Memory) copyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	origin, fromKey, ok := provider.Located[*Memory](from, source.Key)
	if !ok {
		return provider.Info{}, fmt.Errorf("the source is no Memory: %w", errors.ErrUnsupported)
	}
	if err := errors.Join(checkMemoryKey(key), checkMemoryMeta(o.Meta), checkMemoryRetention(o.Retain)); err != nil {
		return provider.Info{}, err
	}
	obj, err := origin.find(ctx, fromKey)
	switch {
	case err != nil:
		return provider.Info{}, fmt.Errorf("source: %w", err)
	case source.Version != "" && source.Version != obj.info.Version:
		return provider.Info{}, fmt.Errorf("source: %w", provider.ErrNotFound)
	case !obj.cold.readable():
		return provider.Info{}, provider.ErrCold
	case o.SHA256 != [32]byte{} && o.SHA256 != obj.info.SHA256:
		return provider.Info{}, provider.ErrCorrupt
	}
	if o.Meta == nil {
		o.Meta = obj.info.Meta
	}
	return m.commit(key, obj.body, obj.info.SHA256, obj.tags, o)
}

// commit stores what has been read.
func (m *Memory) commit(key string, b []byte, sum [32]byte, tags map[string]string, o provider.PutOptions) (provider.Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	old, exists := m.objects[key]
	switch {
	case o.IfAbsent && exists, o.IfMatch != "" && (!exists || old.info.Version != o.IfMatch):
		return provider.Info{}, provider.ErrConflict
	case exists && inForce(old.info.Retain, now):
		return provider.Info{}, provider.ErrLocked
	}
	m.puts++
	obj := object{body: b, tags: maps.Clone(tags), info: provider.Info{
		Key:      key,
		Size:     int64(len(b)),
		Modified: now.UTC(),
		Version:  provider.Version(fmt.Sprintf("m%d", m.puts)),
		SHA256:   sum,
		Meta:     maps.Clone(o.Meta),
		Retain:   o.Retain,
	}}
	m.objects[key] = obj
	return obj.describe(now), nil
}

// Delete implements [provider.BlobStore].
func (m *Memory) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	if err := errors.Join(checkMemoryKey(key), ctx.Err()); err != nil {
		return memoryError("delete", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old, exists := m.objects[key]
	switch {
	case !exists:
		return nil
	case o.Version != "" && o.Version != old.info.Version:
		return memoryError("delete", key, provider.ErrConflict)
	case inForce(old.info.Retain, time.Now()):
		return memoryError("delete", key, provider.ErrLocked)
	}
	delete(m.objects, key)
	return nil
}

// List implements [provider.BlobStore]. It yields the objects there were when
// the iteration began.
func (m *Memory) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for _, obj := range m.matching(prefix, o.StartAfter) {
			if ctx.Err() != nil {
				break
			}
			if !yield(obj.describe(time.Now()), nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(provider.Info{}, memoryError("list", prefix, err))
		}
	}
}

func (m *Memory) matching(prefix, after string) []object {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.objects {
		if strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	found := make([]object, len(keys))
	for i, key := range keys {
		found[i] = m.objects[key]
	}
	return found
}

// Lock implements [provider.Locker].
func (m *Memory) Lock(ctx context.Context, key string, r provider.Retention) error {
	err := errors.Join(checkMemoryKey(key), checkMemoryRetention(r), ctx.Err())
	if err == nil {
		err = m.lock(key, r)
	}
	if err != nil {
		return memoryError("lock", key, err)
	}
	return nil
}

func (m *Memory) lock(key string, r provider.Retention) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, exists := m.objects[key]
	switch {
	case !exists:
		return provider.ErrNotFound
	case weaker(r, obj.info.Retain, time.Now()):
		return provider.ErrLocked
	}
	obj.info.Retain = r
	m.objects[key] = obj
	return nil
}

// Cool moves an object to a cold tier: Get is ErrCold until Warm has been
// called and so much time has passed since. [provider.ErrNotFound].
func (m *Memory) Cool(key string, takes time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.objects[key]
	if !ok {
		return memoryError("cool", key, provider.ErrNotFound)
	}
	obj.cold = &cold{takes: takes}
	m.objects[key] = obj
	return nil
}

// Warm implements [provider.Warmer].
func (m *Memory) Warm(ctx context.Context, key string, o provider.WarmOptions) (provider.State, error) {
	err := errors.Join(checkMemoryKey(key), ctx.Err())
	if err == nil && o.Days < 0 {
		err = fmt.Errorf("warm: Days is %d", o.Days)
	}
	if err != nil {
		return "", memoryError("warm", key, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.objects[key]
	switch {
	case !ok:
		return "", memoryError("warm", key, provider.ErrNotFound)
	case obj.cold != nil && obj.cold.asked.IsZero():
		obj.cold = &cold{takes: obj.cold.takes, asked: time.Now()}
		m.objects[key] = obj
	}
	if !obj.cold.readable() {
		return provider.Pending, nil
	}
	return provider.Ready, nil
}

func (m *Memory) find(ctx context.Context, key string) (object, error) {
	if err := errors.Join(checkMemoryKey(key), ctx.Err()); err != nil {
		return object{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	obj, ok := m.objects[key]
	if !ok {
		return object{}, provider.ErrNotFound
	}
	return obj, nil
}

// describe returns an Info that shares nothing with the store.
func (o object) describe(now time.Time) provider.Info {
	i := o.info
	i.Meta = maps.Clone(i.Meta)
	if !inForce(i.Retain, now) {
		i.Retain = provider.Retention{}
	}
	return i
}

// weaker reports whether r would take something away from what old protects.
func weaker(r, old provider.Retention, now time.Time) bool {
	return inForce(old, now) && (r.Until.Before(old.Until) || old.Mode == provider.Compliance && r.Mode != provider.Compliance)
}

func inForce(r provider.Retention, now time.Time) bool { return now.Before(r.Until) }

// readBody reads a body in pieces, so that an ended ctx is noticed.
func readBody(ctx context.Context, body provider.Body) ([]byte, error) {
	const piece = 1 << 20
	b := make([]byte, 0, min(body.Size(), piece))
	for int64(len(b)) < body.Size() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		off := int64(len(b))
		n := min(piece, body.Size()-off)
		b = slices.Grow(b, int(n))[:off+n]
		got, err := body.ReadAt(b[off:], off)
		switch {
		case int64(got) == n:
		case err == nil || err == io.EOF:
			return nil, fmt.Errorf("body ended at %d of %d bytes: %w", off+int64(got), body.Size(), io.ErrUnexpectedEOF)
		default:
			return nil, fmt.Errorf("body at %d of %d bytes: %w", off+int64(got), body.Size(), err)
		}
	}
	return b, ctx.Err()
}

func memoryError(op, key string, err error) error {
	return &provider.Error{Op: op, Provider: "memory", Key: key, Err: err}
}

func checkMemoryKey(key string) error {
	if key == "" || len(key) > 1024 || !utf8.ValidString(key) {
		return provider.ErrInvalidKey
	}
	return nil
}

func checkMemoryRetention(r provider.Retention) error {
	if r.IsZero() || (r.Mode == provider.Governance || r.Mode == provider.Compliance) && !r.Until.IsZero() {
		return nil
	}
	return fmt.Errorf("retain: want a mode and a time, got mode %q until %v", r.Mode, r.Until)
}

func checkMemoryMeta(meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("meta: key %q is not of [a-z0-9-]", k)
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(v) != v {
			return fmt.Errorf("meta: value of %q is not printable ASCII, or begins or ends with a space", k)
		}
	}
	if total > 2048 {
		return fmt.Errorf("meta: %d bytes, more than 2048", total)
	}
	return nil
}
