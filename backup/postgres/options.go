package postgres

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// options are what Destination says; the package comment describes them.
type options struct {
	location, walDir          string // absolute
	overwrite, verify, dryRun bool
	spaces                    map[string]string // directories of tablespaces, by name or OID
	allSpaces                 string            // for those that are not named
	owner                     *owner
	recovery                  target
}

type owner struct{ user, group int }

// A target is where recovery is to end; the zero value is the end of the log.
type target struct {
	consistent bool
	at         time.Time
	lsn        wal.LSN
	xid, name  string
	exclusive  bool
	timeline   uint32 // 0: the latest, or with current that of the backup
	current    bool
	action     string
}

// end reports whether recovery goes to the end of the WAL that is put there.
func (t target) end() bool { return t.at.IsZero() && t.lsn == 0 && t.xid == "" && t.name == "" }

// options are those that say it.
func (t target) options() map[string]string {
	o := map[string]string{}
	set := func(key, value string, is bool) {
		if is {
			o[key] = value
		}
	}
	set("target", "consistent", t.consistent)
	set("target-time", stamp(t.at), !t.at.IsZero())
	set("target-lsn", t.lsn.String(), t.lsn != 0)
	set("target-xid", t.xid, t.xid != "")
	set("target-name", t.name, t.name != "")
	set("exclusive", "true", t.exclusive)
	set("target-timeline", fmt.Sprint(t.timeline), t.timeline != 0)
	return o
}

// String says what a target is, for errors.
func (t target) String() string {
	switch {
	case t.consistent:
		return "consistent"
	case !t.at.IsZero():
		return stamp(t.at)
	case t.lsn != 0:
		return t.lsn.String()
	case t.xid != "":
		return "transaction " + t.xid
	case t.name != "":
		return fmt.Sprintf("restore point %q", t.name)
	}
	return "the end of the log"
}

func parseOptions(d backup.Destination) (o options, err error) {
	if d.Location == "" {
		return o, errors.New("destination: Location is empty, want a directory")
	}
	var errs []error
	for key, value := range d.Options {
		if err := o.set(key, value); err != nil {
			errs = append(errs, fmt.Errorf("destination: option %s=%q: %w", key, value, err))
		}
	}
	targets := 0
	for _, set := range []bool{o.recovery.consistent, !o.recovery.at.IsZero(), o.recovery.lsn != 0, o.recovery.xid != "", o.recovery.name != ""} {
		if set {
			targets++
		}
	}
	if targets > 1 {
		errs = append(errs, errors.New("destination: more than one target; want one of target, target-time, target-lsn, target-xid and target-name"))
	}
	if o.recovery.action != "" && o.recovery.end() {
		errs = append(errs, errors.New("destination: option action wants a target; at the end of the WAL a server always goes into operation"))
	}
	if o.recovery.exclusive && (targets == 0 || o.recovery.consistent || o.recovery.name != "") {
		errs = append(errs, errors.New("destination: option exclusive wants target-time, target-lsn or target-xid"))
	}
	if o.walDir == "" {
		o.walDir = filepath.Clean(d.Location) + ".wal"
	}
	for name, dir := range map[string]*string{"Location": &o.location, "option wal-dir": &o.walDir} {
		if name == "Location" {
			*dir = d.Location
		}
		if *dir, err = directory(*dir); err != nil {
			errs = append(errs, fmt.Errorf("destination: %s: %w", name, err))
		}
	}
	return o, errors.Join(errs...)
}

// directory makes a path absolute. It is written into settings and commands,
// so it is of characters that can be seen.
func directory(s string) (string, error) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", fmt.Errorf("%q has control characters in it", s)
	}
	return filepath.Abs(s)
}

func (o *options) set(key, value string) (err error) {
	if name, ok := strings.CutPrefix(key, "tablespace:"); ok {
		if name == "" || value == "" {
			return errors.New("want tablespace:NAME=DIRECTORY")
		}
		if o.spaces == nil {
			o.spaces = map[string]string{}
		}
		o.spaces[name], err = directory(value)
		return err
	}
	flags := map[string]*bool{"overwrite": &o.overwrite, "verify": &o.verify, "dry-run": &o.dryRun, "exclusive": &o.recovery.exclusive}
	if f, ok := flags[key]; ok {
		if value != "true" && value != "false" {
			return errors.New("want true or false")
		}
		*f = value == "true"
		return nil
	}
	switch key {
	case "wal-dir":
		o.walDir = value
	case "tablespaces":
		if value == "" {
			return errors.New("want a directory")
		}
		o.allSpaces, err = directory(value)
	case "owner":
		return o.setOwner(value)
	default:
		return o.recovery.set(key, value)
	}
	return err
}

func (o *options) setOwner(value string) error {
	user, group, ok := strings.Cut(value, ":")
	u, err1 := strconv.ParseUint(user, 10, 31)
	g, err2 := strconv.ParseUint(group, 10, 31)
	if !ok || err1 != nil || err2 != nil {
		return errors.New("want UID:GID, two numbers")
	}
	o.owner = &owner{int(u), int(g)}
	return nil
}

func (t *target) set(key, value string) (err error) {
	switch key {
	case "target":
		if t.consistent = value == "consistent"; !t.consistent {
			return errors.New("want consistent")
		}
	case "target-time":
		if t.at, err = time.Parse(time.RFC3339Nano, value); err != nil {
			return errors.New("want a time with its zone, such as 2026-03-01T12:00:00Z")
		}
		t.at = t.at.UTC().Truncate(time.Microsecond) // as exact as the server takes it
	case "target-lsn":
		t.lsn, err = wal.ParseLSN(value)
	case "target-xid":
		if _, err := strconv.ParseUint(value, 10, 64); err != nil {
			return errors.New("want the number of a transaction")
		}
		t.xid = value
	case "target-name":
		if t.name = value; value == "" || len(value) >= 64 || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return errors.New("want the name of a restore point")
		}
	case "target-timeline":
		switch value {
		case "latest":
		case "current":
			t.current = true
		default:
			if t.timeline, err = parseTimeline(value); err != nil {
				return errors.New("want a number, current or latest")
			}
		}
	case "action":
		if t.action = value; value != "promote" && value != "pause" && value != "shutdown" {
			return errors.New("want promote, pause or shutdown")
		}
	default:
		return errors.New("there is no such option; see package postgres")
	}
	return err
}
