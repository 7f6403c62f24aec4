package failovertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// Options say what to simulate.
type Options struct {
	// NewStore returns an empty store that works inside a synctest bubble,
	// such as providertest.NewMemory. Required.
	NewStore func() provider.BlobStore

	// Plan is simulated; its steps act on the simulated world by their role,
	// whatever their action. The zero value means the default failover.
	Plan failover.Plan

	Seeds int    // how many; 0 means 100
	First uint64 // the first seed

	// Tamper may change the config of a simulated process, to see whether
	// the simulation notices a mistake; nil leaves it as it is.
	Tamper func(seed uint64, c failover.Config) failover.Config

	// StopAtFirst ends the simulation with the first violation.
	StopAtFirst bool
}

// A Violation is a promise that was not kept.
type Violation struct {
	Seed  uint64 // of Simulate, or number of the crash point
	Text  string
	Trace []string
}

// A Report is what a simulation came to.
type Report struct {
	Seeds      int
	Violations []Violation
	Outcomes   map[failover.Outcome]int // of all runs
	Faults     map[string]int           // injected, by kind
	Requests   int
}

// String is one line.
func (r Report) String() string {
	return fmt.Sprintf("simulated seeds=%d violations=%d requests=%d outcomes=%v faults=%v", r.Seeds, len(r.Violations), r.Requests, r.Outcomes, r.Faults)
}

// Simulate runs a plan once per seed. It reports violations and does not
// itself fail t: the caller decides, since a simulation of a deliberate
// mistake must find one.
func Simulate(t *testing.T, o Options) Report {
	t.Helper()
	o = o.withDefaults(t)
	r := newReport()
	for seed := o.First; seed < o.First+uint64(o.Seeds); seed++ {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &scenario{o: o, seed: seed, rng: rng}
		s.draw()
		s.play(t)
		r.add(s)
		if o.StopAtFirst && len(r.Violations) > 0 {
			break
		}
	}
	return r
}

func (o Options) withDefaults(t *testing.T) Options {
	t.Helper()
	if o.NewStore == nil {
		t.Fatal("failovertest: Options.NewStore is required")
	}
	if o.Seeds == 0 {
		o.Seeds = 100
	}
	if o.Plan.ID == "" {
		o.Plan = DefaultPlan(t, failover.Failover)
	}
	if o.Tamper == nil {
		o.Tamper = func(_ uint64, c failover.Config) failover.Config { return c }
	}
	return o
}

