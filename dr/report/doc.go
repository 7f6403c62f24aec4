// Package report turns what a drill, a restore test or a failover found into
// evidence that can be handed to an auditor: one HTML page that needs nothing
// but a browser, and a JSON twin of exactly the same data.
//
// Fill a [Report], which is plain data, and call [Report.Write]. The page has
// no script and loads nothing from anywhere, so it opens offline and prints;
// its charts are inline SVG over tables that say the same in numbers.
//
// # What the package guarantees
//
// Nobody writes "met" by hand. [Report.Judge] alone compares a measurement
// with its target; an objective without a measurement is [NotMeasured] and
// never met. A report that does not say what was left out (NotTested is nil)
// is refused, as is one whose numbers contradict each other: see
// [Report.Validate].
//
// The page shows the SHA-256 of the bytes of its twin, as sha256sum prints
// it. [Verify] recomputes that hash, judges the twin again and renders it
// again, so that a change of either file shows. The same data gives the same
// bytes.
//
// Text in a report comes from commands and logs, so it is treated as hostile:
// it is escaped, control and direction-changing characters are spelled out,
// long lines wrap, and the page's content security policy admits no script.
//
// # What it does not do
//
// It does not sign. Whoever can replace both files can replace them by a
// matching pair; put the hash of the twin into a signed log for that. It does
// not say that anybody complies with anything: the compliance table says which
// part of the report supports which clause. It does not remove secrets: put
// none in.
//
// # What stays compatible
//
// A twin of [Format] 1 stays readable by [Parse]. The page may change its
// looks; its renderer number then grows, and Verify says that it cannot
// compare the words of a page made by another renderer.
package report
