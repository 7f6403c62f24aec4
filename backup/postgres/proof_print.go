package postgres

import (
	"fmt"
	"strings"
	"time"
)

// String is the proof as a person reads it.
func (p Proof) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	verdict := "not passed"
	if p.Passed() {
		verdict = "passed, RTO " + round(p.RTO())
	}
	line("proof of %s: %s", p.Data, verdict)
	if p.Version != "" {
		line("  PostgreSQL %s, system %s, in operation on timeline %d", p.Version, p.System, p.Timeline)
	}
	if !p.Recovered.IsZero() {
		line("  started %s after the restore began, consistent after %s, recovered after %s more, to %v", round(p.Started.Sub(p.Began)), round(p.Consistent.Sub(p.Started)), round(p.Recovered.Sub(p.Consistent)), p.Replayed)
		newest := "last transaction " + stamp(p.LastCommit)
		switch {
		case p.Newest().IsZero():
			newest = "no transaction ended in what was replayed, so the RPO is not known"
		case p.Newest() != p.LastCommit:
			newest = "no transaction ended since the backup began, at " + stamp(p.Backup)
		}
		if rpo, known := p.RPO(); known {
			newest += fmt.Sprintf(", RPO %s (to %s)", rpo, stamp(p.Until))
		}
		line("  %s", newest)
		line("  watermark: %s", p.Watermark)
	}
	for _, d := range p.Databases {
		line("  database %q: %d tables with %d rows; amcheck: %d tables, %d indexes", d.Name, len(d.Tables), d.Rows(), d.Heaps, d.Indexes)
	}
	if p.Queries > 0 {
		line("  %d queries say what they should", p.Queries)
	}
	for _, f := range p.Failures {
		line("  WRONG %v", f)
	}
	for _, what := range p.NotDone {
		line("  not checked: %s", what)
	}
	return b.String()
}

// Rows is how many rows all tables have, as far as that is known.
func (d ProofDatabase) Rows() (n int64) {
	for _, t := range d.Tables {
		n += max(t.Rows, 0)
	}
	return n
}

func round(d time.Duration) string { return d.Round(time.Millisecond).String() }
