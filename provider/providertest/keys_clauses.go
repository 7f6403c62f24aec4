package providertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

var keysClauses = []keysClause{
	keysSentence("round-trip", "What was wrapped is unwrapped, by another handle too, with an empty context and with one of several names.", keysRoundTrip),
	keysSentence("empty-context", "No context and an empty one are equal.", keysEmptyContext),
	keysSentence("fresh", "Wrapping one secret twice gives different bytes, which do not hold it and are at most 8 KiB.", keysFresh),
	keysSentence("arguments", "Neither call changes its arguments.", keysArguments),
	keysSentence("size", "A secret that does not have 32 bytes is refused.", keysSize),
	keysSentence("context", "What is bound to another context is ErrWrongKey.", keysContext),
	keysSentence("other-key", "What another key wrapped is ErrWrongKey.", keysOther),
	keysSentence("changed", "Wrapped bytes that were changed, cut or lengthened, or are none, are ErrWrongKey.", keysChanged),
	keysSentence("missing", "A key that does not exist is ErrNotFound, to both calls.", keysMissing),
	keysSentence("rotated", "After the key was rotated, what it wrapped before is unwrapped, and what it wraps now.", keysRotated),
	keysSentence("wrap-only", "Credentials that may not unwrap can wrap, and get ErrPermission from unwrapping, also for bytes that were never wrapped.", keysWrapOnly),
	keysSentence("parallel", "Calls may be made concurrently.", keysParallel),
	keysSentence("cancelled", "A call whose context has ended fails with the context's error.", keysCancelled),
	keysSentence("down", "A service that is out of reach is an error of its own, none of this package's; when it is back, what was wrapped before is unwrapped.", keysDown),
	keysSentence("error", "An error is a *provider.Error with the ID of the key, and holds no secret.", keysError),
}

func newSecret() []byte {
	b := make([]byte, provider.WrappedSize)
	rand.Read(b)
	return b
}

// keysBound is the context of most clauses.
var keysBound = provider.EncryptionContext{"repository": "holdfast-check", "part": "root"}

// wrap wraps a new secret.
func (c *keysProbe) wrap(ctx context.Context, ec provider.EncryptionContext) (secret, wrapped []byte, err error) {
	secret = newSecret()
	wrapped, err = c.s.WrapKey(ctx, c.Key, bytes.Clone(secret), ec)
	if err != nil {
		return nil, nil, fmt.Errorf("wrap: %w", err)
	}
	return secret, wrapped, nil
}

func (c *keysProbe) unwraps(ctx context.Context, s provider.KeyUnwrapper, secret, wrapped []byte, ec provider.EncryptionContext) error {
	got, err := s.UnwrapKey(ctx, c.Key, bytes.Clone(wrapped), ec)
	if err != nil {
		return fmt.Errorf("unwrap: %w", err)
	}
	if !bytes.Equal(got, secret) {
		return fmt.Errorf("unwrapped %d bytes that are not those that were wrapped", len(got))
	}
	return nil
}

// refuses checks that nothing comes out, and why.
func (c *keysProbe) refuses(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext, target error) error {
	got, err := c.second.UnwrapKey(ctx, key, wrapped, ec)
	if len(got) > 0 {
		return fmt.Errorf("unwrapped %d bytes", len(got))
	}
	return want(err, target)
}

func keysRoundTrip(ctx context.Context, c *keysProbe) error {
	for _, ec := range []provider.EncryptionContext{nil, {"repository": "a"}, keysBound, {"name with spaces": "value: ünïcode, \"quoted\""}} {
		secret, wrapped, err := c.wrap(ctx, ec)
		if err != nil {
			return err
		}
		if err := errors.Join(c.unwraps(ctx, c.s, secret, wrapped, ec), c.unwraps(ctx, c.second, secret, wrapped, ec)); err != nil {
			return fmt.Errorf("context %q: %w", ec, err)
		}
	}
	return nil
}

