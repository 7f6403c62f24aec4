package dr

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/dr/notify"
)

var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

const nameFix = "use 1 to 63 of a-z, 0-9 and -, not beginning or ending with -"

// Validate reports everything that is wrong with c in itself, without asking
// the world: each fault is a [*Fault] that names its field and what to do,
// and all of them are joined (see [Faults]). What depends on the parts at hand
// is for [New], what depends on the world for [Planner.Check].
func (c Config) Validate() error {
	var f faults
	if !nameForm.MatchString(c.Name) {
		f.add("name", fmt.Sprintf("%q cannot be used as a name", c.Name), nameFix)
	}
	c.validateSites(&f)
	for i, region := range c.CustomRegions {
		if !nameForm.MatchString(region) {
			f.add(at("custom_regions", i), fmt.Sprintf("%q cannot be used as a region", region), nameFix)
		}
	}
	c.validateObjectives(&f)
	c.validateWorkloads(&f)
	c.validateSources(&f)
	c.validateRecipients(&f)
	c.validateProtection(&f)
	c.validateNotify(&f)
	c.validateFailover(&f)
	c.validateDNS(&f)
	c.validateTrafficSwitch(&f)
	c.validateDrill(&f)
	switch every := c.Prune.Every; {
	case c.Prune.Off && every != 0:
		f.add("prune.every", "is set, but prune.off is true", "set one of them")
	case every != 0 && every.Std() < time.Minute:
		f.add("prune.every", fmt.Sprintf("%v is shorter than a minute", every), "once a day is often enough for most; leave it out for that")
	}
	switch every := c.Attest.Every; {
	case c.Attest.Off && every != 0:
		f.add("attest.every", "is set, but attest.off is true", "set one of them")
	case every != 0 && every.Std() < time.Minute:
		f.add("attest.every", fmt.Sprintf("%v is shorter than a minute", every), "before each prune is often enough for most; leave it out for that")
	}
	return f.err()
}

// namedSite is a site with the path of its field.
type namedSite struct {
	field string
	Site
}

func (c Config) sites() []namedSite {
	all := []namedSite{{"sites.primary", c.Sites.Primary}, {"sites.standby", c.Sites.Standby}}
	if c.Sites.Witness != nil {
		all = append(all, namedSite{"sites.witness", *c.Sites.Witness})
	}
	return all
}

func (c Config) validateSites(f *faults) {
	all := c.sites()
	for i, s := range all {
		switch {
		case s.Region == "":
			f.add(s.field+".region", "is not set", "name the region the bucket is in, for example eu-central-1 or local-a")
		case !c.knownRegion(s.Region):
			f.add(s.field+".region", fmt.Sprintf("%q is no region of AWS, Google Cloud or Azure that is known here", s.Region),
				"correct the spelling, or list it in custom_regions")
		}
		switch _, err := bucketURL(s.Bucket); {
		case err != nil:
			f.add(s.field+".bucket", err.Error(), "write a URL such as s3://bucket/prefix or file:///srv/dr-a")
		case holdsPassword(s.Bucket):
			f.add(s.field+".bucket", "holds a password", "move it to "+s.field+".secrets as env:NAME or file:/path")
		}
		validateOpenerFields(f, s.field, s.Options, s.Secrets)
		s.Limits.validate(f, s.field+".limits")
		if s.Lock.validate(f, s.field+".lock", c.Prune); s.Lock != nil && s.field == "sites.witness" {
			f.add(s.field+".lock", "locks what is replaced all the time: lease and journal", "leave it out; lock the sites that hold points")
		}
		for _, other := range all[:i] {
			if s.Region != "" && s.Region == other.Region {
				f.add(s.field+".region", fmt.Sprintf("is %q, as is %s.region: one disaster takes both", s.Region, other.field),
					"choose another region")
			}
			a, okA := locate(s.Bucket)
			b, okB := locate(other.Bucket)
			if okA && okB && (a.holds(b) || b.holds(a)) {
				f.add(s.field+".bucket", fmt.Sprintf("is the same place as %s.bucket or one holds the other", other.field),
					"give each site a bucket or prefix of its own")
			}
		}
	}
}

func (l *Limits) validate(f *faults, field string) {
	if l == nil {
		return
	}
	if *l == (Limits{}) {
		f.add(field, "sets no limit", "set reads, writes, lists, deletes, in_flight, upload_mb or download_mb, or leave it out")
	}
	if l.InFlight < 0 {
		f.add(field+".in_flight", fmt.Sprintf("is %d", l.InFlight), "write how many requests may be under way, or leave it out")
	}
	const least = 1e-6 // a byte a second of a megabyte
	for _, v := range []struct {
		name  string
		value float64
	}{{"reads", l.Reads}, {"writes", l.Writes}, {"lists", l.Lists}, {"deletes", l.Deletes}, {"upload_mb", l.UploadMB}, {"download_mb", l.DownloadMB}} {
		if v.value != 0 && !(v.value >= least && v.value <= math.MaxInt32) {
			f.add(field+"."+v.name, fmt.Sprintf("is %v", v.value), "write how many a second, or leave it out")
		}
	}
}

