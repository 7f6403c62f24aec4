package failover

import (
	"fmt"
	"strings"
	"time"
)

// PlanConfig is what [NewPlan] needs to know.
type PlanConfig struct {
	Kind    Kind    // required
	Service string  // required
	From    string  // the site that serves; required
	To      string  // the site that shall serve; required
	Profile Profile // empty means ServeFirst

	Created  time.Time     // required: the moment of the decision
	Fault    time.Time     // first failed probe; zero if none
	Budget   time.Duration // decision to public verification; 0 means no objective
	Settle   time.Duration // see Plan.Settle; 0 means 15 s
	ID       string        // empty means service, kind and Created
	Expected string        // expected loss, in words

	Timeouts  map[string]time.Duration // by step name; a missing one means the default, see NewPlan
	Predicted map[string]time.Duration // by step name
}

// NewPlan returns the default plan of a kind. Step names, which are also the
// names of their actions (behind "test/" in a test), roles and timeouts:
//
//	failover    verify-standby check 1m, fence fence 2m, restore restore 10m, start start 3m (pivot),
//	            verify-private verify 2m, traffic traffic 3m, verify-public verify 2m, notify notify 30s
//	switchover  as failover, with quiesce fence 2m for fence, final-sync restore 10m and
//	            check-position check 1m for restore
//	failback    as switchover, beginning with verify-reversed check 1m
//	test        verify-standby check 1m, restore restore 10m, start start 3m, verify-private verify 2m,
//	            clean-up clean-up 5m
//
// Every step has 3 attempts. With profile TrafficFirst, traffic comes before
// start and is the pivot. The result is plain data and may be changed; it is
// validated again when it runs.
func NewPlan(c PlanConfig) (Plan, error) {
	if c.Profile == "" {
		c.Profile = ServeFirst
	}
	if c.Settle == 0 {
		c.Settle = 15 * time.Second
	}
	if c.ID == "" {
		stamp := strings.ToLower(c.Created.UTC().Format("20060102T150405Z"))
		c.ID = fmt.Sprintf("%s-%s-%s", c.Service, c.Kind, stamp)
	}
	p := Plan{
		Version: PlanVersion, ID: c.ID, Kind: c.Kind, Service: c.Service, From: c.From, To: c.To,
		Profile: c.Profile, Created: c.Created.UTC().Round(0), Budget: c.Budget, Settle: c.Settle, Expected: c.Expected,
	}
	if !c.Fault.IsZero() {
		p.Fault = c.Fault.UTC().Round(0)
	}
	for _, s := range defaultSteps(c.Kind, c.Profile) {
		s.Action, s.Attempts, s.Predicted = s.Name, 3, c.Predicted[s.Name]
		if c.Kind == Test {
			s.Action = "test/" + s.Name
		}
		if t := c.Timeouts[s.Name]; t > 0 {
			s.Timeout = t
		}
		p.Steps = append(p.Steps, s)
	}
	if err := p.Validate(); err != nil {
		return Plan{}, fmt.Errorf("new plan: %w", err)
	}
	return p, nil
}

func defaultSteps(k Kind, profile Profile) []Step {
	const m = time.Minute
	var (
		standby  = Step{Name: "verify-standby", Role: RoleCheck, Timeout: m}
		reversed = Step{Name: "verify-reversed", Role: RoleCheck, Timeout: m}
		fence    = Step{Name: "fence", Role: RoleFence, Timeout: 2 * m}
		quiesce  = Step{Name: "quiesce", Role: RoleFence, Timeout: 2 * m}
		restore  = Step{Name: "restore", Role: RoleRestore, Timeout: 10 * m}
		sync     = Step{Name: "final-sync", Role: RoleRestore, Timeout: 10 * m}
		position = Step{Name: "check-position", Role: RoleCheck, Timeout: m}
		start    = Step{Name: "start", Role: RoleStart, Timeout: 3 * m}
		private  = Step{Name: "verify-private", Role: RoleVerify, Timeout: 2 * m}
		traffic  = Step{Name: "traffic", Role: RoleTraffic, Timeout: 3 * m}
		public   = Step{Name: "verify-public", Role: RoleVerify, Timeout: 2 * m}
		notify   = Step{Name: "notify", Role: RoleNotify, Timeout: m / 2}
		clean    = Step{Name: "clean-up", Role: RoleCleanUp, Timeout: 5 * m}
	)
	var steps []Step
	switch k {
	case Failover:
		steps = []Step{standby, fence, restore}
	case Switchover:
		steps = []Step{standby, quiesce, sync, position}
	case Failback:
		steps = []Step{reversed, standby, quiesce, sync, position}
	case Test:
		return []Step{standby, restore, start, private, clean}
	default:
		return nil
	}
	if profile == TrafficFirst {
		traffic.Pivot = true
		return append(steps, traffic, start, private, public, notify)
	}
	start.Pivot = true
	return append(steps, start, private, traffic, public, notify)
}
