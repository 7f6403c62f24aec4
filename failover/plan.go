package failover

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// PlanVersion is the version of the plan data written by this package.
const PlanVersion = 1

// A Kind says which of the four operations a plan is, and with it what the
// operation guarantees.
type Kind string

const (
	// Failover: the primary is lost or must be given up. Loss is bounded by
	// what reached the standby, and reported.
	Failover Kind = "failover"
	// Switchover: planned. The primary is quiesced and the standby catches
	// up to its last position before it is promoted: no loss.
	Switchover Kind = "switchover"
	// Failback is a switchover to the former primary, after replication to
	// it has been reversed and has caught up.
	Failback Kind = "failback"
	// Test starts the standby in isolation and cleans it up again. It has a
	// lease and an epoch of its own and reaches only actions whose name
	// begins with "test/".
	Test Kind = "test"
)

// A Role says what a step means for safety. The order in which roles may
// appear in a plan is checked by [Plan.Validate].
type Role string

const (
	RoleCheck   Role = "check"    // changes nothing; may come anywhere
	RoleFence   Role = "fence"    // From accepts no writes any more, and that is confirmed
	RoleRestore Role = "restore"  // brings data or services of To up to date; To accepts no writes yet
	RoleStart   Role = "start"    // from here on To accepts writes
	RoleVerify  Role = "verify"   // changes nothing; To serves correctly
	RoleTraffic Role = "traffic"  // clients are sent to To
	RoleNotify  Role = "notify"   // tells people; a failure is reported and does not stop the run
	RoleCleanUp Role = "clean-up" // removes what a test made; its Observe must then say done
)

// A Profile names an order of steps.
type Profile string

const (
	// ServeFirst verifies the standby before traffic moves: check, fence,
	// restore, start, verify in private, traffic, verify in public, notify.
	ServeFirst Profile = "serve-first"
	// TrafficFirst is the order found in many runbooks: traffic moves
	// before the services start. Clients meet a site that does not answer
	// yet; from the change of traffic until the verification that window is
	// part of the outage.
	TrafficFirst Profile = "traffic-first"
)

// A Plan is an operation as plain data: it can be printed, compared,
// approved, stored, and run later by another process. Nothing in it is looked
// up again when it runs.
type Plan struct {
	Version int           `json:"version"`
	ID      string        `json:"id"` // [a-z0-9-], also the name of the run
	Kind    Kind          `json:"kind"`
	Service string        `json:"service"` // [a-z0-9-]; one lease per service
	From    string        `json:"from"`    // site that serves now
	To      string        `json:"to"`      // site that shall serve
	Profile Profile       `json:"profile"`
	Steps   []Step        `json:"steps"`
	Created time.Time     `json:"created"`             // the decision, UTC
	Fault   time.Time     `json:"fault,omitzero"`      // first failed probe, UTC; zero if there was none
	Budget  time.Duration `json:"budget_ns,omitempty"` // decision to public verification; 0 means no objective

	// Settle is how long a call that has returned, or was given up at its
	// timeout, may still take effect: a request queued in a cloud, a retry
	// inside an SDK. It is part of every deadline in the journal.
	Settle time.Duration `json:"settle_ns"`

	// Expected is the loss predicted when the plan was made, for the reader
	// of the plan; the result reports what was measured.
	Expected string `json:"expected,omitempty"`
}

// A Step is one action of a plan.
type Step struct {
	Name     string        `json:"name"`   // unique in the plan, [a-z0-9-]
	Role     Role          `json:"role"`   //
	Action   string        `json:"action"` // key in Config.Actions
	Timeout  time.Duration `json:"timeout_ns"`
	Attempts int           `json:"attempts"` // at least 1
	Pivot    bool          `json:"pivot,omitempty"`

	// Predicted is how long the step is expected to take; 0 if not known.
	Predicted time.Duration `json:"predicted_ns,omitempty"`
}

// Hash identifies the plan: "sha256:" and the hex hash of its JSON. It is
// bound into the journal and into approvals.
func (p Plan) Hash() string {
	b, err := json.Marshal(p)
	if err != nil { // a time outside years 0 to 9999: Validate refuses it
		return "invalid: " + err.Error()
	}
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Predicted is the sum of the predicted durations up to and including the
// last verification, with the one Settle that a run waits before its pivot
// (a test, before its clean-up), and whether every such step has one.
func (p Plan) Predicted() (total time.Duration, complete bool) {
	total, complete = p.Settle, true
	last := len(p.Steps) - 1
	for last >= 0 && p.Steps[last].Role == RoleNotify {
		last--
	}
	for _, s := range p.Steps[:last+1] {
		total += s.Predicted
		complete = complete && s.Predicted > 0
	}
	return total, complete
}

// Validate reports every reason why the plan must not run.
func (p Plan) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if p.Version != PlanVersion {
		bad("plan version %d: this program understands %d", p.Version, PlanVersion)
	}
	for _, f := range []struct{ name, value string }{{"id", p.ID}, {"service", p.Service}, {"from", p.From}, {"to", p.To}} {
		if !validName(f.value) {
			bad("plan %s %q: use 1 to 100 of a-z, 0-9 and -", f.name, f.value)
		}
	}
	if p.From == p.To {
		bad("plan from and to are both %q", p.From)
	}
	if y := p.Created.Year(); p.Created.IsZero() || y > 9999 {
		bad("plan created: not set")
	}
	if y := p.Fault.Year(); y > 9999 || p.Fault.After(p.Created) {
		bad("plan fault: later than created")
	}
	if p.Settle <= 0 || p.Budget < 0 {
		bad("plan settle %v, budget %v: settle must be positive, budget not negative", p.Settle, p.Budget)
	}
	if len(p.Steps) == 0 {
		bad("plan has no steps")
	}
	errs = append(errs, p.validateSteps()...)
	switch p.Kind {
	case Failover, Switchover, Failback:
		errs = append(errs, p.validateOrder()...)
	case Test:
		errs = append(errs, p.validateTest()...)
	default:
		bad("plan kind %q: unknown", p.Kind)
	}
	return errors.Join(errs...)
}

