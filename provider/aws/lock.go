package aws

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Lock implements [provider.Locker], for the present version of key. It wraps
// errors.ErrUnsupported if the bucket was not made for object lock.
func (s *Store) Lock(ctx context.Context, key string, r provider.Retention) error {
	err := errors.Join(ctx.Err(), remote.CheckKey(key), remote.CheckLock(r))
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
	present, err := s.head(ctx, key, "")
	switch {
	case isMissing(err):
		return provider.ErrNotFound
	case err != nil:
		return err
	case remote.Weaker(r, present.Retain):
		return provider.ErrLocked
	case r.Mode == present.Retain.Mode && r.Until.Equal(present.Retain.Until):
		return nil
	}
	in := &s3.PutObjectRetentionInput{Bucket: &s.c.Bucket, Key: &key,
		Retention: &types.ObjectLockRetention{Mode: types.ObjectLockRetentionMode(lockMode(r.Mode)), RetainUntilDate: &r.Until}}
	if present.id != "" {
		in.VersionId = &present.id
	}
	if present.Retain.Mode == provider.Governance && r.Mode == provider.Compliance {
		in.BypassGovernanceRetention = aws.Bool(true) // it becomes stronger
	}
	_, err = s.client.PutObjectRetention(ctx, in)
	if err == nil || isMissing(err) {
		return err
	}
	// Another may have made it stronger since. Stores refuse that in different
	// words, AccessDenied or InvalidRequest.
	if now, headErr := s.head(ctx, key, ""); headErr == nil && now.id == present.id && remote.Weaker(r, now.Retain) {
		return fmt.Errorf("%w: %w", provider.ErrLocked, err)
	}
	return err
}

// takesLocks returns nil if objects of the bucket can be put under retention.
// A store that is sent one for another bucket may refuse it and keep the
// object all the same.
func (s *Store) takesLocks(ctx context.Context) error {
	if err := s.probing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.probing.Release(1)
	if s.locks {
		return nil
	}
	_, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: &s.c.Bucket})
	switch meaning := meaningOf(err); {
	case err == nil:
		s.locks = true
	case errors.Is(meaning, fs.ErrPermission):
		return nil // a credential that may put and not ask; the store decides
	case errors.Is(meaning, errors.ErrUnsupported):
		return fmt.Errorf("the bucket was not made for object lock: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}
