package providertest

import (
	"errors"
	"fmt"
	"strings"
)

// A Clause is one sentence of a contract that an implementation either keeps
// or breaks.
type Clause struct {
	ID       string // "blob/put-if-absent-race", "DNS-SWAP-1", ...: stable across releases
	Sentence string // what must hold, in words
}

// An Outcome says what a check found about a clause.
type Outcome string

const (
	Pass        Outcome = "pass"        // it holds, as far as a test can tell
	Fail        Outcome = "fail"        // it does not; see Result.Err
	Unsupported Outcome = "unsupported" // the implementation says that it cannot do this
	Skipped     Outcome = "skipped"     // not asked; see Result.Err
)

// A Result is the outcome of one clause.
type Result struct {
	Clause
	Outcome Outcome
	Err     error // why it failed or was not asked, or what the implementation cannot do
}

// A Report is what a Check function found: one result for each clause of a
// contract, in the order of the contract.
type Report struct {
	Contract string // "BlobStore", "DNSProvider", "Snapshotter"
	Results  []Result

	// Left are the keys or names that the check made and could not remove,
	// because they are under retention or the implementation failed.
	Left []string
}

// Err joins the failures, or is nil if there are none. What is unsupported or
// skipped is no failure.
func (r Report) Err() error {
	var errs []error
	for _, res := range r.Results {
		if res.Outcome == Fail {
			errs = append(errs, fmt.Errorf("%s: %s: %w", res.ID, res.Sentence, res.Err))
		}
	}
	return errors.Join(errs...)
}

// Failed lists the IDs of the clauses that do not hold.
func (r Report) Failed() []string {
	var ids []string
	for _, res := range r.Results {
		if res.Outcome == Fail {
			ids = append(ids, res.ID)
		}
	}
	return ids
}

// String is the report as text, one line for each clause and one below it
// for what went wrong, with the counts at the end.
func (r Report) String() string {
	var b strings.Builder
	count := map[Outcome]int{}
	for _, res := range r.Results {
		count[res.Outcome]++
		fmt.Fprintf(&b, "%-11s  %-24s  %s\n", res.Outcome, res.ID, res.Sentence)
		if res.Err != nil {
			indent := "\n" + strings.Repeat(" ", 13)
			fmt.Fprintf(&b, "%s%s\n", indent[1:], strings.ReplaceAll(res.Err.Error(), "\n", indent))
		}
	}
	fmt.Fprintf(&b, "%s: %d pass, %d fail, %d unsupported, %d skipped\n",
		r.Contract, count[Pass], count[Fail], count[Unsupported], count[Skipped])
	for _, left := range r.Left {
		fmt.Fprintf(&b, "left behind: %s\n", left)
	}
	return b.String()
}
