package gcp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Lock implements [provider.Locker], for the present version of key. It wraps
// errors.ErrUnsupported if the bucket does not take retentions of objects.
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
	for range replacedAttempts {
		present, err := s.head(ctx, key, -1)
		if err = s.missing(ctx, err); err != nil {
			return err
		}
		own := ownRetention(present.ObjectAttrs, present.now)
		switch {
		case remote.Weaker(r, own):
			return provider.ErrLocked
		case r.Mode == own.Mode && r.Until.Equal(own.Until):
			return nil
		}
		if err := s.takesLocks(ctx); err != nil {
			return err
		}
		o := s.bucket.Object(key).If(storage.Conditions{GenerationMatch: present.Generation, MetagenerationMatch: present.Metageneration})
		if own.Mode == provider.Governance && r.Mode == provider.Compliance {
			o = o.OverrideUnlockedRetention(true) // it becomes stronger
		}
		_, err = o.Update(ctx, storage.ObjectAttrsToUpdate{Retention: retentionTo(r)})
		if !errors.Is(meaningOf(err), provider.ErrConflict) {
			return err
		}
		// Replaced, or changed by another, or by an attempt of ours that was
		// not answered.
	}
	return errReplaced
}

// takesLocks returns nil if objects of the bucket can be put under retention.
func (s *Store) takesLocks(ctx context.Context) error {
	if s.locks.Load() {
		return nil
	}
	b, err := s.bucket.Attrs(ctx)
	switch {
	case errors.Is(meaningOf(err), fs.ErrPermission):
		return nil // a credential that may put and not ask; the service decides
	case err != nil:
		return fmt.Errorf("look whether the bucket takes retentions: %w", err)
	case b.ObjectRetentionMode == "":
		return fmt.Errorf("object retention is not enabled for the bucket: %w", errors.ErrUnsupported)
	}
	s.locks.Store(true)
	return nil
}
