package azure

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc64"
	"io/fs"
	"maps"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Put implements [provider.BlobStore]. It takes effect when the service has
// answered the Put Blob or, of a body larger than Config.PartSize, the Put
// Block List. The Info lacks Modified. In a container that takes retentions a
// Put over a blob under one makes a newer version; where a policy of the
// container itself protects the blob, it is [provider.ErrLocked].
func (s *Store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.put(ctx, key, body, o)
	if err != nil {
		return provider.Info{}, wrap(ctx, "put", key, err)
	}
	return info, nil
}

func (s *Store) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	w, err := s.begun(ctx, key, o)
	if err != nil {
		return provider.Info{}, err
	}
	if body.Size() > s.c.PartSize {
		return w.inBlocks(ctx, body)
	}
	return w.whole(ctx, body)
}

// begun refuses what no Put can do, before anything is sent.
func (s *Store) begun(ctx context.Context, key string, o provider.PutOptions) (*write, error) {
	if err := errors.Join(ctx.Err(), checkKey(key), remote.CheckMeta(o.Meta), remote.CheckRetention(o.Retain)); err != nil {
		return nil, err
	}
	if o.IfAbsent && o.IfMatch != "" || !isETag(o.IfMatch) {
		return nil, provider.ErrConflict // no blob is absent and has a version, and none has one of another kind
	}
	if err := s.isFlat(ctx); err != nil {
		return nil, err
	}
	w := &write{s: s, key: key, o: o, name: rand.Text()}
	if !o.Retain.IsZero() {
		if err := s.takesLocks(ctx); err != nil {
			return nil, err
		}
		w.o.Retain.Until = remote.WholeSeconds(o.Retain.Until)
	}
	return w, nil
}

// A write is one Put or CopyFrom. Its name goes into the metadata, the same in every
// attempt, so that a Put whose reply was lost finds out that it succeeded.
type write struct {
	s    *Store
	key  string
	o    provider.PutOptions
	tags map[string]string // of a copy
	name string
}

// whole stores a body by one request. The bytes that are hashed are the bytes
// that are sent: a body may change.
func (w *write) whole(ctx context.Context, body provider.Body) (provider.Info, error) {
	b := make([]byte, body.Size())
	if err := remote.ReadPart(ctx, body, b, 0); err != nil {
		return provider.Info{}, err
	}
	sum := sha256.Sum256(b)
	if w.o.SHA256 != [32]byte{} && w.o.SHA256 != sum {
		return provider.Info{}, provider.ErrCorrupt
	}
	mode, until := w.retention()
	var tries attempts
	out, err := w.blob().Upload(tries.in(ctx), streaming.NopCloser(bytes.NewReader(b)), &blockblob.UploadOptions{
		TransactionalValidation: checksum(b), Metadata: encodeMeta(w.o.Meta, sum, w.name), AccessConditions: w.conditions(),
		ImmutabilityPolicyMode: mode, ImmutabilityPolicyExpiryTime: until,
		Tier: w.s.c.tier(), CPKInfo: w.s.c.cpk(), CPKScopeInfo: w.s.c.scope(),
	})
	if err != nil {
		return w.outcome(ctx, err, &tries)
	}
	return w.info(out.ETag, int64(len(b)), sum), nil
}

func (w *write) blob() *blockblob.Client { return w.s.client.NewBlockBlobClient(w.key) }

// checksum is the CRC-64 of Azure Storage, which the service compares before
// it keeps anything. Of the two checksums that it verifies this is the one
// that FIPS allows, and the faster.
func checksum(b []byte) blob.TransferValidationType {
	return blob.TransferValidationTypeCRC64(crc64.Checksum(b, azureCRC))
}

var azureCRC = crc64.MakeTable(0x9A6C9329AC4BC9B5)

func (w *write) info(etag *azcore.ETag, size int64, sum [32]byte) provider.Info {
	return provider.Info{Key: w.key, Size: size, Version: versionOf(etag), SHA256: sum, Meta: maps.Clone(w.o.Meta), Retain: w.o.Retain}
}

func (w *write) conditions() *blob.AccessConditions {
	c := &blob.ModifiedAccessConditions{}
	if w.o.IfAbsent {
		c.IfNoneMatch = pointer(azcore.ETagAny)
	}
	if w.o.IfMatch != "" {
		c.IfMatch = etagOf(w.o.IfMatch)
	}
	return &blob.AccessConditions{ModifiedAccessConditions: c}
}

func (w *write) retention() (*blob.ImmutabilityPolicySetting, *time.Time) {
	if w.o.Retain.IsZero() {
		return nil, nil
	}
	return pointer(lockMode(w.o.Retain.Mode)), &w.o.Retain.Until
}

// outcome finds out what became of a request that was to make the blob and
// returned err. What may have been carried out is looked up: the blob of this
// very Put is success.
func (w *write) outcome(ctx context.Context, err error, tries *attempts) (provider.Info, error) {
	err = answered(err)
	unknown := tries.unanswered.Load()
	refused, suspected := w.refused(err)
	if !unknown && !refused && !suspected {
		return provider.Info{}, err
	}
	look, cancel := remote.Aftermath(ctx)
	defer cancel()
	found, readErr := w.s.head(look, w.key, "")
	if readErr == nil && found.write == w.name {
		return found.Info, nil
	}
	if suspected && w.broken(found, readErr) {
		refused = true
	}
	switch {
	case refused && !unknown:
		return provider.Info{}, fmt.Errorf("%w: %w", provider.ErrConflict, err)
	case refused:
		// An attempt without an answer came before the one that was refused.
		// It may have succeeded, and been replaced since.
		return provider.Info{}, fmt.Errorf("outcome unknown: an earlier attempt was not answered, and then: %s", err)
	}
	return provider.Info{}, err
}

// refused says of an error whether it means that the condition did not hold,
// or whether that may be behind it: the service names another reason first if
// what is there is under retention, if the credential may create and not
// replace, and if another Put that was committed took the blocks of this one.
func (w *write) refused(err error) (refused, suspected bool) {
	meaning := meaningOf(err)
	if meaning == provider.ErrConflict || w.o.IfMatch != "" && isMissing(err) {
		return true, false
	}
	if !w.o.IfAbsent && w.o.IfMatch == "" {
		return false, false
	}
	return false, meaning == provider.ErrLocked || meaning == fs.ErrPermission || codeOf(err) == bloberror.InvalidBlockList
}

// broken reports whether the condition is seen not to hold.
func (w *write) broken(found found, err error) bool {
	if w.o.IfAbsent {
		return err == nil
	}
	return isMissing(err) || err == nil && found.Version != w.o.IfMatch
}