func keysEmptyContext(ctx context.Context, c *keysProbe) error {
	secret, wrapped, err := c.wrap(ctx, nil)
	if err != nil {
		return err
	}
	if err := c.unwraps(ctx, c.second, secret, wrapped, provider.EncryptionContext{}); err != nil {
		return err
	}
	if secret, wrapped, err = c.wrap(ctx, provider.EncryptionContext{}); err != nil {
		return err
	}
	return c.unwraps(ctx, c.second, secret, wrapped, nil)
}

func keysFresh(ctx context.Context, c *keysProbe) error {
	secret := newSecret()
	a, err := c.s.WrapKey(ctx, c.Key, secret, keysBound)
	if err != nil {
		return err
	}
	b, err := c.s.WrapKey(ctx, c.Key, secret, keysBound)
	if err != nil {
		return err
	}
	switch {
	case bytes.Equal(a, b):
		return errors.New("both times the same bytes")
	case bytes.Contains(a, secret) || bytes.Contains(b, secret):
		return errors.New("the secret is in the wrapped bytes, in the clear")
	case max(len(a), len(b)) > 8<<10:
		return fmt.Errorf("%d bytes", max(len(a), len(b)))
	}
	return nil
}

func keysArguments(ctx context.Context, c *keysProbe) error {
	secret, ec := newSecret(), provider.EncryptionContext{"a": "b"}
	before := bytes.Clone(secret)
	wrapped, err := c.s.WrapKey(ctx, c.Key, secret, ec)
	if err != nil {
		return err
	}
	if !bytes.Equal(secret, before) || len(ec) != 1 || ec["a"] != "b" {
		return errors.New("wrapping changed its arguments")
	}
	copied := bytes.Clone(wrapped)
	got, err := c.s.UnwrapKey(ctx, c.Key, wrapped, ec)
	if err != nil {
		return err
	}
	if !bytes.Equal(wrapped, copied) || len(ec) != 1 || ec["a"] != "b" {
		return errors.New("unwrapping changed its arguments")
	}
	clear(got) // a caller clears secrets: that must not reach anything
	clear(secret)
	return c.unwraps(ctx, c.s, before, wrapped, ec)
}

func keysSize(ctx context.Context, c *keysProbe) error {
	for _, n := range []int{0, 16, 31, 33, 64} {
		if _, err := c.s.WrapKey(ctx, c.Key, make([]byte, n), keysBound); err == nil {
			return fmt.Errorf("%d bytes were wrapped", n)
		}
	}
	return nil
}

func keysContext(ctx context.Context, c *keysProbe) error {
	_, wrapped, err := c.wrap(ctx, provider.EncryptionContext{"ab": "c", "d": "e"})
	if err != nil {
		return err
	}
	for _, ec := range []provider.EncryptionContext{
		nil, {"ab": "c"}, {"ab": "c", "d": "f"}, {"ab": "c", "d": "e", "g": "h"}, {"a": "bc", "d": "e"}, {"ab": "e", "d": "c"}, {"abcd": "e"},
	} {
		if err := c.refuses(ctx, c.Key, wrapped, ec, provider.ErrWrongKey); err != nil {
			return fmt.Errorf("context %q: %w", ec, err)
		}
	}
	return nil
}

func keysOther(ctx context.Context, c *keysProbe) error {
	if c.Other == "" {
		return &skippedError{"needs KeysOptions.Other"}
	}
	_, wrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	return c.refuses(ctx, c.Other, wrapped, keysBound, provider.ErrWrongKey)
}

func keysChanged(ctx context.Context, c *keysProbe) error {
	_, wrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	flip := func(i int) []byte {
		b := bytes.Clone(wrapped)
		b[i] ^= 1
		return b
	}
	n := len(wrapped)
	for _, b := range [][]byte{flip(0), flip(n / 2), flip(n - 1), wrapped[:n-1], wrapped[1:], append(bytes.Clone(wrapped), 0), {0}, nil} {
		if err := c.refuses(ctx, c.Key, b, keysBound, provider.ErrWrongKey); err != nil {
			return fmt.Errorf("%d of %d bytes: %w", len(b), n, err)
		}
	}
	return nil
}

