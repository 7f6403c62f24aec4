package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

func mustTwin(t testing.TB, r *Report) []byte {
	t.Helper()
	b, err := r.twin()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPage(t testing.TB, r *Report) []byte {
	t.Helper()
	b, err := r.page()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds the format of the twin and the words of the page. If the
// page changes, renderer must grow; if the twin does, Format.
func TestGolden(t *testing.T) {
	for name, got := range map[string][]byte{"sample.json": mustTwin(t, sample()), "sample.html": mustPage(t, sample())} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if i := firstDifference(got, want); i >= 0 {
			from := max(0, i-80)
			t.Errorf("%s differs at byte %d:\n got ...%s\nwant ...%s", name, i, got[from:min(len(got), i+80)], want[from:min(len(want), i+80)])
		}
	}
}

func TestTwinRoundTrip(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile(), "bare": bare()} {
		t.Run(name, func(t *testing.T) {
			b := mustTwin(t, r)
			got, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			want, err := r.clone()
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("read back (-want +got):\n%s", d)
			}
			if !bytes.Equal(b, mustTwin(t, got)) {
				t.Error("the twin of what was read back has other bytes")
			}
		})
	}
}

func TestTwinIsForOtherProgramsToo(t *testing.T) {
	b := mustTwin(t, sample())
	var doc struct {
		Format int
		Report struct {
			Workloads []struct {
				RTO map[string]any `json:"rto"`
			}
			Faults     []string
			NotTested  []any  `json:"not_tested"`
			SignOff    []any  `json:"sign_off"`
			PointsAsOf string `json:"points_as_of"`
		}
		Findings struct{ Objectives []map[string]any }
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if got := doc.Report.Workloads[0].RTO["measured_seconds"]; got != 281.25 {
		t.Errorf("measured_seconds is %v, want 281.25", got)
	}
	if got := doc.Findings.Objectives[1]["outcome"]; got != "missed" {
		t.Errorf("outcome is %v, want missed", got)
	}
	if got := doc.Report.PointsAsOf; got != "2026-11-21T02:15:00Z" {
		t.Errorf("points_as_of is %q", got)
	}
	if doc.Report.SignOff == nil {
		t.Error("an empty list is null in the twin")
	}
}

// relocate sets every time to another zone, which is the same instant.
func relocate(v reflect.Value, zone *time.Location) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			relocate(v.Elem(), zone)
		}
	case reflect.Slice:
		for i := range v.Len() {
			relocate(v.Index(i), zone)
		}
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(at.In(zone)))
			return
		}
		for i := range v.NumField() {
			relocate(v.Field(i), zone)
		}
	}
}

func TestSameDataSameBytes(t *testing.T) {
	elsewhere := sample()
	relocate(reflect.ValueOf(elsewhere), time.FixedZone("", 5*3600+1800))
	elsewhere.SignOff = []SignOff{} // instead of nil
	began := elsewhere.Started
	if !bytes.Equal(mustTwin(t, sample()), mustTwin(t, elsewhere)) {
		t.Error("the twin depends on the time zone or on nil")
	}
	if !bytes.Equal(mustPage(t, sample()), mustPage(t, elsewhere)) {
		t.Error("the page depends on the time zone or on nil")
	}
	if elsewhere.Started != began {
		t.Error("writing changed the report")
	}
}

