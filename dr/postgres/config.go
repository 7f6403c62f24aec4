package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	physical "github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/logical"
	"github.com/holdfast-go/holdfast/dr"
)

// Config says what this host has for PostgreSQL.
type Config struct {
	// Bin is the directory of PostgreSQL's programs, of the version of the
	// cluster: MAJOR in it stands for that, 17. For dumps it is that of pg_dump
	// and pg_restore, which are not older than any server; there DumpBin counts
	// if it is set. Empty: where the shell finds them.
	Bin, DumpBin string

	Run   string // see ProofConfig of backup/postgres
	RunAs string

	// DrillServer is the connection string of a server that drills of dumps
	// restore to. Without it there are no such drills.
	DrillServer string

	Logger *slog.Logger // default: discards
}

// Add puts openers and checkers for both types into parts.
func Add(parts *dr.Parts, c Config) {
	if parts.Targets == nil {
		parts.Targets = map[string]dr.TargetOpener{}
	}
	if parts.Checkers == nil {
		parts.Checkers = map[string]dr.Checker{}
	}
	if parts.Surveyors == nil {
		parts.Surveyors = map[string]dr.Surveyor{}
	}
	parts.Targets["postgres"] = c.openCluster
	parts.Surveyors["postgres"] = survey
	parts.Checkers["postgres"] = clusters{c}
	parts.Targets["postgres-dump"] = c.openDump
	if c.DrillServer != "" {
		parts.Checkers["postgres-dump"] = dumps{c}
	}
}

// options reads those of a workload.
type options struct {
	rest   map[string]string
	failed []error
}

func optionsOf(w dr.Workload) *options {
	o := &options{rest: maps.Clone(w.Options)}
	for _, name := range slices.Sorted(maps.Keys(w.Secrets)) {
		o.fail("secrets."+name, "is not used; put the password into a passfile, and passfile=FILE into source")
	}
	return o
}

func (o *options) fail(what, why string) { o.failed = append(o.failed, fmt.Errorf("%s %s", what, why)) }

func (o *options) take(key string) string {
	v := o.rest[key]
	delete(o.rest, key)
	return v
}

// takeAll takes options that begin with a word, without it.
func (o *options) takeAll(prefix string) map[string]string {
	found := map[string]string{}
	for key, v := range o.rest {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			found[name] = v
			delete(o.rest, key)
		}
	}
	return found
}

// word takes one of several words.
func (o *options) word(key string, words ...string) string {
	v := o.take(key)
	if v != "" && !slices.Contains(words, v) {
		o.fail("options."+key, fmt.Sprintf("is %q; want %s", v, strings.Join(words, " or ")))
	}
	return v
}

// queries takes those of the user.
func (o *options) queries() (out []physical.Query) {
	all := o.takeAll("query:")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		_, database, _ := strings.Cut(name, "@")
		if all[name] == "" {
			o.fail("options.query:"+name, "is empty; want SQL that yields true")
		}
		out = append(out, physical.Query{Database: database, SQL: all[name]})
	}
	return out
}

// err says what was wrong, with whatever nobody took.
func (o *options) err() error {
	for _, key := range slices.Sorted(maps.Keys(o.rest)) {
		o.fail("options."+key, "is unknown; see package dr/postgres")
	}
	return errors.Join(o.failed...)
}

// isPlace tells a directory from a connection string.
func isPlace(s string) bool { return filepath.IsAbs(s) }

// A clusterWorkload is what the options of one say.
type clusterWorkload struct {
	target  physical.Config
	restore map[string]string
	proof   physical.ProofConfig // what of it is the workload's
}

func (c Config) cluster(w dr.Workload) (x clusterWorkload, err error) {
	o := optionsOf(w)
	standby := o.take("standby_conn")
	x.target = physical.Config{Conn: w.Source, Watermark: o.take("watermark"), Checkpoint: o.word("checkpoint", "fast", "spread"), Logger: c.Logger}
	if isPlace(w.Source) {
		x.target.Conn = standby
	}
	if text := o.take("workers"); text != "" {
		if x.target.Workers, err = strconv.Atoi(text); err != nil || x.target.Workers < 1 {
			o.fail("options.workers", fmt.Sprintf("is %q; want a number", text))
		}
	}
	x.restore = map[string]string{"tablespaces": w.Source + ".spaces"}
	overwrite, spaces := o.word("overwrite", "true", "false"), o.takeAll("tablespace:")
	if owner := o.take("owner"); owner != "" {
		x.restore["owner"] = owner
		if user, group, ok := strings.Cut(owner, ":"); !ok || !digits(user) || !digits(group) {
			o.fail("options.owner", fmt.Sprintf("is %q; want UID:GID, two numbers", owner))
		}
	}
	if w.Source == w.RestoreTo { // what is said of there holds nowhere else
		if overwrite != "" {
			x.restore["overwrite"] = overwrite
		}
		for name, dir := range spaces {
			x.restore["tablespace:"+name] = dir
		}
	}
	x.proof = physical.ProofConfig{User: o.take("user"), Amcheck: o.word("amcheck", "full", "none"), Rows: o.word("rows", "exact", "estimate", "none"), Queries: o.queries()}
	if w.RestoreTo != "" && !isPlace(w.RestoreTo) {
		o.fail("restore_to", fmt.Sprintf("is %q; want an absolute directory", w.RestoreTo))
	}
	return x, o.err()
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (c Config) openCluster(_ context.Context, w dr.Workload) (backup.Target, error) {
	x, err := c.cluster(w)
	if err != nil {
		return nil, err
	}
	t, err := physical.New(x.target)
	if err != nil {
		return nil, err
	}
	return withOptions{t, func(d backup.Destination) (backup.Destination, error) { return added(d, x.restore), nil }}, nil
}

// withOptions is a target that is restored with the options of its workload.
type withOptions struct {
	backup.Target
	place func(backup.Destination) (backup.Destination, error)
}

func (t withOptions) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	d, err := t.place(d)
	if err != nil {
		return err
	}
	return t.Target.Restore(ctx, v, d)
}

// added is d with options; those it has count.
func added(d backup.Destination, o map[string]string) backup.Destination {
	all := maps.Clone(o)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, d.Options)
	d.Options = all
	return d
}

func (c Config) openDump(_ context.Context, w dr.Workload) (backup.Target, error) {
	o := optionsOf(w)
	var names []string
	if list := o.take("databases"); list != "" {
		for _, name := range strings.Split(list, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	there := map[string]string{}
	for _, key := range []string{"from", "database", "overwrite", "old", "roles", "settings", "jobs"} {
		if v := o.take(key); v != "" {
			there[key] = v
		}
	}
	o.queries()
	if err := o.err(); err != nil {
		return nil, err
	}
	conn := w.Source
	if isPlace(conn) {
		conn = c.DrillServer
	}
	bin := c.DumpBin
	if bin == "" && !strings.Contains(c.Bin, "MAJOR") {
		bin = c.Bin
	}
	t, err := logical.New(logical.Config{Conn: conn, Databases: names, Bin: bin, Logger: c.Logger})
	if err != nil {
		return nil, err
	}
	return withOptions{t, func(d backup.Destination) (backup.Destination, error) {
		if !isPlace(d.Location) {
			return added(d, there), nil
		}
		if c.DrillServer == "" {
			return d, errors.New("a dump is restored into a server: set Config.DrillServer of dr/postgres for drills")
		}
		drill := map[string]string{"database": drillName(d.Location), "roles": "none", "settings": "none"}
		if from := there["from"]; from != "" {
			drill["from"] = from
		}
		d.Location = c.DrillServer
		return added(d, drill), nil
	}}, nil
}
