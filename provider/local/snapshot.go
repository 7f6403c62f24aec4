package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// SnapshotConfig says where volumes and snapshots are. A region is a
// directory: its subdirectory "volumes" holds one directory for each volume,
// made and written by whoever uses it; all else in it belongs to the
// Snapshotter. It must be one file system, which is not a network one.
type SnapshotConfig struct {
	Dir    string // directory of this region; created if missing; required
	Region string // name of this region; required

	// Regions are the directories of the other regions that CopySnapshot may
	// copy to, by name. Each has to be there when it is used.
	Regions map[string]string

	Logger *slog.Logger // gets copies begun, done and failed; nil discards
}

// Snapshotter is a [provider.Snapshotter] and a [provider.SnapshotCopier]
// over directories. It is safe for concurrent use by goroutines and by
// processes: the state is on disk, and a copy that was under way when its
// process died is taken up by the next Snapshotter that is opened there or
// asked about it.
//
// # What a snapshot holds
//
// It is a copy, made while the snapshot is Pending, of files (sharing their
// blocks where the file system can do that), directories and symbolic links,
// with permissions, times of files and directories, extended attributes (on
// Linux), and owners if the process runs as root. Sockets are left out; other
// special files make it Failed. Hard links become files of their own.
//
// A directory cannot be frozen. The Snapshotter compares the whole directory
// (names, sizes, times of change, inodes) before and after it copies it, and
// begins anew if anything has changed, three times in all; then the snapshot
// is Failed and says so. So a Ready snapshot holds the directory as it stood
// still for the time of a copy. Stop the writers until the snapshot is no
// longer Pending. Two kinds of writing are not seen reliably: through a
// memory mapping, until the kernel notes it, and on Windows, where times of
// change do not show what happens within the resolution of the clock.
type Snapshotter struct {
	own     *region
	others  map[string]string
	log     *slog.Logger
	step    func(string) // after each step that a crash could follow; for tests
	stop    chan struct{}
	workers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	active  map[job]bool
	regions map[string]*region // that have been opened
}

var (
	_ provider.Snapshotter    = (*Snapshotter)(nil)
	_ provider.SnapshotCopier = (*Snapshotter)(nil)
)

// NewSnapshotter opens the region in c.Dir and takes up whatever copies were
// unfinished there. Close it when done.
func NewSnapshotter(c SnapshotConfig) (*Snapshotter, error) {
	return newSnapshotter(c, func(string) {})
}

