package dr

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// movesTraffic: there is something that a failover moves traffic with.
func (c Config) movesTraffic() bool { return c.DNS != nil || c.TrafficSwitch != nil }

// follow is how long clients take to follow, by what followed says.
func (c Config) follow() time.Duration {
	if c.TrafficSwitch != nil {
		return or(c.TrafficSwitch.Follow, defaultTTL).Std()
	}
	return c.DNS.ttl()
}

func (c Config) followed() string {
	if c.TrafficSwitch != nil {
		return "the switch"
	}
	return "DNS"
}

func (c Config) validateTrafficSwitch(f *faults) {
	if c.TrafficSwitch == nil {
		return
	}
	s := *c.TrafficSwitch
	if c.DNS != nil {
		f.add("traffic_switch", "is set together with dns", "leave out the one that is not to move traffic")
	}
	for site, open := range map[string][]string{PrimarySite: s.Primary, StandbySite: s.Standby} {
		if len(open) == 0 || slices.Contains(open, "") {
			f.add("traffic_switch."+site, "names nothing of the switch, or has an empty name", "name what receives traffic when that site is in charge")
		}
	}
	if len(s.Primary) > 0 && slices.Equal(inOrder(s.Primary), inOrder(s.Standby)) {
		f.add("traffic_switch.standby", "is what the primary has", "a failover would move nothing; name what is the standby's own")
	}
	switch follow, budget := c.follow(), c.Failover.budget(); {
	case s.Follow < 0:
		f.add("traffic_switch.follow", fmt.Sprintf("%v is negative", s.Follow), "leave it out for 60s")
	case follow >= budget && budget >= 0:
		f.add("traffic_switch.follow", fmt.Sprintf("%v uses up the failover budget of %v", Duration(follow), Duration(budget)), "shorten what clients cache, or set failover.budget")
	}
	validateOpenerFields(f, "traffic_switch", s.Options, s.Secrets)
}

func inOrder(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// trafficSwitch is the action of the traffic step, and the switch it moves.
func (p *Planner) trafficSwitch(ctx context.Context) (failover.Action, provider.TrafficSwitch, error) {
	s := *p.config.TrafficSwitch
	opened, err := p.parts.TrafficSwitch(ctx, s)
	if err != nil {
		return nil, nil, fmt.Errorf("open the traffic switch: %w", err)
	}
	action, err := failover.NewTrafficSwitch(failover.TrafficSwitchConfig{
		Switch: opened, Owner: p.config.Name, Sites: map[string][]string{PrimarySite: s.Primary, StandbySite: s.Standby},
		AllowNotCompared: true, // a person decides, or failover.Arm has looked
	})
	return action, opened, err
}

// blindSwitch looks whether an automatic failover would move traffic by a
// service that compares nothing. One that cannot be opened stops it elsewhere.
func (p *Planner) blindSwitch(ctx context.Context) bool {
	s := p.config.TrafficSwitch
	if s == nil || s.AllowNotCompared || p.config.Failover.mode() != failover.Automatic {
		return false
	}
	opened, err := p.parts.TrafficSwitch(ctx, *s)
	return err == nil && !opened.Traits().Compared
}

// checkTrafficSwitch asks the service where traffic goes. It must be to one of
// the two sites, or a failover would refuse to move it.
func (p *Planner) checkTrafficSwitch(ctx context.Context, f *faults) {
	s := *p.config.TrafficSwitch
	_, opened, err := p.trafficSwitch(ctx)
	if err != nil {
		f.add("traffic_switch", oneLine(err), "correct the configuration, or what Parts.TrafficSwitch makes of it")
		return
	}
	now, err := opened.State(ctx)
	switch {
	case err != nil:
		f.add("traffic_switch", oneLine(err), "make the service reachable with the credentials of this process")
	case !slices.Equal(now.Sites, inOrder(s.Primary)) && !slices.Equal(now.Sites, inOrder(s.Standby)):
		f.add("traffic_switch", fmt.Sprintf("traffic goes to %q, which is neither what traffic_switch.primary nor what traffic_switch.standby has", strings.Join(now.Sites, ", ")),
			"correct the switch or the configuration")
	case now.Mark.Owner != "" && now.Mark.Owner != p.config.Name:
		f.add("traffic_switch", fmt.Sprintf("the switch is marked by %s", now.Mark.Owner), "let one configuration move it")
	}
}