// DefaultPlan is the default plan of a kind for the simulated world, with
// short timeouts.
func DefaultPlan(t *testing.T, k failover.Kind) failover.Plan {
	t.Helper()
	p, err := failover.NewPlan(failover.PlanConfig{
		Kind: k, Service: "shop", From: "east", To: "west",
		Created: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), Settle: 10 * time.Second,
		Timeouts: map[string]time.Duration{
			"verify-standby": 10 * time.Second, "verify-reversed": 10 * time.Second,
			"fence": 90 * time.Second, "quiesce": 90 * time.Second,
			"restore": 90 * time.Second, "final-sync": 90 * time.Second, "check-position": 10 * time.Second,
			"start": 40 * time.Second, "verify-private": 10 * time.Second,
			"traffic": 30 * time.Second, "verify-public": 10 * time.Second, "notify": 10 * time.Second,
			"clean-up": 30 * time.Second,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newReport() Report {
	return Report{Outcomes: map[failover.Outcome]int{}, Faults: map[string]int{}}
}

func (r *Report) add(s *scenario) {
	r.Seeds++
	r.Requests += s.requests
	for _, v := range s.w.violations {
		r.Violations = append(r.Violations, Violation{Seed: s.seed, Text: v, Trace: s.w.trace})
	}
	for k, n := range s.outcomes {
		r.Outcomes[k] += n
	}
	for k, n := range s.w.faults {
		r.Faults[k] += n
	}
}

// A scenario is one life of the world: up to two troubled processes, then one
// that heals what they left, then a second run.
type scenario struct {
	o    Options
	seed uint64
	rng  *rand.Rand

	rates    rates
	crash    [2]crash
	second   time.Duration // when the second process comes; 0 means never
	rollback bool          // it takes the run back rather than resuming it
	cut      [2]time.Duration
	quit     time.Duration // when the first process is told to stop; 0 means never

	w        *world
	base     provider.BlobStore
	outcomes map[failover.Outcome]int
	requests int
	counts   [2]int // requests of the troubled ones
	calm     bool   // all processes draw the same, whatever the seed
}

func (s *scenario) draw() {
	r := s.rng
	s.rates.store = []float64{0, 0.03, 0.12}[r.IntN(3)]
	s.rates.action = []float64{0, 0.15, 0.5}[r.IntN(3)]
	if r.IntN(3) == 0 {
		s.rates.broken = s.o.Plan.Steps[r.IntN(len(s.o.Plan.Steps))].Name
	}
	for i := range s.crash {
		switch r.IntN(4) {
		case 0:
			s.crash[i] = crash{request: 1 + r.IntN(120), after: r.IntN(2) == 0}
		case 1:
			s.crash[i] = crash{call: 1 + r.IntN(7), after: r.IntN(3) > 0, late: r.IntN(3) > 0}
		}
	}
	if r.IntN(3) > 0 {
		s.second = 1 + time.Duration(r.Int64N([]int64{int64(40 * time.Second), int64(150 * time.Second)}[r.IntN(2)]))
		s.rollback = r.IntN(3) == 0
	}
	if r.IntN(4) == 0 {
		s.cut[0] = 1 + time.Duration(r.Int64N(int64(time.Minute)))
		s.cut[1] = s.cut[0] + time.Duration(r.Int64N(int64(time.Minute)))
	}
	if r.IntN(10) == 0 {
		s.quit = 1 + time.Duration(r.Int64N(int64(time.Minute)))
	}
}

func (s *scenario) play(t *testing.T) {
	t.Helper()
	s.outcomes = map[failover.Outcome]int{}
	synctest.Test(t, func(t *testing.T) {
		s.w, s.base = newWorld(s.o.Plan, s.rng), s.o.NewStore()
		p := s.process("first", 0)
		p.cutFrom, p.cutTo = time.Now().Add(s.cut[0]), time.Now().Add(s.cut[1])
		done := make(chan struct{}, 2)
		started, q := 1, s.process("second", 1)
		go s.work(p, done, func(ctx context.Context, c failover.Config) (failover.Result, error) {
			return failover.Run(ctx, c, s.o.Plan)
		})
		if s.second > 0 {
			started++
			time.AfterFunc(s.second, func() {
				s.work(q, done, func(ctx context.Context, c failover.Config) (failover.Result, error) {
					if s.rollback {
						return failover.Rollback(ctx, c, s.o.Plan.ID)
					}
					return failover.Resume(ctx, c, s.o.Plan.ID)
				})
			})
		}
		for range started {
			<-done
		}
		s.counts = [2]int{p.requests, q.requests}
		s.requests = p.requests + q.requests
		s.heal()
		s.again()
		time.Sleep(10 * time.Minute) // whatever is still under way lands now
	})
}

// process makes an orchestrator; i is its place among the troubled ones, or
// -1 for one to which nothing happens.
func (s *scenario) process(name string, i int) *process {
	seed := s.seed
	if s.calm {
		seed = 1
	}
	p := &process{w: s.w, name: name, rng: rand.New(rand.NewPCG(seed, uint64(len(name))<<8|uint64(i+2)))}
	if i >= 0 {
		p.rates, p.crash = s.rates, s.crash[i]
	}
	return p
}

func (s *scenario) work(p *process, done chan<- struct{}, f func(context.Context, failover.Config) (failover.Result, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	p.kill = cancel
	if s.quit > 0 && p.name == "first" {
		time.AfterFunc(s.quit, cancel)
	}
	// Whoever meets a store that fails tries again, a few times.
	for range 5 {
		r, err := f(ctx, s.config(p))
		s.note(p, r, err)
		if p.isDead() || err == nil || r.Outcome != "" || pass(ctx, p.upTo(20*time.Second)) != nil {
			break
		}
	}
	done <- struct{}{}
}

func (s *scenario) config(p *process) failover.Config {
	return s.o.Tamper(s.seed, failover.Config{
		Store: &store{p: p, base: s.base}, Actions: p.actions(s.o.Plan), Holder: p.name, TTL: 15 * time.Second,
	})
}

func (s *scenario) note(p *process, r failover.Result, err error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.log("%s stops: %q %v", p.name, r.Outcome, err)
}

// heal finishes what is open in a world where everything works again. Every
// run must then come to its end, in a few attempts at most.
func (s *scenario) heal() {
	for i := range 6 {
		p := s.process(fmt.Sprintf("healer %d", i), -1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		p.kill = cancel
		open := ""
		for r, err := range failover.Unfinished(ctx, s.base) {
			if err != nil {
				s.w.violate("journal: %v", err)
				cancel()
				return
			}
			open = r.Plan.ID
		}
		if open == "" {
			cancel()
			s.check(ctx)
			return
		}
		r, err := failover.Resume(ctx, s.config(p), open)
		s.note(p, r, err)
		s.requests += p.requests
		cancel()
	}
	s.w.violate("a run does not come to its end")
}

// check compares the world with what the journals say, run by run.
func (s *scenario) check(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	for run, err := range failover.Runs(ctx, s.base) {
		var r failover.Result
		if err == nil {
			r, err = failover.Load(ctx, s.base, run)
		}
		if err != nil {
			s.w.violate("journal: %v", err)
			return
		}
		s.outcomes[r.Outcome]++
		if r.Outcome == failover.Abandoned && r.Plan.ID == "" {
			continue // never began
		}
		s.w.ended(r)
	}
}

// again runs a second plan at once if the primary is still in charge: what
// the first one left under way must not harm it. The first record of a run
// whose process is long dead may arrive only now; that run is then healed, and
// the second one tried once more.
func (s *scenario) again() {
	for try := range 2 {
		s.w.mu.Lock()
		inCharge := s.w.from.writable && len(s.w.violations) == 0
		s.w.mu.Unlock()
		if !inCharge || s.o.Plan.Kind == failover.Test {
			return
		}
		p := s.process(fmt.Sprintf("again %d", try), -1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		p.kill = cancel
		plan := s.o.Plan
		plan.ID += fmt.Sprintf("-again-%d", try)
		r, err := failover.Run(ctx, s.config(p), plan)
		s.note(p, r, err)
		s.requests += p.requests
		switch {
		case err == nil:
			s.outcomes[r.Outcome]++
			s.w.ended(r)
			return
		case try == 0 && errors.Is(err, failover.ErrUnfinished):
			s.heal()
		default:
			s.w.violate("second run: %v", errors.Unwrap(err))
			return
		}
	}
}

// Explain renders a violation with its trace, for a failing test.
func (v Violation) Explain() string {
	return fmt.Sprintf("seed %d: %s\n%s", v.Seed, v.Text, strings.Join(v.Trace, "\n"))
}
