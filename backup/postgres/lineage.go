package postgres

import (
	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A lineage is a timeline and those it comes from.
type lineage struct {
	timeline  uint32
	ancestors []wal.Switch // the oldest first
}

// parseLineage reads the .history file of a timeline, which the first one has
// not.
func parseLineage(timeline uint32, history []byte) (lineage, error) {
	if timeline == 1 {
		return lineage{timeline: 1}, nil
	}
	a, err := wal.ParseHistory(timeline, history)
	return lineage{timeline, a}, err
}

// end is where a timeline was left; has is false if it is none of these.
func (l lineage) end(timeline uint32) (at LSN, has bool) {
	for _, s := range l.ancestors {
		if s.Timeline == timeline {
			return s.At, true
		}
	}
	return ^LSN(0), timeline == l.timeline
}

// at is the place of a position: on the timeline where it is read.
func (l lineage) at(p LSN) place {
	for _, s := range l.ancestors {
		if p < s.At {
			return place{s.Timeline, p}
		}
	}
	return place{l.timeline, p}
}

// follow says where whoever is at a place of ours goes on in l: at once if
// it is in l, too, else where the two parted.
func (l lineage) follow(p place, ours lineage) place {
	for {
		if end, has := l.end(p.timeline); has {
			return l.at(min(p.at, end))
		}
		parent := place{}
		for _, s := range ours.ancestors {
			if s.Timeline < p.timeline {
				parent = place{s.Timeline, s.At}
			}
		}
		if parent.timeline == 0 {
			return l.at(0)
		}
		p = place{parent.timeline, min(p.at, parent.at)}
	}
}

// branches says where a timeline and its ancestors come from, the oldest
// first. history returns their .history files, as far as they are known: of an
// ancestor it is what the file of its descendant begins with.
func (l lineage) branches(history func(uint32) []byte) (out []backup.Branch) {
	for i, s := range l.ancestors {
		child := l.timeline
		if i+1 < len(l.ancestors) {
			child = l.ancestors[i+1].Timeline
		}
		text := history(child)
		if text == nil {
			text = wal.FormatHistory(l.ancestors[:i+1])
		}
		out = append(out, backup.Branch{Branch: child, Parent: s.Timeline, At: uint64(s.At), History: text})
	}
	return out
}
