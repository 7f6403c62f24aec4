// Package objects backs up the objects of a bucket, or those below a prefix,
// and restores them to any bucket of any cloud: to whatever is a
// [provider.BlobStore].
//
//	photos, err := objects.New(objects.Config{Store: bucket, Prefix: "photos/"})
//	point, err := repo.Backup(ctx, "photos", photos, backup.BackupOptions{Mode: backup.Incremental})
//
//	elsewhere, err := objects.New(objects.Config{Store: bucketOfAnotherCloud})
//	err = repo.Restore(ctx, point.ID, elsewhere, backup.Destination{Location: "photos/"}, backup.RestoreOptions{})
//
// The repository lives in a store of its own. One in the same bucket has to be
// kept out of Config.Prefix or be excluded, or it backs up itself.
//
// # What is kept
//
// Keys, whatever they are ("a//b", "../x", "a" beside "a/b"), content, Meta,
// the SHA-256 of the content, and for information the time of modification,
// the Version and the retention. What a BlobStore does not tell is not kept:
// Content-Type and other headers, access lists, storage classes,
// encryption settings. Nor are the settings of the bucket: lifecycle rules,
// policies, replication. Objects that a store leaves out of its listings, see
// its package, are not seen.
//
// With Config.Tags, the tags of the objects are kept, too. That takes a request
// or two for each object that is read. An object whose tags cannot be read is
// backed up without them, with a warning, and the next backup asks again.
//
// With Config.Versions, the versions that were replaced are kept, too, and when
// objects were deleted, as far as the store tells.
//
// # What is skipped in the Incremental and Differential modes
//
// The store is listed, always. An object is not asked for if its Version and
// size are those that the parent point recorded, and its time is. If only the
// time is another, as when the same bytes were written to a store whose Version
// is made from them, the object is described anew and not read. A change of
// metadata alone is seen if it changes Version or time. Retention that is
// extended and tags that are changed are not seen; mode Full reads them.
//
// # Consistency
//
// Each object is read in the version that was listed, never in a mixture. Of
// one that was replaced since, and that the store no longer has, the newer
// version is read; one that was deleted since is not in the point. One that is
// replaced each time it is read, that does not have the content its store
// announces, or that cannot be read, is left out with a warning, after three
// attempts. If the store then cannot even be listed, the backup fails.
//
// # Speed and memory
//
// Config.Readers requests are under way at once, and what they read and is not
// yet used is at most 4 MiB for each. Larger objects are read in parts of 4 MiB
// beside each other. An interrupted backup is run again; what it had uploaded
// is read, and not uploaded, again.
//
// # Restoring
//
// Destination.Location is what begins the keys of the restored objects, in the
// store of the target that restores: "photos/" makes photos/a of a, "photos"
// makes photosa. Empty is the whole bucket. To restore into another bucket, use
// a Target with another Store. Destination.Options:
//
//	include    patterns, one per line: only what matches one is restored.
//	exclude    patterns, one per line: what matches one is left alone.
//	overwrite  "true" replaces objects that are there and differ.
//	mirror     "true" deletes other objects below Location, when all is
//	           restored; it wants overwrite. What [Config].Include and Exclude
//	           keep out of backups is spared, and so is what is not selected,
//	           and what is missing from the point because it could not be
//	           read. A point that misses more than it names is refused, and
//	           so is a Location above [Config].Prefix.
//	verify     "true" reads everything again at the end, versions and tags
//	           included.
//	versions   "true" restores replaced versions, too, and deletions, in their
//	           order; the store must keep versions.
//	dry-run    "true" reads and verifies everything, counts it in the
//	           progress, and writes nothing.
//
// A pattern selects what it matches and everything below that, with slashes in
// a key taken for those of a path. One without a slash is matched against each
// name, as [path.Match] does, one with a slash against the key from its
// beginning, where "**" stands for any number of names: "*.jpg", "/2026",
// "2026/**/*.jpg". A pattern of an option that matches nothing in the point is
// an error before anything is written.
//
// What is there already, with the same content and Meta, is not written: a
// restore that was interrupted is run again. If the store keeps a SHA-256 that
// decides, otherwise the content is read. Every write has a condition: that
// there is no object, or with overwrite that it is the one that was looked at.
// So what somebody else writes meanwhile is not replaced, and a write whose
// reply was lost is found. An object that is there and differs, or is in a cold
// tier and has to be read to know, one whose key the store refuses, one under retention, and what is damaged in the repository
// are named by the error; the rest is restored. Meta beyond what every store
// has to take (see [provider.PutOptions]) is left out, and logged.
// Tags that a point has are set behind the content; where the store does not take
// them, or the credential may not set them, they are left out, and logged. An
// object that is there with others differs. Nothing is restored under retention; give the destination a default retention for that.
//
// Whatever a point says, no key without Location at its beginning is written or
// deleted. A slash or two dots in a key have no meaning to a store. A point
// that was not made by this package is refused before anything is written.
//
// A version of which the store has a later one with the same bytes may be
// described as that one is, where Versions are made from the bytes (S3).
//
// [Target.Plan] tells beforehand what a restore would create, replace, tag or
// delete, and where it would fail because of what is there.
//
// A restore with [backup.RestoreOptions].Safety can be undone, wherever it was
// stopped: what it is going to replace, tag or delete is kept first, as this
// package keeps things, tags included, and [backup.Repository.Undo] writes it
// back and deletes what was created. See [Target.Secure] for what is refused.
//
// For an object larger than 4 MiB, a restore holds a list of its chunks, some
// 400 bytes for each MiB.
package objects

