package dr

import (
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

// minEvery is the shortest interval between points.
const minEvery = 10 * time.Second

func (c Config) validateObjectives(f *faults) {
	for i, w := range c.Workloads {
		field := at("targets", i)
		o := c.ObjectivesOf(w)
		if o.RPO == 0 && rpoClasses[w.RPOClass] == 0 && w.RPOClass == "" {
			f.add(field+".rpo", "there is no RPO", "set rpo or rpo_class, or objectives.rpo for all")
		}
		if o.RTO == 0 && w.RTOClass == "" {
			f.add(field+".rto", "there is no RTO", "set rto or rto_class, or objectives.rto for all")
		}
		// A class may be stricter than the promise for all, not looser.
		if class := rpoClasses[w.RPOClass]; w.RPO == 0 && c.Objectives.RPO > 0 && class > c.Objectives.RPO {
			f.add(field+".rpo_class", fmt.Sprintf("%s allows %v, but objectives.rpo promises %v", w.RPOClass, class, c.Objectives.RPO),
				fmt.Sprintf("state the exception as %s.rpo, or drop objectives.rpo", field))
		}
		if class := rtoClasses[w.RTOClass]; w.RTO == 0 && c.Objectives.RTO > 0 && class > c.Objectives.RTO {
			f.add(field+".rto_class", fmt.Sprintf("%s allows %v, but objectives.rto promises %v", w.RTOClass, class, c.Objectives.RTO),
				fmt.Sprintf("state the exception as %s.rto, or drop objectives.rto", field))
		}
		c.validateRTO(f, field, w, o.RTO)
	}
}

// A budget is a sum that must stay within an objective, kept in parts so that
// the arithmetic can be shown.
type budget struct {
	parts []budgetPart
}

type budgetPart struct {
	span time.Duration
	name string
}

func (b *budget) add(span time.Duration, name string) {
	if span > 0 {
		b.parts = append(b.parts, budgetPart{span, name})
	}
}

func (b budget) total() time.Duration {
	var sum time.Duration
	for _, p := range b.parts {
		sum += p.span
	}
	return sum
}

// String reads "1h between points + 1m backup = 1h1m".
func (b budget) String() string {
	s := ""
	for i, p := range b.parts {
		if i > 0 {
			s += " + "
		}
		s += fmt.Sprintf("%v %s", Duration(p.span), p.name)
	}
	return fmt.Sprintf("%s = %v", s, Duration(b.total()))
}

// rpoBudget is the worst age of the newest point at the standby when nothing
// fails but one attempt: just before a point arrives, the one before it is an
// interval, a failed attempt, a wait, a backup and a replication old.
func rpoBudget(gap, backup, arrival, retry time.Duration) budget {
	var b budget
	b.add(gap, "between points")
	b.add(backup, "backup")
	b.add(arrival, "replication")
	b.add(retry, "for one retry")
	return b
}

func (c Config) validateRPO(f *faults, field, which string, w Workload, gap Duration) {
	rpo := c.ObjectivesOf(w).RPO
	if rpo == 0 {
		return // said already
	}
	s := schedule{every: w.Every.Std()}
	backup := w.expectBackup()
	b := rpoBudget(gap.Std(), backup, w.expectArrival(), max(backup, s.retryWait(1)))
	if b.total() <= rpo.Std() {
		return
	}
	fix := "loosen the RPO of this target"
	if most := rpo.Std() - (b.total() - gap.Std()); most >= minEvery {
		fix = fmt.Sprintf("set every: %v or less, or loosen the RPO of this target", Duration(roundDown(most)))
	}
	f.add(field+"."+which, fmt.Sprintf("cannot meet the RPO of %v: %v", rpo, b), fix)
}

// roundDown gives a span people would write.
func roundDown(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Hour, 5 * time.Minute, time.Minute, time.Second} {
		if d >= 2*unit {
			return d.Truncate(unit)
		}
	}
	return d
}

// rtoBudget is the time from the fault to clients at the standby.
func (c Config) rtoBudget(restore time.Duration) budget {
	var b budget
	if c.Failover.mode() == failover.Automatic {
		b.add(c.Failover.detection(), "to notice the fault")
	}
	b.add(restore, "to restore")
	b.add(c.Failover.settle(), "to settle")
	if c.movesTraffic() {
		b.add(c.follow(), "for clients to follow "+c.followed())
	}
	return b
}

func (c Config) validateRTO(f *faults, field string, w Workload, rto Duration) {
	if rto == 0 {
		return
	}
	b := c.rtoBudget(w.Expect.Restore.Std())
	if b.total() > rto.Std() {
		which := ".rto"
		if w.RTO == 0 && w.RTOClass != "" {
			which = ".rto_class"
		}
		f.add(field+which, fmt.Sprintf("%v cannot be met: %v", rto, b),
			"probe more often (failover.health_interval), lower dns.ttl, keep the standby warm, or loosen the RTO of this target")
	}
}
