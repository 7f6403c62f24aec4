package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Get implements [provider.BlobStore]. A connection that breaks while the
// object is read is opened again where it broke, for the same version. The
// reader of a whole object whose SHA-256 is known ends in
// [provider.ErrCorrupt] if it is another, unless o.Unverified.
func (s *Store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.get(ctx, key, o)
	if err != nil {
		return nil, provider.Info{}, wrap(ctx, "get", key, err)
	}
	return r, info, nil
}

func (s *Store) get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if err := errors.Join(ctx.Err(), remote.CheckKey(key)); err != nil {
		return nil, provider.Info{}, err
	}
	if o.Offset < 0 || o.Length < 0 {
		return nil, provider.Info{}, provider.ErrRange
	}
	q := query{key: key, off: o.Offset, end: math.MaxInt64, version: o.Version}
	if o.Length > 0 && o.Length < math.MaxInt64-o.Offset {
		q.end = o.Offset + o.Length
	}
	body, found, err := s.ask(ctx, q)
	beyond := conn.StatusOf(err) == http.StatusRequestedRangeNotSatisfiable // asked of the present version, by a store that looks at the range first
	if o.Version != "" && (beyond || conn.StatusOf(err) == http.StatusPreconditionFailed || isMissing(err) || errors.Is(err, errOther)) {
		// It is not the present version. The version ID is in the history.
		id, lookErr := s.versionID(ctx, key, o.Version)
		if lookErr == nil {
			q.id = id
			body, found, err = s.ask(ctx, q)
		} else if !beyond {
			err = lookErr
		}
	}
	if conn.StatusOf(err) == http.StatusRequestedRangeNotSatisfiable && o.Offset == 0 {
		body, found, err = s.ask(ctx, query{key: key, end: math.MaxInt64, version: o.Version, id: q.id}) // of no bytes
	}
	if err != nil {
		return nil, provider.Info{}, err
	}
	q.end = min(q.end, found.Size)
	if q.off > 0 && q.off >= found.Size {
		body.Close() // a store that ignores such a range
		return nil, provider.Info{}, provider.ErrRange
	}
	q.version, q.id = found.Version, found.id
	r := remote.Stream{Body: body, At: q.off, End: q.end, Again: func(at int64) (io.ReadCloser, error) {
		next := q
		next.off = at
		body, _, err := s.ask(ctx, next)
		return body, err
	}, Fail: func(err error) error { return wrap(ctx, "get", key, err) }}
	if !o.Unverified && q.off == 0 && q.end == found.Size {
		r.Sum = found.SHA256
	}
	return r.Reader(), found.Info, nil
}

// A query is one GET of bytes off to end of an object, of one version if that
// is given: the one of that ID, or the present one if it is that version.
type query struct {
	key      string
	off, end int64
	version  provider.Version
	id       string
}

// found is what the headers of an object tell.
type found struct {
	provider.Info
	id    string // of the version; empty if the bucket keeps none
	write string // the name of the Put that wrote it
}

func (s *Store) ask(ctx context.Context, q query) (io.ReadCloser, found, error) {
	in := &s3.GetObjectInput{Bucket: &s.c.Bucket, Key: &q.key}
	switch {
	case q.end < math.MaxInt64:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", q.off, q.end-1))
	case q.off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", q.off))
	}
	if q.version != "" {
		if strings.ContainsFunc(string(q.version), func(r rune) bool { return r <= ' ' || r > '~' || r == '"' }) {
			return nil, found{}, provider.ErrNotFound // never one of ours
		}
		in.IfMatch = etagOf(q.version)
	}
	if q.id != "" {
		in.VersionId = &q.id
	}
	c := s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum
	out, err := s.client.GetObject(ctx, in)
	if err != nil {
		return nil, found{}, err
	}
	f := found{Info: provider.Info{Key: q.key, Size: aws.ToInt64(out.ContentLength), Version: versionOf(out.ETag)}, id: aws.ToString(out.VersionId)}
	f.Meta, f.SHA256, f.write = remote.DecodeMeta(out.Metadata)
	f.Modified = aws.ToTime(out.LastModified).UTC()
	f.Retain = retentionOf(out.ObjectLockMode, out.ObjectLockRetainUntilDate, out.ResultMetadata)
	if in.Range != nil && out.ContentRange != nil {
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		if f.Size, err = strconv.ParseInt(total, 10, 64); err != nil {
			out.Body.Close()
			return nil, found{}, fmt.Errorf("answer of %q to a range of bytes: no size", *out.ContentRange)
		}
	} else if in.Range != nil && q.off > 0 {
		out.Body.Close()
		return nil, found{}, errors.New("the store ignores ranges of bytes")
	}
	if q.version != "" && q.version != f.Version {
		out.Body.Close()
		return nil, found{}, errOther
	}
	return out.Body, f, nil
}

// errOther: some stores ignore the condition of a read.
var errOther = errors.New("the store answers with another version than was asked for")

// headers are all that the store tells of the present object, or of the
// version of an ID.
func (s *Store) headers(ctx context.Context, key, id string) (*s3.HeadObjectOutput, error) {
	in := &s3.HeadObjectInput{Bucket: &s.c.Bucket, Key: &key}
	if id != "" {
		in.VersionId = &id
	}
	c := s.c.sse()
	in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5 = c.algorithm, c.key, c.sum
	return s.client.HeadObject(ctx, in)
}

// head describes the present object, or the version of an ID.
func (s *Store) head(ctx context.Context, key, id string) (found, error) {
	out, err := s.headers(ctx, key, id)
	if err != nil {
		return found{}, err
	}
	f := found{Info: provider.Info{Key: key, Size: aws.ToInt64(out.ContentLength), Version: versionOf(out.ETag)}, id: aws.ToString(out.VersionId)}
	f.Meta, f.SHA256, f.write = remote.DecodeMeta(out.Metadata)
	f.Modified = aws.ToTime(out.LastModified).UTC()
	f.Retain = retentionOf(out.ObjectLockMode, out.ObjectLockRetainUntilDate, out.ResultMetadata)
	return f, nil
}

// Stat implements [provider.BlobStore]. The protocol does not tell a bucket
// that is not there from an object that is not: both are ErrNotFound. Get and
// List tell them apart.
func (s *Store) Stat(ctx context.Context, key string) (provider.Info, error) {
	err := errors.Join(ctx.Err(), remote.CheckKey(key))
	if err == nil {
		var f found
		if f, err = s.head(ctx, key, ""); err == nil {
			return f.Info, nil
		}
	}
	return provider.Info{}, wrap(ctx, "stat", key, err)
}
