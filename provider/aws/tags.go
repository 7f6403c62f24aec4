package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Tags implements [provider.Tagger]. With a Version it looks for that first.
// The credential needs s3:GetObjectTagging, and s3:GetObjectVersionTagging for
// a Version in a bucket that keeps them.
func (s *Store) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	tags, err := s.tags(ctx, key, v)
	if err != nil {
		return nil, wrap(ctx, "tags", key, err)
	}
	return tags, nil
}

func (s *Store) tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	id, err := s.tagged(ctx, key, v)
	if err != nil {
		return nil, err
	}
	tags, err := s.tagsOf(ctx, key, id)
	if isMissing(err) {
		return nil, fmt.Errorf("%w: %w", provider.ErrNotFound, err)
	}
	return tags, err
}

// tagsOf are the tags of the version of an ID, or of the present one.
func (s *Store) tagsOf(ctx context.Context, key string, id *string) (map[string]string, error) {
	out, err := s.client.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: &s.c.Bucket, Key: &key, VersionId: id})
	switch {
	case conn.CodeOf(err) == "NoSuchTagSet": // what some stores say of none
		return nil, nil
	case err != nil || len(out.TagSet) == 0:
		return nil, err
	}
	tags := map[string]string{}
	for _, t := range out.TagSet {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags, nil
}

// encodeTags is what x-amz-tagging has of tags. A space is %20 to every store.
func encodeTags(tags map[string]string) *string {
	if len(tags) == 0 {
		return nil
	}
	q := url.Values{}
	for k, v := range tags {
		q.Set(k, v)
	}
	return aws.String(strings.ReplaceAll(q.Encode(), "+", "%20"))
}

// SetTags implements [provider.Tagger]. With a Version it looks for that first.
// It takes letters and digits beyond ASCII, too, and @. The credential needs
// s3:PutObjectTagging and s3:DeleteObjectTagging, and with a Version in a bucket
// that keeps them the same of ObjectVersionTagging.
func (s *Store) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	if err := s.setTags(ctx, key, v, tags); err != nil {
		return wrap(ctx, "set tags", key, err)
	}
	return nil
}

func (s *Store) setTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	err := remote.CheckTags(tags, func(r rune) bool {
		return unicode.In(r, unicode.L, unicode.N, unicode.Zs) || strings.ContainsRune("+-=._:/@", r)
	})
	if err != nil {
		return err
	}
	id, err := s.tagged(ctx, key, v)
	if err != nil {
		return err
	}
	if len(tags) == 0 {
		_, err = s.client.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: &s.c.Bucket, Key: &key, VersionId: id})
	} else {
		set := &types.Tagging{}
		for _, k := range slices.Sorted(maps.Keys(tags)) {
			set.TagSet = append(set.TagSet, types.Tag{Key: aws.String(k), Value: aws.String(tags[k])})
		}
		_, err = s.client.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: &s.c.Bucket, Key: &key, VersionId: id, Tagging: set})
	}
	if isMissing(err) {
		return fmt.Errorf("%w: %w", provider.ErrNotFound, err)
	}
	return err
}

// tagged is the ID of a version of a key, nil for the present one.
func (s *Store) tagged(ctx context.Context, key string, v provider.Version) (*string, error) {
	if err := errors.Join(ctx.Err(), remote.CheckKey(key)); err != nil || v == "" {
		return nil, err
	}
	f, err := s.head(ctx, key, "")
	id := f.id
	if isMissing(err) || err == nil && f.Version != v {
		id, err = s.versionID(ctx, key, v)
	}
	if err != nil || id == "" {
		return nil, err
	}
	return &id, nil
}
