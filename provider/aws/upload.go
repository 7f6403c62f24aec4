package aws

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// inParts stores a body by a multipart upload. Parts are read and hashed one
// after the other and go up beside each other.
func (w *write) inParts(ctx context.Context, body provider.Body) (provider.Info, error) {
	return w.upload(ctx, w.s.c.Checksum, body.Size(), func(id string) ([]types.CompletedPart, error) {
		return w.sendParts(ctx, id, body)
	})
}

// upload makes an object of the parts that send brings there. Nothing is
// visible before the last request, and whatever fails before it aborts the
// upload.
func (w *write) upload(ctx context.Context, c Checksum, size int64, send func(id string) ([]types.CompletedPart, error)) (provider.Info, error) {
	id, err := w.begin(ctx, c)
	if err != nil {
		return provider.Info{}, err
	}
	parts, err := send(id)
	var info provider.Info
	if err == nil {
		info, err = w.commit(ctx, id, parts, size)
	}
	if err != nil {
		return provider.Info{}, errors.Join(err, w.s.abort(ctx, w.key, id))
	}
	return info, nil
}

// begin opens an upload whose parts have checksums. The SHA-256 is kept only
// if it is known now.
func (w *write) begin(ctx context.Context, checksum Checksum) (id string, err error) {
	in := &s3.CreateMultipartUploadInput{Bucket: &w.s.c.Bucket, Key: &w.key, Metadata: remote.EncodeMeta(w.o.Meta, w.o.SHA256, w.name),
		Tagging: encodeTags(w.tags)}
	if checksum == ChecksumSHA256 {
		in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = w.retention()
	in.StorageClass = types.StorageClass(w.s.c.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId = w.s.c.kms()
	c := w.s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum
	out, err := w.s.client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return "", fmt.Errorf("begin upload: %w", err)
	}
	return aws.ToString(out.UploadId), nil
}

// sendParts uploads the body, which must have the announced SHA-256.
func (w *write) sendParts(ctx context.Context, id string, body provider.Body) ([]types.CompletedPart, error) {
	each := remote.PartSize(body.Size(), w.s.c.PartSize, maxParts)
	parts := make([]types.CompletedPart, remote.Parts(body.Size(), each))
	whole, announced := sha256.New(), w.o.SHA256 != [32]byte{}
	into := io.Discard // a sum that nobody compares is half of the time of a client
	if announced {
		into = whole
	}
	err := remote.SendParts(ctx, body, each, w.s.c.Concurrency, into, func(ctx context.Context, i int, b []byte) (err error) {
		parts[i], err = w.sendPart(ctx, id, int32(i+1), b)
		return err
	})
	if err == nil && announced && w.o.SHA256 != [32]byte(whole.Sum(nil)) {
		err = provider.ErrCorrupt
	}
	return parts, err
}

func (w *write) sendPart(ctx context.Context, id string, number int32, b []byte) (types.CompletedPart, error) {
	in := &s3.UploadPartInput{Bucket: &w.s.c.Bucket, Key: &w.key, UploadId: &id, PartNumber: &number,
		Body: bytes.NewReader(b), ContentLength: aws.Int64(int64(len(b)))}
	part := types.CompletedPart{PartNumber: &number}
	sum := sha256.Sum256(b)
	if w.s.c.Checksum == ChecksumSHA256 {
		in.ChecksumSHA256 = aws.String(base64.StdEncoding.EncodeToString(sum[:]))
		part.ChecksumSHA256 = in.ChecksumSHA256
	}
	c := w.s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum
	out, err := w.s.client.UploadPart(ctx, in, s3.WithAPIOptions(signed(sum)))
	if err != nil {
		return part, fmt.Errorf("part %d: %w", number, err)
	}
	part.ETag = out.ETag
	return part, nil
}

// commit makes the object of the parts, under the conditions of the Put.
func (w *write) commit(ctx context.Context, id string, parts []types.CompletedPart, size int64) (provider.Info, error) {
	in := &s3.CompleteMultipartUploadInput{Bucket: &w.s.c.Bucket, Key: &w.key, UploadId: &id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}}
	in.IfMatch, in.IfNoneMatch = w.conditions()
	c := w.s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum
	var tries conn.Attempts
	out, err := w.s.client.CompleteMultipartUpload(ctx, in, s3.WithAPIOptions(tries.Watch))
	if err != nil {
		return w.outcome(ctx, err, &tries)
	}
	return w.info(out.ETag, size, w.o.SHA256), nil
}

// abort frees what an unfinished upload has stored, also after ctx has ended.
func (s *Store) abort(ctx context.Context, key, id string) error {
	ctx, cancel := remote.Aftermath(ctx)
	defer cancel()
	_, err := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &s.c.Bucket, Key: &key, UploadId: &id})
	if err != nil && conn.CodeOf(err) != "NoSuchUpload" {
		return fmt.Errorf("abort upload: %w", err)
	}
	return nil
}

// AbortUploads aborts the multipart uploads that were begun before the given
// moment and never finished, such as those of a process that was killed: their
// parts are paid for and seen by no listing of objects. It returns how many.
// A lifecycle rule of the bucket (AbortIncompleteMultipartUpload) does the
// same. It must not hit an upload under way: one takes hours at most.
func (s *Store) AbortUploads(ctx context.Context, before time.Time) (int, error) {
	n := 0
	in := &s3.ListMultipartUploadsInput{Bucket: &s.c.Bucket}
	for {
		out, err := s.client.ListMultipartUploads(ctx, in)
		if err != nil {
			return n, wrap(ctx, "list uploads", "", err)
		}
		for _, u := range out.Uploads {
			if u.Initiated == nil || !u.Initiated.Before(before) {
				continue
			}
			if err := s.abort(ctx, aws.ToString(u.Key), aws.ToString(u.UploadId)); err != nil {
				return n, wrap(ctx, "abort upload", aws.ToString(u.Key), err)
			}
			n++
		}
		if !aws.ToBool(out.IsTruncated) {
			return n, nil
		}
		in.KeyMarker, in.UploadIdMarker = out.NextKeyMarker, out.NextUploadIdMarker
	}
}
