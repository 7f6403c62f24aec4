package dr

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// trafficSwitch gives the configuration a switch of three cells, of which some
// are open.
func (f *fixture) trafficSwitch(open ...string) *providertest.MemoryTrafficSwitch {
	s := providertest.NewMemoryTrafficSwitch([]string{"eu-1", "us-1", "us-2"}, open...)
	f.config.TrafficSwitch = &TrafficSwitch{Primary: []string{"us-2", "us-1"}, Standby: []string{"eu-1"}}
	f.parts.TrafficSwitch = func(context.Context, TrafficSwitch) (provider.TrafficSwitch, error) { return s, nil }
	return s
}

// A failover moves the switch, with the owner and the epoch of the lease.
func TestFailoverMovesSwitch(t *testing.T) {
	f := newFixture(t)
	s := f.trafficSwitch("us-1", "us-2")
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		r, err := p.Failover(t.Context(), planOf(t, p, failover.Failover), nil)
		if err != nil || r.Outcome != failover.Completed {
			t.Fatalf("%v: %+v", err, r)
		}
		now, err := s.State(t.Context())
		if err != nil || !slices.Equal(now.Sites, []string{"eu-1"}) || now.Mark != (provider.TrafficMark{Owner: f.config.Name, Epoch: r.Epoch}) {
			t.Errorf("%+v, %v, epoch %d", now, err, r.Epoch)
		}
	})
}

func TestTrafficSwitchFaults(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"traffic_switch: is set together with dns": func(c *Config) {
			c.DNS = &DNS{Zone: "example.test", Name: "a.example.test", Primary: "192.0.2.1", Standby: "192.0.2.2"}
		},
		"traffic_switch.primary: names nothing":        func(c *Config) { c.TrafficSwitch.Primary = nil },
		"traffic_switch.standby: names nothing":        func(c *Config) { c.TrafficSwitch.Standby = []string{""} },
		"traffic_switch.standby: is what the primary":  func(c *Config) { c.TrafficSwitch.Standby = []string{"us-1", "us-2", "us-1"} },
		"traffic_switch.follow: -1s is negative":       func(c *Config) { c.TrafficSwitch.Follow = Duration(-time.Second) },
		"traffic_switch.follow: 5m uses up":            func(c *Config) { c.TrafficSwitch.Follow = Duration(5 * time.Minute) },
		"traffic_switch.options.password: looks like":  func(c *Config) { c.TrafficSwitch.Options = map[string]string{"password": "x"} },
		"traffic_switch.secrets.key: is not a referen": func(c *Config) { c.TrafficSwitch.Secrets = map[string]Secret{"key": "hunter2"} },
	} {
		f := newFixture(t)
		f.trafficSwitch("us-1")
		if err := f.config.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&f.config)
		if err := f.config.Validate(); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", want, err)
		}
	}
	f := newFixture(t)
	f.trafficSwitch("us-1")
	f.parts.TrafficSwitch = nil
	if _, err := New(f.config, f.parts); err == nil || !strings.Contains(err.Error(), "Parts.TrafficSwitch") {
		t.Errorf("%v", err)
	}
}

// Check says where traffic goes if it is to neither site, or moved by others.
func TestCheckTrafficSwitch(t *testing.T) {
	for want, change := range map[string]func(*fixture, *providertest.MemoryTrafficSwitch){
		"":                      func(*fixture, *providertest.MemoryTrafficSwitch) {},
		"traffic goes to \"eu-": func(f *fixture, _ *providertest.MemoryTrafficSwitch) { f.trafficSwitch("eu-1", "us-1") },
		"marked by bank": func(_ *fixture, s *providertest.MemoryTrafficSwitch) {
			was := provider.TrafficState{Sites: []string{"us-1", "us-2"}}
			if err := s.Switch(t.Context(), was, provider.TrafficState{Sites: was.Sites, Mark: provider.TrafficMark{Owner: "bank", Epoch: 1}}); err != nil {
				t.Fatal(err)
			}
		},
		"has no \"mars\"": func(f *fixture, _ *providertest.MemoryTrafficSwitch) {
			f.config.TrafficSwitch.Standby = []string{"mars"}
		},
		"no route": func(f *fixture, _ *providertest.MemoryTrafficSwitch) {
			f.parts.TrafficSwitch = func(context.Context, TrafficSwitch) (provider.TrafficSwitch, error) {
				return nil, errors.New("no route")
			}
		},
		"unreachable": func(f *fixture, s *providertest.MemoryTrafficSwitch) {
			f.parts.TrafficSwitch = func(context.Context, TrafficSwitch) (provider.TrafficSwitch, error) { return mute{s}, nil }
		},
	} {
		f := newFixture(t)
		change(f, f.trafficSwitch("us-1", "us-2"))
		var faults faults
		f.planner(t).checkTrafficSwitch(t.Context(), &faults)
		if got := fmt.Sprint(faults.err()); !strings.Contains(got, want) || (want == "") != (faults.err() == nil) {
			t.Errorf("%q: %s", want, got)
		}
	}
}

type mute struct{ provider.TrafficSwitch }

func (mute) State(context.Context) (provider.TrafficState, error) {
	return provider.TrafficState{}, errors.New("unreachable")
}

// Where the service compares nothing, nothing fails over by itself, unless that
// was allowed.
func TestAutomaticBySwitch(t *testing.T) {
	got := map[string]bool{}
	for _, mode := range []failover.Mode{failover.Automatic, failover.Manual} {
		for _, allowed := range []bool{false, true} {
			for _, compared := range []bool{false, true} {
				f := newFixture(t)
				s := f.trafficSwitch("us-1", "us-2")
				f.config.Failover.Mode, f.config.TrafficSwitch.AllowNotCompared = mode, allowed
				if !compared {
					f.parts.TrafficSwitch = func(context.Context, TrafficSwitch) (provider.TrafficSwitch, error) { return plain{s}, nil }
				}
				p := f.planner(t)
				w, err := p.read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(fmt.Sprint(p.arm(w, p.forecasts(w))), "no compare-and-swap") {
					got[fmt.Sprintf("%s allowed=%t compared=%t", mode, allowed, compared)] = true
				}
			}
		}
	}
	if d := cmp.Diff(map[string]bool{"automatic allowed=false compared=false": true}, got); d != "" {
		t.Error(d)
	}
}

type plain struct{ provider.TrafficSwitch }

func (p plain) Traits() provider.TrafficTraits {
	t := p.TrafficSwitch.Traits()
	t.Compared = false
	return t
}

// What clients need to follow counts in what a failover takes.
func TestFollowSwitch(t *testing.T) {
	f := newFixture(t)
	f.trafficSwitch("us-1", "us-2")
	f.config.TrafficSwitch.Follow = Duration(90 * time.Second)
	if b := f.config.rtoBudget(0); !strings.Contains(fmt.Sprint(b), "1m30s for clients to follow the switch") {
		t.Errorf("%v", b)
	}
	p := f.planner(t)
	w, err := p.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := p.predictSteps(w)["traffic"]; got != 90*time.Second {
		t.Errorf("%v", got)
	}
	if !p.known(failover.Failover, PrimarySite, StandbySite)["traffic"] {
		t.Error("no traffic step")
	}
}
