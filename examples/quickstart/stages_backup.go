package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/retention"
)

// source is the directory that the primary serves.
func (st *story) source() string {
	if st.tree() {
		return st.log.Settings.Data
	}
	return st.data(primarySite)
}

// fullBackup is stage 3.
func (st *story) fullBackup(ctx context.Context) error {
	c, err := st.repositoryConfig(primarySite)
	if err != nil {
		return err
	}
	if _, err := backup.Init(ctx, c); err != nil && !errors.Is(err, backup.ErrExists) {
		return err
	}
	f, err := st.makePoint(ctx, primarySite, standbySite, st.source(), backup.Full)
	if err != nil {
		return err
	}
	st.sayPoint(f)
	st.ok("%d objects, %s copied to %s, each read again there and hashed; the manifest last", f.Objects, size(f.Bytes), standbySite)
	return st.log.remember(func(fs *facts) { fs.Points = append(fs.Points, f) })
}

// increments is stage 5: backups while the service is in use, and retention.
func (st *story) increments(ctx context.Context) error {
	for {
		have := len(st.log.Facts.Points) - 1 // the first is the full one
		if have >= st.log.Settings.Backups {
			break
		}
		if !st.tree() {
			acks, err := st.acks()
			if err != nil {
				return err
			}
			if _, err := st.acknowledged(ctx, len(acks)+5); err != nil {
				return err
			}
		}
		f, err := st.makePoint(ctx, primarySite, standbySite, st.source(), backup.Incremental)
		if err != nil {
			return err
		}
		st.sayPoint(f)
		if err := st.log.remember(func(fs *facts) { fs.Points = append(fs.Points, f) }); err != nil {
			return err
		}
		crash(fmt.Sprintf("increment-%d:after", have+1))
	}
	return st.retain(ctx)
}

// retain forgets, at both sites, what the policy does not keep.
func (st *story) retain(ctx context.Context) error {
	policy := retention.Policy{KeepLast: 3, Hourly: 24, Daily: 7}
	for _, site := range []string{primarySite, standbySite} {
		repo, err := st.openRepository(ctx, site)
		if err != nil {
			return err
		}
		var points []backup.Point
		for p, err := range repo.Points(ctx, service) {
			if err != nil {
				return err
			}
			points = append(points, p)
		}
		decisions, err := retention.Apply(points, st.describe, policy, time.Now())
		if err != nil {
			return err
		}
		if site == primarySite {
			if err := st.sayDecisions(policy, decisions); err != nil {
				return err
			}
		}
		for _, d := range decisions {
			if d.Verdict == retention.Forget {
				if err := repo.Forget(ctx, d.Point.ID); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (st *story) describe(p backup.Point) retention.Point {
	proof := st.log.Facts.Proof
	return retention.Point{
		ID: string(p.ID), Group: p.Name, Time: p.Time, Stored: p.Stored, Proven: proof != nil && proof.Point == p.ID,
	}
}

func (st *story) sayDecisions(policy retention.Policy, decisions []retention.Decision[backup.Point]) error {
	var out []decisionFact
	for _, d := range decisions {
		out = append(out, decisionFact{Point: d.Point.ID, Keep: d.Verdict != retention.Forget, Reasons: d.Reasons})
		st.ok("%-6s %s: %s", d.Verdict, d.Point.ID, strings.Join(d.Reasons, ", "))
	}
	st.note("policy: %s", policy)
	return st.log.remember(func(f *facts) { f.Decisions = out })
}
