package dr

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// A world is what a plan is made from, read once.
type world struct {
	now     time.Time
	lease   failover.LeaseRecord
	active  string // site in charge; empty between fence and pivot
	between bool
	unsure  bool  // active is assumed
	control error // why lease and records could not be read
	blind   bool  // traffic moves without compare-and-swap, and nobody has allowed that; looked at in automatic mode only

	sites    map[string]siteState
	proofs   map[string][]Proof       // by workload, oldest first
	attempts map[string][]Attempt     // of the last attemptWindow, oldest first
	prunes   map[string][]Pruning     // by site, oldest first, of so long as plans go by them
	attests  map[string][]Attestation // by site, oldest first, from the last that ended
	locks    map[string][]Locking     // the same

	// Of plans for people: a failover does not wait for them.
	awaited int // points at the other site whose logs are not there
	surveys []survey

	held map[pointAt]time.Time // until when points are locked that are to be forgotten; see askLocks
}

// siteState is what one site holds.
type siteState struct {
	err    error          // why the points could not be read; nil if they could
	absent bool           // there is no repository yet
	points []backup.Point // of all workloads, oldest first, damaged ones included
}

// attemptWindow is how far back attempts are read to plan.
const attemptWindow = 2 * Day

// attestWindow is the same for attestations. To repeat one is cheap.
const attestWindow = 90 * Day

// read looks at both sites, the lease and the records. What cannot be
// reached is part of the answer; the error is that of ctx alone.
func (p *Planner) read(ctx context.Context) (*world, error) {
	w := &world{now: time.Now().UTC(), sites: map[string]siteState{}, proofs: map[string][]Proof{}, attempts: map[string][]Attempt{}, prunes: map[string][]Pruning{},
		attests: map[string][]Attestation{}, locks: map[string][]Locking{}}
	w.lease, w.active, w.between, w.control = p.inCharge(ctx)
	if w.active == "" && !w.between {
		// Backups must go on without the lease. But if the standby has taken
		// over unseen, what the primary says is old, and must not arrive at
		// the standby as its newest point: nothing is replicated.
		w.active, w.unsure = PrimarySite, true
	}
	for _, site := range []string{PrimarySite, StandbySite} {
		w.sites[site] = p.readSite(ctx, site)
	}
	if w.control == nil {
		w.control = p.readRecords(ctx, w)
	}
	w.blind = p.blindDNS(ctx) || p.blindSwitch(ctx)
	return w, ctx.Err()
}

// blindDNS looks whether an automatic failover would move traffic without
// compare-and-swap. A zone that cannot be opened stops it elsewhere.
func (p *Planner) blindDNS(ctx context.Context) bool {
	d := p.config.DNS
	if d == nil || d.AllowNotAtomic || p.config.Failover.mode() != failover.Automatic {
		return false
	}
	zone, err := p.parts.DNS(ctx, *d)
	return err == nil && zone.Atomicity() == provider.NotAtomic
}

// siteWait is how long a site may take to show its repository, which is one
// small object. A lost region often does not refuse, but says nothing; what
// can go on without it, a failover above all, must not wait for it.
const siteWait = 10 * time.Second

func (p *Planner) readSite(ctx context.Context, site string) siteState {
	open, cancel := context.WithTimeout(ctx, siteWait)
	defer cancel()
	repo, err := p.Repository(open, site)
	if err != nil {
		return siteState{err: err, absent: errors.Is(err, backup.ErrNoRepository)}
	}
	var s siteState
	for point, err := range repo.Points(ctx, "") {
		if err != nil {
			return siteState{err: fmt.Errorf("list points at %s: %w", site, err)}
		}
		s.points = append(s.points, point)
	}
	return s
}

func (p *Planner) readRecords(ctx context.Context, w *world) error {
	r, err := p.records(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, load := range p.config.Workloads {
		w.proofs[load.Name], err = read[Proof](ctx, r, kindProof, load.Name, time.Time{})
		errs = append(errs, err)
		w.attempts[load.Name], err = read[Attempt](ctx, r, kindAttempt, load.Name, w.now.Add(-attemptWindow))
		errs = append(errs, err)
	}
	for _, site := range []string{PrimarySite, StandbySite} {
		w.prunes[site], err = read[Pruning](ctx, r, kindPruning, site, w.now.Add(-2*p.config.Prune.every()))
		errs = append(errs, err)
		w.attests[site], err = readSince(ctx, r, kindAttestation, site, w.now.Add(-attestWindow), func(a Attestation) bool { return a.Error == "" })
		errs = append(errs, err)
		if l := p.config.lockOf(site); l != nil {
			w.locks[site], err = readSince(ctx, r, kindLocking, site, w.now.Add(-l.whole()), Locking.ended)
			errs = append(errs, err)
			if err == nil && len(w.locks[site]) == 0 { // nothing was done for long, or ever
				w.locks[site], err = readSince(ctx, r, kindLocking, site, time.Time{}, Locking.ended)
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// of returns the sound points of a workload, oldest first.
func (s siteState) of(workload string) []backup.Point {
	var out []backup.Point
	for _, p := range s.points {
		if p.Name == workload && p.Damaged == "" {
			out = append(out, p)
		}
	}
	return out
}

// history is what the schedule of a workload needs to know.
func (w *world) history(workload string) history {
	var h history
	if points := w.sites[w.active].of(workload); len(points) > 0 {
		h.success = points[len(points)-1].Time
	}
	for _, a := range w.attempts[workload] {
		if a.Point == "" && a.Began.After(h.success) {
			h.attempt, h.failures = a.Began, h.failures+1
		}
	}
	return h
}

// fingerprint identifies what the decisions of a plan rest on.
func (w *world) fingerprint() string {
	h := sha256.New()
	fmt.Fprintf(h, "active %s run %s\n", w.active, w.lease.Run)
	for _, site := range []string{PrimarySite, StandbySite} {
		s := w.sites[site]
		fmt.Fprintf(h, "site %s readable %t absent %t\n", site, s.err == nil, s.absent)
		var lines []string
		for _, p := range s.points {
			lines = append(lines, fmt.Sprintf("%s %s %t", p.ID, p.Name, p.Damaged == ""))
		}
		slices.Sort(lines)
		io.WriteString(h, strings.Join(lines, "\n")+"\n")
	}
	for _, name := range sortedKeys(w.proofs) {
		for _, p := range w.proofs[name] {
			fmt.Fprintf(h, "proof %s %s %t\n", name, p.Point, p.Proves())
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