func newSnapshotter(c SnapshotConfig, step func(string)) (*Snapshotter, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("SnapshotConfig.Dir: empty"))
	}
	if c.Region == "" {
		errs = append(errs, errors.New("SnapshotConfig.Region: empty"))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Regions)) {
		if name == "" || name == c.Region || c.Regions[name] == "" {
			errs = append(errs, fmt.Errorf("SnapshotConfig.Regions[%q]: no name, no directory or this region itself", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	own, err := makeRegion(c.Region, c.Dir)
	if err != nil {
		return nil, fmt.Errorf("local: open region %s: %w", c.Region, err)
	}
	s := &Snapshotter{
		own: own, others: maps.Clone(c.Regions), log: c.Logger, step: step, stop: make(chan struct{}),
		active: map[job]bool{}, regions: map[string]*region{c.Region: own},
	}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("local: open region %s: %w", c.Region, errors.Join(err, s.Close()))
	}
	return s, nil
}

// Close stops the copies in progress, which the next Snapshotter on the same
// directory takes up again, and waits until they have stopped. No other call
// may follow.
func (s *Snapshotter) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()
	s.workers.Wait()
	var errs []error
	for _, r := range s.regions {
		errs = append(errs, r.root.Close())
	}
	return errors.Join(errs...)
}

// VolumeDir is the directory of a volume, there or not.
func (s *Snapshotter) VolumeDir(volume string) string {
	return filepath.Join(s.own.dir, volumesDir, volume)
}

// Create implements [provider.Snapshotter].
func (s *Snapshotter) Create(ctx context.Context, volume string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.create(ctx, volume, o)
	return snap, snapError("snapshot create", volume, err)
}

func (s *Snapshotter) create(ctx context.Context, volume string, o provider.SnapshotOptions) (snap provider.Snapshot, err error) {
	if err := checkCall(ctx, o.Token); err != nil {
		return snap, err
	}
	if err := checkVolume(volume); err != nil {
		return snap, err
	}
	j := snapshotJob(s.own.name, "create", o.Token)
	unlock, err := s.own.lock(ctx)
	if err != nil {
		return snap, err
	}
	defer unlock()
	rec, err := s.own.read(j)
	if errors.Is(err, fs.ErrNotExist) {
		if fi, err := s.own.root.Lstat(volumesDir + "/" + volume); err != nil || !fi.IsDir() {
			return snap, notThere(err)
		}
		rec = newRecord(j, o.Tags)
		rec.Volume = volume
		err = s.own.create(j, rec)
		s.step("recorded")
	}
	if err != nil {
		return snap, err
	}
	if rec.Volume != volume {
		return snap, fmt.Errorf("the token is that of a snapshot of volume %s: %w", rec.Volume, provider.ErrConflict)
	}
	s.ensure(j, rec)
	return rec.snapshot(j), nil
}

// Get implements [provider.Snapshotter]. It knows the snapshots of all
// configured regions.
func (s *Snapshotter) Get(ctx context.Context, ref provider.SnapshotRef) (provider.Snapshot, error) {
	j, rec, err := s.find(ctx, ref)
	if err != nil {
		return provider.Snapshot{}, snapError("snapshot get", ref.ID, err)
	}
	s.ensure(j, rec)
	return rec.snapshot(j), nil
}

// find reads the record of a snapshot.
func (s *Snapshotter) find(ctx context.Context, ref provider.SnapshotRef) (job, record, error) {
	j := job{ref.Region, snapshotsDir, ref.ID}
	if err := ctx.Err(); err != nil {
		return j, record{}, err
	}
	r, err := s.region(ref.Region)
	if err != nil {
		return j, record{}, err
	}
	if ref != j.ref() || !isID(ref.ID) {
		return j, record{}, provider.ErrNotFound
	}
	rec, err := r.read(j)
	if errors.Is(err, fs.ErrNotExist) {
		err = provider.ErrNotFound
	}
	return j, rec, err
}

// Restore implements [provider.Snapshotter]. The snapshot is one of this
// region; Zone is not looked at.
func (s *Snapshotter) Restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (provider.Volume, error) {
	v, err := s.restore(ctx, ref, o)
	return v, snapError("snapshot restore", ref.ID, err)
}

func (s *Snapshotter) restore(ctx context.Context, ref provider.SnapshotRef, o provider.RestoreOptions) (v provider.Volume, err error) {
	if err := checkCall(ctx, o.Token); err != nil {
		return v, err
	}
	if ref.Region != s.own.name {
		return v, fmt.Errorf("it is in region %q, and this is %q: %w", ref.Region, s.own.name, provider.ErrNotFound)
	}
	j := restoreJob(s.own.name, o.Token)
	unlock, err := s.own.lock(ctx)
	if err != nil {
		return v, err
	}
	defer unlock()
	rec, err := s.own.read(j)
	if errors.Is(err, fs.ErrNotExist) {
		rec, err = s.beginRestore(ctx, j, ref, o.Tags)
	}
	if err != nil {
		return v, err
	}
	if rec.Source != ref {
		return v, fmt.Errorf("the token is that of a volume from snapshot %s: %w", rec.Source.ID, provider.ErrConflict)
	}
	s.ensure(j, rec)
	return rec.volume(), nil
}

// beginRestore is called with the region locked.
func (s *Snapshotter) beginRestore(ctx context.Context, j job, ref provider.SnapshotRef, tags map[string]string) (record, error) {
	from, err := s.readyRecord(ctx, ref)
	if err != nil {
		return record{}, err
	}
	rec := newRecord(j, tags)
	rec.from(ref, from)
	if err := s.own.pin(rec.SourceData, j); err != nil {
		return record{}, err
	}
	s.step("pinned")
	err = s.own.create(j, rec)
	s.step("recorded")
	return rec, err
}

// CopySnapshot implements [provider.SnapshotCopier].
func (s *Snapshotter) CopySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (provider.Snapshot, error) {
	snap, err := s.copySnapshot(ctx, ref, region, o)
	return snap, snapError("snapshot copy", ref.ID, err)
}

func (s *Snapshotter) copySnapshot(ctx context.Context, ref provider.SnapshotRef, region string, o provider.SnapshotOptions) (snap provider.Snapshot, err error) {
	if err := checkCall(ctx, o.Token); err != nil {
		return snap, err
	}
	to, err := s.region(region)
	if err != nil {
		return snap, err
	}
	j := snapshotJob(region, "copy", o.Token)
	rec, err := to.read(j)
	if errors.Is(err, fs.ErrNotExist) {
		rec, err = s.beginCopy(ctx, j, to, ref, o.Tags)
	}
	if err != nil {
		return snap, err
	}
	if rec.Source != ref {
		return snap, fmt.Errorf("the token is that of a copy of %s: %w", rec.Source.ID, provider.ErrConflict)
	}
	s.ensure(j, rec)
	return rec.snapshot(j), nil
}

// beginCopy pins the snapshot in its region and then makes the record in the
// other one. It never holds both locks.
func (s *Snapshotter) beginCopy(ctx context.Context, j job, to *region, ref provider.SnapshotRef, tags map[string]string) (record, error) {
	from, err := s.pinSource(ctx, j, ref)
	if err != nil {
		return record{}, err
	}
	s.step("pinned")
	unlock, err := to.lock(ctx)
	if err != nil {
		return record{}, err
	}
	defer unlock()
	rec, err := to.read(j) // somebody was faster
	if errors.Is(err, fs.ErrNotExist) {
		rec = newRecord(j, tags)
		rec.Volume = from.Volume
		rec.from(ref, from)
		err = to.create(j, rec)
		s.step("recorded")
	}
	return rec, err
}

func (s *Snapshotter) pinSource(ctx context.Context, j job, ref provider.SnapshotRef) (record, error) {
	source, err := s.region(ref.Region)
	if err != nil {
		return record{}, err
	}
	unlock, err := source.lock(ctx)
	if err != nil {
		return record{}, err
	}
	defer unlock()
	from, err := s.readyRecord(ctx, ref)
	if err != nil {
		return record{}, err
	}
	return from, source.pin(from.Data, j)
}

// readyRecord reads the record of a snapshot that is to be copied.
func (s *Snapshotter) readyRecord(ctx context.Context, ref provider.SnapshotRef) (record, error) {
	_, rec, err := s.find(ctx, ref)
	if err == nil && rec.State != provider.Ready {
		err = fmt.Errorf("it is %s: %w", rec.State, provider.ErrConflict)
	}
	return rec, err
}

// Delete implements [provider.Snapshotter]. A snapshot of a region that is
// not configured is an error: it may well be there.
func (s *Snapshotter) Delete(ctx context.Context, ref provider.SnapshotRef) error {
	return snapError("snapshot delete", ref.ID, s.delete(ctx, ref))
}

func (s *Snapshotter) delete(ctx context.Context, ref provider.SnapshotRef) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := s.region(ref.Region)
	if err != nil {
		return fmt.Errorf("region %q is not configured here", ref.Region)
	}
	if j := (job{ref.Region, snapshotsDir, ref.ID}); ref != j.ref() || !isID(ref.ID) {
		return nil
	}
	j, rec, err := s.forget(ctx, r, ref)
	if errors.Is(err, provider.ErrNotFound) {
		return nil
	}
	if err == nil && rec.Source.ID != "" {
		s.unpin(ctx, j, rec) // with no lock held: it takes another one
	}
	return err
}

