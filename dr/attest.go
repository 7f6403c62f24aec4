package dr

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// Attest says how often each site looks at what sealed writers have stored
// there, so that others rely on it and pruning can rewrite it
// ([backup.Repository.Attest]): it reads all of that, once. Where no sealed
// writer has made a point since the last time, nothing is done.
type Attest struct {
	Every Duration `yaml:"every,omitempty" json:"every,omitzero"` // 0 means as often as Prune.Every, and before each prune

	// Off looks at nothing: another program does.
	Off bool `yaml:"off,omitempty" json:"off,omitempty"`
}

func (c Config) attestEvery() time.Duration { return or(c.Attest.Every.Std(), c.Prune.every()) }

// An Attestation records that what sealed writers stored at a site was looked
// at.
type Attestation struct {
	Site  string    `json:"site"`
	Began time.Time `json:"began"`
	Took  Duration  `json:"took"`
	Bytes int64     `json:"bytes"`         // of packs that were right
	Bad   []string  `json:"bad,omitempty"` // packs that were not
	Error string    `json:"error,omitempty"`
}

// planAttests has a site look at what sealed writers stored, so long after the
// last time, and before each prune. One that failed is tried again after a
// quarter of that.
func (p *Planner) planAttests(w *world, prunes []Action) []Action {
	if p.config.Attest.Off || w.control != nil {
		return nil
	}
	every := p.config.attestEvery()
	var out []Action
	for _, site := range []string{PrimarySite, StandbySite} {
		due, reason := w.now, "what sealed writers stored was never looked at"
		var last time.Time // that ended
		for _, done := range w.attests[site] {
			switch again := done.Began.Add(every / 4); {
			case done.Began.After(w.now): // the clock went back
			case done.Error == "":
				last = done.Began
				due, reason = last.Add(every), fmt.Sprintf("what sealed writers stored was not looked at for %v", Duration(every))
			case again.After(due):
				due, reason = again, "tried again, it failed: "+done.Error
			}
		}
		if !slices.ContainsFunc(w.sites[site].points, func(point backup.Point) bool { return point.SealedWriter && !point.Stored.Before(last) }) {
			continue
		}
		if due.After(w.now) && p.config.Attest.Every == 0 && slices.ContainsFunc(prunes, func(a Action) bool { return a.Site == site }) {
			due, reason = w.now, "before space is freed"
		}
		if !due.After(w.now) {
			out = append(out, Action{Kind: ActAttest, Site: site, Due: due, Reason: reason})
		}
	}
	return out
}

// attest looks at what sealed writers stored at a site. What is not right is an
// error of the event alone: nobody relies on it, and looking again changes
// nothing.
func (p *Planner) attest(ctx context.Context, site string) (Attestation, error) {
	done := Attestation{Site: site, Began: time.Now().UTC()}
	unlock, err := p.busy.lock(ctx, "attest/"+site)
	if err != nil {
		return done, err
	}
	defer unlock()
	repo, err := p.Repository(ctx, site)
	if err == nil {
		var report backup.AttestReport
		report, err = repo.Attest(ctx, backup.AttestOptions{})
		done.Bytes = report.Attested.Bytes
		for _, bad := range report.Bad {
			done.Bad = append(done.Bad, bad.Key)
		}
	}
	done.Took = Duration(time.Since(done.Began))
	e := Event{Kind: EventAttest, Text: "what sealed writers stored at " + site + " is right", Took: done.Took.Std(), Bytes: done.Bytes}
	switch {
	case err != nil:
		err = fmt.Errorf("attest at %s: %w", site, err)
		done.Error, e.Err, e.Text = oneLine(err), err, "looking at what sealed writers stored at "+site+" failed"
	case len(done.Bad) > 0:
		e.Err = done.badError()
		e.Text = "a sealed writer stored at " + site + " what it is not"
	}
	p.record(ctx, recordKey(kindAttestation, site, done.Began), done)
	p.event(e)
	return done, err
}

// badError says what sealed writers stored that nobody relies on.
func (a Attestation) badError() error {
	return fmt.Errorf("%s at %s not what the writer says, the first: %s", count(len(a.Bad), "pack"), a.Site, a.Bad[0])
}
