package providertest

import (
	"context"
	"io"
	"io/fs"
	"iter"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// A Policy says whether a credential may make a call: op is that of a [Call],
// key the whole key or, of a list and of versions, the prefix.
type Policy func(op, key string) bool

// CreateOnly is the policy of a writer that can neither delete nor read what
// lies under the given prefixes: it may put, list, and get and stat all other
// keys. It may also put over what is there: most stores cannot forbid that,
// and a bucket that keeps and locks versions makes it harmless.
func CreateOnly(noGet ...string) Policy {
	return func(op, key string) bool {
		switch op {
		case "put", "list", "versions":
			return true
		case "get", "stat":
			for _, prefix := range noGet {
				if strings.HasPrefix(key, prefix) {
					return false
				}
			}
			return true
		}
		return false
	}
}

// As opens the bucket with a credential that may do what the policy allows.
// Every other call changes nothing and fails with [fs.ErrPermission]. The
// handle is a [provider.Versioner] and a [provider.Locker], too.
func (b *Bucket) As(p Policy) provider.BlobStore { return &credential{b, p} }

type credential struct {
	bucket *Bucket
	policy Policy
}

var (
	_ provider.Locker    = (*credential)(nil)
	_ provider.Versioner = (*credential)(nil)
)

func (c *credential) allow(op, key string) error {
	if c.policy(op, key) {
		return nil
	}
	return bucketError(op, key, fs.ErrPermission)
}

func (c *credential) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if err := c.allow("get", key); err != nil {
		return nil, provider.Info{}, err
	}
	return c.bucket.Get(ctx, key, o)
}

func (c *credential) Stat(ctx context.Context, key string) (provider.Info, error) {
	if err := c.allow("stat", key); err != nil {
		return provider.Info{}, err
	}
	return c.bucket.Stat(ctx, key)
}

func (c *credential) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	if err := c.allow("put", key); err != nil {
		return provider.Info{}, err
	}
	return c.bucket.Put(ctx, key, body, o)
}

func (c *credential) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	if err := c.allow("delete", key); err != nil {
		return err
	}
	return c.bucket.Delete(ctx, key, o)
}

func (c *credential) Lock(ctx context.Context, key string, r provider.Retention) error {
	if err := c.allow("lock", key); err != nil {
		return err
	}
	return c.bucket.Lock(ctx, key, r)
}

func (c *credential) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if err := c.allow("list", prefix); err != nil {
		return func(yield func(provider.Info, error) bool) { yield(provider.Info{}, err) }
	}
	return c.bucket.List(ctx, prefix, o)
}

func (c *credential) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	if err := c.allow("versions", prefix); err != nil {
		return func(yield func(provider.VersionInfo, error) bool) { yield(provider.VersionInfo{}, err) }
	}
	return c.bucket.Versions(ctx, prefix, o)
}