func (p Plan) validateSteps() []error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	seen := map[string]bool{}
	for _, s := range p.Steps {
		if !validName(s.Name) || seen[s.Name] {
			bad("step %q: a name of a-z, 0-9 and - that no other step has", s.Name)
		}
		seen[s.Name] = true
		if s.Action == "" || s.Timeout <= 0 || s.Attempts < 1 || s.Predicted < 0 {
			bad("step %q: needs an action, a positive timeout and at least one attempt", s.Name)
		}
		if isTest := strings.HasPrefix(s.Action, "test/"); isTest != (p.Kind == Test) {
			bad("step %q: action %q: a test plan uses actions named test/..., and no other plan does", s.Name, s.Action)
		}
		switch s.Role {
		case RoleCheck, RoleFence, RoleRestore, RoleStart, RoleVerify, RoleTraffic, RoleNotify:
		case RoleCleanUp:
			if p.Kind != Test {
				bad("step %q: role clean-up belongs to a test plan", s.Name)
			}
		default:
			bad("step %q: unknown role %q", s.Name, s.Role)
		}
	}
	return errs
}

// validateOrder holds the order on which the safety of the step function
// rests: nothing but checks before the fence, no start and no traffic before
// it, one pivot at the first of these two, traffic only to a verified site.
func (p Plan) validateOrder() []error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	var fenced, opened, started, verified, pivot bool
	for _, s := range p.Steps {
		opens := s.Role == RoleStart || s.Role == RoleTraffic
		switch {
		case s.Role == RoleFence && opened:
			bad("step %q: a fence after the pivot comes too late", s.Name)
		case s.Role == RoleFence:
			fenced = true
		case !fenced && s.Role != RoleCheck:
			bad("step %q: only checks may come before the fence", s.Name)
		case s.Role == RoleRestore && started:
			bad("step %q: would restore over a standby that accepts writes", s.Name)
		case s.Role == RoleTraffic && p.Profile != TrafficFirst && !verified:
			bad("step %q: sends clients to a site that was not verified (profile %s)", s.Name, p.Profile)
		}
		started = started || s.Role == RoleStart
		verified = verified || s.Role == RoleVerify && started
		if s.Pivot != (opens && !opened) {
			bad("step %q: the pivot is the first step with role start or traffic, and no other", s.Name)
		}
		opened = opened || opens
		pivot = pivot || s.Pivot
	}
	if !fenced || !pivot {
		bad("plan needs a step with role fence and one that is the pivot")
	}
	if p.Profile != ServeFirst && p.Profile != TrafficFirst {
		bad("plan profile %q: unknown", p.Profile)
	}
	return errs
}

func (p Plan) validateTest() []error {
	var errs []error
	cleaned := false
	for _, s := range p.Steps {
		switch {
		case s.Role == RoleFence || s.Role == RoleTraffic || s.Role == RoleNotify || s.Pivot:
			errs = append(errs, fmt.Errorf("step %q: a test must not fence, move traffic, notify or have a pivot", s.Name))
		case cleaned && s.Role != RoleCleanUp:
			errs = append(errs, fmt.Errorf("step %q: clean-up comes last", s.Name))
		}
		cleaned = cleaned || s.Role == RoleCleanUp
	}
	if !cleaned {
		errs = append(errs, errors.New("a test plan needs a step with role clean-up"))
	}
	return errs
}

// String renders the plan for people, always in the same words.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s: %s -> %s\n", p.Kind, p.Service, p.From, p.To)
	fmt.Fprintf(&b, "run      %s\nplan     %s\nprofile  %s\n", p.ID, p.Hash(), p.Profile)
	fmt.Fprintf(&b, "decided  %s\n", p.Created.UTC().Format(time.RFC3339))
	if !p.Fault.IsZero() {
		fmt.Fprintf(&b, "fault    %s\n", p.Fault.UTC().Format(time.RFC3339))
	}
	total, complete := p.Predicted()
	if p.Budget > 0 {
		fmt.Fprintf(&b, "budget   %v", p.Budget)
		switch {
		case !complete:
			b.WriteString(", not every step has a prediction")
		case total > p.Budget:
			fmt.Fprintf(&b, ", CANNOT BE MET: predicted %v", total)
		default:
			fmt.Fprintf(&b, ", predicted %v", total)
		}
		b.WriteByte('\n')
	}
	if p.Expected != "" {
		fmt.Fprintf(&b, "loss     %s\n", p.Expected)
	}
	b.WriteByte('\n')
	for i, s := range p.Steps {
		if s.Pivot {
			b.WriteString("    ---- pivot: past this line there is no way back, only forward ----\n")
		}
		fmt.Fprintf(&b, "%3d %-16s %-9s %-18s timeout %-8v attempts %d", i+1, s.Name, s.Role, s.Action, s.Timeout, s.Attempts)
		if s.Predicted > 0 {
			fmt.Fprintf(&b, "  predicted %v", s.Predicted)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func validName(s string) bool {
	if len(s) == 0 || len(s) > 100 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return true
}
