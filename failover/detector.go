package failover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Health is the judgement of a [DetectorConfig] about a site.
type Health string

const (
	HealthUnknown Health = "unknown" // not enough observers could vote
	Healthy       Health = "healthy"
	Suspect       Health = "suspect"   // something is wrong, but not everything everybody looks at
	Unhealthy     Health = "unhealthy" // every kind of signal has failed, by enough observers
	Blocked       Health = "blocked"   // unhealthy, but too soon after the last time: a person must look
)

// DetectorConfig says when a site is unhealthy: every kind of signal must
// agree, each by at least Quorum observers, each of whom has seen it fail
// Fail times in a row. It is plain data with a pure method.
type DetectorConfig struct {
	Signals   []string      // kinds, such as "http" and "heartbeat"; at least one
	Observers []string      // names of those who look; at least one
	Quorum    int           // observers needed per signal, of all of them, not of those who vote; 0 means more than half
	Fail      int           // failures in a row before a signal is down; 0 means 3
	Rise      int           // successes in a row before it is up again; 0 means 2
	CoolDown  time.Duration // after Unhealthy, how long the next one is Blocked instead; 0 means 1 h
}

// A Vote is what one observer saw of one signal in one round.
type Vote struct {
	Observer string
	Signal   string
	OK       bool
	// Blind: the observer could not reach its own canary, so that what it
	// saw of the site says nothing. The vote does not count.
	Blind  bool
	Detail string
}

// A DetectorState is what a detector remembers. The zero value is a new one.
type DetectorState struct {
	Counts    map[string]Count // by "observer signal"
	Health    Health
	Unhealthy time.Time // when it last was declared; zero after Acknowledge
	Since     time.Time // of the first failure in the present series; zero if none
}

// A Count is the hysteresis of one signal at one observer.
type Count struct {
	Down  bool
	InRow int  // rounds in a row that speak against Down
	Voted bool // in the last round
}

// A Verdict is the outcome of one round.
type Verdict struct {
	Health  Health
	Changed bool
	Since   time.Time // first failure of the series; the Fault of a plan
	Reason  string
}

// Validate reports what is wrong with the config.
func (c DetectorConfig) Validate() error {
	var errs []error
	if len(c.Signals) == 0 || len(c.Observers) == 0 {
		errs = append(errs, errors.New("detector: needs at least one signal and one observer"))
	}
	if c.Quorum < 0 || c.Quorum > len(c.Observers) {
		errs = append(errs, fmt.Errorf("detector: quorum %d of %d observers", c.Quorum, len(c.Observers)))
	}
	if c.Fail < 0 || c.Rise < 0 || c.CoolDown < 0 {
		errs = append(errs, errors.New("detector: Fail, Rise and CoolDown must not be negative"))
	}
	return errors.Join(errs...)
}

// Acknowledge ends the cool-down: a person has looked.
func (s DetectorState) Acknowledge() DetectorState {
	s.Unhealthy = time.Time{}
	return s
}

// Step judges one round of votes at time now. It is pure: the state given is
// not changed. Votes of observers or signals that the config does not name
// are ignored; so are all but the last of one observer for one signal.
func (c DetectorConfig) Step(s DetectorState, now time.Time, votes []Vote) (DetectorState, Verdict) {
	fail, rise := orDefault(c.Fail, 3), orDefault(c.Rise, 2)
	quorum := orDefault(c.Quorum, len(c.Observers)/2+1)
	s.Counts = maps.Clone(s.Counts)
	if s.Counts == nil {
		s.Counts = map[string]Count{}
	}
	round, details := map[string]Vote{}, []string{}
	for _, v := range votes {
		round[v.Observer+" "+v.Signal] = v
	}
	anyFailed, down, agree, unknown := false, 0, 0, 0
	for _, signal := range c.Signals {
		downs, voted := 0, 0
		for _, o := range c.Observers {
			key := o + " " + signal
			v, ok := round[key]
			n := s.Counts[key].step(v, ok && !v.Blind, fail, rise)
			s.Counts[key] = n
			if n.Voted {
				voted++
				if n.Down {
					downs++
				}
				if !v.OK {
					anyFailed = true
					details = append(details, fmt.Sprintf("%s: %s", key, v.Detail))
				}
			}
		}
		switch {
		case downs >= quorum:
			agree++
			down++
		case voted < quorum:
			unknown++
		case downs > 0:
			down++
		}
	}
	if !anyFailed && down == 0 {
		s.Since = time.Time{}
	} else if s.Since.IsZero() {
		s.Since = now
	}
	slices.Sort(details)
	verdict := Verdict{Since: s.Since, Reason: strings.Join(details, "; ")}
	switch {
	case agree == len(c.Signals):
		verdict.Health = Unhealthy
		cool := c.CoolDown
		if cool == 0 {
			cool = time.Hour
		}
		again := s.Health != Unhealthy && !s.Unhealthy.IsZero() && now.Sub(s.Unhealthy) < cool
		if again || s.Health == Blocked {
			verdict.Health = Blocked
			verdict.Reason = fmt.Sprintf("unhealthy again within %v; acknowledge to go on; %s", cool, verdict.Reason)
			if s.Unhealthy.IsZero() || now.Sub(s.Unhealthy) >= cool {
				verdict.Health = Unhealthy
			}
		}
		if verdict.Health == Unhealthy && s.Health != Unhealthy {
			s.Unhealthy = now
		}
	case unknown > 0:
		verdict.Health = HealthUnknown
	case down > 0 || anyFailed:
		verdict.Health = Suspect
	default:
		verdict.Health = Healthy
	}
	verdict.Changed = verdict.Health != s.Health
	s.Health = verdict.Health
	return s, verdict
}

// step counts one round. A round without a vote leaves the series as it was.
func (n Count) step(v Vote, counts bool, fail, rise int) Count {
	n.Voted = counts
	if !counts {
		return n
	}
	against := v.OK == n.Down
	if !against {
		n.InRow = 0
		return n
	}
	n.InRow++
	if n.Down && n.InRow >= rise || !n.Down && n.InRow >= fail {
		n.Down, n.InRow = !n.Down, 0
	}
	return n
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}