// forget removes the record of a snapshot, and what nobody needs after that.
func (s *Snapshotter) forget(ctx context.Context, r *region, ref provider.SnapshotRef) (job, record, error) {
	unlock, err := r.lock(ctx)
	if err != nil {
		return job{}, record{}, err
	}
	defer unlock()
	j, rec, err := s.find(ctx, ref)
	if err != nil {
		return j, rec, err
	}
	// The record first: a snapshot without data would be a promise not kept,
	// data without a record is collected, now or by the next who opens this.
	if err := r.remove(j); err != nil {
		return j, rec, err
	}
	s.step("record removed")
	s.log.Info("snapshot deleted", "snapshot", ref.ID)
	return j, rec, s.collect(r)
}

// List implements [provider.Snapshotter]. It lists this region.
func (s *Snapshotter) List(ctx context.Context, tags map[string]string) iter.Seq2[provider.Snapshot, error] {
	return func(yield func(provider.Snapshot, error) bool) {
		jobs, err := s.own.jobs(snapshotsDir)
		for _, j := range jobs {
			if err = ctx.Err(); err != nil {
				break
			}
			var rec record
			rec, err = s.own.read(j)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil // deleted since
				continue
			}
			if err != nil {
				break
			}
			if !carries(rec.Tags, tags) {
				continue
			}
			s.ensure(j, rec)
			if !yield(rec.snapshot(j), nil) {
				return
			}
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(provider.Snapshot{}, snapError("snapshot list", s.own.name, err))
		}
	}
}

func carries(have, want map[string]string) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func checkCall(ctx context.Context, token string) error {
	if token == "" {
		return errors.New("no Token")
	}
	return ctx.Err()
}

// checkVolume: a volume is one directory, and never the directory of them.
func checkVolume(volume string) error {
	if volume == "" || strings.HasPrefix(volume, ".") || strings.ContainsAny(volume, "/\\:\x00") {
		return fmt.Errorf("%q is not the name of a volume: %w", volume, provider.ErrNotFound)
	}
	return nil
}

func notThere(err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return provider.ErrNotFound
	}
	return err
}

func snapError(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &provider.Error{Op: op, Provider: "local", Key: key, Err: err}
}
