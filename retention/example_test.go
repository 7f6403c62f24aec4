package retention_test

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/holdfast-go/holdfast/retention"
)

func ExampleApply() {
	type backup struct {
		name   string
		time   string
		stored string
		proven bool
	}
	backups := []backup{
		{"a", "2026-11-23T02:00:00Z", "2026-11-23T02:10:00Z", false},
		{"b", "2026-11-22T14:00:00Z", "2026-11-22T14:10:00Z", false},
		{"c", "2026-11-22T02:00:00Z", "2026-11-22T02:10:00Z", true},
		{"d", "2026-11-15T02:00:00Z", "2026-11-15T02:10:00Z", false},
		{"e", "2026-11-14T02:00:00Z", "2026-11-14T02:10:00Z", true},
		{"f", "2100-01-01T00:00:00Z", "2026-11-23T02:20:00Z", false},
	}
	parse := func(s string) time.Time {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			panic(err)
		}
		return t
	}
	describe := func(b backup) retention.Point {
		return retention.Point{ID: b.name, Time: parse(b.time), Stored: parse(b.stored), Proven: b.proven}
	}

	policy := retention.Policy{Daily: 2, Weekly: 2, MaxAge: retention.Days365}
	decisions, err := retention.Apply(backups, describe, policy, parse("2026-11-23T09:00:00Z"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(policy)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, d := range decisions {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Point.name, d.Verdict, strings.Join(d.Reasons, ", "))
	}
	w.Flush()
	// Output:
	// daily 2, weekly 2, at most 365d
	// a  keep        daily 2026-11-23, weekly 2026-W48
	// b  keep        daily 2026-11-22, weekly 2026-W47
	// c  keep        last proven
	// d  forget      no rule keeps it
	// e  forget      no rule keeps it
	// f  quarantine  dated 73 years after it was stored
}
