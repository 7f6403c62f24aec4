package aws

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// busyAttempts is how often a conditional Put is made that the store declined
// to judge, because another one was under way.
const busyAttempts = 5

// Put implements [provider.BlobStore]. It takes effect when the store has
// answered the PutObject or, of a body larger than Config.PartSize, the
// CompleteMultipartUpload. The Info lacks Modified. In a bucket with versions
// a Put over an object under retention makes a newer version.
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
	return w.judged(ctx, func() (provider.Info, error) { return w.once(ctx, body) })
}

// begun checks what is asked of a write.
func (s *Store) begun(ctx context.Context, key string, o provider.PutOptions) (*write, error) {
	if err := errors.Join(ctx.Err(), remote.CheckKey(key), remote.CheckMeta(o.Meta), remote.CheckRetention(o.Retain)); err != nil {
		return nil, err
	}
	if o.IfAbsent && o.IfMatch != "" {
		return nil, provider.ErrConflict // no object is absent and has a version
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

// judged makes a write until the store has judged its conditions.
func (w *write) judged(ctx context.Context, once func() (provider.Info, error)) (provider.Info, error) {
	for attempt := 1; ; attempt++ {
		info, err := once()
		if !isBusy(err) || attempt == busyAttempts {
			return info, err
		}
		select {
		case <-ctx.Done():
			return provider.Info{}, ctx.Err()
		case <-time.After(time.Duration(attempt) * 50 * time.Millisecond):
		}
	}
}

// A write is one Put. Its name goes into the metadata, the same in every
// attempt, so that a Put whose reply was lost finds out that it succeeded.
type write struct {
	s    *Store
	key  string
	o    provider.PutOptions
	tags map[string]string // of a copy
	name string
}

func (w *write) once(ctx context.Context, body provider.Body) (provider.Info, error) {
	if body.Size() > w.s.c.PartSize {
		return w.inParts(ctx, body)
	}
	return w.whole(ctx, body)
}

// whole stores a body by one request. The bytes that are hashed are the bytes
// that are sent: a body may change.
func (w *write) whole(ctx context.Context, body provider.Body) (provider.Info, error) {
	b := make([]byte, body.Size())
	if err := remote.ReadPart(ctx, body, b, 0); err != nil {
		return provider.Info{}, err
	}
	sum := sumOf(body, b)
	if w.o.SHA256 != [32]byte{} && w.o.SHA256 != sum {
		return provider.Info{}, provider.ErrCorrupt
	}
	in := &s3.PutObjectInput{
		Bucket: &w.s.c.Bucket, Key: &w.key, Body: bytes.NewReader(b), ContentLength: aws.Int64(int64(len(b))),
		Metadata: remote.EncodeMeta(w.o.Meta, sum, w.name), Tagging: encodeTags(w.tags),
	}
	if w.s.c.Checksum == ChecksumSHA256 {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
	}
	in.IfMatch, in.IfNoneMatch = w.conditions()
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = w.retention()
	in.StorageClass = types.StorageClass(w.s.c.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId = w.s.c.kms()
	c := w.s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum

	var tries conn.Attempts
	out, err := w.s.client.PutObject(ctx, in, s3.WithAPIOptions(tries.Watch, signed(sum)))
	if err != nil {
		return w.outcome(ctx, err, &tries)
	}
	return w.info(out.ETag, int64(len(b)), sum), nil
}

// sumOf is the SHA-256 of b, which was read from body. A body that knows its
// own is believed as long as the CRC-32C says that b is what it knows it of.
func sumOf(body provider.Body, b []byte) [32]byte {
	if s, ok := body.(provider.Summed); ok && s.CRC32C() == crc32.Checksum(b, castagnoli) {
		return s.SHA256()
	}
	return sha256.Sum256(b)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// signed gives the signature of a request the SHA-256 of its content, which
// the SDK would compute once more.
func signed(sum [32]byte) func(*middleware.Stack) error {
	text := hex.EncodeToString(sum[:])
	return func(stack *middleware.Stack) error {
		return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("holdfast-signed",
			func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
				return next.HandleFinalize(v4.SetPayloadHash(ctx, text), in)
			}), middleware.Before)
	}
}

func (w *write) info(etag *string, size int64, sum [32]byte) provider.Info {
	return provider.Info{Key: w.key, Size: size, Version: versionOf(etag), SHA256: sum, Meta: maps.Clone(w.o.Meta), Retain: w.o.Retain}
}

func (w *write) conditions() (ifMatch, ifNoneMatch *string) {
	if w.o.IfAbsent {
		ifNoneMatch = aws.String("*")
	}
	if w.o.IfMatch != "" {
		ifMatch = etagOf(w.o.IfMatch)
	}
	return ifMatch, ifNoneMatch
}

func (w *write) retention() (types.ObjectLockMode, *time.Time) {
	if w.o.Retain.IsZero() {
		return "", nil
	}
	return lockMode(w.o.Retain.Mode), &w.o.Retain.Until
}

func (c *Config) kms() (types.ServerSideEncryption, *string) {
	if c.KMSKey == "" {
		return "", nil
	}
	return types.ServerSideEncryptionAwsKms, &c.KMSKey
}

// outcome finds out what became of a commit that returned err. What may have
// been carried out is looked up: the object of this very Put is success.
func (w *write) outcome(ctx context.Context, err error, tries *conn.Attempts) (provider.Info, error) {
	refused := errors.Is(meaningOf(err), provider.ErrConflict)
	if w.o.IfMatch != "" && isMissing(err) {
		refused = true
	}
	if !tries.Unanswered && !refused {
		return provider.Info{}, err
	}
	look, cancel := remote.Aftermath(ctx)
	defer cancel()
	found, readErr := w.s.head(look, w.key, "")
	switch {
	case readErr == nil && found.write == w.name:
		return found.Info, nil
	case refused && !tries.Unanswered:
		return provider.Info{}, fmt.Errorf("%w: %w", provider.ErrConflict, err)
	case refused:
		// An attempt without an answer came before the one that was refused.
		// It may have succeeded, and been replaced since.
		return provider.Info{}, fmt.Errorf("outcome unknown: an earlier attempt was not answered, and then: %s", err)
	}
	return provider.Info{}, err
}
