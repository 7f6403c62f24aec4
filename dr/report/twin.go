package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
)

// Errors of [Parse] and [Verify].
var (
	// ErrMismatch: page, twin, or data and findings do not belong together.
	ErrMismatch = errors.New("report does not match")

	// ErrRenderer: page and twin belong together by hash, but another
	// version of this package made the page, so its words were not compared.
	ErrRenderer = errors.New("page made by another renderer")
)

// A twin is the document that WriteJSON writes.
type twin struct {
	Format   int      `json:"format"`
	Report   *Report  `json:"report"`
	Findings Findings `json:"findings"`
}

// WriteJSON writes the twin: the report, its format number and what
// [Report.Judge] finds. It writes nothing if Validate finds a fault.
func (r *Report) WriteJSON(w io.Writer) error {
	b, err := r.twin()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (r *Report) twin() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	r, err := r.clone()
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(twin{Format, r, r.Judge()}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write twin: %w", err)
	}
	return append(b, '\n'), nil
}

// clone is a deep copy with every time in UTC, every list not nil and every
// string valid UTF-8, as it would come back from the twin.
func (r *Report) clone() (*Report, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("copy report: %w", err)
	}
	c := new(Report)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("copy report: %w", err)
	}
	tidy(reflect.ValueOf(c), func(s string) string { return s })
	return c, nil
}

// Parse reads a twin. It takes no field it does not know, no report that
// Validate refuses, and no format but those it was written for.
// [ErrMismatch] if the findings in it are not those that follow from its
// data.
func Parse(b []byte) (*Report, error) {
	var t struct {
		Format   int             `json:"format"`
		Report   *Report         `json:"report"`
		Findings json.RawMessage `json:"findings"`
	}
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return nil, fmt.Errorf("parse twin: %w", err)
	}
	if head.Format != Format {
		return nil, fmt.Errorf("parse twin: format is %d; this version reads %d", head.Format, Format)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("parse twin: %w", err)
	}
	if t.Report == nil {
		return nil, errors.New("parse twin: report: must be set")
	}
	if t.Report.Windows == nil { // no list of what is read is nil
		t.Report.Windows = []Window{}
	}
	if err := t.Report.Validate(); err != nil {
		return nil, fmt.Errorf("parse twin: %w", err)
	}
	if err := sameFindings(t.Findings, t.Report.Judge()); err != nil {
		return nil, fmt.Errorf("parse twin: %w", err)
	}
	return t.Report, nil
}

func sameFindings(got json.RawMessage, computed Findings) error {
	want, err := json.Marshal(computed)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	if err := json.Compact(&packed, got); err != nil || !bytes.Equal(packed.Bytes(), want) {
		return fmt.Errorf("findings are not those that follow from the data: %w", ErrMismatch)
	}
	return nil
}

// Verify checks that a page and a twin belong together and were not changed
// since: the page names the SHA-256 of the twin, the findings of the twin
// follow from its data, and rendering them gives the page, byte for byte.
// [ErrMismatch] if not; [ErrRenderer], together with the report, if only the
// last could not be checked.
func Verify(page, twin []byte) (*Report, error) {
	sum := twinHash(twin)
	if !bytes.Contains(page, []byte(hashMeta(sum))) {
		return nil, fmt.Errorf("the page does not name the twin's SHA-256 %s: %w", sum, ErrMismatch)
	}
	r, err := Parse(twin)
	if err != nil {
		return nil, err
	}
	if !bytes.Contains(page, []byte(rendererMeta())) {
		return r, ErrRenderer
	}
	again, err := render(r, sum)
	if err != nil {
		return nil, err
	}
	if i := firstDifference(page, again); i >= 0 {
		return nil, fmt.Errorf("the page differs at byte %d from what the twin says: %w", i, ErrMismatch)
	}
	return r, nil
}

func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

func twinHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
