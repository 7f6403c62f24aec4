package backup

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// CheckOptions say how much to check. The zero value checks the structure:
// that everything is there with the right size, that all metadata can be
// read, and that logs have no gaps.
type CheckOptions struct {
	// ReadData reads, decrypts and verifies the content of every pack and
	// every segment of a log.
	ReadData bool

	// Budget does the same for a part of them, those first that were
	// verified or stored longest ago, so that regular checks come round to
	// every byte: with a Share of 1/30, in 30 checks. It excludes ReadData.
	Budget CheckBudget

	// Period is within which every byte is meant to be verified once, for
	// the report; default 30 days.
	Period time.Duration

	// Replica says that the store is meant to hold copies of some of the
	// points: that others are missing is no finding, nor is a gap in a log
	// that no point needs.
	Replica bool

	// Progress is called now and then, not concurrently: Items are packs and
	// segments read, Read their bytes, Bytes what there is to read.
	Progress func(Progress)
}

// A CheckBudget bounds how much a check reads; what is used up first counts.
// The pack or segment with which it is used up is still read, and one is
// always read, so that what is larger than the budget has its turn, too. What
// was found damaged before is read in addition, to see whether they still are.
type CheckBudget struct {
	Share float64       // of the bytes of all packs and segments, above 0 and at most 1
	Bytes int64         // of packs and segments
	Time  time.Duration // after which no further one is begun
}

const defaultCheckPeriod = 30 * 24 * time.Hour

func (o CheckOptions) withDefaults() (CheckOptions, error) {
	var errs []error
	if o.Period == 0 {
		o.Period = defaultCheckPeriod
	}
	if o.Period < 0 {
		errs = append(errs, fmt.Errorf("field Period is %v, want more than 0", o.Period))
	}
	if b := o.Budget; !(b.Share >= 0 && b.Share <= 1) || b.Bytes < 0 || b.Time < 0 {
		errs = append(errs, fmt.Errorf("field Budget: Share %v, Bytes %d, Time %v; want a Share from 0 to 1, and the others not negative", b.Share, b.Bytes, b.Time))
	}
	if o.ReadData && o.Budget != (CheckBudget{}) {
		errs = append(errs, errors.New("field Budget is set, and ReadData reads everything: choose one of them"))
	}
	return o, errors.Join(errs...)
}

// CheckReport is the result of [Repository.Check].
type CheckReport struct {
	At     time.Time     `json:"at"`     // when the check began, by the checker's clock
	Points int           `json:"points"` // in the repository
	Whole  int           `json:"whole"`  // of those, how many nothing is known to be missing from
	Packs  int           `json:"packs"`  // in the store
	Bytes  int64         `json:"bytes"`  // of those packs
	Period time.Duration `json:"period"` // of the options, in nanoseconds

	// ReadPacks with Read bytes were read and verified by this check.
	ReadPacks int   `json:"readPacks"`
	Read      int64 `json:"read"`

	Logs         int       `json:"logs"`         // that the store or a point tells of
	Segments     LogAmount `json:"segments"`     // of them, in the store
	ReadSegments LogAmount `json:"readSegments"` // of those, read and verified by this check

	// Verified is the share of the bytes of packs and segments that some
	// check has read and found right within Period, from 0 to 1; 1 if there
	// are none.
	Verified float64 `json:"verified"`

	// Oldest is when the pack or segment that was verified longest ago was
	// verified, or stored if it never was; zero if there are none.
	Oldest time.Time `json:"oldest,omitzero"`

	// Unrecorded says why it could not be recorded what was verified, if so:
	// the credential may not write, for instance. A later check then begins
	// where this one has begun.
	Unrecorded string `json:"unrecorded,omitempty"`

	// Interrupted are records of prunes that delete packs, or were killed
	// while they did; see PruneOptions.Gone. They are no problem.
	Interrupted []string `json:"interrupted,omitempty"`

	// Omitted are points that a later one of the same writer names and that
	// are missing, or not as they were, though nobody has forgotten them.
	Omitted []Omission `json:"omitted,omitempty"`

	// LostLogs are stretches of logs that cannot be read, by log, branch and
	// position: no moment within can be returned to, nor any after it from
	// points before it.
	LostLogs []LogLoss `json:"lostLogs,omitempty"`

	Damaged  []DamagedPoint `json:"damaged,omitempty"`  // by ID
	Problems []Problem      `json:"problems,omitempty"` // by Key
}

