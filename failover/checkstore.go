package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// ErrUnconditional: the store ignores the conditions of a Put. A lease or a
// journal there would have two holders; use another store.
var ErrUnconditional = errors.New("the store ignores conditional writes")

// CheckStore proves that a store honours IfAbsent and IfMatch, with four
// writes to a fresh key under "probe/", which it deletes again (as far as the
// credentials allow). [ErrUnconditional] if it does not, which names the store
// as far as it is a [fmt.Stringer], and each condition that it ignored.
func CheckStore(ctx context.Context, s provider.BlobStore) error {
	key := "probe/" + lowerText()
	first, err := s.Put(ctx, key, provider.Bytes([]byte("first")), provider.PutOptions{IfAbsent: true})
	if err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	defer s.Delete(context.WithoutCancel(ctx), key, provider.DeleteOptions{})

	present := first.Version
	var ignored []string
	try := func(what, body string, o provider.PutOptions) error {
		info, err := s.Put(ctx, key, provider.Bytes([]byte(body)), o)
		switch {
		case err == nil:
			present = info.Version
			ignored = append(ignored, what)
		case !errors.Is(err, provider.ErrConflict):
			return fmt.Errorf("check store: %s: %w", what, err)
		}
		return nil
	}
	if err := try("IfAbsent on a key that has an object", "second", provider.PutOptions{IfAbsent: true}); err != nil {
		return err
	}
	old := present
	second, err := s.Put(ctx, key, provider.Bytes([]byte("third")), provider.PutOptions{IfMatch: old})
	if err != nil {
		return fmt.Errorf("check store: replace with IfMatch: %w", err)
	}
	if second.Version == old {
		return fmt.Errorf("%s: %w: other bytes got the same version on %s", nameOf(s), ErrUnconditional, key)
	}
	if err := try("IfMatch of a version that was replaced", "fourth", provider.PutOptions{IfMatch: old}); err != nil {
		return err
	}
	if len(ignored) > 0 {
		return fmt.Errorf("%s: %w: it accepted %s (key %s), so two processes could both be in charge; keep lease and journal in a store that honours both conditions",
			nameOf(s), ErrUnconditional, strings.Join(ignored, ", and "), key)
	}
	return nil
}

// nameOf says which store it is, to people.
func nameOf(s provider.BlobStore) string {
	if named, ok := provider.As[fmt.Stringer](s); ok {
		return named.String()
	}
	return fmt.Sprintf("%T", s)
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
