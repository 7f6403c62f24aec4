package aws

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// List implements [provider.BlobStore], in pages of a thousand, several of them
// beside each other if Config.ListAhead says so. Keys that Put
// refuses, such as the "directories" that consoles make, are left out. A store
// that lists in another order than that of bytes is an error: the directory
// buckets of S3 Express do.
func (s *Store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for entry, err := range remote.InOrder(s.entries(ctx, prefix, o)) {
			if err != nil {
				yield(provider.Info{}, wrap(ctx, "list", prefix, err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func (s *Store) entries(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	if s.c.ListAhead > 0 {
		return remote.Tree{Ahead: s.c.ListAhead, Fetch: s.page}.Entries(ctx, prefix, o.StartAfter)
	}
	return func(yield func(provider.Info, error) bool) {
		q := remote.Query{Prefix: prefix, After: o.StartAfter}
		for {
			p, err := s.page(ctx, q)
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			for _, e := range p.Entries {
				if !yield(e.Info, nil) {
					return
				}
			}
			if p.Next == "" {
				return
			}
			q.Next = p.Next
		}
	}
}

// page asks for one page.
func (s *Store) page(ctx context.Context, q remote.Query) (remote.Page, error) {
	in := &s3.ListObjectsV2Input{Bucket: &s.c.Bucket, Prefix: &q.Prefix, EncodingType: types.EncodingTypeUrl}
	if q.Grouped {
		in.Delimiter = aws.String("/")
	}
	switch {
	case q.Next != "":
		in.ContinuationToken = &q.Next
	case q.After != "":
		in.StartAfter = &q.After
	}
	out, err := s.client.ListObjectsV2(ctx, in)
	if err != nil {
		return remote.Page{}, err
	}
	p := remote.Page{Entries: make([]remote.Entry, 0, len(out.Contents)+len(out.CommonPrefixes))}
	for _, object := range out.Contents {
		key, err := unescaped(object.Key, out.EncodingType)
		if err != nil {
			return remote.Page{}, err
		}
		p.Entries = append(p.Entries, remote.Entry{Info: provider.Info{Key: aws.ToString(key), Size: aws.ToInt64(object.Size),
			Version: versionOf(object.ETag), Modified: aws.ToTime(object.LastModified).UTC()}})
	}
	for _, group := range out.CommonPrefixes {
		key, err := unescaped(group.Prefix, out.EncodingType)
		if err != nil {
			return remote.Page{}, err
		}
		p.Entries = append(p.Entries, remote.Entry{Info: provider.Info{Key: aws.ToString(key)}, Group: true})
	}
	if len(out.CommonPrefixes) > 0 { // each of the two is in order
		slices.SortFunc(p.Entries, func(a, b remote.Entry) int { return strings.Compare(a.Key, b.Key) })
	}
	if aws.ToBool(out.IsTruncated) {
		if p.Next = aws.ToString(out.NextContinuationToken); p.Next == "" {
			return remote.Page{}, errors.New("answer of the store: a page that goes on, and does not say where")
		}
	}
	return p, nil
}
