package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"reflect"
)

// renderer grows whenever the same data would give another page: a change of
// template, style, wording or geometry, or of html/template itself. The
// golden page in testdata says when.
const renderer = 1

//go:embed page.html
var pageText string

//go:embed style.css
var styleText string

// WriteHTML writes the page, which names the SHA-256 of the bytes that
// WriteJSON writes. It writes nothing if Validate finds a fault.
func (r *Report) WriteHTML(w io.Writer) error {
	b, err := r.page()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (r *Report) page() ([]byte, error) {
	twin, err := r.twin()
	if err != nil {
		return nil, err
	}
	return render(r, twinHash(twin))
}

// render makes the page of a valid report whose twin has the given hash.
func render(r *Report, sum string) ([]byte, error) {
	r, err := r.clone()
	if err != nil {
		return nil, err
	}
	f := r.Judge()
	tidy(reflect.ValueOf(r), visible)
	tidy(reflect.ValueOf(&f), visible)

	r.Title, r.Summary = clip(r.Title, shortText), clip(r.Summary, longText)

	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("parse page template: %w", err)
	}
	// The id holds nothing that could end a CSS string; see idPattern.
	style := styleText + fmt.Sprintf("@page { @bottom-left { content: %q } }\n", "Report "+r.ID)
	digest := sha256.Sum256([]byte(style))
	v := view{
		Report:    r,
		Findings:  f,
		Sum:       sum,
		HashMeta:  template.HTML(hashMeta(sum)),
		Renderer:  template.HTML(rendererMeta()),
		Style:     template.CSS(style),
		StyleHash: base64.StdEncoding.EncodeToString(digest[:]),
		Head:      headFacts(r),
		Tiles:     tiles(r, f),
		Sections:  sections(r, f, sum),
	}
	var b bytes.Buffer
	if err := t.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	return b.Bytes(), nil
}

// hashMeta and rendererMeta are looked for by Verify.
func hashMeta(sum string) string {
	return fmt.Sprintf(`<meta name="holdfast-twin-sha256" content="%s">`, sum)
}

func rendererMeta() string {
	return fmt.Sprintf(`<meta name="generator" content="holdfast dr/report renderer %d">`, renderer)
}
