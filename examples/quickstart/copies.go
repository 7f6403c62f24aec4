package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/files"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/replicate"
)

// makePoint backs the service's data up into the repository of the site it
// runs at, and brings that repository to the other site. The Planner does this
// before the disaster (see planned); while the roles are reversed, and between
// quiesce and start, the story does it by itself.
func (st *story) makePoint(ctx context.Context, from, to, data string) (pointFact, error) {
	_, stop := st.wait("backup at " + from)
	defer stop()
	began := time.Now()
	repo, err := st.openRepository(ctx, from)
	if err != nil {
		return pointFact{}, err
	}
	target, err := files.New(files.Config{Root: data})
	if err != nil {
		return pointFact{}, err
	}
	point, err := repo.Backup(ctx, service, target, backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		return pointFact{}, fmt.Errorf("backup: %w", err)
	}
	if err := whole(point); err != nil {
		return pointFact{}, err
	}
	f := pointFact{Point: point, Site: from, Took: time.Since(began)}
	res, err := st.bring(ctx, repo, from, to)
	f.Objects, f.Bytes, f.Lag = res.Objects, res.Bytes, time.Since(began)
	return f, err
}

// whole fails if a point lacks something. That the ledger grew while it was
// read is no loss: what was read is an earlier state of it.
func whole(p backup.Point) error {
	for _, w := range p.Warnings {
		if w.Path != ledgerFile {
			return fmt.Errorf("backup: point %s is partial: %s: %s", p.ID, w.Path, w.Text)
		}
	}
	return nil
}

// bring replicates everything that from has to to.
func (st *story) bring(ctx context.Context, source *backup.Repository, from, to string) (replicate.Result, error) {
	a, err := st.openBackups(from)
	if err != nil {
		return replicate.Result{}, err
	}
	b, err := st.openBackups(to)
	if err != nil {
		return replicate.Result{}, err
	}
	update, stop := st.wait("replication to " + to)
	defer stop()
	res, err := replicate.Copy(ctx, replicate.Config{
		Source: source, From: a, To: b,
		Hold: func(ctx context.Context, missing []provider.Info) (replicate.Hold, error) {
			return source.Hold(ctx, b, missing) // the copy may be pruned meanwhile
		},
		Progress: func(p replicate.Progress) { update(float64(p.Bytes), float64(p.TotalBytes)) },
	})
	if err != nil {
		err = fmt.Errorf("replicate to %s: %w", to, err)
	}
	return res, err
}

// verify reads all that has arrived at a site and compares the hashes.
func (st *story) verify(ctx context.Context, from, to string) (replicate.Report, error) {
	_, stop := st.wait("reading everything at " + to)
	defer stop()
	repo, err := st.openRepository(ctx, from)
	if err != nil {
		return replicate.Report{}, err
	}
	a, err := st.openBackups(from)
	if err != nil {
		return replicate.Report{}, err
	}
	b, err := st.openBackups(to)
	if err != nil {
		return replicate.Report{}, err
	}
	r, err := replicate.Verify(ctx, replicate.VerifyConfig{Source: repo, From: a, To: b})
	return r, errors.Join(err, r.Err())
}

var errNoPoint = errors.New("no point to restore")

// newestPoint is the newest point at a site that can be opened there.
func newestPoint(ctx context.Context, repo *backup.Repository) (backup.Point, error) {
	newest := backup.Point{}
	for p, err := range repo.Points(ctx, service) {
		if err != nil {
			return newest, err
		}
		if p.Damaged == "" {
			newest = p
		}
	}
	if newest.ID == "" {
		return newest, errNoPoint
	}
	_, err := repo.View(ctx, newest.ID)
	return newest, err
}

func (st *story) sayPoint(f pointFact) {
	s := f.Point.Stats
	st.ok("%-11s %s: read %s, new %s, stored %s in %s; at %s (%d objects, %s) %s after it began", f.Point.Mode, f.Point.ID,
		size(s.BytesRead), size(s.BytesNew), size(s.BytesStored), short(f.Took), otherSite(f.Site), f.Objects, size(f.Bytes), short(f.Lag))
	if again := s.BytesRead - s.BytesNew; f.Point.Mode == backup.Incremental && again > 1<<20 {
		st.note("%s were read and found known: files that are new at this place, or had changed within two seconds before the last point", size(again))
	}
}

func otherSite(site string) string {
	if site == primarySite {
		return standbySite
	}
	return primarySite
}
