package providertest_test

import (
	"context"
	"io"
	"iter"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// versioned makes a store of a good bucket that tells its versions as tell
// changes them.
func versioned(tell func([]provider.VersionInfo) []provider.VersionInfo) func(*broken) {
	return func(b *broken) {
		good := onBucket(b)
		b.versions = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
			return func(yield func(provider.VersionInfo, error) bool) {
				var all []provider.VersionInfo
				for v, err := range good.Versions(ctx, prefix, o) {
					if err != nil {
						yield(v, err)
						return
					}
					all = append(all, v)
				}
				for _, v := range tell(all) {
					if !yield(v, nil) {
						return
					}
				}
			}
		}
	}
}

func onBucket(b *broken) *providertest.Bucket {
	good := providertest.NewBucket(providertest.BucketOptions{})
	b.get, b.put, b.stat, b.remove, b.list, b.lock, b.versions = good.Get, good.Put, good.Stat, good.Delete, good.List, good.Lock, good.Versions
	return good
}

var brokenVersions = []breakage{
	{"yields the newest version first", versioned(func(all []provider.VersionInfo) []provider.VersionInfo {
		slices.Reverse(all)
		return all
	}), []string{"blob/versions", "blob/versions-deleted", "blob/versions-list"}},

	{"yields only what is present", versioned(func(all []provider.VersionInfo) []provider.VersionInfo {
		var last []provider.VersionInfo
		for i, v := range all {
			if i+1 == len(all) || all[i+1].Key != v.Key {
				last = append(last, v)
			}
		}
		return last
	}), []string{"blob/versions", "blob/versions-deleted"}},

	{"does not tell that it was deleted", versioned(func(all []provider.VersionInfo) []provider.VersionInfo {
		return slices.DeleteFunc(all, func(v provider.VersionInfo) bool { return v.Deleted })
	}), []string{"blob/versions-deleted"}},

	{"tells the size of the newest of all", versioned(func(all []provider.VersionInfo) []provider.VersionInfo {
		for i := range all {
			all[i].Size = all[len(all)-1].Size
		}
		return all
	}), []string{"blob/versions", "blob/versions-deleted"}},

	{"does not read old versions", func(b *broken) {
		good := onBucket(b)
		b.get = func(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
			if info, err := good.Stat(ctx, key); o.Version != "" && (err != nil || info.Version != o.Version) {
				return nil, provider.Info{}, &provider.Error{Op: "get", Provider: "broken", Key: key, Err: provider.ErrNotFound}
			}
			return good.Get(ctx, key, o)
		}
	}, []string{"blob/retain-replace", "blob/versions", "blob/versions-deleted"}},

	{"takes a prefix of versions for a whole segment", func(b *broken) {
		good := onBucket(b)
		b.versions = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
			return func(yield func(provider.VersionInfo, error) bool) {
				for v, err := range good.Versions(ctx, prefix, o) {
					whole := len(v.Key) <= len(prefix) || prefix[len(prefix)-1] == '/' || v.Key[len(prefix)] == '/'
					if (err != nil || whole) && !yield(v, err) {
						return
					}
				}
			}
		}
	}, []string{"blob/versions-list"}},

	{"ends versions without the error", func(b *broken) {
		good := onBucket(b)
		b.versions = func(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.VersionInfo, error] {
			return func(yield func(provider.VersionInfo, error) bool) {
				for v, err := range good.Versions(ctx, prefix, o) {
					if err != nil || !yield(v, nil) {
						return
					}
				}
			}
		}
	}, []string{"blob/versions-error"}},
}
