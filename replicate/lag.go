package replicate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Backlog says what of a source has not arrived.
type Backlog struct {
	Points  int   // committed and not arrived
	Objects int64 // that they lack, manifests included
	Bytes   int64 // of these objects

	// Oldest is when the oldest point that has not arrived was committed;
	// zero if all have.
	Oldest time.Time

	// Newest is when the newest point that has arrived was committed at the
	// source, and NewestKey its manifest; zero if none has. What is newer
	// would be lost with the source.
	Newest    time.Time
	NewestKey string
}

// Age returns how long the oldest point that has not arrived has been waiting;
// 0 if all have arrived.
func (b Backlog) Age(now time.Time) time.Duration {
	if b.Oldest.IsZero() {
		return 0
	}
	return max(0, now.Sub(b.Oldest))
}

// Lag returns what of the source has not arrived in to. It reads no content
// of to and changes nothing. If the objects of a point cannot be learned, its
// manifest is counted alone and the error says so; the Backlog is valid.
//
// A point that is being copied counts as not arrived, without the objects that
// are there already. A point has arrived if its manifest has: that its objects
// are still there and still right is for [Verify] to say.
func Lag(ctx context.Context, source Source, to provider.BlobStore) (Backlog, error) {
	if err := errors.Join(required("source", source != nil), required("to", to != nil)); err != nil {
		return Backlog{}, err
	}
	s, err := look(ctx, source, to)
	if err != nil {
		return Backlog{}, err
	}
	b := Backlog{Points: len(s.missing)}
	if len(s.arrived) > 0 {
		b.Newest, b.NewestKey = s.arrived[0].Modified, s.arrived[0].Key
	}
	if b.Points == 0 {
		return b, nil
	}
	b.Oldest = s.missing[len(s.missing)-1].Modified
	if err := s.add(ctx, to, ""); err != nil {
		return b, err
	}
	var errs []error
	v := s.outstanding(ctx, source, func(manifest string, err error) {
		errs = append(errs, fmt.Errorf("objects of %s: %w", manifest, err))
	})
	b.Objects, b.Bytes = v.objects, v.bytes
	return b, errors.Join(errs...)
}
