package provider

import (
	"context"
	"errors"
	"iter"
)

// A Versioner keeps what was replaced or deleted, as a bucket with versioning
// does, and can name it. Versions that it names are read with
// GetOptions.Version. What an attacker with a writer's credentials overwrites
// or deletes is still there: a reader that can tell true content from false
// takes the oldest version that proves true.
//
// A Versioner that finds out only when asked that it has no versions (a
// wrapper around any store) yields an error that wraps errors.ErrUnsupported
// and nothing else. [Versions] falls back to List then.
type Versioner interface {
	// Versions yields every version still in the store of every key that
	// begins with prefix: keys in ascending order as [BlobStore.List] yields
	// them, and of one key the oldest version first. The last one of a key is
	// what Stat describes, unless it is Deleted: then Stat finds nothing. Of
	// a store or key that keeps no versions, only the present object is
	// yielded. Each pair is a VersionInfo and nil, or a zero VersionInfo and
	// an error, after which the sequence ends. Breaking off is safe. The Info
	// may lack SHA256, Meta and Retain.
	Versions(ctx context.Context, prefix string, o ListOptions) iter.Seq2[VersionInfo, error]
}

// VersionInfo describes one version of a key.
type VersionInfo struct {
	Info

	// Deleted: at this moment the object was deleted. There is no content to
	// read, Size is 0 and Version is empty.
	Deleted bool
}

// Versions yields the versions of a store that is a [Versioner], and the
// present objects of any other.
func Versions(ctx context.Context, s BlobStore, prefix string, o ListOptions) iter.Seq2[VersionInfo, error] {
	return func(yield func(VersionInfo, error) bool) {
		if v, ok := As[Versioner](s); ok {
			unsupported := false
			for info, err := range v.Versions(ctx, prefix, o) {
				if unsupported = errors.Is(err, errors.ErrUnsupported); unsupported {
					break
				}
				if !yield(info, err) {
					return
				}
			}
			if !unsupported {
				return
			}
		}
		for info, err := range s.List(ctx, prefix, o) {
			if !yield(VersionInfo{Info: info}, err) {
				return
			}
		}
	}
}
