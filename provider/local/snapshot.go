package local

import (
	"context"
	"iter"
	"log/slog"

	"github.com/holdfast-go/holdfast/provider"
)

// SnapshotConfig says where volumes and snapshots are. A region is a
// directory with the subdirectories "volumes" (each entry a volume, made by
// whoever uses it) and "snapshots" (private to the Snapshotter).
type SnapshotConfig struct {
	Dir    string // directory of this region; created if missing; required
	Region string // name of this region; required

	// Regions are the directories of the other regions that CopySnapshot may
	// copy to, by name.
	Regions map[string]string

	Logger *slog.Logger // gets copies begun, done and failed; nil discards
}

// Snapshotter is a [provider.Snapshotter] and a [provider.SnapshotCopier]
// over directories.
type Snapshotter struct{ c SnapshotConfig }

// NewSnapshotter opens the region in c.Dir and takes up whatever copies were
// unfinished there. Close it when done.
func NewSnapshotter(c SnapshotConfig) (*Snapshotter, error) { panic("local: not yet") }

// Close stops the copies in progress, which the next Snapshotter on the same
// directory takes up again, and waits until they have stopped.
func (s *Snapshotter) Close() error { panic("local: not yet") }

// VolumeDir is the directory of a volume, there or not.
func (s *Snapshotter) VolumeDir(volume string) string { panic("local: not yet") }

// Create implements [provider.Snapshotter].
func (s *Snapshotter) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	panic("local: not yet")
}

// Get implements [provider.Snapshotter].
func (s *Snapshotter) Get(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	panic("local: not yet")
}

// Restore implements [provider.Snapshotter].
func (s *Snapshotter) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	panic("local: not yet")
}

// Delete implements [provider.Snapshotter].
func (s *Snapshotter) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	panic("local: not yet")
}

// List implements [provider.Snapshotter].
func (s *Snapshotter) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	panic("local: not yet")
}

// CopySnapshot implements [provider.SnapshotCopier].
func (s *Snapshotter) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	panic("local: not yet")
}

var (
	_ provider.Snapshotter    = (*Snapshotter)(nil)
	_ provider.SnapshotCopier = (*Snapshotter)(nil)
)
