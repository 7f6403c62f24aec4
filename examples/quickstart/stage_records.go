package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// objectives are what the quickstart promises: seconds, for a story of a
// minute, and five minutes for directories of a size we do not know.
type objectives struct {
	RPO, RTO, Failover time.Duration
}

func (st *story) objectives() objectives {
	if st.tree() {
		return objectives{RPO: 5 * time.Minute, RTO: 5 * time.Minute, Failover: 5 * time.Minute}
	}
	return objectives{RPO: 30 * time.Second, RTO: time.Minute, Failover: 30 * time.Second}
}

// countRecords is stage 8: what the standby has, what was lost, and how the
// times compare with what was promised.
func (st *story) countRecords(ctx context.Context) error {
	loss, err := st.measure(ctx)
	if err != nil {
		return err
	}
	compare := st.compareLedger
	if st.tree() {
		compare = st.compareTree
	}
	if st.postgres() {
		compare = st.compareRows
	}
	if err := compare(&loss); err != nil {
		return err
	}
	target := st.objectives()
	for _, o := range []struct {
		name             string
		measured, target time.Duration
		basis            string
	}{
		{"RPO", loss.RPO, target.RPO, "fault minus the last write that was restored"},
		{"RTO", loss.RTO, target.RTO, "fault until the standby was verified under the service's name and had served the client"},
		{"failover", loss.Failover, target.Failover, "decision until the same"},
	} {
		say, mark := st.ok, "met"
		if o.measured > o.target {
			say, mark = st.miss, "MISSED"
		}
		say("%-8s %8s  target %-5s %-6s %s", o.name, short(o.measured), o.target, mark, o.basis)
	}
	return st.log.remember(func(f *facts) { f.Loss = &loss })
}

// measure takes the recovery time from where it matters: the client, whose
// requests failed from the fault on. The service is recovered when both the
// client was served and the last verification of the run had passed.
func (st *story) measure(ctx context.Context) (lossFact, error) {
	f := st.log.Facts
	res, ok := f.Results["failover"]
	if !ok || f.Fault.IsZero() {
		return lossFact{}, errors.New("the failover has not been recorded")
	}
	var verified time.Time
	for _, s := range res.Steps {
		if s.Role == failover.RoleVerify {
			verified = s.Started.Add(s.Took)
		}
	}
	for {
		var outages []outage
		if err := readLines(filepath.Join(st.dir, "client", "outages.jsonl"), &outages); err != nil {
			return lossFact{}, err
		}
		for _, o := range outages {
			if o.Until > f.FaultClock {
				out := time.Duration(o.Until - f.FaultClock)
				st.ok("the client was without service for %s", short(time.Duration(o.Until-o.From)))
				rto := max(out, verified.Sub(f.Fault))
				return lossFact{RTO: rto, Failover: f.Fault.Add(rto).Sub(res.Plan.Created)}, nil
			}
		}
		select {
		case <-ctx.Done():
			return lossFact{}, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// compareLedger holds the client's own account against the ledger that the
// standby took over.
func (st *story) compareLedger(loss *lossFact) error {
	records, err := st.takenOver()
	if err != nil {
		return err
	}
	acks, err := st.acks()
	if err != nil {
		return err
	}
	loss.Restored = len(records)
	for _, a := range acks {
		if a.Site != primarySite {
			continue
		}
		loss.Promised++
		if a.N > len(records) || records[a.N-1].Sum != a.Sum {
			loss.Lost = append(loss.Lost, a.Key)
			if a.N <= len(records) {
				return fmt.Errorf("record %d at the standby is not the one that was acknowledged as %s", a.N, a.Key)
			}
		}
	}
	// What had been acknowledged before the newest point that arrived was
	// begun must not be among the lost.
	points := st.log.Facts.Points
	newest := points[len(points)-1].Point
	if early := missingAcks(acks, records, newest.Time); len(early) > 0 {
		return fmt.Errorf("%s was acknowledged before point %s was begun, and is not in what was restored", early[0].Key, newest.ID)
	}
	last := records[len(records)-1]
	loss.RPO = time.Duration(st.log.Facts.FaultClock - last.At)
	loss.Compared = "every acknowledged record by number and chained SHA-256"
	st.ok("%d of %d records that the old primary acknowledged are there, each with its checksum", loss.Promised-len(loss.Lost), loss.Promised)
	if n := len(loss.Lost); n > 0 {
		st.ok("%d are lost, %s to %s: acknowledged after the newest point that had arrived began", n, loss.Lost[0], loss.Lost[n-1])
	}
	return nil
}

// takenOver returns the records of the standby up to where it took over: all
// that the old primary accepted.
func (st *story) takenOver() ([]record, error) {
	var sc serviceConfig
	if err := readJSON(st.config(serviceProcess(standbySite)), &sc); err != nil {
		return nil, err
	}
	records, _, err := readLedger(sc.Data)
	if err != nil {
		return nil, err
	}
	for i, r := range records {
		if r.Site != primarySite {
			records = records[:i]
			break
		}
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s: no record of the old primary", filepath.Join(sc.Data, ledgerFile))
	}
	return records, nil
}

// compareTree holds the user's directory against what was restored of it.
func (st *story) compareTree(loss *lossFact) error {
	_, stop := st.wait("comparing every file")
	defer stop()
	want, err := readTree(st.log.Settings.Data)
	if err != nil {
		return err
	}
	got, err := readTree(st.restoredDir(standbySite, "failover"))
	if err != nil {
		return err
	}
	if err := compareTrees(want, got); err != nil {
		return fmt.Errorf("%s differs from what was restored of it: %w", st.log.Settings.Data, err)
	}
	points := st.log.Facts.Points
	loss.Restored, loss.Promised = len(got), len(want)
	loss.RPO = st.log.Facts.Fault.Sub(points[len(points)-1].Point.Time)
	loss.Compared = "every entry: content by SHA-256, mode, time of modification, target of links"
	st.ok("all %d files, directories and links are there: content, modes, times and links are the same", len(want))
	return nil
}

// restoredDir is where an operation restores to: a directory of its own.
func (st *story) restoredDir(site, operation string) string {
	return st.inSite(site, "data-"+operation)
}
