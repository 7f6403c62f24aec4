package aws

import (
	"context"
	"iter"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// List implements [provider.BlobStore], in pages of a thousand. Keys that Put
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
	return func(yield func(provider.Info, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &s.c.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		if o.StartAfter != "" {
			in.StartAfter = &o.StartAfter
		}
		for {
			out, err := s.client.ListObjectsV2(ctx, in)
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			for _, object := range out.Contents {
				key, err := unescaped(object.Key, out.EncodingType)
				info := provider.Info{Key: aws.ToString(key), Size: aws.ToInt64(object.Size), Version: versionOf(object.ETag), Modified: aws.ToTime(object.LastModified).UTC()}
				if err != nil {
					info = provider.Info{}
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) {
				return
			}
			in.ContinuationToken, in.StartAfter = out.NextContinuationToken, nil
		}
	}
}