// OK reports whether nothing is wrong.
func (c CheckReport) OK() bool { return len(c.Problems) == 0 && len(c.Omitted) == 0 }

// A Problem is one damaged or missing object. A gap in a log counts as one
// missing segment.
type Problem struct {
	Key    string    `json:"key"`              // the object
	Points []PointID `json:"points,omitempty"` // points that cannot be restored in full, or not to a consistent state, because of it
	// Repairable: [Repository.Repair] or [Repository.Prune] mends it, and
	// nothing is lost.
	Repairable bool   `json:"repairable,omitempty"`
	Text       string `json:"text"` // what is wrong
}

// A LogLoss is a stretch of a log that cannot be read: it is missing, or in a
// damaged segment only, or two segments disagree about it.
type LogLoss struct {
	Log    string `json:"log,omitempty"` // name; empty if nothing that can be read tells it
	Branch uint32 `json:"branch"`
	From   uint64 `json:"from"` // positions, half-open
	To     uint64 `json:"to"`

	// First and Last are the times of the first and the last commit within,
	// or if that is not known those of the last commit before and of the
	// first behind; zero if there is none.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`

	Key    string    `json:"key"`              // of the Problem
	Text   string    `json:"text"`             // of the Problem
	Points []PointID `json:"points,omitempty"` // that are not consistent without it
}

// String describes the loss in one line.
func (l LogLoss) String() string {
	s := fmt.Sprintf("log %q, branch %d, positions %d to %d", l.Log, l.Branch, l.From, l.To)
	if at := func(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }; !l.First.IsZero() && !l.Last.IsZero() {
		s += fmt.Sprintf(", commits from %s to %s", at(l.First), at(l.Last))
	} else if !l.First.IsZero() {
		s += fmt.Sprintf(", commits after %s", at(l.First))
	} else if !l.Last.IsZero() {
		s += fmt.Sprintf(", commits before %s", at(l.Last))
	}
	return fmt.Sprintf("%s: %s (%s not consistent without)", s, l.Text, count(len(l.Points), "point"))
}

// A DamagedPoint cannot be restored in full, or not to a consistent state.
type DamagedPoint struct {
	ID     PointID `json:"id"`
	Name   string  `json:"name,omitempty"` // of the workload, if the manifest can be read
	Reason string  `json:"reason"`         // the objects that are damaged or missing, and how

	// Everything is lost if the manifest cannot be read.
	Everything bool `json:"everything,omitempty"`

	Items int64  `json:"items,omitempty"` // of which something is lost
	Bytes int64  `json:"bytes,omitempty"` // of content that is lost with them
	Lost  []Loss `json:"lost,omitempty"`  // the first 100 of them, in the order of paths

	// Logs are what the point needs of logs and what is not all there: its
	// items may be whole, but it cannot be brought to the position where it
	// is consistent.
	Logs []LogPosition `json:"logs,omitempty"`
}

// A Loss is an item of which something is lost, or a stretch of items whose
// list is lost.
type Loss struct {
	Path  string `json:"path"`  // of the item, or the last of several; empty if not even that is known
	Items int64  `json:"items"` // 1, or how many items the lost list had
	Bytes int64  `json:"bytes"` // of content that is lost; -1 if not known
}

const maxLosses = 100

func (d *DamagedPoint) lose(l Loss) {
	l.Items = max(l.Items, 1) // whoever wrote the list may have written any number
	d.Items = min(d.Items+min(l.Items, 1<<61), 1<<61)
	d.Bytes = min(d.Bytes+min(max(l.Bytes, 0), 1<<61), 1<<61)
	if len(d.Lost) < maxLosses {
		d.Lost = append(d.Lost, l)
	}
}

