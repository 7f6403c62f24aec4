package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

const (
	copyPart = 64 << 20 // bytes of a part; up to four of them are copied by one request, of which S3 takes up to 5 GiB
)

// CopyFrom implements [provider.Copier], from a bucket at the same Endpoint.
// An object of up to 256 MiB is copied by one request and no other, if o asks
// for nothing and source has a Version; a larger one, or one under a
// condition, in parts of 64 MiB beside each other, and with the tags that
// were asked for before. The credential of this store signs and must be
// allowed to read the source. It needs s3:GetObjectTagging there and
// s3:PutObjectTagging here if the source has tags, and the first of a copy in
// parts in any case.
func (s *Store) CopyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	info, err := s.copyFrom(ctx, key, from, source, o)
	if err != nil {
		return provider.Info{}, wrap(ctx, "copy", key, err)
	}
	return info, nil
}

func (s *Store) copyFrom(ctx context.Context, key string, from provider.BlobStore, source provider.Info, o provider.PutOptions) (provider.Info, error) {
	origin, fromKey, ok := provider.Located[*Store](from, source.Key)
	if !ok || origin.c.Endpoint != s.c.Endpoint {
		return provider.Info{}, fmt.Errorf("the source is no bucket at this endpoint: %w", errors.ErrUnsupported)
	}
	if err := remote.CheckKey(fromKey); err != nil {
		return provider.Info{}, fmt.Errorf("source %q: %w", source.Key, provider.ErrNotFound)
	}
	w, err := s.begun(ctx, key, o)
	if err != nil {
		return provider.Info{}, err
	}
	c := &copying{write: w, origin: origin, key: fromKey, version: source.Version, size: source.Size}
	if c.plain() {
		info, err := c.whole(ctx, types.MetadataDirectiveCopy)
		if !errors.Is(err, remote.ErrMoved) {
			return info, err
		}
	}
	info, err := remote.Copy(source, func() (provider.Info, error) { return c.described(ctx, source.Version, o) })
	if c.unknown && errors.Is(err, provider.ErrNotFound) {
		err = fmt.Errorf("outcome unknown: an earlier attempt was not answered, and then: %s", err)
	}
	return info, err
}

// A copying is the write of one CopyFrom, and the version that it copies.
type copying struct {
	*write
	origin  *Store
	key     string // at origin
	version provider.Version
	id      string // of the version, if it is not the present one
	size    int64
	unknown bool // an attempt by one request was not answered, and the source is not that version any more
}

// moved is ErrMoved if that is what an answer about the source means. The
// store's own words are not in its chain: they are those of a conflict, too.
func (c *copying) moved(err error) error {
	if err != nil && (conn.StatusOf(err) == http.StatusPreconditionFailed || isMissing(err)) {
		return fmt.Errorf("%w: %v", remote.ErrMoved, err)
	}
	return err
}

// plain: nothing needs to be known of the object but what the caller said.
func (c *copying) plain() bool {
	o := c.o
	self := c.origin.c.Bucket == c.s.c.Bucket && c.key == c.write.key // is refused unless something changes
	return c.version != "" && c.size > 0 && c.size <= 4*c.s.copyPart && !self && !c.conditional() && o.Meta == nil && o.SHA256 == [32]byte{}
}

// conditional: copying by one request has conditions, too, but stores that
// were written earlier ignore them; those of the end of an upload in parts
// are known to be honoured.
func (c *copying) conditional() bool { return c.o.IfAbsent || c.o.IfMatch != "" }

// described looks at the source first, and copies what it found.
func (c *copying) described(ctx context.Context, version provider.Version, o provider.PutOptions) (provider.Info, error) {
	found, err := c.look(ctx, version)
	if err != nil {
		return provider.Info{}, err
	}
	c.version, c.size = found.Version, found.Size
	if err := remote.CheckCopy(o.SHA256, found.SHA256); err != nil {
		return provider.Info{}, err
	}
	c.o.SHA256 = found.SHA256
	if o.Meta == nil {
		c.o.Meta = found.Meta
	}
	inOne := c.size > 0 && c.size <= 4*c.s.copyPart && !c.conditional()
	if !inOne {
		if err := c.takeTags(ctx); err != nil {
			return provider.Info{}, err
		}
	}
	return c.judged(ctx, func() (provider.Info, error) {
		switch {
		case inOne:
			return c.whole(ctx, types.MetadataDirectiveReplace)
		case c.size == 0: // has no parts
			return c.write.whole(ctx, provider.Bytes(nil))
		}
		return c.inParts(ctx)
	})
}

