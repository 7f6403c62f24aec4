package dr

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// ErrNoPoint: there is nothing to restore.
var ErrNoPoint = errors.New("there is no such point")

// Drill restores the newest point of a workload from the standby, with keys
// that are there without the primary, to a place of its own below
// Drill.Scratch. It has the data checked ([Parts.Checkers]), removes it again
// and records the [Proof], which retention then honours. The Proof is valid
// with an error too.
func (p *Planner) Drill(ctx context.Context, workload string) (Proof, error) {
	w, ok := p.config.Workload(workload)
	if !ok {
		return Proof{}, fmt.Errorf("drill: there is no workload %q", workload)
	}
	return p.drill(ctx, w, "")
}

// drill proves the point id, or the newest if it is empty.
func (p *Planner) drill(ctx context.Context, w Workload, id backup.PointID) (Proof, error) {
	if p.config.Drill.Scratch == "" {
		return Proof{}, fmt.Errorf("drill %s: drill.scratch is not set", w.Name)
	}
	unlock, err := p.busy.lock(ctx, "drill/"+w.Name)
	if err != nil {
		return Proof{}, err
	}
	defer unlock()
	repo, point, err := p.find(ctx, StandbySite, w.Name, id)
	if err != nil {
		return Proof{}, fmt.Errorf("drill %s: %w", w.Name, err)
	}
	proof := Proof{Workload: w.Name, Point: point.ID, PointTime: point.Time, Site: StandbySite, Began: time.Now().UTC()}
	err = p.prove(ctx, w, repo, point, &proof)
	if err != nil {
		proof.Error = err.Error()
		err = fmt.Errorf("drill %s: point %s: %w", w.Name, point.ID, err)
	}
	p.record(ctx, recordKey(kindProof, w.Name, proof.Began), proof)
	text := "drill passed"
	switch rpo, known := proof.RPO(); {
	case err != nil:
		text = "drill failed"
	case !proof.Checked:
		text = "drill restored the point; nothing judged the data"
	case known:
		text = fmt.Sprintf("drill passed; RTO %v, RPO at most %v", proof.RTO(), rpo)
	}
	p.event(Event{Kind: EventDrill, Workload: w.Name, Point: string(point.ID), Text: text, Took: time.Since(proof.Began), Bytes: proof.Bytes, Err: err})
	return proof, err
}

// prove restores, checks and removes. What was restored is removed whatever
// happened before, also when ctx has ended.
func (p *Planner) prove(ctx context.Context, w Workload, repo *backup.Repository, point backup.Point, proof *Proof) (err error) {
	checker := p.parts.Checkers[w.Type]
	d := backup.Destination{Location: below(p.config.Drill.Scratch, w.Name, string(point.ID))}
	if checker != nil {
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drillCleanUp)
			defer cancel()
			e := remove(ctx, checker, d)
			proof.Removed = e == nil
			err = errors.Join(err, e)
		}()
	}
	t, err := p.target(ctx, w, d.Location)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := repo.Restore(ctx, point.ID, t, d, backup.RestoreOptions{}); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	proof.Restore, proof.Bytes = Duration(time.Since(began)), point.Stats.Bytes
	if checker != nil {
		began = time.Now()
		x, err := examine(ctx, checker, w, point, d)
		proof.Check, proof.Checked = Duration(time.Since(began)), true
		proof.Newest, proof.Findings, proof.Measured = x.Newest, x.Text, x.Measured
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
	}
	proof.Passed = true
	return nil
}

// remove deletes what was restored to d and looks whether it is gone.
func remove(ctx context.Context, checker Checker, d backup.Destination) error {
	if err := checker.Remove(ctx, d); err != nil {
		return fmt.Errorf("remove %s: %w", d.Location, err)
	}
	gone, err := checker.Gone(ctx, d)
	if err == nil && !gone {
		err = errors.New("it is still there")
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", d.Location, err)
	}
	return nil
}

const drillCleanUp = 10 * time.Minute

// below joins a place and names. Places are paths or URLs; both are joined
// with slashes.
func below(place string, names ...string) string {
	if strings.Contains(place, "://") {
		return strings.TrimSuffix(place, "/") + "/" + path.Join(names...)
	}
	return path.Join(append([]string{strings.ReplaceAll(place, `\`, "/")}, names...)...)
}

// find opens the repository of a site and looks up a sound point of a
// workload; an empty id means the newest.
func (p *Planner) find(ctx context.Context, site, workload string, id backup.PointID) (*backup.Repository, backup.Point, error) {
	repo, err := p.Repository(ctx, site)
	if err != nil {
		return nil, backup.Point{}, err
	}
	var found backup.Point
	for point, err := range repo.Points(ctx, workload) {
		if err != nil {
			return nil, backup.Point{}, fmt.Errorf("list points at %s: %w", site, err)
		}
		if point.Damaged == "" && point.Name == workload && (id == "" || point.ID == id) {
			found = point
		}
	}
	if found.ID == "" {
		return nil, found, fmt.Errorf("%w: of %s at %s: %s", ErrNoPoint, workload, site, or(string(id), "any"))
	}
	return repo, found, nil
}

// Restore restores a point of a workload from a site ("primary" or "standby")
// to d. An empty id means the newest one. [ErrNoPoint]. It returns the point
// that was restored.
func (p *Planner) Restore(ctx context.Context, site, workload string, id backup.PointID, d backup.Destination) (backup.Point, error) {
	w, ok := p.config.Workload(workload)
	if !ok {
		return backup.Point{}, fmt.Errorf("restore: there is no workload %q", workload)
	}
	repo, point, err := p.find(ctx, site, workload, id)
	if err != nil {
		return backup.Point{}, fmt.Errorf("restore %s: %w", workload, err)
	}
	t, err := p.target(ctx, w, d.Location)
	if err != nil {
		return backup.Point{}, err
	}
	if err := repo.Restore(ctx, point.ID, t, d, backup.RestoreOptions{}); err != nil {
		return point, fmt.Errorf("restore %s: %w", workload, err)
	}
	return point, nil
}

// oneLine writes a joined error on one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
