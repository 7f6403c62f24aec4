package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// A retention is kept in a file beside its object, so that it can be extended
// without writing the object again. It names the Version it is for: one that
// is left over from another version, by a crash between two files, is void.
type retention struct {
	Version provider.Version  `json:"version"`
	Mode    provider.LockMode `json:"mode"`
	Until   time.Time         `json:"until"`
}

func (r retention) of(v provider.Version) provider.Retention {
	if r.Version != v {
		return provider.Retention{}
	}
	return provider.Retention{Mode: r.Mode, Until: r.Until}
}

func inForce(r provider.Retention, now time.Time) bool { return now.Before(r.Until) }

func checkRetention(r provider.Retention) error {
	if r.IsZero() || (r.Mode == provider.Governance || r.Mode == provider.Compliance) && !r.Until.IsZero() {
		return nil
	}
	return fmt.Errorf("retention: want mode %q or %q and a time, got mode %q until %v",
		provider.Governance, provider.Compliance, r.Mode, r.Until)
}

var errRetention = errors.New("read retention")

// readRetention returns a zero retention if there is none.
func (s *BlobStore) readRetention(object string) (retention, error) {
	f, err := s.root.Open(retentionPath(object))
	if errors.Is(err, fs.ErrNotExist) {
		return retention{}, nil
	}
	if err != nil {
		return retention{}, err
	}
	defer f.Close()
	var r retention
	if _, err := decodeFrame(f, retentionMagic, &r); err != nil {
		return retention{}, fmt.Errorf("%w: %w", errRetention, err)
	}
	return r, nil
}

// writeRetention replaces the retention of object, durably.
func (s *BlobStore) writeRetention(ctx context.Context, object string, r retention) error {
	b, err := encodeFrame(retentionMagic, r)
	if err != nil {
		return err
	}
	staged, err := s.stageFile(ctx, bytesWriter(b))
	if err != nil {
		return fmt.Errorf("write retention: %w", err)
	}
	if err := durable.Publish(s.root, staged, retentionPath(object)); err != nil {
		return fmt.Errorf("write retention: %w", errors.Join(err, removeIfThere(s.root, staged)))
	}
	return nil
}

// present is what is under a key when it is about to be changed.
type present struct {
	exists  bool
	version provider.Version // "" if damaged
	retain  provider.Retention
}

// look reads what is under the key of object. A damaged description is no
// error here, so that it can be replaced; any retention beside it then counts,
// whichever version it names.
func (s *BlobStore) look(object, key string) (present, error) {
	kept, err := s.readRetention(object)
	if err != nil {
		return present{}, err
	}
	f, d, err := s.openObject(object, key)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		return present{}, nil
	case errors.Is(err, provider.ErrCorrupt):
		return present{exists: true, retain: kept.of(kept.Version)}, nil
	case err != nil:
		return present{}, err
	}
	f.Close()
	return present{exists: true, version: d.Version, retain: kept.of(d.Version)}, nil
}

// Delete implements [provider.BlobStore]. It takes effect, and its conditions
// are judged, while it holds the lock of the key; when it returns nil the
// object is gone for good.
func (s *BlobStore) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	err := s.begin(ctx, key)
	if err == nil {
		err = s.exclusively(ctx, key, func() error { return s.remove(key, o) })
	}
	if err != nil {
		return s.failure("delete", key, err)
	}
	return nil
}

func (s *BlobStore) remove(key string, o provider.DeleteOptions) error {
	object := objectPath(key)
	was, err := s.look(object, key)
	switch {
	case err != nil:
		return err
	case !was.exists:
		return s.checkMarker()
	case o.Version != "" && o.Version != was.version:
		return provider.ErrConflict
	case inForce(was.retain, time.Now()):
		return provider.ErrLocked
	}
	// The object first: a retention without its object is void, an object
	// without its retention would be unprotected.
	if err := durable.Remove(s.root, object); err != nil {
		return err
	}
	s.step("removed")
	return removeIfThere(s.root, retentionPath(object))
}

// Lock implements [provider.Locker].
func (s *BlobStore) Lock(ctx context.Context, key string, r provider.Retention) error {
	err := errors.Join(s.begin(ctx, key), checkRetention(r))
	if err == nil && r.IsZero() {
		err = errors.New("retention: none given")
	}
	if err == nil {
		err = s.exclusively(ctx, key, func() error { return s.extend(ctx, key, r) })
	}
	if err != nil {
		return s.failure("lock", key, err)
	}
	return nil
}

func (s *BlobStore) extend(ctx context.Context, key string, r provider.Retention) error {
	object := objectPath(key)
	f, d, err := s.openObject(object, key)
	if err != nil {
		return err
	}
	f.Close()
	kept, err := s.readRetention(object)
	if err != nil {
		return err
	}
	old := kept.of(d.Version)
	if inForce(old, time.Now()) {
		if r.Until.Before(old.Until) || old.Mode == provider.Compliance && r.Mode != provider.Compliance {
			return provider.ErrLocked
		}
		if r.Mode == old.Mode && r.Until.Equal(old.Until) {
			return nil
		}
	}
	return s.writeRetention(ctx, object, retention{Version: d.Version, Mode: r.Mode, Until: r.Until.UTC()})
}
