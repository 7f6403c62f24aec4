package provider_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A column of the table is a store on one server. Each of its subjects, in the
// order given, is a file of findings, and in what kind of bucket they were made.
type column struct {
	title    string
	subjects []subject
}

type subject struct{ file, kind string }

var columns = []column{
	{"memory", []subject{{"providertest/memory", "Memory"}, {"providertest/bucket", "Bucket"}}},
	{"local", []subject{{"local/local", ""}}},
	{"httpstore", []subject{{"httpstore/httpstore", ""}}},
	{"S3 on MinIO", []subject{{"aws/minio-plain", "plain bucket"}, {"aws/minio-versioned", "with versions"}, {"aws/minio-locked", "with locks"}}},
	{"S3 on versitygw", []subject{{"aws/versitygw-plain", "plain bucket"}, {"aws/versitygw-versioned", "with versions"}, {"aws/versitygw-locked", "with locks"}}},
	{"Cloud Storage on fake-gcs-server", []subject{{"gcp/fake-gcs-server", ""}}},
	{"Cloud Storage behind rules", []subject{{"gcp/rules-plain", "plain bucket"}, {"gcp/rules-versioned", "with versions"},
		{"gcp/rules-locked", "with locks"}, {"gcp/rules-locked-versioned", "with both"}}},
	{"Blob Storage on Azurite", []subject{{"azure/azurite", ""}}},
	{"Blob Storage on a model", []subject{{"azure/model-plain", "plain container"}, {"azure/model-versioned", "with versions and policies"}}},
}

const preface = `# Conformance

What the suite of [providertest](providertest) says of each [provider.BlobStore](blob.go), clause by clause. A test makes this page of what the tests
of each package have found and recorded in testdata/conformance. They fail when they find anything else, and it fails when this page is another. To
record anew what they find, and to write the page:

	HOLDFAST_LONG=1 go test -run 'TestBlobStore|TestConformance$|TestMemory$|TestBucket$' \
	    ./provider/providertest ./provider/local ./provider/httpstore ./provider/aws ./provider/gcp ./provider/azure -update
	go test -run TestConformancePage ./provider -update

*memory* is Memory and Bucket of providertest; *httpstore* is provider/httpstore in front of Memory. *Cloud Storage behind rules* is fake-gcs-server
behind a handler of the tests that enforces what Cloud Storage documents and that server does not; *Blob Storage on a model* is a model of the service
in the tests, for what Azurite lacks. None of them is the service itself: what no server here can show is listed in the comment of each package,
with the command that shows it on an account of yours.

- **pass**: it holds, in each kind of bucket that is able to do this.
- **unsupported**: declined as the contract allows, with errors.ErrUnsupported and without doing anything.
- **deviation**: the server breaks it, in one kind of bucket at least.
- **skipped**: the server has nothing to ask it of.

A note says why, and in which kinds of bucket if not in all.

Beyond the suite, in MinIO, versitygw, fake-gcs-server without the rules, and Azurite: of 32 goroutines, and of 4 processes with 8 each, that race for
one key by IfAbsent or by IfMatch, exactly one wins each round, the others get ErrConflict, and the object is the winner's (TestRace, in a
directory, too); a repository is made, backed up to, pruned, checked and restored from over a network that loses replies (TestRepository); a lease is
raced for, kept, taken over and released, and a process that has been taken over without noticing is stopped by the journal (TestFailover);
and the same server behind a proxy that drops If-Match, If-None-Match or ifGenerationMatch is refused as a home for lease and journal (TestRefused).

`

