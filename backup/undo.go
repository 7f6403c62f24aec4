package backup

import (
	"context"
	"errors"
	"fmt"
)

// An Undoer is a [Target] whose restores can be undone.
type Undoer interface {
	Target

	// Secure adds to s what a Restore of v to d would overwrite, change or
	// delete there, and a record of what it would create. The parent of s is
	// v, so what is there already as v has it can be reused. A warning ends
	// the restore before it begins.
	Secure(ctx context.Context, s *Session, v *View, d Destination) error

	// Undo makes d what it was when safety, a view of what Secure added, was
	// taken, wherever a restore has been stopped. It can be repeated.
	Undo(ctx context.Context, safety *View, d Destination) error
}

// A Safety in a [Point] says that it is a safety point: what was at a
// destination before a restore.
type Safety struct {
	Point       PointID     `json:"point"` // that was restored
	Destination Destination `json:"destination"`
}

// SafetySuffix ends the names of safety points: those of restores of "web"
// are points of "web.undo". So a retention policy for "web" neither counts
// nor removes them; forget them when their restore needs no undoing any more.
const SafetySuffix = ".undo"

// secure makes a safety point.
func (r *Repository) secure(ctx context.Context, v *View, t Target, d Destination) (Point, error) {
	u, ok := t.(Undoer)
	if !ok {
		return Point{}, fmt.Errorf("safety point: a restore of kind %q cannot be undone: %w", t.Kind(), errors.ErrUnsupported)
	}
	p := v.Point()
	name := p.Name + SafetySuffix
	safety, err := r.Backup(ctx, name, securing{u, v, d}, BackupOptions{safety: &Safety{p.ID, d}})
	if err != nil {
		return Point{}, fmt.Errorf("safety point: %w", err)
	}
	if w := safety.Warnings; safety.Partial() {
		return Point{}, errors.Join(fmt.Errorf("safety point: %d parts of the destination cannot be kept, so nothing was restored; the first is %q: %s",
			safety.WarningCount, w[0].Path, w[0].Text), r.Forget(ctx, safety.ID))
	}
	return safety, nil
}

// securing is the target whose backup is a safety point.
type securing struct {
	Undoer
	v *View
	d Destination
}

// Backup implements Target.
func (t securing) Backup(ctx context.Context, s *Session) error {
	s.parent = t.v
	return t.Secure(ctx, s, t.v, t.d)
}

// Undo brings back what was at a destination before a restore, of which id is
// the safety point; see [RestoreOptions]. It goes to the destination that the
// safety point records. It may be run after a restore that ended well, that
// failed or that was killed, and again if it was killed itself.
func (r *Repository) Undo(ctx context.Context, id PointID, t Undoer, o RestoreOptions) error {
	v, err := r.View(ctx, id)
	if err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	p := v.Point()
	switch {
	case p.Safety == nil:
		return fmt.Errorf("undo %s: it is no safety point; those are made by a restore with RestoreOptions.Safety", id)
	case !v.r.keys.trusts(v.m.by):
		return fmt.Errorf("undo %s: it is signed by %q, who cannot read and so has made no safety point: %w", id, v.m.by.name, ErrDamaged)
	case p.Kind != t.Kind():
		return fmt.Errorf("undo %s: it is of kind %q, the target restores %q", id, p.Kind, t.Kind())
	case o.Safety != nil:
		return errors.New("undo: field Safety: an undo has none")
	}
	v.report = o.Progress
	if err := t.Undo(ctx, v, p.Safety.Destination); err != nil {
		return fmt.Errorf("undo %s: %w", id, err)
	}
	v.tell(0)
	return nil
}
