package failover

import "time"

// WithWall gives the records of a config's runs the stamps of another clock.
func WithWall(c Config, wall func() time.Time) Config {
	c.wall = wall
	return c
}

// The mistakes that the simulator must find in the decision.
const (
	PromoteBeforeFence = "promote before fence"
	SkipDeadlineWait   = "skip the deadline wait at takeover"
	RollBackPastPivot  = "roll back past the pivot"
)

// WithMistake replaces the decision by one that makes a mistake.
func WithMistake(c Config, mistake string) Config {
	c.step = func(s state, e event) (state, effect) {
		begins := e.kind == evBegin || e.kind == evRollback
		s, eff := next(s, e)
		for {
			answer, ok := event{}, false
			switch {
			case mistake == PromoteBeforeFence && eff.kind == effDo && s.plan.Steps[eff.step].Role == RoleFence:
				answer, ok = event{kind: evReturned, evidence: Evidence{EvidenceConfirmed: "true"}}, true
			case mistake == PromoteBeforeFence && eff.kind == effObserve && s.v.question == askRecheck:
				answer, ok = event{kind: evObserved, observation: Observation{Done: true, Evidence: Evidence{EvidenceConfirmed: "true"}}}, true
			case mistake == SkipDeadlineWait && eff.kind == effSettle && begins:
				answer, ok = event{kind: evSettled}, true
			case mistake == RollBackPastPivot && eff.kind == effAppend && eff.record.Outcome == StuckAfterPivot:
				s.pivotUnknown = false
				for i := range s.steps {
					s.steps[i].inDo = false
				}
				eff = record(Record{Kind: RecordRollback, Reason: eff.record.Reason})
			case mistake == RollBackPastPivot && eff.kind == effObserve && s.v.question == askGuard:
				answer, ok = event{kind: evObserved}, true
			}
			if !ok {
				return s, eff
			}
			begins = false
			s, eff = next(s, answer)
		}
	}
	return c
}
