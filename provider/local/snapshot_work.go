package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// strayPin is how old a pin without a job is when it is garbage: the process
// that set it died before it could make the record.
const strayPin = time.Hour

// recover clears away what a dead process left and takes up its jobs.
func (s *Snapshotter) recover() error {
	ctx := context.Background() // opening waits for no other than short locks
	unlock, err := s.own.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.own.sweep(); err != nil {
		return err
	}
	staged, err := fs.ReadDir(s.own.root.FS(), stagingDir)
	if err != nil {
		return err
	}
	for _, e := range staged {
		id, _, _ := strings.Cut(e.Name(), ".")
		free, err := durable.TryLock(s.own.root, locksDir+"/"+id)
		if err != nil {
			return err
		}
		if free == nil {
			continue // somebody is at it
		}
		err = s.own.discard(stagingDir + "/" + e.Name())
		free()
		if err != nil {
			return err
		}
	}
	if err := s.collect(s.own); err != nil {
		return err
	}
	for _, dir := range []string{snapshotsDir, restoresDir} {
		jobs, err := s.own.jobs(dir)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			rec, err := s.own.read(j)
			if err != nil {
				return err
			}
			s.ensure(j, rec)
		}
	}
	return nil
}

// sweep removes records that were being written when their process died. The
// region is locked, so nobody else writes one now.
func (r *region) sweep() error {
	for _, dir := range []string{snapshotsDir, restoresDir, pinsDir} {
		entries, err := fs.ReadDir(r.root.FS(), dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), ".tmp-") {
				if err := r.root.Remove(dir + "/" + e.Name()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// ensure sees to it that somebody works on a job that is Pending.
func (s *Snapshotter) ensure(j job, rec record) {
	if rec.State != provider.Pending {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, knows := s.others[rec.Source.Region]
	if s.closed || s.active[j] || rec.Source.ID != "" && rec.Source.Region != s.own.name && !knows {
		return // a copy is for those who know the region it comes from
	}
	s.active[j] = true
	s.workers.Go(func() {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s.workers.Go(func() {
			select {
			case <-s.stop:
				cancel()
			case <-ctx.Done():
			}
		})
		if err := s.work(ctx, j); err != nil && ctx.Err() == nil {
			s.log.Error("copy not finished; it is taken up again when it is asked about", "id", j.id, "error", err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.active, j)
	})
}

// work does a job, unless another process is at it. It may be called for a
// job in any state. Nothing depends on the lock but the effort: publish is
// what decides.
func (s *Snapshotter) work(ctx context.Context, j job) error {
	r, err := s.region(j.region)
	if err != nil {
		return err
	}
	unlock, err := durable.TryLock(r.root, locksDir+"/"+j.id)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	rec, err := r.read(j)
	if errors.Is(err, fs.ErrNotExist) || err == nil && rec.State != provider.Pending {
		return nil
	}
	if err != nil {
		return err
	}
	if rec.Source.ID != "" {
		// That this process cannot read the source does not mean that none can.
		if _, err := s.region(rec.Source.Region); err != nil {
			return err
		}
	}
	if err := r.unstage(j); err != nil {
		return err
	}
	_, err = r.root.Lstat(j.target(rec))
	switch {
	case err == nil: // made, and then the process died
		err = s.finish(ctx, r, j, rec)
	case errors.Is(err, fs.ErrNotExist):
		err = s.make(ctx, r, j, rec)
	}
	if err == nil && rec.Source.ID != "" {
		s.unpin(ctx, j, rec)
	}
	return err
}

// unstage discards what an earlier process left of a job. The lock of the job
// is held.
func (r *region) unstage(j job) error {
	entries, err := fs.ReadDir(r.root.FS(), stagingDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), j.id+".") {
			if err := r.discard(stagingDir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// make copies the content and publishes it. That it cannot be copied is an
// outcome, Failed, and no error.
func (s *Snapshotter) make(ctx context.Context, r *region, j job, rec record) error {
	s.log.Info("copy begun", "id", j.id)
	staged := stagingDir + "/" + j.id + "." + strings.ToLower(rand.Text())
	stats, err := s.stage(ctx, r, j, rec, staged)
	s.step("staged")
	if err == nil {
		rec.Size = stats.bytes
		if rec.Source.ID == "" {
			rec.Mode = stats.mode
		}
		err = s.publish(ctx, r, j, rec, staged)
	}
	if err == nil {
		s.log.Info("copy done", "id", j.id, "bytes", rec.Size)
		return nil
	}
	if discardErr := r.discard(staged); discardErr != nil {
		s.log.Warn("half a copy not removed", "path", staged, "error", discardErr)
	}
	if ctx.Err() != nil || errors.Is(err, errSuperseded) {
		return nil
	}
	if _, statErr := r.root.Lstat(j.target(rec)); statErr == nil {
		return err // it was published, and only the record is not written
	}
	s.log.Error("copy failed", "id", j.id, "error", err)
	return s.change(ctx, r, j, rec, func(now *record) {
		now.State, now.Reason = provider.Failed, err.Error()
	})
}

// stage copies what the job is to copy to the directory staged, durably.
func (s *Snapshotter) stage(ctx context.Context, r *region, j job, rec record, staged string) (treeStats, error) {
	from, src := r, volumesDir+"/"+rec.Volume
	if rec.Source.ID != "" {
		var err error
		if from, err = s.region(rec.Source.Region); err != nil {
			return treeStats{}, err
		}
		src = contentDir + "/" + rec.SourceData
	}
	c := &treeCopy{from: from.root, src: src, to: r.root, dst: staged, step: s.step}
	reported := rec.Done
	c.progress = func(done float64) {
		// Now and then is enough, and it never falls, also not when another
		// process begins anew what this one began.
		if done = min(done, 0.99); done >= reported+0.1 {
			reported = done
			if err := s.change(ctx, r, j, rec, func(now *record) { now.Done = max(now.Done, done) }); err != nil {
				s.log.Warn("progress not recorded", "id", j.id, "error", err)
			}
		}
	}
	return c.run(ctx)
}

var errSuperseded = errors.New("deleted meanwhile")

// publish gives the staged content its name, at one moment, if the job is
// still wanted.
func (s *Snapshotter) publish(ctx context.Context, r *region, j job, rec record, staged string) error {
	err := s.change(ctx, r, j, rec, func(now *record) { now.Size, now.Mode = rec.Size, rec.Mode })
	if err != nil {
		return err
	}
	s.step("measured")
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.wanted(j, rec); err != nil {
		return err
	}
	if err := r.root.Rename(staged, j.target(rec)); err != nil {
		return err
	}
	s.step("renamed")
	return s.finishLocked(r, j, rec)
}

// finish marks a job whose content is in place.
func (s *Snapshotter) finish(ctx context.Context, r *region, j job, rec record) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.finishLocked(r, j, rec)
}

func (s *Snapshotter) finishLocked(r *region, j job, rec record) error {
	if err := errors.Join(durable.SyncDir(r.root, path.Dir(j.target(rec))), durable.SyncDir(r.root, stagingDir)); err != nil {
		return err
	}
	now, err := r.read(j)
	if err != nil {
		return err
	}
	if j.dir == restoresDir {
		if err := r.root.Chmod(j.target(now), permissions(now.Mode)); err != nil {
			return err
		}
	}
	now.State, now.Done = provider.Ready, 1
	if err := r.write(j, now); err != nil {
		return err
	}
	s.step("ready")
	return nil
}

// wanted checks that the record is still the one that the work was begun for.
// The region is locked.
func (r *region) wanted(j job, rec record) error {
	now, err := r.read(j)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (now.Data != rec.Data || now.State != provider.Pending) {
		return errSuperseded
	}
	return err
}

// change changes the record of a job that is still wanted.
func (s *Snapshotter) change(ctx context.Context, r *region, j job, rec record, f func(*record)) error {
	unlock, err := r.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := r.wanted(j, rec); err != nil {
		return err
	}
	now, err := r.read(j)
	if err != nil {
		return err
	}
	f(&now)
	return r.write(j, now)
}

// unpin says that a job no longer reads its source, and collects that if it
// is no longer needed. What it cannot do, collect does later.
func (s *Snapshotter) unpin(ctx context.Context, j job, rec record) {
	source, err := s.region(rec.Source.Region)
	if err == nil {
		err = source.root.Remove(pinsDir + "/" + rec.SourceData + "." + j.id)
	}
	if err == nil {
		var unlock func() error
		if unlock, err = source.lock(ctx); err == nil {
			err = s.collect(source)
			unlock()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		s.log.Warn("source of a copy not released", "id", j.id, "error", err)
	}
}

// collect deletes data that no record and no job needs. The region is locked.
func (s *Snapshotter) collect(r *region) error {
	pinned, err := s.pins(r)
	if err != nil {
		return err
	}
	jobs, err := r.jobs(snapshotsDir)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		rec, err := r.read(j)
		if err != nil {
			return err // what cannot be read may need anything
		}
		pinned[rec.Data] = true
	}
	entries, err := fs.ReadDir(r.root.FS(), contentDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !pinned[e.Name()] {
			errs = append(errs, r.discard(contentDir+"/"+e.Name()))
		}
	}
	trash, err := fs.ReadDir(r.root.FS(), trashDir) // what an earlier one did not finish
	for _, e := range trash {
		errs = append(errs, removeTree(r.root, trashDir+"/"+e.Name()))
	}
	return errors.Join(append(errs, err)...)
}

// pins returns the data that jobs still read, and forgets the pins of those
// that are done.
func (s *Snapshotter) pins(r *region) (map[string]bool, error) {
	entries, err := fs.ReadDir(r.root.FS(), pinsDir)
	if err != nil {
		return nil, err
	}
	pinned := map[string]bool{}
	for _, e := range entries {
		i := strings.LastIndexByte(e.Name(), '.')
		if i < 0 || !isID(e.Name()[i+1:]) {
			continue // being written
		}
		data, id := e.Name()[:i], e.Name()[i+1:]
		name := pinsDir + "/" + e.Name()
		needed, err := s.needed(r, name, id)
		if err != nil {
			return nil, err
		}
		if needed {
			pinned[data] = true
		} else if err := r.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return pinned, nil
}

// needed reports whether the job of a pin may still read.
func (s *Snapshotter) needed(r *region, pin, id string) (bool, error) {
	where, err := r.root.ReadFile(pin)
	var fi fs.FileInfo
	if err == nil {
		fi, err = r.root.Stat(pin)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // its job is done: unpin asks for no lock
	}
	if err != nil {
		return false, err
	}
	dir := snapshotsDir
	if strings.HasPrefix(id, "rest-") {
		dir = restoresDir
	}
	of, err := s.region(string(where))
	if err != nil {
		return true, nil // who knows
	}
	rec, err := of.read(job{of.name, dir, id})
	switch {
	case err == nil:
		return rec.State == provider.Pending, nil
	case errors.Is(err, fs.ErrNotExist):
		return dir == snapshotsDir && time.Since(fi.ModTime()) < strayPin, nil
	}
	return true, nil
}

// discard moves a tree out of the way, at one moment, and deletes it. A tree
// that is not there is no error.
func (r *region) discard(name string) error {
	trash := trashDir + "/" + strings.ToLower(rand.Text())
	if err := r.root.Rename(name, trash); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("discard %s: %w", name, err)
	}
	return removeTree(r.root, trash)
}

// removeTree deletes a tree, with directories in it that may not be written.
func removeTree(root *os.Root, name string) error {
	err := root.RemoveAll(name)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	fs.WalkDir(root.FS(), name, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			root.Chmod(p, 0o700)
		}
		return nil
	})
	return root.RemoveAll(name)
}
