package dr

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// How many of the latest measurements a prediction looks at. It takes the
// worst of them: an objective is a promise about bad days.
const (
	sampleBackups = 20
	sampleDrills  = 3
)

// measured is what a workload's past says about its future.
type measured struct {
	backup   time.Duration // longest of the latest backups; 0 if none
	backups  int
	arrival  time.Duration // longest of the latest arrivals; 0 if none
	arrivals int
	rate     float64 // bytes per second of the slowest of the latest drills; 0 if none
	drills   int
	restored int64 // bytes of the newest drill
}

// measure reads the past from the points themselves: when each began, when it
// was committed, and when the other site's store received its manifest.
func measure(active, other []backup.Point, proofs []Proof) measured {
	var m measured
	for _, p := range last(active, sampleBackups) {
		m.backup, m.backups = max(m.backup, p.Ended.Sub(p.Time)), m.backups+1
	}
	arrived := map[backup.PointID]time.Time{}
	for _, p := range other {
		arrived[p.ID] = p.Stored
	}
	for _, p := range last(active, sampleBackups) {
		// Clocks of two stores are compared here, for a forecast only. What
		// arrived long ago by another way (a seeding) is no measure either,
		// but the worst case is what is asked for.
		if t, ok := arrived[p.ID]; ok && !t.IsZero() {
			m.arrival, m.arrivals = max(m.arrival, t.Sub(p.Ended)), m.arrivals+1
		}
	}
	var good []Proof
	for _, p := range proofs {
		if p.Passed && p.Bytes > 0 && p.Restore > 0 {
			good = append(good, p)
		}
	}
	for _, p := range last(good, sampleDrills) {
		rate := float64(p.Bytes) / p.Restore.Std().Seconds()
		if m.drills == 0 || rate < m.rate {
			m.rate = rate
		}
		m.drills, m.restored = m.drills+1, p.Bytes
	}
	return m
}

// last returns the last n elements of s, or all.
func last[T any](s []T, n int) []T { return s[max(0, len(s)-n):] }

// restoreTime predicts how long restoring so many bytes takes. "" means that
// nothing is known.
func (m measured) restoreTime(w Workload, bytes int64) (time.Duration, string) {
	switch {
	case m.rate > 0:
		return time.Duration(float64(bytes) / m.rate * float64(time.Second)), fmt.Sprintf("measured in %s", count(m.drills, "drill"))
	case w.Expect.Restore > 0:
		return w.Expect.Restore.Std(), "estimated in the configuration"
	}
	return 0, ""
}

// forecasts says how well each workload is protected at w.now.
func (p *Planner) forecasts(w *world) []Forecast {
	var out []Forecast
	var ahead time.Duration // restoring what has a higher priority
	known := true
	for _, load := range p.byPriority() {
		active := w.sites[w.active].of(load.Name)
		other := w.sites[otherSite(w.active)].of(load.Name)
		m := measure(active, other, w.proofs[load.Name])
		f := Forecast{Workload: load.Name, Promise: p.config.ObjectivesOf(load), Points: len(active)}
		if n := len(active); n > 0 {
			f.Newest = active[n-1].ID
		}
		if n := len(other); n > 0 {
			f.Restorable, f.Known = other[n-1].ID, true
			f.Age = Duration(w.now.Sub(other[n-1].Time))
		}
		for _, proof := range w.proofs[load.Name] {
			if proof.Proves() {
				f.Proven, f.ProvenAge = proof.Point, Duration(w.now.Sub(proof.Began))
			}
		}
		f.RPO = predictRPO(load, m)
		var took time.Duration
		f.RTO, took = p.predictRTO(w, load, m, newestBytes(other, active), ahead, known)
		w.surveyed(load.Name, &f)
		ahead, known = ahead+took, known && f.RTO.Known
		out = append(out, f)
	}
	// In the order of the configuration, which is how people look for them.
	slices.SortFunc(out, func(a, b Forecast) int {
		return cmp.Compare(p.index(a.Workload), p.index(b.Workload))
	})
	return out
}

// newestBytes is the size of what a failover would restore.
func newestBytes(lists ...[]backup.Point) int64 {
	for _, points := range lists {
		if n := len(points); n > 0 {
			return points[n-1].Stats.Bytes
		}
	}
	return 0
}

