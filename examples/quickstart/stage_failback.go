package main

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/replicate"
)

// failback is stage 10: what the standby has written since is brought to the
// old primary, the standby stops, the rest follows, and the old primary takes
// over at exactly the position where the standby stopped.
func (st *story) failback(ctx context.Context) error {
	if _, planned := st.log.Facts.Plans["failback"]; !planned {
		f, err := st.makePoint(ctx, standbySite, primarySite, st.servedAt(standbySite))
		if err != nil {
			return err
		}
		st.sayPoint(f)
		if err := st.log.remember(func(fs *facts) { fs.Points = append(fs.Points, f) }); err != nil {
			return err
		}
	}
	actions, err := st.failbackActions()
	if err != nil {
		return err
	}
	_, err = st.perform(ctx, "failback", failover.Config{Actions: actions}, func(id string) (failover.Plan, error) {
		return failover.NewPlan(failover.PlanConfig{
			Kind: failover.Failback, Service: service, From: standbySite, To: primarySite,
			ID: id, Created: time.Now(), Budget: st.objectives().Failover, Settle: settle,
			Timeouts: st.timeouts(), Expected: "none",
		})
	})
	if err != nil {
		return err
	}
	return st.countFinal(ctx)
}

func (st *story) failbackActions() (map[string]failover.Action, error) {
	from, err := st.site(standbySite)
	if err != nil {
		return nil, err
	}
	to, err := st.site(primarySite)
	if err != nil {
		return nil, err
	}
	into := st.restoredDir(primarySite, "failback")
	actions := map[string]failover.Action{
		"verify-reversed": failover.ProbeAction(100*time.Millisecond, st.caughtUp(standbySite, primarySite)),
		"verify-standby":  failover.ProbeAction(100*time.Millisecond, st.standbyReady(primarySite)),
		"quiesce":         quiesce{from, st.servedAt(standbySite)},
		"final-sync":      finalSync{restoration{st, primarySite, into}},
		"check-position":  failover.CheckPosition("quiesce", "final-sync"),
		"start":           failover.PromoteAction(promotion{site: to, data: into, register: st.register}),
		"verify-private":  failover.ProbeAction(50*time.Millisecond, serves(to)),
		"verify-public":   failover.ProbeAction(50*time.Millisecond, st.servesPublicly(primarySite)),
		"notify":          st.notification("failback"),
	}
	actions["traffic"], err = st.traffic()
	return actions, err
}

// servedAt is the directory that the service of a site was last started on.
func (st *story) servedAt(site string) string {
	var sc serviceConfig
	if err := readJSON(st.config(serviceProcess(site)), &sc); err != nil {
		return ""
	}
	return sc.Data
}

// caughtUp asks whether everything of one site has arrived at the other.
func (st *story) caughtUp(from, to string) failover.Probe {
	return probeFunc{"replication from " + from + " to " + to, func(ctx context.Context) (string, error) {
		repo, err := st.openRepository(ctx, from)
		if err != nil {
			return "", err
		}
		store, err := st.openBackups(to)
		if err != nil {
			return "", err
		}
		lag, err := replicate.Lag(ctx, repo, store)
		if err == nil && lag.Points > 0 {
			err = fmt.Errorf("%d points, %s have not arrived", lag.Points, size(lag.Bytes))
		}
		return "nothing is behind", err
	}}
}

// finalSync brings what the quiesced site wrote last to the other site and
// restores it there.
type finalSync struct{ restoration }

func (s finalSync) Do(ctx context.Context, c failover.Call) (failover.Evidence, error) {
	if _, err := s.makePoint(ctx, c.From, c.To, s.servedAt(c.From)); err != nil {
		return nil, err
	}
	return s.restoration.Do(ctx, c)
}

// countFinal checks the end of the story: every record that any site ever
// acknowledged is there, but for those that were counted as lost, and at no
// instant two sites were writable.
func (st *story) countFinal(ctx context.Context) error {
	fin := finalFact{}
	all, err := writableIntervals(st.dir, primarySite, standbySite)
	if err != nil {
		return err
	}
	if err := checkIntervals(all); err != nil {
		return err
	}
	fin.Intervals = len(all)
	if !st.tree() {
		// A few more records first, accepted at home again.
		if err := st.acknowledgedBy(ctx, primarySite, all[len(all)-1].Epoch, 3); err != nil {
			return err
		}
		if err := st.checkFinalLedger(&fin); err != nil {
			return err
		}
	} else if err := st.checkFinalTree(&fin); err != nil {
		return err
	}
	origin := clock() - int64(time.Since(st.log.Started)) // of the times at the left
	for _, w := range all {
		st.ok("writable: %s, epoch %d, from %.1fs to %.1fs", w.Site, w.Epoch,
			time.Duration(w.From-origin).Seconds(), time.Duration(w.Until-origin).Seconds())
	}
	st.ok("at no instant were two sites writable")
	return st.log.remember(func(f *facts) { f.Final = &fin })
}

func (st *story) checkFinalLedger(fin *finalFact) error {
	acks, err := st.acks() // read first: what is acknowledged later is in the ledger, too
	if err != nil {
		return err
	}
	records, _, err := readLedger(st.servedAt(primarySite))
	if err != nil {
		return err
	}
	all, err := writableIntervals(st.dir, primarySite, standbySite)
	if err != nil {
		return err
	}
	if err := checkAccepted(all, records); err != nil {
		return err
	}
	lost, err := unaccounted(acks, records, st.log.Facts.Loss.Lost)
	if err != nil {
		return err
	}
	last := records[len(records)-1]
	fin.Records, fin.Sum, fin.Promised = last.N, last.Sum, len(acks)
	st.ok("%d records at home, %d acknowledged in all, %d of them lost as counted before, no other", fin.Records, fin.Promised, lost)
	return nil
}

// unaccounted fails if an acknowledged record is neither there nor among
// those reported as lost. It returns how many of the latter are not there.
func unaccounted(acks []ack, records []record, reported []string) (lost int, err error) {
	known := make(map[string]bool, len(reported))
	for _, k := range reported {
		known[k] = true
	}
	for _, a := range acks {
		switch {
		case a.N <= len(records) && records[a.N-1].Sum == a.Sum:
		case known[a.Key]:
			lost++
		default:
			return lost, fmt.Errorf("%s was acknowledged as record %d by %s and is not there, nor was it reported as lost", a.Key, a.N, a.Site)
		}
	}
	return lost, nil
}

// acknowledgedBy waits until a site has acknowledged n records to the client.
func (st *story) acknowledgedBy(ctx context.Context, site string, epoch uint64, n int) error {
	for {
		acks, err := st.acks()
		if err != nil {
			return err
		}
		if len(acks) >= n && acks[len(acks)-n].Site == site && acks[len(acks)-n].Epoch == epoch {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (st *story) checkFinalTree(fin *finalFact) error {
	want, err := readTree(st.log.Settings.Data)
	if err != nil {
		return err
	}
	got, err := readTree(st.servedAt(primarySite))
	if err != nil {
		return err
	}
	if err := compareTrees(want, got); err != nil {
		return fmt.Errorf("after the failback: %w", err)
	}
	fin.Records, fin.Promised = len(got), len(want)
	st.ok("all %d entries are the same once more after the way back; %s was only read", len(got), st.log.Settings.Data)
	return nil
}
