package failover

import (
	"errors"
	"fmt"
	"time"
)

// An effect is the one thing to do next. There is never more than one: what
// comes after depends on how it went, and a crash has one place to be in.
type effect struct {
	kind   effectKind
	step   int
	record Record // append: without run, sequence number and writer
	site   string // activate
	err    error  // stop: why, if the journal does not say
}

type effectKind string

const (
	effAppend   effectKind = "append"   // -> evRecorded
	effObserve  effectKind = "observe"  // -> evObserved
	effDo       effectKind = "do"       // -> evReturned
	effUndo     effectKind = "undo"     // -> evReturned
	effActivate effectKind = "activate" // write Active to the lease -> evActivated
	effSettle   effectKind = "settle"   // wait until no effect can land any more -> evSettled
	effBackoff  effectKind = "backoff"  // -> evBackedOff
	effStop     effectKind = "stop"
)

// An event is what came of the last effect, or begins the loop.
type event struct {
	kind        eventKind
	record      Record      // recorded
	active      Active      // begin
	observation Observation // observed
	evidence    Evidence    // returned
	err         error       // observed, returned
	took        time.Duration
}

type eventKind string

const (
	evBegin     eventKind = "begin"    // accepted or taken over
	evRollback  eventKind = "rollback" // a person asks, first thing after a takeover
	evRecorded  eventKind = "recorded"
	evObserved  eventKind = "observed"
	evReturned  eventKind = "returned"
	evActivated eventKind = "activated"
	evSettled   eventKind = "settled"
	evBackedOff eventKind = "backed off"
)

// ask says why something was observed.
type ask string

const (
	askDone    ask = "done"    // is the step done already?
	askRecheck ask = "recheck" // does the fence hold, right before the pivot?
	askProve   ask = "prove"   // is everything gone after a clean-up?
	askGuard   ask = "guard"   // does the standby accept writes, right before unfencing?
)

// next decides. It has no clock, no goroutine and no I/O; a driver performs
// the effect and comes back with the event.
func next(s state, e event) (state, effect) {
	switch e.kind {
	case evBegin, evRollback:
		s.v = volatile{active: e.active.Site, known: e.active.Epoch > 0}
		if e.kind == evRollback && !s.back {
			if s.crossed() {
				return s, effect{kind: effStop, err: ErrPastPivot}
			}
			return s, record(Record{Kind: RecordRollback, Requested: true, Reason: "asked for by a person"})
		}
	case evRecorded:
		return recorded(s, e.record)
	case evObserved:
		return observed(s, e)
	case evReturned:
		return returned(s, e)
	case evActivated:
		want, _ := s.wantActive()
		s.v.active, s.v.known = want, true
	case evSettled:
		return s, record(Record{Kind: RecordSettled})
	case evBackedOff:
		s.v.backedOff = true
	}
	return decide(s)
}

func record(r Record) effect { return effect{kind: effAppend, step: -1, record: r} }

func recorded(s state, r Record) (state, effect) {
	active, known := s.v.active, s.v.known
	s, err := fold(s, r)
	if err != nil {
		return s, effect{kind: effStop, err: err}
	}
	s.v = volatile{active: active, known: known}
	switch r.Kind {
	case RecordStarted:
		s.v.call = &effect{kind: effDo, step: s.index(r.Step)}
	case RecordUndoStarted:
		s.v.call = &effect{kind: effUndo, step: s.index(r.Step)}
	}
	return decide(s)
}

// decide finds the next effect from the state alone.
func decide(s state) (state, effect) {
	if s.over || s.paused {
		return s, effect{kind: effStop}
	}
	if s.mustSettle {
		return s, effect{kind: effSettle}
	}
	if want, ok := s.wantActive(); ok && (want != s.v.active || !s.v.known) {
		return s, effect{kind: effActivate, site: want}
	}
	if call := s.v.call; call != nil {
		s.v.call = nil
		return s, *call
	}
	if s.back {
		return decideBack(s)
	}
	for i, st := range s.steps {
		if st.status != StepDone && st.status != StepFailed {
			return forward(s, i)
		}
	}
	return finish(s, Completed)
}

// finish ends the run, but not before its last effect has landed for good:
// the next run must not meet it.
func finish(s state, o Outcome) (state, effect) {
	if s.pending > 0 {
		return s, effect{kind: effSettle}
	}
	return s, record(Record{Kind: RecordFinished, Outcome: o})
}

// forward brings step i nearer to done.
func forward(s state, i int) (state, effect) {
	st, step := s.steps[i], s.plan.Steps[i]
	switch {
	case st.failures >= step.Attempts:
		return s, record(giveUp(s, i))
	case st.failures > 0 && !s.v.backedOff:
		return s, effect{kind: effBackoff, step: i}
	case (step.Pivot || step.Role == RoleCleanUp) && !st.touched && s.pending > 0:
		// A restore that lands late must not meet a standby that accepts
		// writes, nor a start that lands late a test that is cleaned up.
		return s, effect{kind: effSettle}
	case !s.v.ready:
		s.v.question = askDone
		return s, effect{kind: effObserve, step: i}
	}
	if step.Pivot {
		if fence := s.fenceToRecheck(); fence >= 0 {
			s.v.question = askRecheck
			return s, effect{kind: effObserve, step: fence}
		}
	}
	return s, record(Record{Kind: RecordStarted, Step: step.Name, Attempt: st.attempts + 1, Deadline: step.Timeout + s.plan.Settle})
}

// fenceToRecheck is the next fence that was not yet found to hold for this
// attempt of the pivot, or -1.
func (s state) fenceToRecheck() int {
	n := 0
	for i, step := range s.plan.Steps {
		if step.Role == RoleFence {
			if n == s.v.rechecked {
				return i
			}
			n++
		}
	}
	return -1
}

