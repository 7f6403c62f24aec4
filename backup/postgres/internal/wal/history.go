package wal

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// A Switch is a line of a .history file: a timeline that was left, where, and
// why.
type Switch struct {
	Timeline uint32
	At       LSN
	Reason   string
}

const maxHistory = 64 << 10

// HistoryName is the name of the file that says where a timeline comes from.
func HistoryName(timeline uint32) string { return fmt.Sprintf("%08X.history", timeline) }

// ParseHistory reads the .history file of a timeline: its ancestors, the oldest
// first. The last one is its parent, left where the timeline begins.
//
// A server that was to follow a timeline, and ended its recovery before that
// began, says nevertheless that it has left it, at a position before the one
// where it left the timeline it was on. Which WAL it has read is what counts,
// as for the server that reads the file: the timeline that it never was on is
// no ancestor.
func ParseHistory(timeline uint32, text []byte) ([]Switch, error) {
	fail := func(line int, format string, args ...any) error {
		return fmt.Errorf("%s, line %d: "+format, append([]any{HistoryName(timeline), line}, args...)...)
	}
	if len(text) > maxHistory {
		return nil, fmt.Errorf("%s: %d bytes, more than %d", HistoryName(timeline), len(text), maxHistory)
	}
	var out []Switch
	var last uint32
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Fields(line)
		n, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil || n == 0 {
			return nil, fail(i+1, "%.40q is no number of a timeline", f[0])
		}
		if len(f) < 2 {
			return nil, fail(i+1, "want a position behind the timeline")
		}
		at, err := ParseLSN(f[1])
		if err != nil {
			return nil, fail(i+1, "%w", err)
		}
		if uint32(n) <= last {
			return nil, fail(i+1, "timeline %d does not follow timeline %d", n, last)
		}
		last = uint32(n)
		// The reason is whatever stands behind the second field.
		_, reason, _ := strings.Cut(line, f[1])
		out = append(out, Switch{last, at, strings.TrimSpace(reason)})
		for k := len(out) - 1; k > 0 && out[k-1].At > at; k-- {
			out[k-1].At, out[k-1].Reason = at, out[k].Reason
			out = out[:k]
		}
	}
	if len(out) > 0 && last >= timeline {
		return nil, fmt.Errorf("%s: timeline %d is no ancestor of it", HistoryName(timeline), last)
	}
	if len(out) == 0 && timeline > 1 {
		return nil, fmt.Errorf("%s: it names no ancestor", HistoryName(timeline))
	}
	return out, nil
}

// FormatHistory writes a .history file as the server does.
func FormatHistory(ancestors []Switch) []byte {
	var b bytes.Buffer
	for i, s := range ancestors {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "%d\t%v\t%s\n", s.Timeline, s.At, s.Reason)
	}
	return b.Bytes()
}
