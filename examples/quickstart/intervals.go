package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// A window is one line of a service's intervals.jsonl: the service allowed
// itself to accept writes from From, and will stop by itself at Until unless a
// further line extends that. Instants are of the machine's clock.
//
// A line with End instead says that it stopped before its time.
type window struct {
	PID   int    `json:"pid"`
	Began string `json:"began"`
	Site  string `json:"site"`
	Epoch uint64 `json:"epoch"`
	From  int64  `json:"from,omitempty"`
	Until int64  `json:"until,omitempty"`
	End   int64  `json:"end,omitempty"`
}

// writableIntervals returns, in order of time, the longest intervals in which
// the services of the given sites can have been writable: up to the end they
// promised, unless they stopped earlier or were seen to be dead.
func writableIntervals(dir string, sites ...string) ([]window, error) {
	var deaths []death
	if err := readLines(filepath.Join(dir, "run", "deaths.jsonl"), &deaths); err != nil {
		return nil, err
	}
	var all []window
	for _, site := range sites {
		var lines []window
		if err := readLines(filepath.Join(dir, site, "intervals.jsonl"), &lines); err != nil {
			return nil, err
		}
		all = append(all, merge(lines, deaths)...)
	}
	slices.SortFunc(all, func(a, b window) int { return int(a.From - b.From) })
	return all, nil
}

// merge joins the lines of one service, which are in order of time.
func merge(lines []window, deaths []death) []window {
	var out []window
	for _, w := range lines {
		last := len(out) - 1
		same := last >= 0 && out[last].PID == w.PID && out[last].Began == w.Began && out[last].Epoch == w.Epoch
		switch {
		case w.End != 0 && same:
			out[last].Until = min(out[last].Until, w.End)
		case w.End != 0: // it had not been writable
		case same && w.From <= out[last].Until:
			out[last].Until = max(out[last].Until, w.Until)
		default:
			out = append(out, w)
		}
	}
	for i := range out {
		for _, d := range deaths {
			if d.PID == out[i].PID && d.Began == out[i].Began {
				out[i].Until = min(out[i].Until, d.GoneBy)
			}
		}
	}
	return out
}

// checkIntervals fails if at any instant two sites were writable, or if an
// epoch was used by two sites, or if epochs went back.
func checkIntervals(all []window) error {
	var errs []error
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.Site != b.Site && a.Epoch == b.Epoch {
				errs = append(errs, fmt.Errorf("epoch %d was used by %s and %s", a.Epoch, a.Site, b.Site))
			}
			if b.Epoch < a.Epoch {
				errs = append(errs, fmt.Errorf("%s was writable in epoch %d after epoch %d", b.Site, b.Epoch, a.Epoch))
			}
			if (a.Site != b.Site || a.PID != b.PID) && b.From < a.Until {
				errs = append(errs, fmt.Errorf("%s (epoch %d) and %s (epoch %d) were writable at once for %d ns",
					a.Site, a.Epoch, b.Site, b.Epoch, a.Until-b.From))
			}
		}
	}
	return errors.Join(errs...)
}

// checkAccepted fails if a record was accepted outside of every interval of
// its site and epoch.
func checkAccepted(all []window, records []record) error {
	for _, r := range records {
		ok := slices.ContainsFunc(all, func(w window) bool {
			return w.Site == r.Site && w.Epoch == r.Epoch && w.From <= r.At && r.At < w.Until
		})
		if !ok {
			return fmt.Errorf("record %d was accepted by %s in epoch %d while it was not writable", r.N, r.Site, r.Epoch)
		}
	}
	return nil
}

// readLines reads a file of one JSON value per line. No file is no lines; a
// last line without its end is not counted.
func readLines[T any](path string, into *[]T) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	in := bufio.NewReader(f)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		*into = append(*into, v)
	}
}
