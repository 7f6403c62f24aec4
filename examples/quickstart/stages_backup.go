package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/dr"
	"github.com/holdfast-go/holdfast/retention"
)

// source is the directory that the primary serves.
func (st *story) source() string {
	if st.postgres() {
		return cluster{st, primarySite}.admin()
	}
	if st.tree() {
		return st.log.Settings.Data
	}
	return st.data(primarySite)
}

// fullBackup is stage 3: the plan of stage 2, carried out.
func (st *story) fullBackup(ctx context.Context) error {
	if err := st.age(ctx); err != nil {
		return err
	}
	f, err := st.planned(ctx)
	if err != nil {
		return err
	}
	st.sayPoint(f)
	if err := st.log.remember(func(fs *facts) { fs.Points = append(fs.Points, f) }); err != nil {
		return err
	}
	return st.sayVerified(ctx)
}

// age lets the old data become old: what changed less than two seconds before
// a point is read again for the next one, for it might have changed once more
// at the same instant. In a story of seconds that would be everything.
func (st *story) age(ctx context.Context) error {
	if st.log.Facts.Archived < 1<<20 {
		return nil
	}
	_, stop := st.wait("the old data gets older")
	defer stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(st.log.Done["setup"].Ended.Add(2100 * time.Millisecond))):
		return nil
	}
}

// sayVerified has everything at the standby read and hashed.
func (st *story) sayVerified(ctx context.Context) error {
	v, err := st.verify(ctx, primarySite, standbySite)
	if err != nil {
		return err
	}
	st.ok("%d objects, %s, read again at %s: every SHA-256 is right", v.Read, size(v.Bytes), standbySite)
	return st.log.remember(func(f *facts) { f.Verified = verifyFact{Objects: v.Read, Bytes: v.Bytes} })
}

// planned lets the Planner say what is due, and carries it out: a backup and
// its replication. A plan is plain data. That is why the story, which cannot
// wait until the next backup is due, may add one, and leave out the forgetting,
// which has its own scene.
func (st *story) planned(ctx context.Context) (pointFact, error) {
	_, stop := st.wait("backup and replication")
	defer stop()
	p, err := st.planner()
	if err != nil {
		return pointFact{}, err
	}
	plan, err := p.Plan(ctx)
	if err != nil {
		return pointFact{}, err
	}
	plan.Actions = slices.DeleteFunc(plan.Actions, func(a dr.Action) bool {
		return a.Kind != dr.ActInit && a.Kind != dr.ActBackup
	})
	if !slices.ContainsFunc(plan.Actions, func(a dr.Action) bool { return a.Kind == dr.ActBackup }) {
		plan.Actions = append(plan.Actions, dr.Action{Kind: dr.ActBackup, Workload: service, Site: dr.PrimarySite, Reason: "asked for"})
	}
	plan.Actions = append(plan.Actions, dr.Action{Kind: dr.ActReplicate, Site: dr.StandbySite, Reason: "a point was made"})
	out, err := p.Run(ctx, plan)
	if err != nil {
		return pointFact{}, err
	}
	f := pointFact{Site: primarySite}
	for _, r := range out.Results {
		switch r.Action.Kind {
		case dr.ActBackup:
			f.Point.ID, f.Took, f.Lag = r.Point, r.Took.Std(), f.Lag+r.Took.Std()
		case dr.ActReplicate:
			f.Objects, f.Bytes, f.Lag = r.Objects, r.Bytes, f.Lag+r.Took.Std()
		}
	}
	repo, err := p.Repository(ctx, dr.PrimarySite)
	if err != nil {
		return f, err
	}
	if f.Point, err = repo.Point(ctx, f.Point.ID); err != nil {
		return f, err
	}
	return f, whole(f.Point)
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
		f, err := st.planned(ctx)
		if err != nil {
			return err
		}
		st.sayPoint(f)
		if err := st.log.remember(func(fs *facts) { fs.Points = append(fs.Points, f) }); err != nil {
			return err
		}
		crash(fmt.Sprintf("increment-%d:after", have+1))
	}
	if err := st.retain(ctx); err != nil {
		return err
	}
	return st.sayVerified(ctx)
}

// retain forgets, at both sites, what the policy does not keep.
func (st *story) retain(ctx context.Context) error {
	c, err := st.drConfig()
	if err != nil {
		return err
	}
	policy := retention.Policy(c.Workloads[0].Retention)
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