func keysMissing(ctx context.Context, c *keysProbe) error {
	if c.Missing == "" {
		return &skippedError{"needs KeysOptions.Missing"}
	}
	_, wrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	_, err = c.s.WrapKey(ctx, c.Missing, newSecret(), keysBound)
	return errors.Join(want(err, provider.ErrNotFound), c.refuses(ctx, c.Missing, wrapped, keysBound, provider.ErrNotFound))
}

func keysRotated(ctx context.Context, c *keysProbe) error {
	if c.Rotate == nil {
		return &skippedError{"needs KeysOptions.Rotate"}
	}
	old, oldWrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	if err := c.Rotate(ctx); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	young, youngWrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	return errors.Join(c.unwraps(ctx, c.second, old, oldWrapped, keysBound), c.unwraps(ctx, c.second, young, youngWrapped, keysBound))
}

func keysWrapOnly(ctx context.Context, c *keysProbe) error {
	if c.WrapOnly == nil {
		return &skippedError{"needs KeysOptions.WrapOnly"}
	}
	s, err := c.WrapOnly()
	if err != nil {
		return err
	}
	secret := newSecret()
	wrapped, err := s.WrapKey(ctx, c.Key, secret, keysBound)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	for _, b := range [][]byte{wrapped, []byte("never wrapped")} {
		got, err := s.UnwrapKey(ctx, c.Key, b, keysBound)
		if err := want(err, fs.ErrPermission); err != nil || len(got) > 0 {
			return fmt.Errorf("unwrap: %d bytes, %w", len(got), err)
		}
	}
	return c.unwraps(ctx, c.second, secret, wrapped, keysBound)
}

func keysParallel(ctx context.Context, c *keysProbe) error {
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			ec := provider.EncryptionContext{"part": strings.Repeat("x", i)}
			secret, wrapped, err := c.wrap(ctx, ec)
			if err == nil {
				err = c.unwraps(ctx, c.s, secret, wrapped, ec)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func keysCancelled(ctx context.Context, c *keysProbe) error {
	_, wrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = c.s.WrapKey(ended, c.Key, newSecret(), keysBound)
	return errors.Join(want(err, context.Canceled), c.refuses(ended, c.Key, wrapped, keysBound, context.Canceled))
}

func keysDown(ctx context.Context, c *keysProbe) error {
	if c.Down == nil {
		return &skippedError{"needs KeysOptions.Down and Up"}
	}
	secret, wrapped, err := c.wrap(ctx, keysBound)
	if err != nil {
		return err
	}
	c.Down()
	_, wrapErr := c.s.WrapKey(ctx, c.Key, newSecret(), keysBound)
	_, unwrapErr := c.s.UnwrapKey(ctx, c.Key, wrapped, keysBound)
	c.Up()
	for _, err := range []error{wrapErr, unwrapErr} {
		if err == nil {
			return errors.New("it answers")
		}
		for _, meaning := range []error{provider.ErrNotFound, provider.ErrWrongKey, fs.ErrPermission, provider.ErrConflict, provider.ErrCorrupt} {
			if errors.Is(err, meaning) {
				return fmt.Errorf("the outage is taken for %q: %w", meaning, err)
			}
		}
	}
	return c.unwraps(ctx, c.s, secret, wrapped, keysBound)
}

func keysError(ctx context.Context, c *keysProbe) error {
	secret := newSecret()
	_, wrapErr := c.s.WrapKey(ctx, c.Key, secret[:31], keysBound)
	_, unwrapErr := c.s.UnwrapKey(ctx, c.Key, secret, keysBound)
	for _, err := range []error{wrapErr, unwrapErr} {
		e, ok := errors.AsType[*provider.Error](err)
		if !ok || e.Key != c.Key || e.Op == "" || e.Provider == "" {
			return fmt.Errorf("%T with key %q: %v", err, c.Key, err)
		}
		for _, form := range []string{string(secret[:31]), hex.EncodeToString(secret[:31]), fmt.Sprint(secret[:31])} {
			if strings.Contains(strings.ToLower(err.Error()), form) {
				return errors.New("the text of the error holds the secret")
			}
		}
	}
	return nil
}