// page is the whole of provider/CONFORMANCE.md.
func page(read func(file string) (map[string]storetest.Finding, error)) (string, error) {
	var b strings.Builder
	b.WriteString(preface + "| clause | what must hold |")
	rule := "|---|---|"
	var found [][]map[string]storetest.Finding // by column and subject
	for _, c := range columns {
		var of []map[string]storetest.Finding
		for _, s := range c.subjects {
			f, err := read(filepath.Join(filepath.Dir(s.file), "testdata", "conformance", filepath.Base(s.file)))
			if err != nil {
				return "", err
			}
			of = append(of, f)
		}
		found = append(found, of)
		b.WriteString(" " + c.title + " |")
		rule += "---|"
	}
	b.WriteString("\n" + rule + "\n")
	var notes []string
	for _, cl := range storetest.Clauses() {
		fmt.Fprintf(&b, "| %s | %s |", strings.TrimPrefix(cl.ID, "blob/"), strings.ReplaceAll(cl.Sentence, "|", `\|`))
		for i, c := range columns {
			word, note, err := c.cell(cl.ID, found[i])
			if err != nil {
				return "", err
			}
			if note != "" {
				note = c.title + ": " + note
				n := slices.Index(notes, note)
				if n < 0 {
					n = len(notes)
					notes = append(notes, note)
				}
				word += fmt.Sprintf(" [^%d]", n+1)
			}
			b.WriteString(" " + word + " |")
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
	for i, note := range notes {
		fmt.Fprintf(&b, "[^%d]: %s.\n", i+1, note)
	}
	return b.String(), nil
}

// cell says in a word what the subjects of a column found of a clause: the
// worst if any breaks it, or else the best; and in a note, where they differ
// from a plain pass, why.
func (c column) cell(id string, found []map[string]storetest.Finding) (word, note string, err error) {
	var notes []string             // distinct
	where := map[string][]string{} // kinds by note
	worst := map[string]bool{}
	for i, f := range found {
		finding, ok := f[id]
		if !ok {
			return "", "", fmt.Errorf("%s has no finding of %s: run its test with HOLDFAST_LONG=1 and -update", c.subjects[i].file, id)
		}
		if (finding.Why == "") != (finding.Outcome == "pass") {
			return "", "", fmt.Errorf("%s: %s is %s, because %q", c.subjects[i].file, id, finding.Outcome, finding.Why)
		}
		worst[finding.Outcome] = true
		if finding.Outcome == "pass" {
			continue
		}
		why := finding.Why
		if where[why] == nil {
			notes = append(notes, why)
		}
		where[why] = append(where[why], c.subjects[i].kind)
	}
	for _, word = range []string{storetest.Deviation, "pass", "unsupported", "skipped"} {
		if worst[word] {
			break
		}
	}
	for i, why := range notes {
		if len(where[why]) < len(found) {
			notes[i] = strings.Join(where[why], " and ") + ": " + why
		}
	}
	return word, strings.Join(notes, "; "), nil
}

// The page says what the tests of each package have recorded.
func TestConformancePage(t *testing.T) {
	want, err := page(storetest.ReadFindings)
	if err != nil {
		t.Fatal(err)
	}
	if flag.Lookup("update").Value.String() == "true" { // of storetest
		if err := os.WriteFile("CONFORMANCE.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("CONFORMANCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("CONFORMANCE.md is not up to date; go test -run %s ./provider -update writes it", t.Name())
	}
	// Findings of clauses that are no more, and files that no column names.
	known := map[string]bool{}
	for _, cl := range storetest.Clauses() {
		known[cl.ID] = true
	}
	files, err := filepath.Glob(filepath.Join("*", "testdata", "conformance", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		named := filepath.ToSlash(filepath.Join(strings.Split(filepath.ToSlash(file), "/")[0], filepath.Base(file)))
		if !slices.ContainsFunc(columns, func(c column) bool {
			return slices.ContainsFunc(c.subjects, func(s subject) bool { return s.file == named })
		}) {
			t.Errorf("no column of the page shows %s", file)
		}
		findings, err := storetest.ReadFindings(file)
		if err != nil {
			t.Error(err)
		}
		for id := range findings {
			if !known[id] {
				t.Errorf("%s: there is no clause %s", file, id)
			}
		}
	}
}

// A finding that is missing, or has no reason, makes no page.
func TestConformanceNeedsReasons(t *testing.T) {
	for name, spoil := range map[string]func(map[string]storetest.Finding){
		"missing":                func(f map[string]storetest.Finding) { delete(f, "blob/list-order") },
		"a deviation, no reason": func(f map[string]storetest.Finding) { f["blob/list-order"] = storetest.Finding{Outcome: "deviation"} },
		"a pass that has excuses": func(f map[string]storetest.Finding) {
			f["blob/list-order"] = storetest.Finding{Outcome: "pass", Why: "x"}
		},
	} {
		_, err := page(func(file string) (map[string]storetest.Finding, error) {
			f, err := storetest.ReadFindings(file)
			if err == nil {
				spoil(f)
			}
			return f, err
		})
		if err == nil || !strings.Contains(err.Error(), "blob/list-order") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
