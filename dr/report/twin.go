package report

import (
	"errors"
	"io"
)

// Errors of [Parse] and [Verify].
var (
	// ErrMismatch: page, twin, or data and findings do not belong together.
	ErrMismatch = errors.New("report does not match")

	// ErrRenderer: page and twin belong together by hash, but another
	// version of this package made the page, so its words were not compared.
	ErrRenderer = errors.New("page made by another renderer")
)

// WriteJSON writes the twin: the report, its format number and what
// [Report.Judge] finds. It writes nothing if Validate finds a fault.
func (r *Report) WriteJSON(w io.Writer) error { return errors.ErrUnsupported }

// WriteHTML writes the page. It writes nothing if Validate finds a fault.
func (r *Report) WriteHTML(w io.Writer) error { return errors.ErrUnsupported }

// Write writes report-ID.json and then report-ID.html into dir, which it
// creates if need be, and returns their paths once both are durable.
//
// Each file appears whole or not at all. Neither is ever replaced: if one is
// there with the same bytes that is success (so a Write can be repeated), with
// other bytes it is an error wrapping [fs.ErrExist]. The files are readable by
// their owner alone (0600), because a report tells an attacker what is where.
func (r *Report) Write(dir string) (htmlPath, jsonPath string, err error) {
	return "", "", errors.ErrUnsupported
}

// Parse reads a twin. [ErrMismatch] if the findings in it are not those that
// follow from its data.
func Parse(twin []byte) (*Report, error) { return nil, errors.ErrUnsupported }

// Verify checks that a page and a twin belong together and were not changed
// since: the page names the SHA-256 of the twin, the findings of the twin
// follow from its data, and rendering them gives the page, byte for byte.
// [ErrMismatch] if not; [ErrRenderer], together with the report, if only the
// last could not be checked.
func Verify(page, twin []byte) (*Report, error) { return nil, errors.ErrUnsupported }
