package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// timelines are those that a log knows of, and where they come from.
type timelines struct {
	log      *backup.Log
	branches map[uint32]backup.Branch
	numbers  []uint32 // ascending
}

func readTimelines(ctx context.Context, log *backup.Log) (*timelines, error) {
	t := &timelines{log: log, branches: map[uint32]backup.Branch{}}
	for b, err := range log.Branches(ctx) {
		if err != nil {
			return nil, err
		}
		t.branches[b.Branch] = b
		t.numbers = append(t.numbers, b.Branch)
	}
	return t, nil
}

// A refusal is why a target cannot be reached; no other attempt would change it.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func refuse(format string, args ...any) error { return &refusal{fmt.Errorf(format, args...)} }

// errNoHistory says that the log has WAL of a timeline, and not where that
// comes from.
var errNoHistory = errors.New("its history is missing")

// historyOf is the branch of a timeline that comes of another.
func (t *timelines) historyOf(n uint32) (backup.Branch, error) {
	b, ok := t.branches[n]
	switch {
	case !ok:
		return b, refuse("log %q has nothing of timeline %d", t.log.Name(), n)
	case b.Parent == 0 || b.Parent >= n || len(b.History) == 0:
		return b, refuse("%w: log %q has timeline %d, and not %s, which says where that comes from", errNoHistory, t.log.Name(), n, wal.HistoryName(n))
	}
	return b, nil
}

// path is the way to a timeline from the oldest known that it comes of, which
// is none of the branches.
func (t *timelines) path(n uint32) (root uint32, way []backup.Branch) {
	for {
		b, err := t.historyOf(n)
		if err != nil {
			slices.Reverse(way)
			return n, way
		}
		way = append(way, b)
		n = b.Parent
	}
}

// way leads from the timeline of a backup to another: those behind its own,
// the oldest first.
func (t *timelines) way(from base, to uint32) (way []backup.Branch, err error) {
	for at := to; at != from.Timeline; {
		b, err := t.historyOf(at)
		if err != nil {
			return nil, err
		}
		if b.Parent < from.Timeline {
			return nil, refuse("timeline %d does not come of timeline %d, which the backup is on", to, from.Timeline)
		}
		way = append(way, b)
		at = b.Parent
	}
	slices.Reverse(way)
	if len(way) > 0 && wal.LSN(way[0].At) < from.Stop {
		return nil, refuse("timeline %d leaves timeline %d at %v, before the backup is consistent, at %v; take an older one",
			way[0].Branch, from.Timeline, wal.LSN(way[0].At), from.Stop)
	}
	return way, nil
}

// latest is the way to the latest timeline that comes of a backup's. One of
// which it is not known where it comes from could be that.
func (t *timelines) latest(from base) (way []backup.Branch, err error) {
	for _, n := range t.numbers {
		if n <= from.Timeline {
			continue
		}
		next, err := t.way(from, n)
		if errors.Is(err, errNoHistory) {
			return nil, refuse("%w; what comes before that is reached with target-timeline=%d", err, max(from.Timeline, lastOf(way)))
		}
		if err == nil {
			way = next
		}
	}
	return way, nil
}

// lastOf is the timeline that a way leads to; 0 if it is empty.
func lastOf(way []backup.Branch) uint32 {
	if len(way) == 0 {
		return 0
	}
	return way[len(way)-1].Branch
}
