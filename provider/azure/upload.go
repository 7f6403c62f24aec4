package azure

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// uploadAttempts is how often a body goes up whose blocks another Put of the
// same key took away.
const uploadAttempts = 5

// inBlocks stores a body by blocks and a list of them. Blocks are read and
// hashed one after the other and go up beside each other; nothing is visible
// before the list is committed. The blocks of a Put that fails stay where
// nobody sees them until the key is written again, or for a week.
//
// When the service commits one Put of a key, it drops the blocks of all others
// under way. They learn it from the list they commit, and go up again.
func (w *write) inBlocks(ctx context.Context, body provider.Body) (provider.Info, error) {
	return w.committed(ctx, body.Size(), func(attempt int) ([]string, [32]byte, error) {
		ids, sum, err := w.sendBlocks(ctx, body, attempt)
		if err == nil && w.o.SHA256 != [32]byte{} && w.o.SHA256 != sum {
			err = provider.ErrCorrupt
		}
		return ids, sum, err
	})
}

// committed makes a blob of the blocks that send has sent, which tells their
// names and the SHA-256 of the whole, if it is known.
func (w *write) committed(ctx context.Context, size int64, send func(attempt int) ([]string, [32]byte, error)) (provider.Info, error) {
	for attempt := 1; ; attempt++ {
		ids, sum, err := send(attempt)
		if err != nil {
			return provider.Info{}, err
		}
		info, err := w.commit(ctx, ids, size, sum)
		if codeOf(err) != bloberror.InvalidBlockList || attempt == uploadAttempts {
			return info, err
		}
	}
}

// sendBlocks uploads the body and returns the names of its blocks and its
// SHA-256.
func (w *write) sendBlocks(ctx context.Context, body provider.Body, attempt int) ([]string, [32]byte, error) {
	each := remote.PartSize(body.Size(), w.s.c.PartSize, maxParts)
	ids := make([]string, remote.Parts(body.Size(), each))
	whole := sha256.New()
	err := remote.SendParts(ctx, body, each, w.s.c.Concurrency, whole, func(ctx context.Context, i int, b []byte) error {
		ids[i] = w.blockID(attempt, i)
		return w.sendBlock(ctx, ids[i], b)
	})
	return ids, [32]byte(whole.Sum(nil)), err
}

// blockID names a block. Blocks of one blob have names of one length, and those
// of racing Puts must not be mixed up: the name of the Put is in it.
func (w *write) blockID(attempt, number int) string {
	b := []byte(w.name[:20])
	b = append(b, byte(attempt))
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	return base64.StdEncoding.EncodeToString(b)
}

func (w *write) sendBlock(ctx context.Context, id string, b []byte) error {
	_, err := w.blob().StageBlock(ctx, id, streaming.NopCloser(bytes.NewReader(b)), &blockblob.StageBlockOptions{
		TransactionalValidation: checksum(b), CPKInfo: w.s.c.cpk(), CPKScopeInfo: w.s.c.scope(),
	})
	if err != nil {
		return fmt.Errorf("block: %w", answered(err))
	}
	return nil
}

// commit makes the blob of the blocks, under the conditions of the Put.
func (w *write) commit(ctx context.Context, ids []string, size int64, sum [32]byte) (provider.Info, error) {
	mode, until := w.retention()
	var tries attempts
	out, err := w.blob().CommitBlockList(tries.in(ctx), ids, &blockblob.CommitBlockListOptions{
		Metadata: encodeMeta(w.o.Meta, sum, w.name), Tags: w.tags, AccessConditions: w.conditions(),
		ImmutabilityPolicyMode: mode, ImmutabilityPolicyExpiryTime: until,
		Tier: w.s.c.tier(), CPKInfo: w.s.c.cpk(), CPKScopeInfo: w.s.c.scope(),
	})
	if err != nil {
		return w.outcome(ctx, err, &tries)
	}
	return w.info(out.ETag, size, sum), nil
}
