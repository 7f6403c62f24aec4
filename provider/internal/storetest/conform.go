package storetest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var update = flag.Bool("update", false, "record what the suite says of each store in testdata/conformance")

// A Finding is what is recorded of a clause on one store: that it passes, or
// why it does not.
type Finding struct {
	Outcome string // "pass", "unsupported", "deviation", or "skipped" if it could not be asked
	Why     string // empty if it passes
}

// Deviation is the outcome of a clause that a store breaks.
const Deviation = "deviation"

// A Subject is a store that the suite examines.
type Subject struct {
	// Name is that of the file below testdata/conformance that records what
	// the suite says.
	Name string

	// Open opens the store, each time as another process would.
	Open func(t testing.TB) provider.BlobStore

	RetainFor time.Duration // see providertest.CheckOptions; 0 means a minute

	Cool func(ctx context.Context, key string) error // see providertest.CheckOptions

	// Differs says why the store does not pass a clause: what breaks it, or
	// what it needs to be able to. "blob/retain*" stands for all that begin so.
	Differs map[string]string

	// Sometimes are clauses in Differs that the store passes now and then.
	Sometimes []string

	// Rest makes up for what Differs says of a clause: what is left of the
	// clause must pass.
	Rest map[string]func(provider.BlobStore) provider.BlobStore

	// Quick leaves out the clauses that move megabytes or a thousand objects,
	// unless HOLDFAST_LONG is set.
	Quick bool
}

// Conforms examines a store by the whole suite, one subtest per clause, and
// compares what it says with what is recorded in testdata/conformance, of
// which provider/CONFORMANCE.md is made. A clause that does not pass must be
// in Differs, and one that is there must not pass. With -update the record is
// written instead.
func Conforms(t *testing.T, s Subject) {
	t.Helper()
	recorded, err := ReadFindings(s.file())
	if errors.Is(err, fs.ErrNotExist) && *update {
		recorded, err = map[string]Finding{}, nil
	}
	if err != nil {
		t.Fatalf("%v; -update writes it", err)
	}
	store := s.Open(t)
	second := s.Open(t)
	for _, cl := range Clauses() {
		if s.Quick && heavy[cl.ID] && os.Getenv("HOLDFAST_LONG") == "" {
			continue
		}
		t.Run(cl.ID, func(t *testing.T) {
			found := s.examine(t, store, second, cl.ID)
			if *update {
				recorded[cl.ID] = found
			} else if found != recorded[cl.ID] {
				t.Errorf("found is %v, %s says %v; -update writes it", found, s.file(), recorded[cl.ID])
			}
		})
	}
	if *update && !t.Failed() {
		if err := s.write(recorded); err != nil {
			t.Error(err)
		}
	}
}

func (s Subject) examine(t *testing.T, store, second provider.BlobStore, id string) Finding {
	why, exact := s.why(id)
	if slices.Contains(s.Sometimes, id) {
		return Finding{Deviation, why}
	}
	check := func(store, second provider.BlobStore) providertest.Report {
		return providertest.CheckBlobStore(t.Context(), store, providertest.CheckOptions{RetainFor: cmp.Or(s.RetainFor, time.Minute), Cool: s.Cool, Only: []string{id},
			Second: func() (provider.BlobStore, error) { return second, nil }})
	}
	report := check(store, second)
	r := report.Results[0]
	if _, warms := provider.As[provider.Warmer](store); r.Outcome == providertest.Skipped && !warms && strings.HasPrefix(id, "blob/warm") {
		r.Outcome = providertest.Unsupported // without Cool it is not even asked
	}
	if without := powerless(store, id); without != "" && r.Outcome == providertest.Unsupported {
		why = without
	}
	found := Finding{Outcome: string(r.Outcome), Why: why}
	switch {
	case r.Outcome == providertest.Pass && exact:
		t.Errorf("passes, and is said not to: %s", why)
	case r.Outcome == providertest.Pass:
		if len(report.Left) > 0 && !strings.HasPrefix(id, "blob/retain") && !strings.HasPrefix(id, "blob/lock") {
			t.Errorf("could not delete %q", report.Left)
		}
		found.Why = ""
	case why == "":
		t.Errorf("%s: %s\n%v", r.Outcome, r.Sentence, r.Err)
	default:
		t.Logf("%s, because %s: %v", r.Outcome, why, r.Err)
	}
	if r.Outcome == providertest.Fail {
		found.Outcome = Deviation
		if eased := s.Rest[id]; eased != nil {
			if rest := check(eased(store), eased(second)).Results[0]; rest.Outcome != providertest.Pass {
				t.Errorf("more than that: %v", rest.Err)
			}
		}
	}
	return found
}

// powerless is why the clauses about a power of its own find nothing to examine.
func powerless(store provider.BlobStore, id string) string {
	_, copies := provider.As[provider.Copier](store)
	_, tags := provider.As[provider.Tagger](store)
	switch {
	case !copies && (strings.HasPrefix(id, "blob/copy") || id == "blob/retain-copy"):
		return "the store is no provider.Copier"
	case !tags && (strings.HasPrefix(id, "blob/tags") || id == "blob/copy-tags"):
		return "the store is no provider.Tagger"
	}
	return ""
}

// why looks a clause up in Differs; exact is whether by its own name.
func (s Subject) why(id string) (why string, exact bool) {
	if why, ok := s.Differs[id]; ok {
		return why, true
	}
	for pattern, why := range s.Differs {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(id, prefix) {
			return why, false
		}
	}
	return "", false
}

func (s Subject) file() string { return filepath.Join("testdata", "conformance", s.Name) }

// ReadFindings reads a file that [Conforms] has written, by clause.
func ReadFindings(file string) (map[string]Finding, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	findings := map[string]Finding{}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		if len(f) < 2 {
			return nil, fmt.Errorf("%s: %q is no finding", file, line)
		}
		findings[f[0]] = Finding{f[1], strings.Join(f[2:], "")}
	}
	return findings, nil
}

func (s Subject) write(findings map[string]Finding) error {
	var b strings.Builder
	for _, cl := range Clauses() {
		if f, ok := findings[cl.ID]; ok {
			b.WriteString(strings.TrimSpace(cl.ID+" "+f.Outcome+" "+f.Why) + "\n")
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.file()), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.file(), []byte(b.String()), 0o644)
}

// Clauses are those of the contract of a BlobStore, in its order.
func Clauses() (all []providertest.Clause) {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // all are skipped, and named
	for _, r := range providertest.CheckBlobStore(ended, providertest.NewMemory(), providertest.CheckOptions{}).Results {
		all = append(all, r.Clause)
	}
	return all
}

// heavy are the clauses that move megabytes or a thousand objects.
var heavy = map[string]bool{
	"blob/get-parallel": true, "blob/get-open-reader": true, "blob/list-pages": true, "blob/list-meanwhile": true, "blob/list-break": true, "blob/list-info": true,
	"blob/body-unseen": true, "blob/body-fails": true, "blob/body-short": true, "blob/body-changes": true, "blob/body-cancelled": true, "blob/versions-error": true,
}
