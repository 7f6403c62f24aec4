package dr

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// String renders the plan for people, always in the same words.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "plan for %s at %s\n", p.Config, p.Time.UTC().Format(time.RFC3339))
	fmt.Fprintf(&b, "in charge: %s\n", or(p.Active, "no site (a failover is between fence and pivot)"))
	b.WriteString("\ndue\n")
	if len(p.Actions) == 0 && len(p.Blocked) == 0 {
		b.WriteString("  nothing\n")
	}
	for _, why := range p.Blocked {
		fmt.Fprintf(&b, "  BLOCKED: %s\n", why)
	}
	for i, a := range p.Actions {
		fmt.Fprintf(&b, "%3d %s\n", i+1, a)
	}
	b.WriteString("\nforecast\n")
	for _, f := range p.Forecasts {
		f.print(&b)
	}
	for i, s := range p.Locks {
		if i == 0 {
			b.WriteString("\nlocks\n")
		}
		fmt.Fprintf(&b, "  %s\n", s)
	}
	b.WriteString("\nviolations\n")
	if len(p.Violations) == 0 {
		b.WriteString("  none\n")
	}
	for _, v := range p.Violations {
		fmt.Fprintf(&b, "  %s\n", v)
	}
	fmt.Fprintf(&b, "\nfailover (%s): %s\n", p.Readiness.Mode, map[bool]string{true: "ready", false: "NOT READY"}[p.Readiness.Ready])
	for _, problem := range p.Readiness.Problems {
		fmt.Fprintf(&b, "  - %s\n", problem)
	}
	if p.Readiness.Armed && p.Readiness.Mode == "automatic" {
		b.WriteString("  armed: it would start by itself\n")
	}
	return b.String()
}

// String is one line: what, where, why.
func (a Action) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-9s", a.Kind)
	for _, part := range []string{a.Workload, string(a.Point)} {
		if part != "" {
			b.WriteString(" " + part)
		}
	}
	if a.Site != "" {
		b.WriteString(" at " + a.Site)
	}
	b.WriteString(": " + a.Reason)
	if !a.Due.IsZero() {
		b.WriteString(", due " + a.Due.UTC().Format(time.RFC3339))
	}
	return b.String()
}

// String is one line.
func (v Violation) String() string {
	when := "now"
	if v.Predicted {
		when = "predicted"
	}
	return fmt.Sprintf("%s %s (%s): %s", v.Workload, v.Objective, when, v.Text)
}

func (f Forecast) print(w io.Writer) {
	fmt.Fprintf(w, "  %s: %s\n", f.Workload, count(f.Points, "point"))
	loss := "unknown, nothing is restorable"
	if f.Known {
		loss = fmt.Sprintf("%v (point %s)", Duration(tidy(f.Age.Std())), f.Restorable)
	}
	fmt.Fprintf(w, "    loss now  %s\n", loss)
	proven := "never"
	if f.Proven != "" {
		proven = fmt.Sprintf("%v ago (point %s)", Duration(tidy(f.ProvenAge.Std())), f.Proven)
	}
	fmt.Fprintf(w, "    proven    %s\n", proven)
	for _, window := range f.Windows {
		fmt.Fprintf(w, "    moments   %s\n", window)
	}
	for _, why := range f.NotSurveyed {
		fmt.Fprintf(w, "    moments   not known %s\n", why)
	}
	fmt.Fprintf(w, "    RPO %-5v %s\n", f.Promise.RPO, f.RPO)
	fmt.Fprintf(w, "    RTO %-5v %s\n", f.Promise.RTO, f.RTO)
}

// String shows the arithmetic and where its numbers come from.
func (p Prediction) String() string {
	if !p.Known {
		return "not predicted: " + p.Basis
	}
	return fmt.Sprintf("predicted %s, %s", p.Sum, p.Basis)
}
