package files

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

// options are what Destination.Options says; the package comment describes
// them.
type options struct {
	overwrite, mirror, dryRun, verify, times, special, devices bool
	include, exclude                                           []string
	undo                                                       bool // not an option: the view is a safety point
}

func parseOptions(d backup.Destination) (o options, err error) {
	if d.Location == "" {
		return o, errors.New("destination: Location is empty, want a directory")
	}
	flags := map[string]*bool{"overwrite": &o.overwrite, "mirror": &o.mirror, "dry-run": &o.dryRun,
		"verify": &o.verify, "special": &o.special, "devices": &o.devices}
	for k, v := range d.Options {
		switch k {
		case "include":
			o.include = lines(v)
		case "exclude":
			o.exclude = lines(v)
		case "compare":
			if v != "content" && v != "times" {
				return o, fmt.Errorf("destination: option compare=%q, want content or times", v)
			}
			o.times = v == "times"
		default:
			f, ok := flags[k]
			if !ok {
				return o, fmt.Errorf("destination: unknown option %q; see the package files", k)
			}
			if v != "true" && v != "false" {
				return o, fmt.Errorf("destination: option %s=%q, want true or false", k, v)
			}
			*f = v == "true"
		}
	}
	if o.mirror && !o.overwrite {
		return o, errors.New("destination: option mirror deletes what is in the way, so it wants overwrite=true, too")
	}
	return o, nil
}

func lines(s string) []string {
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		if l != "" {
			out = append(out, l)
		}
	}
	return out
}
