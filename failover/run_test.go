package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var decided = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when a synctest bubble begins

func plan(t *testing.T, k Kind) Plan {
	t.Helper()
	p, err := NewPlan(PlanConfig{Kind: k, Service: "shop", From: "east", To: "west", Created: decided, Fault: decided.Add(-3 * time.Minute), Budget: 5 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stage is a world of actions that succeed unless told otherwise, and note
// every call.
type stage struct {
	mu       sync.Mutex
	calls    []string
	done     map[string]bool
	fail     map[string]error // of Do, by step; "undo x" of Undo; "observe x" of Observe
	failures map[string]int   // how often it fails; missing means always
	evidence map[string]Evidence
	hook     func(verb string, c Call)
}

func newStage() *stage {
	return &stage{done: map[string]bool{}, fail: map[string]error{}, failures: map[string]int{}, evidence: map[string]Evidence{
		"fence":   {EvidenceConfirmed: "true"},
		"quiesce": {EvidenceConfirmed: "true", EvidencePosition: "0/16B3740"},
		"restore": {EvidenceAge: "42s"}, "final-sync": {EvidenceAge: "0s", EvidencePosition: "0/16B3740"},
	}}
}

func (s *stage) call(verb string, c Call) error {
	if s.hook != nil {
		s.hook(verb, c)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	name := strings.TrimPrefix(verb+" "+c.Step, "do ")
	if verb != "observe" {
		s.calls = append(s.calls, name)
	}
	if err := s.fail[name]; err != nil {
		n, limited := s.failures[name]
		if !limited || n > 0 {
			s.failures[name] = n - 1
			if !limited {
				delete(s.failures, name)
			}
			return err
		}
	}
	if verb != "observe" {
		s.done[c.Step] = verb == "do"
	}
	return nil
}

func (s *stage) config(p Plan, store provider.BlobStore) Config {
	c := Config{Store: store, Holder: "test", Actions: map[string]Action{}}
	for _, step := range p.Steps {
		c.Actions[step.Action] = ActionFuncs{
			ObserveFunc: func(ctx context.Context, c Call) (Observation, error) {
				err := s.call("observe", c)
				s.mu.Lock()
				defer s.mu.Unlock()
				return Observation{Done: s.done[step.Name] && step.Role != RoleVerify, Evidence: s.evidence[step.Name]}, err
			},
			DoFunc: func(ctx context.Context, c Call) (Evidence, error) {
				time.Sleep(time.Second)
				return s.evidence[step.Name], s.call("do", c)
			},
			UndoFunc: func(ctx context.Context, c Call) (Evidence, error) { return nil, s.call("undo", c) },
		}
	}
	for _, name := range []string{"check-position"} {
		if c.Actions[name] != nil {
			c.Actions[name] = CheckPosition("quiesce", "final-sync")
		}
	}
	return c
}

func statuses(r Result) string {
	var b strings.Builder
	for _, s := range r.Steps {
		fmt.Fprintf(&b, "%s:%s ", s.Name, s.Status)
	}
	return strings.TrimSpace(b.String())
}

func TestRunCompletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		c := s.config(p, store)
		var events []string
		c.Progress = func(e Event) { events = append(events, fmt.Sprintf("%s %s", e.Record.Kind, e.Record.Step)) }
		r, err := Run(t.Context(), c, p)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"verify-standby", "fence", "restore", "start", "verify-private", "traffic", "verify-public", "notify"}
		if !slices.Equal(s.calls, want) {
			t.Errorf("calls %v, want %v", s.calls, want)
		}
		if r.Outcome != Completed || r.Epoch != 1 || r.PlanHash != p.Hash() || r.Needs != "" {
			t.Errorf("%+v", r)
		}
		if r.Loss != (Loss{Known: true, Bound: 42 * time.Second, Basis: "restore"}) {
			t.Errorf("loss %+v", r.Loss)
		}
		// Each call takes a second, and the restore has a Settle to land.
		if r.Times.Detect != 3*time.Minute || r.Times.Switched != 7*time.Second+p.Settle || r.Times.ByRole[RoleVerify] != 2*time.Second {
			t.Errorf("times %+v", r.Times)
		}
		if events[0] != "accepted " || events[len(events)-1] != "finished " {
			t.Errorf("events %v", events)
		}
		lease, err := ReadLease(t.Context(), store, "", "shop")
		if err != nil || lease.Active != (Active{"west", 1}) || !lease.Released || lease.Run != "" {
			t.Errorf("lease %+v, %v", lease, err)
		}
		again, err := Load(t.Context(), store, p.ID)
		if err != nil || statuses(again) != statuses(r) || again.Outcome != Completed {
			t.Errorf("loaded %+v, %v", again, err)
		}
		if _, err := Resume(t.Context(), c, p.ID); !errors.Is(err, ErrFinal) {
			t.Errorf("resume of a run that is over: %v", err)
		}
		if _, err := Run(t.Context(), c, p); !errors.Is(err, ErrStale) {
			t.Errorf("the same plan again: %v", err)
		}
	})
}

func TestRunRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		s.fail["restore"] = errors.New("disk full")
		s.evidence["start"] = nil
		r, err := Run(t.Context(), s.config(p, store), p)
		if re, ok := errors.AsType[*RunError](err); !ok || re.Outcome != RolledBack || !strings.Contains(re.Reason, "disk full") {
			t.Fatalf("%v", err)
		}
		want := []string{"verify-standby", "fence", "restore", "restore", "restore", "undo restore", "undo fence"}
		if !slices.Equal(s.calls, want) {
			t.Errorf("calls %v, want %v", s.calls, want)
		}
		if got := statuses(r); got != "verify-standby:done fence:undone restore:undone start:skipped verify-private:skipped traffic:skipped verify-public:skipped notify:skipped" {
			t.Error(got)
		}
		if lease, err := ReadLease(t.Context(), store, "", "shop"); err != nil || lease.Active.Site != "east" || lease.Run != "" {
			t.Errorf("lease %+v, %v", lease, err)
		}
	})
}

func TestUnconfirmedFenceIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Failover), newStage()
		s.evidence["fence"] = Evidence{EvidenceConfirmed: "false"}
		_, err := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
		if err == nil || !strings.Contains(err.Error(), "not confirmed") || slices.Contains(s.calls, "restore") {
			t.Errorf("%v %v", s.calls, err)
		}
	})
}

// The fence is looked at once more right before the standby starts. One that
// has come off is put on again; one that does not stay ends the run.
func TestFenceComesOff(t *testing.T) {
	for _, times := range []int{1, 100} {
		synctest.Test(t, func(t *testing.T) {
			p, s := plan(t, Failover), newStage()
			s.hook = func(verb string, c Call) {
				if verb == "do" && c.Step == "restore" || verb == "do" && c.Step == "fence" && times > 1 {
					defer time.AfterFunc(2*time.Second, func() { s.mu.Lock(); s.done["fence"] = false; s.mu.Unlock() })
				}
			}
			r, err := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
			fences := 0
			for _, c := range s.calls {
				if c == "fence" {
					fences++
				}
			}
			if times == 1 && (err != nil || fences != 2) {
				t.Errorf("%d fences, %v", fences, err)
			}
			if times > 1 && (r.Outcome != RolledBack || slices.Contains(s.calls, "start")) {
				t.Errorf("%q %v %v", r.Outcome, s.calls, err)
			}
		})
	}
}

func TestStuckPastPivot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		s.fail["traffic"] = errors.New("zone is locked")
		c := s.config(p, store)
		r, err := Run(t.Context(), c, p)
		if r.Outcome != StuckAfterPivot || err == nil || !strings.Contains(r.Needs, "east must stay fenced") {
			t.Fatalf("%+v, %v", r, err)
		}
		if slices.ContainsFunc(s.calls, func(c string) bool { return strings.HasPrefix(c, "undo") }) {
			t.Errorf("undone past the pivot: %v", s.calls)
		}
		before := len(s.calls)
		if _, err := Rollback(t.Context(), c, p.ID); !errors.Is(err, ErrPastPivot) {
			t.Errorf("rollback: %v", err)
		}
		other := p
		other.ID = "other"
		if _, err := Run(t.Context(), c, other); err == nil {
			t.Error("another run begins beside one that is open")
		}
		if len(s.calls) != before {
			t.Errorf("something was done: %v", s.calls[before:])
		}
		for u, err := range Unfinished(t.Context(), store) {
			if err != nil || u.Plan.ID != p.ID {
				t.Errorf("unfinished: %v %v", u.Plan.ID, err)
			}
		}
		delete(s.fail, "traffic")
		if r, err = Resume(t.Context(), c, p.ID); err != nil || r.Outcome != Completed || r.Epoch < 2 {
			t.Errorf("resume: %+v, %v", r, err)
		}
		if i := slices.Index(s.calls[before:], "fence"); i >= 0 {
			t.Error("resume fenced again what it could see to be fenced")
		}
	})
}

func TestPivotWithoutEffectRollsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		s.fail["start"] = fmt.Errorf("no such image: %w", ErrNoEffect)
		r, _ := Run(t.Context(), s.config(p, store), p)
		if r.Outcome != RolledBack {
			t.Errorf("%+v", r)
		}
		if lease, _ := ReadLease(t.Context(), store, "", "shop"); lease.Active.Site != "east" {
			t.Errorf("lease %+v", lease)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Failover), newStage()
		s.fail["start"] = errors.New("timeout")
		if r, _ := Run(t.Context(), s.config(p, providertest.NewMemory()), p); r.Outcome != StuckAfterPivot {
			t.Errorf("a start of unknown outcome ended as %q", r.Outcome)
		}
	})
}

// A standby that somebody else has started is noticed before the primary is
// let loose.
func TestGuardBeforeUnfence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Failover), newStage()
		s.fail["restore"] = errors.New("disk full")
		s.done["start"] = true
		r, _ := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
		if r.Outcome != FailedBeforePivot || slices.Contains(s.calls, "undo fence") || !strings.Contains(r.Reason, "stays fenced") {
			t.Errorf("%q %v %s", r.Outcome, s.calls, r.Reason)
		}
	})
}

func TestRollbackAndAbandon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		s.hook = func(verb string, c Call) {
			if verb == "do" && c.Step == "restore" {
				cancel()
			}
		}
		c := s.config(p, store)
		r, err := Run(ctx, c, p)
		if r.Outcome != Interrupted || !errors.Is(err, context.Canceled) || r.Needs == "" {
			t.Fatalf("%+v %v", r, err)
		}
		s.hook = nil
		if r, err = Rollback(t.Context(), c, p.ID); err != nil || r.Outcome != Cancelled {
			t.Fatalf("%+v %v", r, err)
		}
		if s.done["fence"] || s.done["restore"] {
			t.Error("not undone")
		}

		q := p
		q.ID = "second"
		s.fail["restore"], s.fail["undo fence"] = errors.New("disk full"), errors.New("denied")
		if r, err = Run(t.Context(), c, q); r.Outcome != FailedBeforePivot || !strings.Contains(r.Needs, "abandon") {
			t.Fatalf("%+v %v", r, err)
		}
		if _, err := Abandon(t.Context(), c, q.ID, Abandonment{Active: "north"}); err == nil {
			t.Error("abandonment by nobody is accepted")
		}
		r, err = Abandon(t.Context(), c, q.ID, Abandonment{Active: "east", By: "Ada", Reason: "unfenced by hand"})
		if err != nil || r.Outcome != Abandoned || r.Reason != "Ada: unfenced by hand" {
			t.Fatalf("%+v %v", r, err)
		}
		lease, err := ReadLease(t.Context(), store, "", "shop")
		if err != nil || lease.Active.Site != "east" || lease.Run != "" {
			t.Errorf("lease %+v %v", lease, err)
		}
	})
}

// A process that takes over waits until the effect that its predecessor had
// announced can land no more, however quickly it got the lease.
func TestTakeoverWaitsOutDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		var announced, first time.Time
		s.hook = func(verb string, c Call) {
			if verb == "do" && c.Step == "fence" && c.Epoch == 1 {
				announced = time.Now()
				cancel()
			}
		}
		c := s.config(p, store)
		if _, err := Run(ctx, c, p); err == nil {
			t.Fatal("interrupted run completes")
		}
		s.hook = func(verb string, c Call) {
			if first.IsZero() {
				first = time.Now()
			}
		}
		if _, err := Resume(t.Context(), c, p.ID); err != nil {
			t.Fatal(err)
		}
		if waited := first.Sub(announced); waited < p.Steps[1].Timeout+p.Settle-2*time.Second {
			t.Errorf("first call %v after the announcement, deadline %v", waited, p.Steps[1].Timeout+p.Settle)
		}
	})
}

// A process that was deposed notices at its next record and stops; what it
// had in hand is the only thing that still happens.
func TestDeposed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		c := s.config(p, store)
		s.hook = func(verb string, c Call) {
			if verb == "do" && c.Step == "restore" {
				r := newRecord(p.ID, 6, RecordTakeover)
				for seq := 6; ; seq++ {
					r.Seq, r.Epoch = seq, 9
					if appendRecord(t.Context(), store, r) == nil {
						return
					}
				}
			}
		}
		r, err := Run(t.Context(), c, p)
		if r.Outcome != Deposed || !errors.Is(err, ErrDeposed) {
			t.Errorf("%q %v", r.Outcome, err)
		}
		if slices.Contains(s.calls, "start") {
			t.Errorf("calls %v", s.calls)
		}
	})
}

func TestNotifyDoesNotStopARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Failover), newStage()
		s.fail["notify"] = errors.New("no mail server")
		r, err := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
		if err != nil || r.Outcome != Completed || len(r.Exceptions) != 1 || !strings.Contains(r.Exceptions[0], "no mail server") {
			t.Errorf("%+v %v", r, err)
		}
	})
}

func TestSwitchoverChecksPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Switchover), newStage()
		r, err := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
		if err != nil || r.Loss != (Loss{Known: true, Basis: "final-sync"}) {
			t.Errorf("%+v %v", r.Loss, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, s := plan(t, Switchover), newStage()
		s.evidence["final-sync"] = Evidence{EvidencePosition: "0/16B0000"}
		r, err := Run(t.Context(), s.config(p, providertest.NewMemory()), p)
		if r.Outcome != RolledBack || !strings.Contains(fmt.Sprint(err), "0/16B0000") || slices.Contains(s.calls, "start") {
			t.Errorf("%+v %v", r, err)
		}
	})
}

func TestTestFailoverCleansUp(t *testing.T) {
	run := func(prepare func(*stage)) (r Result, s *stage) {
		synctest.Test(t, func(t *testing.T) {
			p, store := plan(t, Test), providertest.NewMemory()
			s = newStage()
			prepare(s)
			r, _ = Run(t.Context(), s.config(p, store), p)
			if _, err := ReadLease(t.Context(), store, "", "shop"); !errors.Is(err, provider.ErrNotFound) {
				t.Errorf("a test touched the lease of production: %v", err)
			}
		})
		return r, s
	}
	if r, _ := run(func(s *stage) {}); r.Outcome != Completed {
		t.Errorf("%+v", r)
	}
	r, s := run(func(s *stage) { s.fail["start"] = errors.New("no quota") })
	if r.Outcome != RolledBack || s.calls[len(s.calls)-1] != "clean-up" || !strings.Contains(r.Reason, "no quota") {
		t.Errorf("%+v %v", r, s.calls)
	}
	r, _ = run(func(s *stage) {
		s.hook = func(verb string, c Call) { // it says that it did, and did not
			if verb == "observe" && c.Step == "clean-up" {
				s.mu.Lock()
				s.done["clean-up"] = false
				s.mu.Unlock()
			}
		}
	})
	if r.Outcome != FailedBeforePivot || !strings.Contains(r.Reason, "not proven") {
		t.Errorf("%+v", r)
	}
}

func TestModes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		c := s.config(p, store)
		c.Mode = Assisted
		if _, err := Run(t.Context(), c, p); !errors.Is(err, ErrNotApproved) {
			t.Errorf("no approval: %v", err)
		}
		changed := p
		changed.Steps = slices.Clone(p.Steps)
		changed.Steps[2].Timeout++
		a := Approve(changed, "Ada", decided)
		c.Approval = &a
		if _, err := Run(t.Context(), c, p); !errors.Is(err, ErrNotApproved) {
			t.Errorf("approval of another plan: %v", err)
		}
		c.Mode = Automatic
		if _, err := Run(t.Context(), c, p); err == nil {
			t.Error("automatic without conditions")
		}
		c.Mode = "sometimes"
		if _, err := Run(t.Context(), c, p); err == nil {
			t.Error("unknown mode")
		}
		if len(s.calls) > 0 {
			t.Errorf("calls %v", s.calls)
		}
		a = Approve(p, "Ada", decided)
		c.Mode, c.Approval = Assisted, &a
		r, err := Run(t.Context(), c, p)
		if err != nil || r.Approval == nil || r.Approval.By != "Ada" {
			t.Errorf("%+v %v", r, err)
		}
	})
}

