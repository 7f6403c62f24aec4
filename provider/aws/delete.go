package aws

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Delete implements [provider.BlobStore]. In a bucket that keeps versions the
// present one is hidden by a delete marker, and what a lifecycle rule of the
// bucket (NoncurrentVersionExpiration) leaves stays and is paid for. The
// protocol would hide a version under retention, too; this refuses it after
// a look at the object, for which the credential must be allowed to get it.
func (s *Store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	err := errors.Join(ctx.Err(), remote.CheckKey(key))
	if err == nil {
		err = s.remove(ctx, key, o)
	}
	if err != nil {
		return wrap(ctx, "delete", key, err)
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string, o provider.DeleteOptions) error {
	present, err := s.head(ctx, key, "")
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		return fmt.Errorf("look whether it is locked: %w", err)
	case !present.Retain.IsZero():
		return provider.ErrLocked
	}
	in := &s3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: &key}
	if o.Version != "" {
		if err := s.comparesDeletes(ctx); err != nil {
			return err
		}
		if o.Version != present.Version {
			return provider.ErrConflict
		}
		in.IfMatch = etagOf(o.Version)
	}
	var tries conn.Attempts
	_, err = s.client.DeleteObject(ctx, in, s3.WithAPIOptions(tries.Watch))
	switch {
	case err == nil || isMissing(err):
		return nil
	case errors.Is(meaningOf(err), provider.ErrConflict):
		return s.notDeleted(ctx, key, err, tries.Unanswered)
	}
	return err
}

// notDeleted says what it means that the store refused a delete because the
// object is not the one that was there a moment ago: it may be gone.
func (s *Store) notDeleted(ctx context.Context, key string, refusal error, unknown bool) error {
	switch _, err := s.head(ctx, key, ""); {
	case isMissing(err):
		return nil
	case err == nil && !unknown:
		return refusal
	}
	// An attempt without an answer came before the one that was refused. It may
	// have deleted the object, and another Put come after it.
	return fmt.Errorf("outcome unknown: %s", refusal)
}

// comparesDeletes returns nil if the store honours the If-Match of a delete.
// It finds out once, on an object that it makes for it below holdfast-probe/:
// what ignores the condition must not be tried on an object of the caller.
func (s *Store) comparesDeletes(ctx context.Context) error {
	if err := s.probing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.probing.Release(1)
	if s.conditionalDelete == nil {
		honoured, err := s.probeDelete(ctx, "holdfast-probe/"+strings.ToLower(rand.Text()))
		if err != nil {
			return fmt.Errorf("find out whether the store compares before it deletes: %w", err)
		}
		s.conditionalDelete = &honoured
	}
	if !*s.conditionalDelete {
		return fmt.Errorf("the store does not compare before it deletes: %w", errors.ErrUnsupported)
	}
	return nil
}

func (s *Store) probeDelete(ctx context.Context, key string) (honoured bool, err error) {
	if _, err := s.put(ctx, key, provider.Bytes(nil), provider.PutOptions{}); err != nil {
		return false, err
	}
	_, err = s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: &key, IfMatch: etagOf("none")})
	if err == nil {
		return false, nil
	}
	honoured = conn.StatusOf(err) == http.StatusPreconditionFailed
	_, removeErr := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &s.c.Bucket, Key: &key})
	if !honoured {
		return false, errors.Join(err, removeErr)
	}
	return true, removeErr
}