// takeTags gives the write the tags of the source, which an upload does not
// bring along. A store that knows no tags has none.
func (c *copying) takeTags(ctx context.Context) error {
	var id *string
	if c.id != "" {
		id = &c.id
	}
	tags, err := c.origin.tagsOf(ctx, c.key, id)
	switch {
	case errors.Is(meaningOf(err), errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("tags of the source: %w", c.moved(err))
	}
	c.tags = tags
	return nil
}

// look describes the version to copy, the present one if it is empty.
func (c *copying) look(ctx context.Context, version provider.Version) (found, error) {
	f, err := c.origin.head(ctx, c.key, "")
	if err != nil && !isMissing(err) {
		return found{}, fmt.Errorf("look at the source: %w", err)
	}
	if err == nil && (version == "" || version == f.Version) {
		return f, nil
	}
	if version == "" {
		return found{}, fmt.Errorf("source: %w", err)
	}
	if c.id, err = c.origin.versionID(ctx, c.key, version); err != nil {
		return found{}, fmt.Errorf("source: %w", err)
	}
	f, err = c.origin.head(ctx, c.key, c.id)
	return f, c.moved(err)
}

// source is the value of x-amz-copy-source.
func (c *copying) source() *string {
	var b strings.Builder
	b.WriteString(url.PathEscape(c.origin.c.Bucket))
	for segment := range strings.SplitSeq(c.key, "/") {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(url.PathEscape(segment), "+", "%2B")) // which some read as a space
	}
	if c.id != "" {
		b.WriteString("?versionId=" + url.QueryEscape(c.id))
	}
	return aws.String(b.String())
}

// whole copies by one request, which takes the tags along by itself.
func (c *copying) whole(ctx context.Context, meta types.MetadataDirective) (provider.Info, error) {
	w := c.write
	in := &s3.CopyObjectInput{Bucket: &w.s.c.Bucket, Key: &w.key, CopySource: c.source(), CopySourceIfMatch: etagOf(c.version),
		MetadataDirective: meta}
	if meta == types.MetadataDirectiveReplace {
		in.Metadata = remote.EncodeMeta(w.o.Meta, w.o.SHA256, w.name)
	}
	in.ObjectLockMode, in.ObjectLockRetainUntilDate = w.retention()
	in.StorageClass = types.StorageClass(w.s.c.StorageClass)
	in.ServerSideEncryption, in.SSEKMSKeyId = w.s.c.kms()
	to, from := w.s.c.sse(), c.origin.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = to.algorithm, to.key, to.sum
	in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5 = from.algorithm, from.key, from.sum
	var tries conn.Attempts
	out, err := w.s.client.CopyObject(ctx, in, s3.WithAPIOptions(tries.Watch))
	if err == nil && out.CopyObjectResult == nil {
		err = errors.New("answer of the store to a copy: no result")
	}
	if err != nil {
		if err = c.moved(err); errors.Is(err, remote.ErrMoved) {
			if !tries.Unanswered {
				return provider.Info{}, err
			}
			c.unknown = true
		}
		return w.outcome(ctx, err, &tries)
	}
	return w.info(out.CopyObjectResult.ETag, c.size, w.o.SHA256), nil
}

// inParts copies by an upload whose parts the store reads by itself.
func (c *copying) inParts(ctx context.Context) (provider.Info, error) {
	return c.upload(ctx, ChecksumNone, c.size, func(id string) ([]types.CompletedPart, error) {
		each := remote.PartSize(c.size, c.s.copyPart, maxParts)
		parts := make([]types.CompletedPart, remote.Parts(c.size, each))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(c.s.c.Concurrency)
		for i := range parts {
			g.Go(func() (err error) {
				off := int64(i) * each
				parts[i], err = c.part(ctx, id, int32(i+1), off, min(off+each, c.size))
				return err
			})
		}
		return parts, g.Wait()
	})
}

func (c *copying) part(ctx context.Context, id string, number int32, off, end int64) (types.CompletedPart, error) {
	in := &s3.UploadPartCopyInput{Bucket: &c.s.c.Bucket, Key: &c.write.key, UploadId: &id, PartNumber: &number,
		CopySource: c.source(), CopySourceIfMatch: etagOf(c.version), CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", off, end-1))}
	to, from := c.s.c.sse(), c.origin.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = to.algorithm, to.key, to.sum
	in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5 = from.algorithm, from.key, from.sum
	out, err := c.s.client.UploadPartCopy(ctx, in)
	if err == nil && out.CopyPartResult == nil {
		err = errors.New("answer of the store to a copy: no result")
	}
	if code := conn.CodeOf(err); code == "InvalidRange" || code == "InvalidArgument" {
		// Of an object that is shorter now, the range may be looked at before
		// the condition.
		if f, looked := c.origin.head(ctx, c.key, c.id); isMissing(looked) || looked == nil && f.Version != c.version {
			err = fmt.Errorf("%w: %v", remote.ErrMoved, err)
		}
	}
	if err != nil {
		return types.CompletedPart{}, fmt.Errorf("part %d: %w", number, c.moved(err))
	}
	return types.CompletedPart{PartNumber: &number, ETag: out.CopyPartResult.ETag}, nil
}
