package failover

import (
	"fmt"
	"slices"
	"time"
)

// state is what the journal of a run says, plus what the process working on
// it has learned since its last record (v). Everything but v is computed by
// fold from records alone, so that any process that reads the journal knows
// what every other one knew.
type state struct {
	plan     Plan
	hash     string
	approval *Approval
	seq      int
	epoch    uint64
	holders  []string
	steps    []stepState

	back      bool // going back
	requested bool // because a person asked
	paused    bool
	over      bool
	outcome   Outcome
	reason    string
	declared  string // abandoned: the active site

	// pivotUnknown: an attempt of the pivot was made of which it is not
	// certain that it changed nothing.
	pivotUnknown bool

	// pending is how long after a takeover an earlier effect may still
	// land; mustSettle says that this has to be waited out before anything
	// else is done.
	pending    time.Duration
	mustSettle bool

	first, last, verified time.Time

	v volatile
}

type stepState struct {
	status   StepStatus
	touched  bool // Do was called by this run
	inDo     bool // a Do was announced and has not returned
	inUndo   bool // likewise an Undo
	attempts int
	failures int // in a row, by the present process
	reopened int
	started  time.Time
	took     time.Duration
	observed bool
	evidence Evidence
	err      string
}

// volatile is what one process knows between two records.
type volatile struct {
	active    string  // Active.Site in the lease
	known     bool    // active is set: an empty lease says nothing
	question  ask     // why the last observation was asked for
	ready     bool    // the step was observed, and is not done
	backedOff bool    // the pause after a failure is over
	rechecked int     // fences found to hold, right before the pivot
	guarded   bool    // the standby was observed not to accept writes
	call      *effect // announced in the journal, to be made next
	evidence  Evidence
	took      time.Duration
}

// changes reports whether steps of the role change anything that matters
// after a crash.
func (r Role) changes() bool {
	return r == RoleFence || r == RoleRestore || r == RoleStart || r == RoleTraffic || r == RoleCleanUp
}

// crossed reports whether To may accept writes or get traffic.
func (s state) crossed() bool {
	i := s.pivot()
	return i >= 0 && (s.pivotUnknown || s.steps[i].inDo)
}

func (s state) pivot() int {
	return slices.IndexFunc(s.plan.Steps, func(st Step) bool { return st.Pivot })
}

func (s state) index(name string) int {
	return slices.IndexFunc(s.plan.Steps, func(st Step) bool { return st.Name == name })
}

// fold adds one record. It is the only place where journaled state changes,
// for the process that writes a record and for those that read it later. It
// fails on a record that no correct process writes in this state.
func fold(s state, r Record) (state, error) {
	if r.Seq != s.seq+1 || s.over {
		return s, fmt.Errorf("record %d (%s) after record %d", r.Seq, r.Kind, s.seq)
	}
	if r.Epoch < s.epoch {
		return s, fmt.Errorf("record %d has epoch %d after epoch %d", r.Seq, r.Epoch, s.epoch)
	}
	if s.seq == 0 {
		s.first = r.At
	} else if s.plan.ID == "" && r.Kind != RecordTakeover && r.Kind != RecordFinished {
		return s, fmt.Errorf("record %d (%s) of a run that was never accepted", r.Seq, r.Kind)
	}
	s.seq, s.epoch, s.last = r.Seq, r.Epoch, r.At
	s.steps = slices.Clone(s.steps)
	if n := len(s.holders); n == 0 || s.holders[n-1] != r.Holder {
		s.holders = append(slices.Clip(s.holders), r.Holder)
	}
	if r.Step != "" {
		i := s.index(r.Step)
		if i < 0 {
			return s, fmt.Errorf("record %d names step %q, which the plan does not have", r.Seq, r.Step)
		}
		return foldStep(s, i, r)
	}
	return foldRun(s, r)
}

