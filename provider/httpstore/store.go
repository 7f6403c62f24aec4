package httpstore

import (
	"context"
	"io"
	"iter"

	"github.com/holdfast-go/holdfast/provider"
)

// New returns a store that asks the server at c.URL. It does no I/O.
func New(c Config) (*Store, error) { panic("httpstore: not yet") }

// Get implements [provider.BlobStore].
func (s *Store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	panic("httpstore: not yet")
}

// Put implements [provider.BlobStore]. The body is read once to hash it if
// o.SHA256 is zero, and once to send it.
func (s *Store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	panic("httpstore: not yet")
}

// Stat implements [provider.BlobStore].
func (s *Store) Stat(ctx context.Context, key string) (provider.Info, error) {
	panic("httpstore: not yet")
}

// Delete implements [provider.BlobStore].
func (s *Store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	panic("httpstore: not yet")
}

// List implements [provider.BlobStore].
func (s *Store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	panic("httpstore: not yet")
}

// Lock implements [provider.Locker].
func (s *Store) Lock(ctx context.Context, key string, r provider.Retention) error {
	panic("httpstore: not yet")
}
