package dr

import (
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/retention"
)

func (c Config) validateWorkloads(f *faults) {
	if len(c.Workloads) == 0 {
		f.add("targets", "nothing is protected", "add at least one target")
	}
	names := map[string]int{}
	for i, w := range c.Workloads {
		field := at("targets", i)
		if !nameForm.MatchString(w.Name) {
			f.add(field+".name", fmt.Sprintf("%q cannot be used as a name", w.Name), nameFix)
		}
		if j, twice := names[w.Name]; twice {
			f.add(field+".name", fmt.Sprintf("%q is also the name of %s", w.Name, at("targets", j)), "choose another name")
		}
		names[w.Name] = i
		w.validate(f, field)
		c.validateTiming(f, field, w)
	}
}

func (w Workload) validate(f *faults, field string) {
	if w.Type == "" {
		f.add(field+".type", "is not set", "name the kind of the target, for example files")
	}
	switch {
	case w.Source == "":
		f.add(field+".source", "is not set", "say what to back up, as the type defines it")
	case holdsPassword(w.Source):
		f.add(field+".source", "holds a password", "move it to "+field+".secrets as env:NAME or file:/path")
	}
	validateOpenerFields(f, field, w.Options, w.Secrets)
	switch w.Mode {
	case "", Full, Incremental, Differential:
	default:
		f.add(field+".mode", fmt.Sprintf("%q is none of full, incremental, differential", w.Mode), "choose one, or leave it out for incremental")
	}
	validateEncryption(f, field, w)
	switch strings.ToLower(w.Compression) {
	case "", "zstd", "snappy":
	default:
		f.add(field+".compression", fmt.Sprintf("%q is not offered", w.Compression), "leave it out for zstd, or write zstd or snappy")
	}
	if w.Priority < 0 || w.Priority > 4 {
		f.add(field+".priority", fmt.Sprintf("%d is out of range", w.Priority), "use 1 (first) to 4 (last)")
	}
	if err := retention.Policy(w.Retention).Validate(); err != nil {
		f.add(field+".retention", strings.ReplaceAll(err.Error(), "\n", "; "), "write a duration such as 30d, or counts such as {daily: 7, weekly: 4, monthly: 12}")
	}
	if w.RestoreTo != "" && holdsPassword(w.RestoreTo) {
		f.add(field+".restore_to", "holds a password", "move it to "+field+".secrets as env:NAME or file:/path")
	}
	validateClasses(f, field, w)
}

func validateClasses(f *faults, field string, w Workload) {
	if _, ok := rtoClasses[w.RTOClass]; !ok && w.RTOClass != "" {
		f.add(field+".rto_class", fmt.Sprintf("%q is none of critical, non-critical, data-service", w.RTOClass), "choose one, or state rto")
	}
	if _, ok := rpoClasses[w.RPOClass]; !ok && w.RPOClass != "" {
		f.add(field+".rpo_class", fmt.Sprintf("%q is none of critical, standard, archival", w.RPOClass), "choose one, or state rpo")
	}
}

// timingField is the field that holds the schedule of w, and how many do.
func (w Workload) timingField() (field string, set int) {
	field = "frequency"
	if w.Frequency != "" {
		set++
	}
	if w.Every != 0 {
		field, set = "every", set+1
	}
	if w.Schedule != "" {
		field, set = "schedule", set+1
	}
	return field, set
}

// validateTiming checks the schedule and what follows from it: the RPO it can
// keep and the retention it needs.
func (c Config) validateTiming(f *faults, field string, w Workload) {
	which, set := w.timingField()
	switch {
	case set == 0:
		f.add(field+".frequency", "there is no schedule", "set one of frequency, schedule, every")
		return
	case set > 1:
		f.add(field+"."+which, "there is more than one schedule", "keep one of frequency, schedule, every")
		return
	}
	if w.Every > 0 && w.Every.Std() < minEvery {
		f.add(field+".every", fmt.Sprintf("%v is shorter than %v", w.Every, Duration(minEvery)), "back up less often, or stream a log")
		return
	}
	if _, err := w.location(); err != nil {
		f.add(field+".time_zone", err.Error(), "or leave it out for UTC")
		return
	}
	s, err := w.schedule()
	if err != nil {
		f.add(field+"."+which, err.Error(), "see the fields of the type Workload for what may stand here")
		return
	}
	gap, err := s.longestGap()
	if err != nil {
		f.add(field+"."+which, err.Error(), "name a time that comes")
		return
	}
	c.validateRPO(f, field, which, w, Duration(gap))
	if span, ok := w.Retention.preset(); ok && span.Std() < gap {
		f.add(field+".retention", fmt.Sprintf("keeps %v, but points come %v apart: there would be one point at most", span, Duration(gap)),
			"keep points for longer, or back up more often")
	}
}

// validateSources finds places that would back up each other or themselves.
func (c Config) validateSources(f *faults) {
	for i, w := range c.Workloads {
		field := at("targets", i)
		source, ok := locate(w.Source)
		if !ok {
			continue
		}
		for j, other := range c.Workloads[:i] {
			o, ok := locate(other.Source)
			if ok && (o.holds(source) || source.holds(o)) {
				f.add(field+".source", fmt.Sprintf("overlaps with %s.source", at("targets", j)), "protect each place once")
			}
		}
		for _, s := range c.sites() {
			bucket, ok := locate(s.Bucket)
			switch {
			case !ok:
			case source.holds(bucket):
				f.add(field+".source", fmt.Sprintf("contains %s.bucket: each backup would back up the backups", s.field), "move the bucket out of the source")
			case bucket.holds(source):
				f.add(field+".source", fmt.Sprintf("lies inside %s.bucket", s.field), "move the source out of the bucket")
			}
		}
		if to, ok := locate(w.RestoreTo); ok && (to.holds(source) || source.holds(to)) {
			f.add(field+".restore_to", "overlaps with the source: a restore would write over what is protected", "restore to another place")
		}
	}
}