import (
	"errors"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/internal/pattern"
	"github.com/holdfast-go/holdfast/provider"
)

// Config says what objects to back up, and where restores go.
type Config struct {
	// Store has the objects, and is where a restore puts them. Required.
	Store provider.BlobStore

	// Prefix begins the keys to back up; empty means all. It is any string,
	// and usually ends in a slash. Patterns, items and restores know keys
	// without it.
	Prefix string

	// Include backs up only what matches one of these patterns, Exclude leaves
	// out what matches one; see the package comment.
	Include, Exclude []string

	// Versions backs up every version that the store keeps, with deletions,
	// if it is a [provider.Versioner].
	Versions bool

	// Tags backs up the tags of the objects, if Store is a [provider.Tagger].
	// Its credential may need a right of its own for that. Restores set the
	// tags that a point has whatever this says.
	Tags bool

	Readers int          // how many objects, or parts of them, are read or written at once; default 8
	Logger  *slog.Logger // told of metadata and tags that could not be restored; default: discards
}

// Target is a [backup.Target] of kind "objects".
type Target struct {
	c     Config
	store provider.BlobStore

	securing bool // what it backs up is a safety point
}

var _ backup.Target = (*Target)(nil)

// New returns a target. It asks the store nothing.
func New(c Config) (*Target, error) {
	var errs []error
	if c.Store == nil {
		errs = append(errs, errors.New("field Store is required"))
	}
	if !utf8.ValidString(c.Prefix) || len(c.Prefix) > maxKey {
		errs = append(errs, fmt.Errorf("field Prefix %.40q: want UTF-8 of at most %d bytes", c.Prefix, maxKey))
	}
	if c.Readers < 0 || c.Readers > 1024 {
		errs = append(errs, fmt.Errorf("field Readers is %d, want 0 to 1024", c.Readers))
	}
	if _, ok := provider.As[provider.Tagger](c.Store); c.Tags && !ok && c.Store != nil {
		errs = append(errs, fmt.Errorf("field Tags: the store keeps none: %w", errors.ErrUnsupported))
	}
	if _, err := pattern.New("field Include", c.Include, "field Exclude", c.Exclude); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("objects config: %w", errors.Join(errs...))
	}
	if c.Readers == 0 {
		c.Readers = 8
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Target{c: c, store: c.Store}, nil
}

const maxKey = 1024 // by the contract of a BlobStore

// Kind is "objects".
func (t *Target) Kind() string { return "objects" }

// selection is what is backed up. It is made anew for each use, because it
// notes what it was used for.
func (t *Target) selection() *pattern.Selection {
	s, err := pattern.New("", t.c.Include, "", t.c.Exclude)
	if err != nil {
		panic(err) // New has looked
	}
	return s
}
