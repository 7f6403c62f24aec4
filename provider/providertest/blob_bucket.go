package providertest

import (
	"bytes"
	"cmp"
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

	"github.com/holdfast-go/holdfast/provider"
)

// BucketOptions say what kind of bucket [NewBucket] makes. The zero value
// keeps every version, and puts none under retention that was not asked for.
type BucketOptions struct {
	// DefaultLock and DefaultKeep put every version that is written without
	// Retain under this retention for so long. Empty means Compliance, zero
	// means none.
	DefaultLock provider.LockMode
	DefaultKeep time.Duration
}

// Bucket is a [provider.BlobStore] in memory that keeps every version, as a
// bucket of S3 with versioning and object lock does: Put makes a new version
// above the others, whatever their retention, and Delete hides the present
// one. It is a [provider.Versioner], a [provider.Locker] and a [provider.Tagger],
// and works inside a bubble of [testing/synctest].
//
// A Bucket is its owner's handle. [Bucket.As] opens it with the credential of
// another; what somebody does who has stolen a credential and does not use
// this library is [Bucket.Hide] and [Bucket.DeleteVersion].
type Bucket struct {
	o BucketOptions

	mu   sync.Mutex
	keys map[string][]*version // the oldest first
	puts int64
}

type version struct {
	object
	deleted bool
}

var (
	_ provider.BlobStore = (*Bucket)(nil)
	_ provider.Locker    = (*Bucket)(nil)
	_ provider.Versioner = (*Bucket)(nil)
	_ provider.Tagger    = (*Bucket)(nil)
)

// NewBucket returns an empty bucket.
func NewBucket(o BucketOptions) *Bucket {
	return &Bucket{o: o, keys: map[string][]*version{}}
}

// present returns what Stat describes; m.mu is held.
func (b *Bucket) present(key string) *version {
	all := b.keys[key]
	if len(all) == 0 || all[len(all)-1].deleted {
		return nil
	}
	return all[len(all)-1]
}

// find returns a version of a key, the present one if v is empty.
func (b *Bucket) find(ctx context.Context, key string, v provider.Version) (object, error) {
	if err := errors.Join(checkMemoryKey(key), ctx.Err()); err != nil {
		return object{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v == "" {
		if p := b.present(key); p != nil {
			return p.object, nil
		}
		return object{}, provider.ErrNotFound
	}
	for _, have := range b.keys[key] {
		if have.info.Version == v {
			return have.object, nil
		}
	}
	return object{}, provider.ErrNotFound
}

// Get implements [provider.BlobStore].
func (b *Bucket) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	obj, err := b.find(ctx, key, o.Version)
	if err == nil && (o.Offset < 0 || o.Length < 0 || o.Offset > 0 && o.Offset >= obj.info.Size) {
		err = provider.ErrRange
	}
	if err != nil {
		return nil, provider.Info{}, bucketError("get", key, err)
	}
	part := obj.body[o.Offset:]
	if o.Length > 0 {
		part = part[:min(o.Length, int64(len(part)))]
	}
	return io.NopCloser(bytes.NewReader(part)), obj.describe(time.Now()), nil
}

// Stat implements [provider.BlobStore].
func (b *Bucket) Stat(ctx context.Context, key string) (provider.Info, error) {
	obj, err := b.find(ctx, key, "")
	if err != nil {
		return provider.Info{}, bucketError("stat", key, err)
	}
	return obj.describe(time.Now()), nil
}

// Put implements [provider.BlobStore].
func (b *Bucket) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := b.put(ctx, key, body, o)
	if err != nil {
		return provider.Info{}, bucketError("put", key, err)
	}
	return info, nil
}

