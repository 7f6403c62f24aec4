package azure

import (
	"context"
	"errors"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/provider"
)

// Delete implements [provider.BlobStore]. Where the account keeps versions,
// the present one becomes an earlier one, and what a lifecycle rule leaves
// stays and is paid for; where it has soft delete, it stays for so long. A
// blob under retention or a legal hold could become an earlier version, too;
// this refuses it after a look, for which the credential must be allowed to
// read. A blob that has snapshots is an error.
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
	present, err := s.head(ctx, key, "")
	switch {
	case isMissing(err):
		return nil
	case err != nil:
		return fmt.Errorf("look whether it is locked: %w", err)
	case o.Version != "" && o.Version != present.Version:
		return provider.ErrConflict
	case !present.Retain.IsZero() || present.held:
		return provider.ErrLocked
	}
	in := &blob.DeleteOptions{}
	if o.Version != "" {
		in.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: etagOf(present.Version)}}
	}
	var tries attempts
	_, err = s.client.NewBlobClient(key).Delete(tries.in(ctx), in)
	if err = answered(err); errors.Is(meaningOf(err), provider.ErrConflict) {
		return s.notDeleted(ctx, key, err, tries.unanswered.Load())
	}
	if isMissing(err) {
		return nil
	}
	return err
}

// notDeleted says what it means that the service refused a Delete because the
// blob is not the one that was there a moment ago: it may be gone.
func (s *Store) notDeleted(ctx context.Context, key string, refusal error, unknown bool) error {
	switch _, err := s.head(ctx, key, ""); {
	case isMissing(err):
		return nil
	case err == nil && !unknown:
		return refusal
	}
	// An attempt without an answer came before the one that was refused. It may
	// have deleted the blob, and another Put come after it.
	return fmt.Errorf("outcome unknown: %s", refusal)
}