func TestWriteJSONAndHTML(t *testing.T) {
	var twin, page bytes.Buffer
	if err := errors.Join(sample().WriteJSON(&twin), sample().WriteHTML(&page)); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(twin.Bytes())
	if n := strings.Count(page.String(), hex.EncodeToString(sum[:])); n != 2 {
		t.Errorf("the page names the hash of its twin %d times, want 2: for machines and for people", n)
	}
	var none bytes.Buffer
	if err := new(Report).WriteJSON(&none); err == nil || none.Len() > 0 {
		t.Errorf("WriteJSON of an invalid report: %v, %d bytes", err, none.Len())
	}
	if err := new(Report).WriteHTML(&none); err == nil || none.Len() > 0 {
		t.Errorf("WriteHTML of an invalid report: %v, %d bytes", err, none.Len())
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(mustTwin(t, sample()))
	change := func(from, to string) string {
		if strings.Count(good, from) == 0 {
			t.Fatalf("the twin does not have %s", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	for _, c := range []struct {
		name, twin string
		mismatch   bool
	}{
		{"an outcome set by hand", change(`"outcome": "missed"`, `"outcome": "met"`), true},
		{"a result set by hand", change(`"result": "failed"`, `"result": "passed"`), true},
		{"a measurement changed", change(`"measured_seconds": 281.25`, `"measured_seconds": 281.5`), true},
		{"findings left out", good[:strings.Index(good, `,
  "findings"`)] + "}", true},
		{"an unknown field", change(`"title":`, `"titel": "x", "title":`), false},
		{"a newer format", change(`"format": 1`, `"format": 2`), false},
		{"no report", `{"format":1,"findings":{}}`, false},
		{"a report with a fault", change(`"operator": "M. Okafor (on call)"`, `"operator": ""`), false},
		{"something after the end", good + "{}", false},
		{"half of it", good[:len(good)/2], false},
		{"nothing", "", false},
	} {
		r, err := Parse([]byte(c.twin))
		if err == nil || r != nil || errors.Is(err, ErrMismatch) != c.mismatch {
			t.Errorf("%s: report %v, error %v", c.name, r != nil, err)
		}
	}
}

func TestVerify(t *testing.T) {
	for name, r := range map[string]*Report{"sample": sample(), "hostile": hostile(), "bare": bare()} {
		if _, err := Verify(mustPage(t, r), mustTwin(t, r)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	page, twin := mustPage(t, sample()), mustTwin(t, sample())
	if _, err := Verify(page, mustTwin(t, good())); !errors.Is(err, ErrMismatch) {
		t.Errorf("page with the twin of another report: %v, want ErrMismatch", err)
	}
	if _, err := Verify(append(slices.Clone(page), ' '), twin); !errors.Is(err, ErrMismatch) {
		t.Errorf("page with a byte more: %v, want ErrMismatch", err)
	}
	if _, err := Verify(page[:len(page)-1], twin); !errors.Is(err, ErrMismatch) {
		t.Errorf("page with a byte less: %v, want ErrMismatch", err)
	}
	older := bytes.Replace(page, []byte("renderer 1\""), []byte("renderer 0\""), 1)
	if r, err := Verify(older, twin); !errors.Is(err, ErrRenderer) || r == nil {
		t.Errorf("page of another renderer: %v, want ErrRenderer and the report", err)
	}
	if r, err := Verify(older, mustTwin(t, good())); !errors.Is(err, ErrMismatch) || r != nil {
		t.Errorf("page of another renderer with the twin of another report: %v, want ErrMismatch", err)
	}
}

// TestVerifyFindsEveryChange changes one byte at a time, all over both files.
func TestVerifyFindsEveryChange(t *testing.T) {
	page, twin := mustPage(t, good()), mustTwin(t, good())
	check := func(what string, b []byte, i int, verify func() error) {
		b[i] ^= 1
		if verify() == nil {
			t.Errorf("%s: byte %d may be %q", what, i, b[i])
		}
		b[i] ^= 1
	}
	for i := 0; i < len(twin); i += 211 {
		check("twin", twin, i, func() error { _, err := Verify(page, twin); return err })
	}
	for i := 0; i < len(page); i += 2503 {
		check("page", page, i, func() error { _, err := Verify(page, twin); return err })
	}
	if _, err := Verify(page, twin); err != nil {
		t.Error(err)
	}
}

// FuzzParse has large seeds: run it with -fuzzminimizetime 5x, or it spends its
// time making them small.
func FuzzParse(f *testing.F) {
	f.Add(mustTwin(f, sample()))
	f.Add(mustTwin(f, bare()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err != nil {
			return
		}
		// What can be read can be written, and shown.
		page, twin := mustPage(t, r), mustTwin(t, r)
		if _, err := Verify(page, twin); err != nil {
			t.Error(err)
		}
	})
}
