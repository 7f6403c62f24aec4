package gcp

import (
	"context"
	"errors"
	"fmt"

	"cloud.google.com/go/storage"

	"github.com/holdfast-go/holdfast/provider"
)

// Delete implements [provider.BlobStore]. In a bucket that keeps versions the
// present one becomes noncurrent, and what a lifecycle rule of the bucket
// (daysSinceNoncurrentTime) leaves stays and is paid for. The service would
// make a version under retention noncurrent, too; this refuses it after a look
// at the object, for which the credential must be allowed to get it. What is
// deleted is what was looked at.
func (s *Store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	err := errors.Join(ctx.Err(), checkKey(key))
	if err == nil {
		err = s.remove(ctx, key, o)
	}
	if err != nil {
		return wrap(ctx, "delete", key, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string, o provider.DeleteOptions) error {
	for range replacedAttempts {
		present, err := s.head(ctx, key, -1)
		err = s.missing(ctx, err)
		switch {
		case errors.Is(err, storage.ErrObjectNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("look whether it is locked: %w", err)
		case held(present.ObjectAttrs, present.now):
			return provider.ErrLocked
		case o.Version != "" && o.Version != present.Info.Version:
			return provider.ErrConflict
		}
		// A condition, not the generation to delete: that would be gone for good.
		var tries attempts
		err = s.bucket.Object(key).If(storage.Conditions{GenerationMatch: present.Generation}).Delete(tries.watch(ctx))
		switch {
		case err == nil || errors.Is(err, storage.ErrObjectNotExist):
			return nil
		case !errors.Is(meaningOf(err), provider.ErrConflict):
			return err
		case o.Version == "":
			continue // replaced since
		case tries.unanswered.Load():
			return fmt.Errorf("outcome unknown: an earlier attempt was not answered, and then: %s", err)
		}
		return err
	}
	return errReplaced
}