func TestEvaluateChangesNothing(t *testing.T) {
	p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
	s.done["restore"] = true
	s.fail["observe start"] = errors.New("api is down")
	f := providertest.NewFaulty(store, nil)
	c := s.config(p, f)
	delete(c.Actions, "notify")
	e, err := Evaluate(t.Context(), c, p)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range f.Calls() {
		if call.Op == "put" || call.Op == "delete" {
			t.Errorf("dry run did: %s %s", call.Op, call.Key)
		}
	}
	if len(s.calls) > 0 {
		t.Errorf("dry run called %v", s.calls)
	}
	text := e.String()
	for _, want := range []string{"restore          already done", "start            cannot tell: api is down", "fence            to do", `problem: config: Actions has no "notify"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in:\n%s", want, text)
		}
	}
}

// A run that was interrupted before it said anything about the active site
// still keeps others from beginning.
func TestOpenRunKeepsOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		ctx, cancel := context.WithCancel(t.Context())
		s.hook = func(verb string, c Call) { cancel() }
		if r, _ := Run(ctx, s.config(p, store), p); r.Outcome != Interrupted {
			t.Fatalf("%+v", r)
		}
		s.hook = nil
		other := p
		other.ID = "other"
		if _, err := Run(t.Context(), s.config(p, store), other); !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), p.ID) {
			t.Errorf("%v", err)
		}
		if e, err := Evaluate(t.Context(), s.config(p, store), other); err != nil || len(e.Problems) != 1 || !strings.Contains(e.Problems[0], p.ID) {
			t.Errorf("%v %v", e.Problems, err)
		}
		if len(s.calls) > 0 {
			t.Errorf("calls %v", s.calls)
		}
	})
}

// A run whose process died before its first record, or whose first record is
// still under way, is closed by the next one; the late record then finds its
// place taken.
func TestUnbornRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		held, err := openLease(t, store, "gone").TryAcquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		unborn := p
		unborn.ID = "unborn"
		if err := held.setRun(t.Context(), unborn.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := Run(t.Context(), s.config(p, store), p); err != nil {
			t.Fatal(err)
		}
		if err := appendRecord(t.Context(), store, accepted(unborn)); !errors.Is(err, ErrDeposed) {
			t.Errorf("the late record: %v", err)
		}
		if r, err := Load(t.Context(), store, unborn.ID); err != nil || r.Outcome != Abandoned {
			t.Errorf("%+v %v", r, err)
		}
	})
}

// slowStore answers the announcement of a step half a minute after it has
// stored it.
type slowStore struct{ provider.BlobStore }

func (s slowStore) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.BlobStore.Put(ctx, key, b, o)
	body := make([]byte, b.Size())
	if _, readErr := b.ReadAt(body, 0); readErr == nil && strings.Contains(string(body), `"kind":"started"`) {
		time.Sleep(30 * time.Second)
	}
	return info, err
}

// The deadline of a call counts from before its announcement was sent:
// another process may have read the announcement long before our reply came.
func TestDeadlineCountsFromAnnouncement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		c := s.config(p, slowStore{store})
		looked := false
		c.Actions["fence"] = ActionFuncs{ObserveFunc: c.Actions["fence"].Observe, UndoFunc: c.Actions["fence"].Undo,
			DoFunc: func(ctx context.Context, call Call) (Evidence, error) {
				looked = true
				d, ok := ctx.Deadline()
				if left := time.Until(d); !ok || left != p.Steps[1].Timeout-30*time.Second {
					t.Errorf("%v left of %v, 30 s after the announcement", left, p.Steps[1].Timeout)
				}
				return s.evidence["fence"], nil
			}}
		s.done["fence"] = false
		Run(t.Context(), c, p)
		if !looked {
			t.Error("the fence was never called")
		}
	})
}

// A process that was suspended for longer than its lease is valid does
// nothing when it wakes, even if nobody has told it yet.
func TestNothingAfterLeaseRanOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s, store := plan(t, Failover), newStage(), providertest.NewMemory()
		held, err := openLease(t, store, "sleeper").TryAcquire(t.Context()) // and nobody keeps it
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.config(p, store).withDefaults(p)
		if err != nil {
			t.Fatal(err)
		}
		d := &driver{cfg: c, held: held}
		st, err := fold(state{}, accepted(p))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(27 * time.Second)
		for _, kind := range []effectKind{effAppend, effObserve, effDo, effUndo, effActivate} {
			if _, err := d.perform(t.Context(), st, effect{kind: kind, step: 1, record: Record{Kind: RecordStarted, Step: "fence"}}); !errors.Is(err, ErrLost) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if len(s.calls) > 0 {
			t.Errorf("calls %v", s.calls)
		}
		for info, err := range store.List(t.Context(), "journal/", provider.ListOptions{}) {
			t.Errorf("%v %v", info.Key, err)
		}
	})
}