// secretName matches option names whose values should be references.
var secretName = regexp.MustCompile(`(?i)(password|passwd|passphrase|secret|token|api_?key|private_?key|access_?key)$`)

// validateOpenerFields checks what is handed through to openers.
func validateOpenerFields(f *faults, field string, options map[string]string, secrets map[string]Secret) {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if secretName.MatchString(key) {
			f.add(field+".options."+key, "looks like a secret in plain sight", "move it to "+field+".secrets as env:NAME or file:/path")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(secrets)) {
		if err := secrets[key].check(); err != nil {
			f.add(field+".secrets."+key, "is "+err.Error(), "write env:NAME or file:/path; the secret itself does not belong here")
		}
	}
}

func (c Config) validateRecipients(f *faults) {
	names, keys, survives := map[string]int{}, map[string]int{}, false
	for i, r := range c.Recipients {
		field := at("recipients", i)
		if !nameForm.MatchString(r.Name) {
			f.add(field+".name", fmt.Sprintf("%q cannot be used as a name", r.Name), nameFix)
		}
		if j, twice := names[r.Name]; twice {
			f.add(field+".name", fmt.Sprintf("%q is also the name of %s", r.Name, at("recipients", j)), "choose another name")
		}
		names[r.Name] = i
		validateKey(f, field, r.Key)
		if j, twice := keys[r.Key]; twice && r.Key != "" {
			f.add(field+".key", "is the key of "+at("recipients", j)+" too", "a second recipient must be a second key, or nothing is gained")
		}
		keys[r.Key] = i
		switch r.Home {
		case AtPrimary, AtStandby, Offline:
		default:
			f.add(field+".home", fmt.Sprintf("%q is none of primary, standby, offline", r.Home), "say where the private key lives")
		}
		if r.Identity != "" {
			if err := r.Identity.check(); err != nil {
				f.add(field+".identity", "is "+err.Error(), "write env:NAME or file:/path; the private key itself does not belong here")
			}
		}
		survives = survives || r.UsableWithoutPrimary()
	}
	if !survives && !c.unprotected() {
		f.add("recipients", "no recipient is usable with the primary region gone: every copy at the standby would be unreadable on the day it is needed",
			"add a recipient whose private key has home: standby or home: offline")
	}
}

// validateKey never repeats the key: it may be the private one.
func validateKey(f *faults, field, key string) {
	switch {
	case strings.HasPrefix(strings.ToUpper(key), "AGE-SECRET-KEY-"):
		f.add(field+".key", "is a private key", "treat it as exposed, make a new pair, and write the public key (age1...) here")
	default:
		if _, err := age.ParseRecipients(strings.NewReader(key)); err != nil || strings.ContainsAny(key, "\n#") {
			f.add(field+".key", "is not an age public key", "write the line that begins with age1")
		}
	}
}

func (c Config) validateNotify(f *faults) {
	for i, name := range c.Notify {
		if _, err := notify.Parse(name); err != nil {
			f.add(at("notify", i), err.Error(), "write email:ops@example.com, slack:#ops or webhook:https://example.com/hook")
		}
	}
}

func (c Config) validateDrill(f *faults) {
	proven := or(c.Objectives.Proven, defaultProven)
	if c.Drill.Every > 0 && c.Drill.Every > proven {
		f.add("drill.every", fmt.Sprintf("a drill every %v cannot keep the newest proven point younger than the %v of objectives.proven", c.Drill.Every, proven),
			"drill more often, or promise less")
	}
	if c.Drill.Every > 0 && c.Drill.Scratch == "" {
		f.add("drill.scratch", "is not set", "say where drills restore to")
	}
	scratch, ok := locate(c.Drill.Scratch)
	if !ok {
		return
	}
	check := func(field, place string) {
		if l, ok := locate(place); ok && (l.holds(scratch) || scratch.holds(l)) {
			f.add("drill.scratch", "overlaps with "+field, "use a place of its own: what a drill restores is deleted")
		}
	}
	for i, w := range c.Workloads {
		check(at("targets", i)+".source", w.Source)
		check(at("targets", i)+".restore_to", w.RestoreTo)
	}
	for _, s := range c.sites() {
		check(s.field+".bucket", s.Bucket)
	}
}
