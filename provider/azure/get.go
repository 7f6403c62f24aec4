package azure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Get implements [provider.BlobStore]. A connection that breaks while the
// blob is read is opened again where it broke, for the same version. The
// reader of a whole blob whose SHA-256 is known ends in [provider.ErrCorrupt]
// if it is another, unless o.Unverified.
func (s *Store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.get(ctx, key, o)
	if err != nil {
		return nil, provider.Info{}, wrap(ctx, "get", key, err)
	}
	return r, info, nil
}

func (s *Store) get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if err := errors.Join(ctx.Err(), checkKey(key)); err != nil {
		return nil, provider.Info{}, err
	}
	if o.Offset < 0 || o.Length < 0 {
		return nil, provider.Info{}, provider.ErrRange
	}
	if !isETag(o.Version) {
		return nil, provider.Info{}, provider.ErrNotFound // never one of ours
	}
	q := query{key: key, off: o.Offset, end: math.MaxInt64, version: o.Version}
	if o.Length > 0 && o.Length < math.MaxInt64-o.Offset {
		q.end = o.Offset + o.Length
	}
	body, found, err := s.ask(ctx, q)
	beyond := statusOf(err) == http.StatusRequestedRangeNotSatisfiable // perhaps of the present version
	if o.Version != "" && (beyond || errors.Is(meaningOf(err), provider.ErrConflict) || isMissing(err)) {
		// It is not the present version. The version ID is in the history.
		id, lookErr := s.versionID(ctx, key, o.Version)
		if lookErr == nil {
			q.id = id
			body, found, err = s.ask(ctx, q)
		} else if !beyond {
			err = lookErr
		}
	}
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable && o.Offset == 0 {
		body, found, err = s.ask(ctx, query{key: key, end: math.MaxInt64, version: o.Version, id: q.id}) // of no bytes
	}
	if err != nil {
		return nil, provider.Info{}, err
	}
	q.end = min(q.end, found.Size)
	if q.off > 0 && q.off >= found.Size {
		body.Close()
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

// A query is one GET of bytes off to end of a blob, of one version if that is
// given: the one of that ID, or the present one if it is that version.
type query struct {
	key      string
	off, end int64
	version  provider.Version
	id       string
}

// found is what the headers of a blob tell.
type found struct {
	provider.Info
	id    string // of the version; empty if the account keeps none
	write string // the name of the Put that wrote it
	held  bool   // under a legal hold
	cold  bool   // in the Archive tier, which only head tells
	tags  int64  // how many it has, which only head tells
}

func (s *Store) ask(ctx context.Context, q query) (io.ReadCloser, found, error) {
	client, err := s.blobOf(q.key, q.id)
	if err != nil {
		return nil, found{}, err
	}
	o := &blob.DownloadStreamOptions{CPKInfo: s.c.cpk(), Range: blob.HTTPRange{Offset: q.off}}
	if q.end < math.MaxInt64 {
		o.Range.Count = q.end - q.off
	}
	if q.version != "" {
		o.AccessConditions = &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: etagOf(q.version)}}
	}
	out, err := client.DownloadStream(ctx, o)
	if err != nil {
		return nil, found{}, answered(err)
	}
	f := found{Info: provider.Info{Key: q.key, Size: value(out.ContentLength), Version: versionOf(out.ETag)}, id: value(out.VersionID), held: value(out.LegalHold)}
	f.Meta, f.SHA256, f.write = decodeMeta(out.Metadata)
	f.Modified = value(out.LastModified).UTC()
	f.Retain = retentionOf(out.ImmutabilityPolicyMode, out.ImmutabilityPolicyExpiresOn, out.Date)
	switch {
	case out.ContentRange != nil:
		_, total, _ := strings.Cut(*out.ContentRange, "/")
		if f.Size, err = strconv.ParseInt(total, 10, 64); err != nil {
			out.Body.Close()
			return nil, found{}, fmt.Errorf("answer of %q to a range of bytes: no size", *out.ContentRange)
		}
	case q.off > 0:
		out.Body.Close()
		return nil, found{}, errors.New("the store ignores ranges of bytes")
	}
	return out.Body, f, nil
}

// blobOf returns the client for a blob, or for one version of it.
func (s *Store) blobOf(key, id string) (*blob.Client, error) {
	client := s.client.NewBlobClient(key)
	if id == "" {
		return client, nil
	}
	return client.WithVersionID(id)
}

// head describes the version of that ID, or the present blob if it is empty.
func (s *Store) head(ctx context.Context, key, id string) (found, error) {
	client, err := s.blobOf(key, id)
	if err != nil {
		return found{}, err
	}
	out, err := client.GetProperties(ctx, &blob.GetPropertiesOptions{CPKInfo: s.c.cpk()})
	if err != nil {
		return found{}, answered(err)
	}
	f := found{Info: provider.Info{Key: key, Size: value(out.ContentLength), Version: versionOf(out.ETag)}, id: value(out.VersionID), held: value(out.LegalHold)}
	f.Meta, f.SHA256, f.write = decodeMeta(out.Metadata)
	f.Modified = value(out.LastModified).UTC()
	f.Retain = retentionOf(out.ImmutabilityPolicyMode, out.ImmutabilityPolicyExpiresOn, out.Date)
	f.tags = value(out.TagCount)
	f.cold = strings.EqualFold(value(out.AccessTier), string(blob.AccessTierArchive))
	return f, nil
}

// Stat implements [provider.BlobStore].
func (s *Store) Stat(ctx context.Context, key string) (provider.Info, error) {
	err := errors.Join(ctx.Err(), checkKey(key))
	if err == nil {
		var f found
		if f, err = s.head(ctx, key, ""); err == nil {
			return f.Info, nil
		}
	}
	return provider.Info{}, wrap(ctx, "stat", key, err)
}
