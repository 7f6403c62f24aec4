package logical

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// options are what Destination.Options says; the package comment describes
// them.
type options struct {
	from, database  string
	overwrite, drop bool
	roles           string
	withoutSettings bool
	jobs            int
}

func parseOptions(d backup.Destination) (o options, err error) {
	o = options{roles: "require", jobs: 1}
	words := map[string][]string{"overwrite": {"true", "false"}, "old": {"keep", "drop"}, "roles": {"require", "create", "none"}, "settings": {"restore", "none"}}
	for k, v := range d.Options {
		if want, ok := words[k]; ok && !slices.Contains(want, v) {
			return o, fmt.Errorf("destination: option %s=%q, want %s", k, v, strings.Join(want, " or "))
		}
		switch k {
		case "from":
			o.from = v
		case "database":
			if err := validName(v); err != nil {
				return o, fmt.Errorf("destination: option database: %w", err)
			}
			o.database = v
		case "overwrite":
			o.overwrite = v == "true"
		case "old":
			o.drop = v == "drop"
		case "roles":
			o.roles = v
		case "settings":
			o.withoutSettings = v == "none"
		case "jobs":
			if o.jobs, err = strconv.Atoi(v); err != nil || o.jobs < 1 || o.jobs > 64 {
				return o, fmt.Errorf("destination: option jobs=%q, want 1 to 64", v)
			}
		default:
			return o, fmt.Errorf("destination: unknown option %q; see the package logical", k)
		}
	}
	if o.drop && !o.overwrite {
		return o, errors.New("destination: option old=drop drops a database, so it wants overwrite=true, too")
	}
	return o, nil
}

// choose finds the database to restore.
func (o *options) choose(ctx context.Context, v *backup.View) (h held, globals backup.Item, err error) {
	all, globals, err := contents(ctx, v)
	if err != nil {
		return h, globals, err
	}
	var names []string
	for _, h := range all {
		names = append(names, h.meta.Database)
	}
	if o.from == "" && len(all) == 1 {
		o.from = names[0]
	}
	i := slices.Index(names, o.from)
	switch {
	case o.from == "":
		return h, globals, fmt.Errorf("destination: option from is needed: the point has the databases %q", names)
	case i < 0:
		return h, globals, fmt.Errorf("destination: option from=%q: the point has the databases %q: %w", o.from, names, provider.ErrNotFound)
	}
	if o.database == "" {
		o.database = o.from
	}
	return all[i], globals, nil
}