func (b *Bucket) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	if err := errors.Join(checkMemoryKey(key), checkMemoryMeta(o.Meta), checkMemoryRetention(o.Retain)); err != nil {
		return provider.Info{}, err
	}
	content, err := readBody(ctx, body)
	if err != nil {
		return provider.Info{}, err
	}
	sum := sha256.Sum256(content)
	if o.SHA256 != [32]byte{} && o.SHA256 != sum {
		return provider.Info{}, provider.ErrCorrupt
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.present(key)
	if o.IfAbsent && old != nil || o.IfMatch != "" && (old == nil || old.info.Version != o.IfMatch) {
		return provider.Info{}, provider.ErrConflict
	}
	now := time.Now().UTC()
	if o.Retain.IsZero() && b.o.DefaultKeep > 0 {
		o.Retain = provider.Retention{Mode: cmp.Or(b.o.DefaultLock, provider.Compliance), Until: now.Add(b.o.DefaultKeep)}
	}
	b.puts++
	v := &version{object: object{body: content, info: provider.Info{
		Key:      key,
		Size:     int64(len(content)),
		Modified: now,
		Version:  provider.Version(fmt.Sprintf("b%d", b.puts)),
		SHA256:   sum,
		Meta:     maps.Clone(o.Meta),
		Retain:   o.Retain,
	}}}
	b.keys[key] = append(b.keys[key], v)
	return v.describe(now), nil
}

// Delete implements [provider.BlobStore]: the version under it stays.
func (b *Bucket) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	if err := errors.Join(checkMemoryKey(key), ctx.Err()); err != nil {
		return bucketError("delete", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch old := b.present(key); {
	case old == nil:
	case o.Version != "" && o.Version != old.info.Version:
		return bucketError("delete", key, provider.ErrConflict)
	case inForce(old.info.Retain, time.Now()):
		return bucketError("delete", key, provider.ErrLocked)
	default:
		b.hide(key)
	}
	return nil
}

func (b *Bucket) hide(key string) {
	b.keys[key] = append(b.keys[key], &version{deleted: true, object: object{info: provider.Info{Key: key, Modified: time.Now().UTC()}}})
}

// Hide does what the plain delete of S3 does: it puts a delete marker over a
// key, whatever its retention. No version is lost.
func (b *Bucket) Hide(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hide(key)
}

// DeleteVersion removes one version for good. [provider.ErrLocked] under
// retention, [provider.ErrNotFound].
func (b *Bucket) DeleteVersion(key string, v provider.Version) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, have := range b.keys[key] {
		if have.deleted || have.info.Version != v {
			continue
		}
		if inForce(have.info.Retain, time.Now()) {
			return bucketError("delete version", key, provider.ErrLocked)
		}
		b.keys[key] = slices.Delete(b.keys[key], i, i+1)
		return nil
	}
	return bucketError("delete version", key, provider.ErrNotFound)
}

// List implements [provider.BlobStore]. It yields the objects there were when
// the iteration began.
func (b *Bucket) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for v, err := range b.Versions(ctx, prefix, o) {
			if err != nil {
				yield(provider.Info{}, bucketError("list", prefix, ctx.Err()))
				return
			}
			if present, err := b.find(ctx, v.Key, ""); err != nil || v.Deleted || present.info.Version != v.Version {
				continue // not the present one
			}
			if !yield(v.Info, nil) {
				return
			}
		}
	}
}

// Versions implements [provider.Versioner]. It yields the versions there were
// when the iteration began.
func (b *Bucket) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for _, v := range b.matching(prefix, o.StartAfter) {
			if ctx.Err() != nil {
				break
			}
			if !yield(v, nil) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(provider.VersionInfo{}, bucketError("versions", prefix, err))
		}
	}
}

func (b *Bucket) matching(prefix, after string) []provider.VersionInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []provider.VersionInfo
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		if !strings.HasPrefix(key, prefix) || key <= after {
			continue
		}
		for _, v := range b.keys[key] {
			found = append(found, provider.VersionInfo{Info: v.describe(time.Now()), Deleted: v.deleted})
		}
	}
	return found
}

// Lock implements [provider.Locker], for the present version.
func (b *Bucket) Lock(ctx context.Context, key string, r provider.Retention) error {
	err := errors.Join(checkMemoryKey(key), checkMemoryRetention(r), ctx.Err())
	if err != nil {
		return bucketError("lock", key, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.present(key)
	switch {
	case v == nil:
		return bucketError("lock", key, provider.ErrNotFound)
	case weaker(r, v.info.Retain, time.Now()):
		return bucketError("lock", key, provider.ErrLocked)
	}
	v.info.Retain = r
	return nil
}

func bucketError(op, key string, err error) error {
	return &provider.Error{Op: op, Provider: "bucket", Key: key, Err: err}
}
