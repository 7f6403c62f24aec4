package dr

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/failover"
)

func (c Config) validateFailover(f *faults) {
	v := c.Failover
	switch v.Mode {
	case "", failover.Manual, failover.Assisted, failover.Automatic:
	default:
		f.add("failover.mode", fmt.Sprintf("%q is none of manual, assisted, automatic", v.Mode), "choose one, or leave it out for manual")
	}
	if v.Automatic && v.Mode != "" && v.Mode != failover.Automatic {
		f.add("failover.automatic", fmt.Sprintf("is true, but failover.mode is %q", v.Mode), "keep one of the two")
	}
	if v.mode() == failover.Automatic && c.Sites.Witness == nil {
		f.add("failover.mode", "automatic failover without a witness: two sites cannot tell a dead peer from a cut line, and both would take over",
			"add sites.witness in a third region, or use assisted")
	}
	if v.HealthInterval != 0 && v.interval() < time.Second {
		f.add("failover.health_interval", fmt.Sprintf("%v is shorter than 1s", v.HealthInterval), "probe once a second at most")
	}
	if v.FailureThreshold < 0 || v.FailureThreshold > 100 {
		f.add("failover.failure_threshold", fmt.Sprintf("%d is out of range", v.FailureThreshold), "use 2 to 100")
	}
	if v.FailureThreshold == 1 && v.mode() == failover.Automatic {
		f.add("failover.failure_threshold", "one lost probe would start an automatic failover", "use 2 or more")
	}
	if v.LeaseTTL != 0 && v.LeaseTTL.Std() < 3*time.Second {
		f.add("failover.lease_ttl", fmt.Sprintf("%v is shorter than 3s: one slow request would lose the lease", v.LeaseTTL), "leave it out for 30s")
	}
	if v.Settle < 0 {
		f.add("failover.settle", fmt.Sprintf("%v is negative", v.Settle), "leave it out for 15s")
	}
	if v.Budget < 0 {
		f.add("failover.budget", fmt.Sprintf("%v is negative", v.Budget), "leave it out for 5m")
	}
	switch failover.Profile(v.Profile) {
	case "", failover.ServeFirst, failover.TrafficFirst:
	default:
		f.add("failover.profile", fmt.Sprintf("%q is none of %s, %s", v.Profile, failover.ServeFirst, failover.TrafficFirst), "choose one, or leave it out for "+string(failover.ServeFirst))
	}
}

func (c Config) validateDNS(f *faults) {
	if c.DNS == nil {
		return
	}
	d := *c.DNS
	zone, name := fqdn(d.Zone), fqdn(d.Name)
	if zone == "." {
		f.add("dns.zone", "is not set", "name the zone, for example example.com")
	}
	switch {
	case name == ".":
		f.add("dns.name", "is not set", "write the name clients use")
	case zone != "." && name != zone && !strings.HasSuffix(name, "."+zone):
		f.add("dns.name", fmt.Sprintf("%q is not in the zone %q", d.Name, d.Zone), "write the whole name, zone included")
	}
	typeA, errA := recordType(d.Primary)
	typeB, errB := recordType(d.Standby)
	if errA != nil {
		f.add("dns.primary", errA.Error(), "write an IP address or a host name")
	}
	if errB != nil {
		f.add("dns.standby", errB.Error(), "write an IP address or a host name")
	}
	if errA == nil && errB == nil {
		if typeA != typeB {
			f.add("dns.standby", fmt.Sprintf("needs a record of type %s, the primary one of %s", typeB, typeA), "use two addresses of one family, or two host names")
		}
		if strings.EqualFold(d.Primary, d.Standby) {
			f.add("dns.standby", "is the address of the primary", "a failover would move nothing; write the standby's own address")
		}
		if typeA == "CNAME" && name == zone {
			f.add("dns.primary", "a host name cannot stand at the top of a zone", "use addresses, or a name below the zone")
		}
	}
	c.validateTTL(f, d)
	validateOpenerFields(f, "dns", d.Options, d.Secrets)
}

func (c Config) validateTTL(f *faults, d DNS) {
	ttl := d.ttl()
	switch budget := c.Failover.budget(); {
	case ttl < time.Second || ttl%time.Second != 0:
		f.add("dns.ttl", fmt.Sprintf("%v is not a number of whole seconds", d.TTL), "use 60s")
	case ttl >= budget && budget >= 0:
		f.add("dns.ttl", fmt.Sprintf("%v uses up the failover budget of %v: clients that asked just before the switch stay away that long", Duration(ttl), Duration(budget)),
			"lower it to 60s, or set failover.budget")
	}
}

// recordType tells which record leads to addr.
func recordType(addr string) (string, error) {
	if ip, err := netip.ParseAddr(addr); err == nil {
		switch {
		case ip.Zone() != "" || ip.Is4In6():
			return "", fmt.Errorf("%q is not a plain address", addr)
		case ip.Is4():
			return "A", nil
		}
		return "AAAA", nil
	}
	if addr == "" {
		return "", fmt.Errorf("is not set")
	}
	if strings.ContainsAny(addr, " :/@\t\n") || strings.Trim(addr, "0123456789.") == "" {
		return "", fmt.Errorf("%q is neither an address nor a host name", addr)
	}
	return "CNAME", nil
}

// fqdn writes a name absolute and in lower case.
func fqdn(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, ".")) + "."
}
