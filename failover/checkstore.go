package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// ErrUnconditional: the store ignores the conditions of a Put. A lease or a
// journal there would have two holders; use another store.
var ErrUnconditional = errors.New("the store ignores conditional writes")

// CheckStore proves that a store honours IfAbsent and IfMatch, with four
// writes to a fresh key under "probe/", which it deletes again (as far as the
// credentials allow). [ErrUnconditional] if it does not.
func CheckStore(ctx context.Context, s provider.BlobStore) error {
	key := "probe/" + lowerText()
	first, err := s.Put(ctx, key, provider.Bytes([]byte("first")), provider.PutOptions{IfAbsent: true})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	defer s.Delete(context.WithoutCancel(ctx), key, provider.DeleteOptions{})

	refused := func(what, body string, o provider.PutOptions) error {
		_, err := s.Put(ctx, key, provider.Bytes([]byte(body)), o)
		switch {
		case err == nil:
			return fmt.Errorf("%w: %s was accepted on %s", ErrUnconditional, what, key)
		case !errors.Is(err, provider.ErrConflict):
			return fmt.Errorf("check store: %s: %w", what, err)
		}
		return nil
	}
	if err := refused("IfAbsent on an object that exists", "second", provider.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	second, err := s.Put(ctx, key, provider.Bytes([]byte("third")), provider.PutOptions{IfMatch: first.Version})
	if err != nil {
		return fmt.Errorf("check store: replace with IfMatch: %w", err)
	}
	if second.Version == first.Version {
		return fmt.Errorf("%w: other bytes got the same version on %s", ErrUnconditional, key)
	}
	return refused("IfMatch with an old version", "fourth", provider.PutOptions{IfMatch: first.Version})
}

// lowerText is random text of at least 128 bits that suits any key.
func lowerText() string {
	b := []byte(rand.Text())
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c - 'A' + 'a'
		}
	}
	return string(b)
}