func foldRun(s state, r Record) (state, error) {
	switch r.Kind {
	case RecordAccepted:
		if r.Seq != 1 || r.Plan == nil {
			return s, fmt.Errorf("record %d accepts a plan", r.Seq)
		}
		s.plan, s.hash, s.approval = *r.Plan, r.PlanHash, r.Approval
		s.steps = make([]stepState, len(r.Plan.Steps))
		for i := range s.steps {
			s.steps[i].status = StepPending
		}
	case RecordTakeover:
		if i := s.pivot(); i >= 0 && s.steps[i].inDo {
			s.pivotUnknown = true
		}
		for i := range s.steps {
			s.steps[i].inDo, s.steps[i].inUndo, s.steps[i].failures = false, false, 0
		}
		s.paused, s.outcome, s.reason = false, "", ""
		s.mustSettle = s.pending > 0
	case RecordSettled:
		s.pending, s.mustSettle = 0, false
	case RecordRollback:
		if s.crossed() {
			return s, fmt.Errorf("record %d rolls back: %w", r.Seq, ErrPastPivot)
		}
		s.back, s.requested, s.reason = true, r.Requested, r.Reason
		for i := range s.steps {
			s.steps[i].failures = 0
		}
		s.mustSettle = s.pending > 0
	case RecordPaused:
		s.paused, s.outcome, s.reason = true, r.Outcome, r.Reason
	case RecordFinished:
		s.over, s.outcome, s.declared = true, r.Outcome, r.Active
		if r.Reason != "" {
			s.reason = r.Reason
		}
	default:
		return s, fmt.Errorf("record %d has unknown kind %q", r.Seq, r.Kind)
	}
	return s, nil
}

func foldStep(s state, i int, r Record) (state, error) {
	st, step := &s.steps[i], s.plan.Steps[i]
	switch r.Kind {
	case RecordStarted:
		st.status, st.touched, st.inDo = StepStarted, true, true
		st.attempts++
		if st.attempts == 1 {
			st.started = r.At
		}
		if step.Role.changes() {
			s.pending = max(s.pending, r.Deadline)
		}
	case RecordDone:
		st.status, st.observed, st.evidence, st.took, st.err, st.failures = StepDone, r.Observed, r.Evidence, r.Took, "", 0
		if st.started.IsZero() {
			st.started = r.At
		}
		if step.Role == RoleVerify {
			s.verified = r.At
		}
		s.pivotUnknown = s.pivotUnknown || step.Pivot
		s.returned(st, step)
	case RecordFailed:
		st.failures++
		st.err = r.Error
		if step.Role == RoleNotify && st.failures >= step.Attempts {
			st.status = StepFailed
		}
		s.pivotUnknown = s.pivotUnknown || step.Pivot && !r.NoEffect
		s.returned(st, step)
	case RecordReopened:
		// A fence that does not stay is given up like one that fails.
		st.status, st.err = StepPending, r.Error
		st.reopened++
		st.failures = st.reopened
	case RecordUndoStarted:
		st.inUndo = true
		s.pending = max(s.pending, r.Deadline)
	case RecordUndone:
		st.status, st.failures = StepUndone, 0
		s.returned(st, step)
	case RecordUndoFailed:
		st.failures++
		st.err = r.Error
		s.returned(st, step)
	default:
		return s, fmt.Errorf("record %d: kind %q with a step", r.Seq, r.Kind)
	}
	return s, nil
}

// returned notes that a call has come back: what it asked for lands within
// the plan's Settle from now on, or never.
func (s *state) returned(st *stepState, step Step) {
	if (st.inDo || st.inUndo) && step.Role.changes() {
		s.pending = s.plan.Settle
	}
	st.inDo, st.inUndo = false, false
}

// wantActive is the site that the lease must name now, if this run has a say.
// Because it follows from the journal, a takeover repeats it.
func (s state) wantActive() (site string, ok bool) {
	switch {
	case s.plan.Kind == Test || s.plan.ID == "":
		return "", false
	case s.declared != "":
		return s.declared, true
	case s.crossed():
		return s.plan.To, true
	case !s.fenceTouched():
		return "", false
	case s.back:
		if i := s.toUndo(); i < 0 || s.plan.Steps[i].Role == RoleFence {
			return s.plan.From, true
		}
	}
	return "", true
}

func (s state) fenceTouched() bool {
	for i, step := range s.plan.Steps {
		if step.Role == RoleFence && (s.steps[i].touched || s.steps[i].status == StepDone) {
			return true
		}
	}
	return false
}

// toUndo is the last step that has to be undone, or -1.
func (s state) toUndo() int {
	for i := len(s.steps) - 1; i >= 0; i-- {
		if st := s.steps[i]; st.touched && st.status != StepUndone && s.plan.Steps[i].Role.changes() {
			return i
		}
	}
	return -1
}
