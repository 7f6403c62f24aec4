package backuptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// note is a target of one text, right unless told to be wrong.
type note struct {
	mu       sync.Mutex
	text     string
	version  int
	restored map[string]string
	n        int

	wrong string // which mistake it makes
}

func (n *note) Kind() string { return "note" }

func (n *note) Backup(ctx context.Context, s *backup.Session) error {
	n.mu.Lock()
	text, meta := n.text, fmt.Append(nil, n.version)
	n.mu.Unlock()
	if n.wrong == "ignores cancelling" {
		ctx = context.WithoutCancel(ctx)
	}
	if n.wrong == "not for concurrent use" && n.busy() {
		return errors.New("busy")
	}
	if parent := s.Parent(); parent != nil {
		prev, err := parent.Lookup(ctx, "note")
		if err != nil {
			return err
		}
		if bytes.Equal(prev.Meta, meta) || n.wrong == "misses changes" {
			return s.Reuse(ctx, prev, backup.Item{Path: "note", Meta: meta})
		}
	}
	return s.Add(ctx, backup.Item{Path: "note", Meta: meta}, strings.NewReader(text))
}

func (n *note) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.n++
	return n.n > 1
}

func (n *note) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	if n.wrong == "ignores cancelling" {
		ctx = context.WithoutCancel(ctx)
	}
	for k := range d.Options {
		if n.wrong != "takes any option" {
			return fmt.Errorf("unknown option %s", k)
		}
	}
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		if _, err := fmt.Sscan(string(it.Meta), new(int)); (it.Path != "note" || err != nil) && n.wrong != "believes everything" {
			return fmt.Errorf("not a note: %q", it.Path)
		}
		r, err := v.Open(ctx, it)
		if err != nil && n.wrong == "swallows errors" {
			return nil
		}
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if n.wrong == "loses a byte" {
			b = b[1:]
		}
		n.mu.Lock()
		n.restored[d.Location] = string(b)
		n.mu.Unlock()
	}
	return nil
}

func subject(wrong string) Subject {
	n := &note{text: "dear diary", restored: map[string]string{}, wrong: wrong}
	count := 0
	var mu sync.Mutex
	return Subject{
		Target: n,
		State:  func() (string, error) { return n.text, nil },
		Change: func() error { n.text += "!"; n.version++; return nil },
		Destination: func() (backup.Destination, error) {
			mu.Lock()
			defer mu.Unlock()
			count++
			return backup.Destination{Location: fmt.Sprint("place ", count)}, nil
		},
		Restored: func(d backup.Destination) (string, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			text, ok := n.restored[d.Location]
			if !ok {
				return "", provider.ErrNotFound
			}
			return text, nil
		},
	}
}

func TestRightTarget(t *testing.T) {
	TestTarget(t, func(t *testing.T) Subject { return subject("") })
}

// The suite sees each mistake, in the clause that is about it.
func TestWrongTargets(t *testing.T) {
	for wrong, clauseName := range map[string]string{
		"loses a byte":           "what is restored is what was backed up",
		"misses changes":         "incremental points are complete and read less",
		"not for concurrent use": "one value serves many backups at once",
		"ignores cancelling":     "a cancelled restore reports it",
		"takes any option":       "unknown options are refused",
		"swallows errors":        "lost content is reported",
		"believes everything":    "a hostile point is refused",
	} {
		found := false
		for _, c := range clauses {
			if c.name != clauseName {
				continue
			}
			found = true
			if err := run(t.Context(), c, subject(wrong)); err == nil {
				t.Errorf("a target that %s passes %q", wrong, c.name)
			}
		}
		if !found {
			t.Errorf("no clause %q", clauseName)
		}
	}
}
