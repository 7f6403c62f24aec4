package aws

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Versions implements [provider.Versioner]. All versions of one key are held
// in memory, some 200 bytes each, because stores list the newest first. In a
// bucket that keeps no versions it yields the present objects.
func (s *Store) Versions(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
	return func(yield func(provider.VersionInfo, error) bool) {
		for all, err := range s.histories(ctx, prefix, o.StartAfter) {
			if err != nil {
				yield(provider.VersionInfo{}, wrap(ctx, "versions", prefix, err))
				return
			}
			if remote.CheckKey(all[0].key) != nil || all[0].key <= o.StartAfter {
				continue
			}
			for _, v := range all {
				if !yield(v.info(), nil) {
					return
				}
			}
		}
	}
}

// versionID finds the oldest version of a key that is v.
func (s *Store) versionID(ctx context.Context, key string, v provider.Version) (string, error) {
	for all, err := range s.histories(ctx, key, "") {
		if err != nil {
			return "", fmt.Errorf("look for the version: %w", err)
		}
		if all[0].key != key {
			break // the first one is the shortest
		}
		for _, have := range all {
			if !have.deleted && have.version == v {
				return have.id, nil
			}
		}
	}
	return "", provider.ErrNotFound
}

// entry is one version as the store lists it.
type entry struct {
	key, id  string
	version  provider.Version
	size     int64
	modified time.Time
	deleted  bool
}

func (e entry) info() provider.VersionInfo {
	v := provider.VersionInfo{Deleted: e.deleted, Info: provider.Info{Key: e.key, Modified: e.modified}}
	if !e.deleted {
		v.Size, v.Version = e.size, e.version
	}
	return v
}

// histories yields for one key after the other its versions, the oldest first.
func (s *Store) histories(ctx context.Context, prefix, after string) iter.Seq2[[]entry, error] {
	return func(yield func([]entry, error) bool) {
		in := &s3.ListObjectVersionsInput{Bucket: &s.c.Bucket, Prefix: &prefix, EncodingType: types.EncodingTypeUrl}
		if after != "" {
			in.KeyMarker = &after
		}
		var open []entry // of the last key, which may go on in the next page
		for {
			page, out, err := s.versionPage(ctx, in)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, e := range page {
				if len(open) > 0 && open[0].key != e.key {
					if e.key < open[0].key {
						yield(nil, remote.OutOfOrder(open[0].key, e.key))
						return
					}
					if !yield(oldestFirst(open), nil) {
						return
					}
					open = nil
				}
				open = append(open, e)
			}
			if !aws.ToBool(out.IsTruncated) {
				break
			}
			if in.KeyMarker, err = unescaped(out.NextKeyMarker, out.EncodingType); err != nil {
				yield(nil, err)
				return
			}
			in.VersionIdMarker = out.NextVersionIdMarker
		}
		if len(open) > 0 {
			yield(oldestFirst(open), nil)
		}
	}
}

// oldestFirst turns the versions of a key, which the store listed the newest
// first. A store may list deletions apart from the rest: then their times say
// where they belong.
func oldestFirst(all []entry) []entry {
	slices.Reverse(all)
	byTime := func(a, b entry) int { return a.modified.Compare(b.modified) }
	if !slices.IsSortedFunc(all, byTime) && slices.ContainsFunc(all, func(e entry) bool { return e.deleted }) {
		slices.SortStableFunc(all, byTime)
	}
	return all
}

// unescaped is a key as it is: some stores do not escape it although asked.
func unescaped(s *string, encoding types.EncodingType) (*string, error) {
	if s == nil || encoding != types.EncodingTypeUrl {
		return s, nil
	}
	u, err := url.QueryUnescape(*s)
	return &u, err
}

// versionPage asks for one page. The SDK tells versions and deletions in two
// lists and so loses their order, which is why the answer is read again.
func (s *Store) versionPage(ctx context.Context, in *s3.ListObjectVersionsInput) ([]entry, *s3.ListObjectVersionsOutput, error) {
	var raw []byte
	out, err := s.client.ListObjectVersions(ctx, in, s3.WithAPIOptions(func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("holdfast-raw",
			func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
				out, metadata, err := next.HandleDeserialize(ctx, in)
				resp, ok := out.RawResponse.(*smithyhttp.Response)
				if err != nil || !ok {
					return out, metadata, err
				}
				raw, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				resp.Body = io.NopCloser(bytes.NewReader(raw))
				return out, metadata, err
			}), middleware.After)
	}))
	if err != nil {
		return nil, nil, err
	}
	page, err := parseVersions(raw)
	return page, out, err
}

// parseVersions reads the entries of a page, in ascending order of keys and
// of one key in the order of the page.
func parseVersions(raw []byte) ([]entry, error) {
	var doc struct {
		EncodingType types.EncodingType
		Items        []struct {
			XMLName      xml.Name
			Key          string
			VersionId    string
			LastModified string
			ETag         string
			Size         int64
		} `xml:",any"`
	}
	if err := xml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("answer of the store: %w", err)
	}
	var page []entry
	for _, item := range doc.Items {
		if item.XMLName.Local != "Version" && item.XMLName.Local != "DeleteMarker" {
			continue
		}
		key, err := unescaped(&item.Key, doc.EncodingType)
		if err != nil {
			return nil, fmt.Errorf("answer of the store: key: %w", err)
		}
		e := entry{key: *key, id: item.VersionId, size: item.Size, version: versionOf(&item.ETag), deleted: item.XMLName.Local == "DeleteMarker"}
		if e.modified, err = time.Parse(time.RFC3339, item.LastModified); err != nil {
			return nil, fmt.Errorf("answer of the store: %w", err)
		}
		e.modified = e.modified.UTC()
		page = append(page, e)
	}
	slices.SortStableFunc(page, func(a, b entry) int { return strings.Compare(a.key, b.key) })
	return page, nil
}
