package objects

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/internal/pattern"
)

// options are what Destination.Options says; the package comment describes
// them.
type options struct {
	overwrite, mirror, dryRun, verify, versions bool
	include, exclude                            []string
}

func parseOptions(d backup.Destination) (o options, err error) {
	if !utf8.ValidString(d.Location) || len(d.Location) > maxKey {
		return o, fmt.Errorf("destination: Location %.40q, want the beginning of keys: UTF-8 of at most %d bytes", d.Location, maxKey)
	}
	flags := map[string]*bool{"overwrite": &o.overwrite, "mirror": &o.mirror, "dry-run": &o.dryRun,
		"verify": &o.verify, "versions": &o.versions}
	for k, v := range d.Options {
		switch k {
		case "include":
			o.include = lines(v)
		case "exclude":
			o.exclude = lines(v)
		default:
			f, ok := flags[k]
			if !ok {
				return o, fmt.Errorf("destination: unknown option %q; see the package objects", k)
			}
			if v != "true" && v != "false" {
				return o, fmt.Errorf("destination: option %s=%q, want true or false", k, v)
			}
			*f = v == "true"
		}
	}
	if o.mirror && !o.overwrite {
		return o, errors.New("destination: option mirror deletes objects, so it wants overwrite=true, too")
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

// resolve goes through a point, so that nothing is written if there is
// anything in it that this package does not make, or a pattern that matches
// nothing.
func (r *restorer) resolve(ctx context.Context) error {
	sel, err := pattern.New("destination: option include", r.o.include, "destination: option exclude", r.o.exclude)
	if err != nil {
		return err
	}
	r.sel = sel
	var items, bytes int64
	for w, err := range r.wanted(ctx) {
		if err != nil {
			return err
		}
		items++
		bytes += w.it.Size
		for _, v := range w.before {
			items++
			bytes += v.it.Size
		}
	}
	var errs []error
	include, exclude := sel.Unused()
	for _, p := range include {
		errs = append(errs, fmt.Errorf("destination: option include: nothing in the point matches %q", p))
	}
	for _, p := range exclude {
		errs = append(errs, fmt.Errorf("destination: option exclude: nothing in the point matches %q", p))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if items == 0 && !sel.All() {
		return errors.New("destination: the options include and exclude together leave nothing to restore")
	}
	r.v.Expect(items, bytes)
	return nil
}
