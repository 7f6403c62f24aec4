package failover

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// HOLDFAST_UPDATE=1 writes the golden texts anew.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv("HOLDFAST_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.ReplaceAll(string(want), "\r\n", "\n"), got); d != "" {
		t.Errorf("%s (-want +got):\n%s", file, d)
	}
}

func TestPlanText(t *testing.T) {
	for _, k := range []Kind{Failover, Switchover, Failback, Test} {
		golden(t, string(k)+".txt", plan(t, k).String())
	}
	predicted := map[string]time.Duration{"verify-standby": time.Second, "fence": 20 * time.Second, "restore": 4 * time.Minute,
		"start": 30 * time.Second, "verify-private": 5 * time.Second, "traffic": 40 * time.Second, "verify-public": 5 * time.Second}
	p, err := NewPlan(PlanConfig{Kind: Failover, Service: "shop", From: "east", To: "west", Profile: TrafficFirst,
		Created: decided, Budget: 5 * time.Minute, Predicted: predicted, Expected: "up to 4m12s of writes"})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "traffic-first.txt", p.String())
}

// A plan that was stored and read back is the same plan, for approvals too.
func TestPlanRoundTrip(t *testing.T) {
	for _, k := range []Kind{Failover, Test} {
		p := plan(t, k)
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q Plan
		if err := json.Unmarshal(b, &q); err != nil {
			t.Fatal(err)
		}
		if p.Hash() != q.Hash() {
			t.Errorf("%s\n%s", p, q)
		}
		q.Steps[0].Attempts++
		if p.Hash() == q.Hash() {
			t.Error("another plan has the same hash")
		}
	}
}

func TestPlanComplaints(t *testing.T) {
	for _, c := range []struct {
		kind   Kind
		change func(*Plan)
		want   string
	}{
		{Failover, func(p *Plan) { p.Version = 2 }, "version 2"},
		{Failover, func(p *Plan) { p.ID = "a/b" }, "plan id"},
		{Failover, func(p *Plan) { p.To = p.From }, "both"},
		{Failover, func(p *Plan) { p.Created = time.Time{} }, "created"},
		{Failover, func(p *Plan) { p.Fault = p.Created.Add(1) }, "later than created"},
		{Failover, func(p *Plan) { p.Settle = 0 }, "settle"},
		{Failover, func(p *Plan) { p.Kind = "flight" }, "unknown"},
		{Failover, func(p *Plan) { p.Profile = "any" }, "profile"},
		{Failover, func(p *Plan) { p.Steps = nil }, "no steps"},
		{Failover, func(p *Plan) { p.Steps[1].Name = "restore" }, "no other step"},
		{Failover, func(p *Plan) { p.Steps[1].Attempts = 0 }, "at least one attempt"},
		{Failover, func(p *Plan) { p.Steps[1].Timeout = 0 }, "positive timeout"},
		{Failover, func(p *Plan) { p.Steps[1].Role = "magic" }, "unknown role"},
		{Failover, func(p *Plan) { p.Steps[1], p.Steps[3] = p.Steps[3], p.Steps[1] }, "only checks may come before the fence"},
		{Failover, func(p *Plan) { p.Steps[1], p.Steps[2] = p.Steps[2], p.Steps[1] }, "only checks may come before the fence"},
		{Failover, func(p *Plan) { p.Steps[1].Role = RoleCheck }, "needs a step with role fence"},
		{Failover, func(p *Plan) { p.Steps[2], p.Steps[3] = p.Steps[3], p.Steps[2] }, "restore over a standby"},
		{Failover, func(p *Plan) { p.Steps[4], p.Steps[5] = p.Steps[5], p.Steps[4] }, "not verified"},
		{Failover, func(p *Plan) { p.Steps[3].Pivot = false }, "the pivot is"},
		{Failover, func(p *Plan) { p.Steps[5].Pivot = true }, "the pivot is"},
		{Failover, func(p *Plan) { p.Steps[6].Role = RoleFence }, "too late"},
		{Failover, func(p *Plan) { p.Steps[2].Action = "test/restore" }, "test/"},
		{Failover, func(p *Plan) { p.Steps[2].Role = RoleCleanUp }, "belongs to a test"},
		{Test, func(p *Plan) { p.Steps[1].Action = "restore" }, "test/"},
		{Test, func(p *Plan) { p.Steps[1].Role = RoleFence }, "must not fence"},
		{Test, func(p *Plan) { p.Steps[1].Role = RoleTraffic }, "must not fence, move traffic"},
		{Test, func(p *Plan) { p.Steps[1].Role = RoleNotify }, "notify"},
		{Test, func(p *Plan) { p.Steps = p.Steps[:4] }, "needs a step with role clean-up"},
		{Test, func(p *Plan) { p.Steps[3], p.Steps[4] = p.Steps[4], p.Steps[3] }, "clean-up comes last"},
	} {
		p := plan(t, c.kind)
		c.change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
}

func TestArm(t *testing.T) {
	good := Conditions{Now: decided, Primary: "east", Standby: "west", Witness: "north", FenceConfirms: true,
		LastProof: decided.Add(-24 * time.Hour), Lag: time.Minute, LagKnown: true, RPO: 15 * time.Minute}
	if err := Arm(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want   string
		change func(*Conditions)
	}{
		{"two sites", func(c *Conditions) { c.Standby = c.Primary }},
		{"no witness", func(c *Conditions) { c.Witness = "" }},
		{"must be a third", func(c *Conditions) { c.Witness = "west" }},
		{"must be a third", func(c *Conditions) { c.Witness = "east" }},
		{"self-fencing", func(c *Conditions) { c.FenceConfirms = false }},
		{"has passed yet", func(c *Conditions) { c.LastProof = time.Time{} }},
		{"later than now", func(c *Conditions) { c.LastProof = c.Now.Add(1) }},
		{"more than 720h", func(c *Conditions) { c.LastProof = c.Now.Add(-31 * 24 * time.Hour) }},
		{"more than 1h", func(c *Conditions) { c.MaxProofAge = time.Hour }},
		{"no RPO", func(c *Conditions) { c.RPO = 0 }},
		{"not known", func(c *Conditions) { c.LagKnown = false }},
		{"lags 15m", func(c *Conditions) { c.Lag = c.RPO }},
		{"no compare-and-swap", func(c *Conditions) { c.BlindDNS = true }},
	} {
		bad := good
		c.change(&bad)
		if err := Arm(bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q, got %v", c.want, err)
		}
	}
	self := good
	self.FenceConfirms, self.SelfFencing = false, true
	if err := Arm(self); err != nil {
		t.Error(err)
	}
	if err := Arm(Conditions{}); strings.Count(err.Error(), "\n") != 4 {
		t.Errorf("not every missing condition is named:\n%v", err)
	}
}