func giveUp(s state, i int) Record {
	step := s.plan.Steps[i]
	reason := fmt.Sprintf("step %s failed %d times: %s", step.Name, s.steps[i].failures, s.steps[i].err)
	switch {
	case s.back:
		return Record{Kind: RecordPaused, Outcome: FailedBeforePivot, Reason: reason}
	case s.crossed():
		return Record{Kind: RecordPaused, Outcome: StuckAfterPivot, Reason: reason}
	}
	return Record{Kind: RecordRollback, Reason: reason}
}

// decideBack undoes the last step that has to be undone. A test is not undone
// step by step: its clean-up steps remove everything, and prove it.
func decideBack(s state) (state, effect) {
	done := RolledBack
	if s.requested {
		done = Cancelled
	}
	if s.plan.Kind == Test {
		for i, step := range s.plan.Steps {
			if step.Role == RoleCleanUp && s.steps[i].status != StepDone {
				return forward(s, i)
			}
		}
		return finish(s, done)
	}
	i := s.toUndo()
	if i < 0 {
		return finish(s, done)
	}
	st, step := s.steps[i], s.plan.Steps[i]
	switch {
	case st.failures >= step.Attempts:
		return s, record(giveUp(s, i))
	case st.failures > 0 && !s.v.backedOff:
		return s, effect{kind: effBackoff, step: i}
	case step.Role == RoleFence && !s.v.guarded:
		s.v.question = askGuard
		return s, effect{kind: effObserve, step: s.pivot()}
	}
	return s, record(Record{Kind: RecordUndoStarted, Step: step.Name, Deadline: step.Timeout + s.plan.Settle})
}

// current is the step the run is at.
func (s state) current() int {
	if s.back && s.plan.Kind != Test {
		return s.toUndo()
	}
	for i, st := range s.steps {
		if st.status != StepDone && st.status != StepFailed && (!s.back || s.plan.Steps[i].Role == RoleCleanUp) {
			return i
		}
	}
	return -1
}

func observed(s state, e event) (state, effect) {
	i := s.current()
	step := s.plan.Steps[i]
	question := s.v.question
	s.v.question = ""
	switch question {
	case askRecheck:
		fence := s.plan.Steps[s.fenceToRecheck()]
		switch {
		case e.err != nil:
			return s, record(Record{Kind: RecordFailed, Step: step.Name, NoEffect: true, Error: "fence cannot be confirmed: " + text(e.err)})
		case !e.observation.holds(RoleFence):
			return s, record(Record{Kind: RecordReopened, Step: fence.Name, Error: "the fence does not hold any more", Evidence: e.observation.Evidence})
		}
		s.v.rechecked++
	case askProve:
		if e.err != nil || !e.observation.Done {
			return s, record(Record{Kind: RecordFailed, Step: step.Name, Evidence: e.observation.Evidence,
				Error: "clean-up is not proven: " + text(e.err)})
		}
		return s, record(Record{Kind: RecordDone, Step: step.Name, Took: s.v.took + e.took, Evidence: merged(s.v.evidence, e.observation.Evidence)})
	case askGuard:
		switch {
		case e.err != nil:
			return s, record(Record{Kind: RecordUndoFailed, Step: step.Name,
				Error: "cannot tell whether the standby accepts writes, so the primary stays fenced: " + text(e.err)})
		case e.observation.Done:
			return s, record(Record{Kind: RecordPaused, Outcome: FailedBeforePivot,
				Reason: "the standby accepts writes, though this run never started it; the primary stays fenced"})
		}
		s.v.guarded = true
	default:
		switch {
		case e.err != nil:
			return s, record(Record{Kind: RecordFailed, Step: step.Name, NoEffect: true, Error: "observe: " + text(e.err)})
		case e.observation.holds(step.Role):
			return s, record(Record{Kind: RecordDone, Step: step.Name, Observed: true, Took: e.took, Evidence: e.observation.Evidence})
		}
		s.v.ready, s.v.took = true, e.took
	}
	return decide(s)
}

// holds: a fence counts only if it is confirmed.
func (o Observation) holds(r Role) bool {
	return o.Done && (r != RoleFence || o.Evidence[EvidenceConfirmed] == "true")
}

func returned(s state, e event) (state, effect) {
	i := s.current()
	step := s.plan.Steps[i]
	if s.back && s.plan.Kind != Test {
		if e.err != nil {
			return s, record(Record{Kind: RecordUndoFailed, Step: step.Name, Took: e.took, Evidence: e.evidence, Error: text(e.err)})
		}
		return s, record(Record{Kind: RecordUndone, Step: step.Name, Took: e.took, Evidence: e.evidence})
	}
	failed := Record{Kind: RecordFailed, Step: step.Name, Took: e.took, Evidence: e.evidence}
	switch {
	case e.err != nil:
		failed.Error, failed.NoEffect = text(e.err), errors.Is(e.err, ErrNoEffect)
		return s, record(failed)
	case step.Role == RoleFence && e.evidence[EvidenceConfirmed] != "true":
		failed.Error = "the fence is not confirmed"
		return s, record(failed)
	case step.Role == RoleCleanUp:
		s.v.question, s.v.evidence, s.v.took = askProve, e.evidence, e.took
		return s, effect{kind: effObserve, step: i}
	}
	return s, record(Record{Kind: RecordDone, Step: step.Name, Took: e.took, Evidence: e.evidence})
}

func text(err error) string {
	if err == nil {
		return "it is not done"
	}
	return cut(err.Error(), 4000)
}

func merged(a, b Evidence) Evidence {
	m := Evidence{}
	for _, ev := range []Evidence{a, b} {
		for k, v := range ev {
			m[k] = v
		}
	}
	return m
}
