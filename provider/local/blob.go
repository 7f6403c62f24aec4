package local

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// Config says where a [BlobStore] is.
type Config struct {
	// Dir is the directory of the store; required.
	Dir string

	// Create makes a new, empty store if Dir is missing or an empty
	// directory. A store that is already there is opened as it is. Leave it
	// false where a store is known to exist: a file system that is not
	// mounted is then an error, and not a new store without the backups.
	Create bool
}

// BlobStore is a [provider.BlobStore] and a [provider.Locker] in a directory.
type BlobStore struct{ c Config }

// NewBlobStore opens the store in c.Dir. Close it when done.
func NewBlobStore(c Config) (*BlobStore, error) { return nil, errors.ErrUnsupported }

// Close releases the directory. No call may be under way or follow.
func (s *BlobStore) Close() error { return errors.ErrUnsupported }

// Get implements [provider.BlobStore].
func (s *BlobStore) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return nil, provider.Info{}, errors.ErrUnsupported
}

// Put implements [provider.BlobStore].
func (s *BlobStore) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	return provider.Info{}, errors.ErrUnsupported
}

// Stat implements [provider.BlobStore].
func (s *BlobStore) Stat(ctx context.Context, key string) (provider.Info, error) {
	return provider.Info{}, errors.ErrUnsupported
}

// Delete implements [provider.BlobStore].
func (s *BlobStore) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	return errors.ErrUnsupported
}

// List implements [provider.BlobStore].
func (s *BlobStore) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) { yield(provider.Info{}, errors.ErrUnsupported) }
}

// Lock implements [provider.Locker].
func (s *BlobStore) Lock(ctx context.Context, key string, r provider.Retention) error {
	return errors.ErrUnsupported
}
