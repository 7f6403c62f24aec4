package report

import "strings"

// A clause of a norm, what it asks in short, and the sections of this report
// that are evidence for it.
type clause struct {
	norm, text string
	evidence   []string // ids of sections
}

// clauses are worded as what the report supports. It supports a clause only
// by the sections that hold something.
var clauses = [...]clause{
	{"SOC 2 A1.2", "Backup processes and recovery infrastructure are operated and monitored", []string{"points", "retention", "replication", "integrity", "notifications"}},
	{"SOC 2 A1.3", "Recovery plan procedures are tested; integrity and completeness of backup data", []string{"objectives", "steps", "integrity", "data", "not-tested"}},
	{"SOC 2 CC7.5", "Recovery from incidents; recovery is tested and improved", []string{"timeline", "steps", "deviations", "cleanup"}},
	{"HIPAA 164.308(a)(7)(ii)(A)", "Data backup plan: exact copies can be retrieved", []string{"points", "integrity", "data"}},
	{"HIPAA 164.308(a)(7)(ii)(B)", "Disaster recovery plan: lost data can be restored", []string{"steps", "objectives", "data"}},
	{"HIPAA 164.308(a)(7)(ii)(C)", "Emergency mode operation: critical processes continue", []string{"timeline", "steps", "environment"}},
	{"HIPAA 164.308(a)(7)(ii)(D)", "Testing and revision of contingency plans", []string{"steps", "not-tested", "deviations"}},
	{"HIPAA 164.308(a)(7)(ii)(E)", "Criticality of applications and data", []string{"criticality"}},
	{"GDPR 32(1)(b)", "Ongoing integrity, availability and resilience of processing", []string{"replication", "integrity", "environment"}},
	{"GDPR 32(1)(c)", "Availability and access restored in a timely manner", []string{"objectives", "timeline", "data"}},
	{"GDPR 32(1)(d)", "Regular testing and evaluation of the measures", []string{"steps", "not-tested", "deviations"}},
	{"DORA Art. 11", "Response and recovery plans are tested, with recovery objectives", []string{"objectives", "timeline", "steps", "deviations"}},
	{"DORA Art. 12", "Backup, restoration on segregated systems, integrity checks and reconciliation", []string{"points", "integrity", "data", "environment"}},
}

// complianceSection says for each clause which of the other sections support
// it and which would but are empty.
func complianceSection(others []section) section {
	byID := map[string]section{}
	for _, s := range others {
		byID[s.ID] = s
	}
	t := table{Head: columns("Clause", "In short", "Supported by")}
	for _, c := range clauses {
		var filled []link
		var empty []string
		for _, id := range c.evidence {
			if s := byID[id]; s.holds() {
				filled = append(filled, link{s.ID, s.Numbered()})
			} else {
				empty = append(empty, s.Title)
			}
		}
		support := cell{Links: filled}
		if len(filled) == 0 {
			support = marked(openMark, "nothing in this report")
		}
		if len(empty) > 0 {
			support.Lines = []string{"would also support it, but has nothing to show here: " + strings.Join(empty, "; ")}
		}
		norm := txt(c.norm)
		norm.Whole = true
		t.Rows = append(t.Rows, row{Cells: []cell{norm, txt(c.text), support}})
	}
	return section{ID: "compliance", Title: "Clauses this report supports",
		Lead:   "Where an auditor may find evidence. A section supports a clause; one report does not make anybody compliant, and the wording of the norm prevails over the few words here.",
		Tables: []table{t}}
}