func predictRPO(w Workload, m measured) Prediction {
	s, err := w.schedule()
	if err != nil {
		return Prediction{Basis: err.Error()}
	}
	gap, err := s.longestGap()
	if err != nil {
		return Prediction{Basis: err.Error()}
	}
	made, arrival, basis := w.expectBackup(), w.expectArrival(), "estimated"
	switch {
	case m.arrivals > 0:
		made, arrival, basis = m.backup, m.arrival, fmt.Sprintf("measured on %s, %s", count(m.backups, "backup"), count(m.arrivals, "arrival"))
	case m.backups > 0:
		made, basis = m.backup, fmt.Sprintf("measured on %s, replication estimated", count(m.backups, "backup"))
	}
	b := rpoBudget(gap, tidy(made), tidy(arrival), max(tidy(made), s.retryWait(1)))
	return Prediction{Value: Duration(b.total()), Sum: b.String(), Basis: basis, Known: true}
}

// predictRTO adds up what happens before clients reach the workload at the
// other site. took is the restore of this workload alone.
func (p *Planner) predictRTO(world *world, w Workload, m measured, bytes int64, ahead time.Duration, known bool) (pr Prediction, took time.Duration) {
	if w.RestoreTo == "" {
		return Prediction{Basis: "failover restores nothing for it: restore_to is not set"}, 0
	}
	took, basis := world.restoreTime(w, m, bytes)
	took = tidy(took)
	b := p.config.rtoBudget(took)
	b.add(tidy(ahead), "to restore what comes first")
	if basis == "" {
		return Prediction{Sum: b.String(), Basis: "no drill has measured a restore yet"}, 0
	}
	if !known {
		basis += "; what comes first is not measured"
	}
	return Prediction{Value: Duration(b.total()), Sum: b.String(), Basis: basis, Known: true}, took
}

// tidy rounds up to what people read: a second where there are seconds.
func tidy(d time.Duration) time.Duration {
	unit := time.Second
	switch {
	case d <= 0:
		return 0
	case d < time.Second:
		unit = time.Millisecond
	}
	return (d + unit - 1).Truncate(unit)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// byPriority returns the workloads in the order of recovery.
func (p *Planner) byPriority() []Workload {
	all := slices.Clone(p.config.Workloads)
	slices.SortStableFunc(all, func(a, b Workload) int { return cmp.Compare(a.priority(), b.priority()) })
	return all
}

func (p *Planner) index(workload string) int {
	return slices.IndexFunc(p.config.Workloads, func(w Workload) bool { return w.Name == workload })
}

// violations judges the forecasts.
func (p *Planner) violations(w *world, forecasts []Forecast) []Violation {
	var out []Violation
	for _, f := range forecasts {
		add := func(objective string, predicted bool, format string, args ...any) {
			out = append(out, Violation{f.Workload, objective, predicted, fmt.Sprintf(format, args...)})
		}
		switch {
		case !f.Known:
			add("rpo", false, "everything would be lost: no point of it is restorable at %s%s", otherSite(w.active), whyNot(w))
		case f.Promise.RPO > 0 && f.Age > f.Promise.RPO:
			add("rpo", false, "%v would be lost now, the RPO is %v", Duration(tidy(f.Age.Std())), f.Promise.RPO)
		}
		if f.RPO.Known && f.Promise.RPO > 0 && f.RPO.Value > f.Promise.RPO {
			add("rpo", true, "this plan cannot meet the RPO of %v: %s (%s)", f.Promise.RPO, f.RPO.Sum, f.RPO.Basis)
		}
		if f.RTO.Known && f.Promise.RTO > 0 && f.RTO.Value > f.Promise.RTO {
			add("rto", true, "this plan cannot meet the RTO of %v: %s (%s)%s", f.Promise.RTO, f.RTO.Sum, f.RTO.Basis, p.growth(w, f.Workload))
		}
		switch {
		case f.Proven == "":
			add("proven", false, "no point has been proven by a drill")
		case f.ProvenAge > f.Promise.Proven:
			add("proven", false, "the last proof is %v old, the objective is %v", Duration(tidy(f.ProvenAge.Std())), f.Promise.Proven)
		}
	}
	return append(out, p.lockViolations(w)...)
}

func whyNot(w *world) string {
	if s := w.sites[otherSite(w.active)]; s.err != nil && !s.absent {
		err := s.err
		return fmt.Sprintf(" (%v)", err)
	}
	return ""
}

// growth says how much a workload has grown since a drill last measured it.
func (p *Planner) growth(w *world, workload string) string {
	active := w.sites[w.active].of(workload)
	m := measure(active, nil, w.proofs[workload])
	bytes := newestBytes(active)
	if m.restored == 0 || bytes <= m.restored {
		return ""
	}
	percent := (bytes - m.restored) * 100 / m.restored
	if percent == 0 {
		return ""
	}
	return fmt.Sprintf("; data grew %d %% since the last drill", percent)
}
