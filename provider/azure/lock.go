package azure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Lock implements [provider.Locker], for the present version of key, by an
// immutability policy of that version: Governance is an unlocked one, which
// whoever has the right can shorten or delete, Compliance a locked one. It
// wraps errors.ErrUnsupported if the container does not take them.
//
// Of two calls with Governance at once the shorter may win, because an
// unlocked policy is replaced, whoever asks. Locked ones are only extended.
func (s *Store) Lock(ctx context.Context, key string, r provider.Retention) error {
	err := errors.Join(ctx.Err(), checkKey(key), remote.CheckLock(r))
	if err == nil {
		r.Until = remote.WholeSeconds(r.Until)
		err = s.lock(ctx, key, r)
	}
	if err != nil {
		return wrap(ctx, "lock", key, err)
	}
	return nil
}

func (s *Store) lock(ctx context.Context, key string, r provider.Retention) error {
	if err := s.takesLocks(ctx); err != nil {
		return err
	}
	present, err := s.head(ctx, key, "")
	switch {
	case err != nil:
		return err
	case remote.Weaker(r, present.Retain):
		return provider.ErrLocked
	case r.Mode == present.Retain.Mode && r.Until.Equal(present.Retain.Until):
		return nil
	}
	client, err := s.blobOf(key, present.id)
	if err != nil {
		return err
	}
	_, err = client.SetImmutabilityPolicy(ctx, r.Until, &blob.SetImmutabilityPolicyOptions{Mode: pointer(lockMode(r.Mode))})
	if err == nil || isMissing(err) {
		return answered(err)
	}
	// Another may have made it stronger since.
	if now, headErr := s.head(ctx, key, ""); headErr == nil && now.id == present.id && remote.Weaker(r, now.Retain) {
		return fmt.Errorf("%w: %w", provider.ErrLocked, answered(err))
	}
	return answered(err)
}

// takesLocks returns nil if blobs of the container can be put under retention.
// An emulator may ignore the headers for one.
func (s *Store) takesLocks(ctx context.Context) error {
	if err := s.probing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.probing.Release(1)
	if s.locks {
		return nil
	}
	out, err := s.client.GetProperties(ctx, nil)
	switch {
	case errors.Is(meaningOf(err), fs.ErrPermission):
		return nil // a credential that may put and not ask; the service decides
	case err != nil:
		return fmt.Errorf("ask whether the container takes retentions: %w", answered(err))
	case !value(out.IsImmutableStorageWithVersioningEnabled):
		return fmt.Errorf("the container has no support for immutability policies of versions: %w", errors.ErrUnsupported)
	}
	s.locks = true
	return nil
}
