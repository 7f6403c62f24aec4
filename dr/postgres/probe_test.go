package postgres

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	physical "github.com/holdfast-go/holdfast/backup/postgres"
)

// Who is not connected, or too far behind, fails; what else is wrong is said.
func TestArchived(t *testing.T) {
	good := physical.Status{Connected: true, Timeline: 2, Acknowledged: 0x1000, LagBytes: 100, Lag: time.Second, Slot: "reserved", Logs: make([]physical.LogStatus, 2)}
	with := func(change func(*physical.Status)) physical.Status {
		s := good
		change(&s)
		return s
	}
	why := errors.New("refused")
	for name, test := range map[string]struct {
		s    physical.Status
		text string
		err  string // "" for none
	}{
		"good":        {good, "archived to 0/1000 on timeline 2, 100 bytes, 1s behind", ""},
		"no receiver": {physical.Status{}, "archived to 0/0", "not connected"},
		"away":        {with(func(s *physical.Status) { s.Connected, s.Err = false, why }), "0/1000", "not connected: refused"},
		"back":        {with(func(s *physical.Status) { s.Err = why }), "0/1000", ""}, // of the connection before
		"bytes":       {with(func(s *physical.Status) { s.LagBytes++ }), "101 bytes", "101 bytes behind, more than 100"},
		"seconds":     {with(func(s *physical.Status) { s.Lag += time.Millisecond }), "1.001s", "1.001s behind, more than 1s"},
		"one log":     {with(func(s *physical.Status) { s.Logs = []physical.LogStatus{{}, {Durable: 0x500, Err: why}} }), "log 2 is at 0/500: refused", ""},
		"slot":        {with(func(s *physical.Status) { s.Slot = "unreserved" }), "the slot is unreserved", ""},
	} {
		p := Archived(func() physical.Status { return test.s }, 100, time.Second)
		text, err := p.Probe(t.Context())
		if !strings.Contains(text, test.text) || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	far := with(func(s *physical.Status) { s.LagBytes, s.Lag = 1<<40, time.Hour })
	p := Archived(func() physical.Status { return far }, 0, 0)
	if _, err := p.Probe(t.Context()); err != nil || p.String() != "WAL is received" {
		t.Errorf("without limits: %v, %v", p, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Probe(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
