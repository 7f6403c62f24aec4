package dr

import (
	"maps"
	"slices"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// The defaults of zero fields.
const (
	defaultProven    = Duration(35 * Day)
	defaultExpect    = Duration(time.Minute)
	defaultHealth    = Duration(time.Minute)
	defaultThreshold = 3
	defaultTTL       = Duration(time.Minute)
	defaultBudget    = Duration(5 * time.Minute)
	defaultSettle    = Duration(15 * time.Second)
	defaultPriority  = 3
)

var rtoClasses = map[RTOClass]Duration{
	RTOCritical: Duration(time.Hour), RTONonCritical: Duration(4 * time.Hour), RTODataService: Duration(30 * time.Minute),
}

var rpoClasses = map[RPOClass]Duration{
	RPOCritical: Duration(15 * time.Minute), RPOStandard: Duration(time.Hour), RPOArchival: Duration(Day),
}

func or[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// ObjectivesOf returns what holds for w: its own objective, else that of its
// class, else the one for all. An objective nobody states is zero.
func (c Config) ObjectivesOf(w Workload) Objectives {
	return Objectives{
		RTO:    or(w.RTO, or(rtoClasses[w.RTOClass], c.Objectives.RTO)),
		RPO:    or(w.RPO, or(rpoClasses[w.RPOClass], c.Objectives.RPO)),
		Proven: or(c.Objectives.Proven, defaultProven),
	}
}

// Workload returns the workload of that name.
func (c Config) Workload(name string) (Workload, bool) {
	for _, w := range c.Workloads {
		if w.Name == name {
			return w, true
		}
	}
	return Workload{}, false
}

// mode is the mode in effect.
func (f Failover) mode() failover.Mode {
	if f.Mode == "" && f.Automatic {
		return failover.Automatic
	}
	return or(f.Mode, failover.Manual)
}

func (f Failover) interval() time.Duration { return or(f.HealthInterval, defaultHealth).Std() }
func (f Failover) threshold() int          { return or(f.FailureThreshold, defaultThreshold) }
func (f Failover) settle() time.Duration   { return or(f.Settle, defaultSettle).Std() }
func (f Failover) budget() time.Duration   { return or(f.Budget, defaultBudget).Std() }

// detection is the time until a fault is noticed: the threshold of probes in
// a row, of which the first comes up to one interval after the fault.
func (f Failover) detection() time.Duration { return time.Duration(f.threshold()) * f.interval() }

func (d DNS) ttl() time.Duration { return or(d.TTL, defaultTTL).Std() }

func (w Workload) priority() int                { return or(w.Priority, defaultPriority) }
func (w Workload) expectBackup() time.Duration  { return or(w.Expect.Backup, defaultExpect).Std() }
func (w Workload) expectArrival() time.Duration { return or(w.Expect.Arrival, defaultExpect).Std() }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