// String describes the report for people, in several lines.
func (c CheckReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d whole and %d damaged\n", count(c.Points, "point"), c.Whole, len(c.Damaged))
	fmt.Fprintf(&b, "%s with %s, of which %s with %s were read\n", count(c.Packs, "pack"), size(c.Bytes), count(c.ReadPacks, "pack"), size(c.Read))
	if c.Logs > 0 {
		fmt.Fprintf(&b, "%s, %s with %s, of which %s with %s were read\n", count(c.Logs, "log"), count(c.Segments.Segments, "segment"), size(c.Segments.Bytes),
			count(c.ReadSegments.Segments, "segment"), size(c.ReadSegments.Bytes))
	}
	fmt.Fprintf(&b, "verified within %v: %.1f %%", c.Period, 100*c.Verified)
	if !c.Oldest.IsZero() {
		fmt.Fprintf(&b, "; longest ago: %s, %v", c.Oldest.UTC().Format(time.RFC3339), c.At.Sub(c.Oldest).Truncate(time.Second))
	}
	b.WriteByte('\n')
	if c.Unrecorded != "" {
		fmt.Fprintf(&b, "what was verified could not be recorded: %s\n", c.Unrecorded)
	}
	for _, key := range c.Interrupted {
		fmt.Fprintf(&b, "%s: a prune is deleting packs, or was killed while it did; then see PruneOptions.Gone\n", key)
	}
	for _, d := range c.Damaged {
		b.WriteString(d.String())
	}
	for _, l := range c.LostLogs {
		fmt.Fprintf(&b, "lost: %s\n", l)
	}
	for _, o := range c.Omitted {
		fmt.Fprintf(&b, "point %s\n", o)
	}
	for _, p := range c.Problems {
		what := "not repairable"
		if p.Repairable {
			what = "repairable"
		}
		fmt.Fprintf(&b, "%s: %s (%s, harms %s)\n", p.Key, p.Text, what, count(len(p.Points), "point"))
	}
	return b.String()
}

// String describes what is lost, in several lines.
func (d DamagedPoint) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "point %s", d.ID)
	if d.Name != "" {
		fmt.Fprintf(&b, " of %q", d.Name)
	}
	fmt.Fprintf(&b, ": %s\n", d.Reason)
	if d.Everything {
		b.WriteString("  everything is lost\n")
	}
	for _, l := range d.Lost {
		switch {
		case l.Items == 1 && l.Bytes >= 0:
			fmt.Fprintf(&b, "  lost: %s of %q\n", size(l.Bytes), l.Path)
		case l.Path != "":
			fmt.Fprintf(&b, "  lost: the list of %s, up to %q\n", count(int(l.Items), "item"), l.Path)
		default:
			fmt.Fprintf(&b, "  lost: the list of %s\n", count(int(l.Items), "item"))
		}
	}
	for _, p := range d.Logs {
		fmt.Fprintf(&b, "  not consistent: needs log %q, branch %d, positions %d to %d\n", p.Log, p.Branch, p.From, p.Consistent)
	}
	if more := d.Items - listedItems(d.Lost); more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	return b.String()
}

func listedItems(lost []Loss) (n int64) {
	for _, l := range lost {
		n += l.Items
	}
	return n
}

// reason joins what is wrong with the objects that harm a point.
func reason(id PointID, problems []Problem) string {
	var out []string
	for _, p := range problems {
		if slices.Contains(p.Points, id) {
			out = append(out, p.Key+": "+p.Text)
		}
	}
	if len(out) > 3 {
		out = append(out[:3], fmt.Sprintf("and %d more objects", len(out)-3))
	}
	return strings.Join(out, "; ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func size(n int64) string {
	v, unit := float64(n), "bytes"
	for _, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if v < 1024 {
			break
		}
		v, unit = v/1024, u
	}
	if unit == "bytes" {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", v, unit)
}
