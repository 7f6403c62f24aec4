package backup_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// A model knows what one store holds: which points, what they need, and which
// packs.
type model struct {
	w      *world
	store  provider.BlobStore
	points map[backup.PointID][][32]byte // those there are, and their chunks
	packs  map[string][][32]byte
	copies map[[32]byte]int // in how many packs a chunk is
	reader *backup.Repository
}

func newModel(w *world, s provider.BlobStore) *model {
	return &model{w: w, store: s, points: map[backup.PointID][][32]byte{}, packs: map[string][][32]byte{}, copies: map[[32]byte]int{}, reader: w.open(nil, s)}
}

// broken tells what is wrong with a point.
func (m *model) broken(id backup.PointID) string {
	chunks, there := m.points[id]
	if !there {
		return "its manifest is gone"
	}
	for _, c := range chunks {
		if m.copies[c] == 0 {
			return "it lacks a chunk"
		}
	}
	return ""
}

// watch follows every change, and looks whether each point that counts is
// whole.
func (w *world) watch(r *request) {
	m, key, counts := w.source, r.key, func(id backup.PointID) bool { return !w.forgotten[id] }
	if rest, ok := strings.CutPrefix(r.key, "replica/"); ok {
		m, key, counts = w.replica, rest, func(id backup.PointID) bool { return w.arrived[id] && !w.dropped[id] }
	}
	if !m.follow(r.op, key, m == w.source) {
		return
	}
	w.mu.Lock()
	ids := slices.Collect(maps.Keys(w.acked))
	if m == w.source {
		for id := range m.points {
			if !w.acked[id] {
				ids = append(ids, id) // the reply may have been lost
			}
		}
	}
	slices.Sort(ids)
	var found string
	for _, id := range ids {
		if counts(id) && found == "" {
			if b := m.broken(id); b != "" {
				found = fmt.Sprintf("after %s %s by client %d: point %s: %s", r.op, r.key, r.by.id, id, b)
			}
		}
	}
	w.mu.Unlock()
	if found != "" {
		w.violate("%s", found)
	}
}

// follow brings the model up to date, and reports whether a point may now lack
// something.
func (m *model) follow(op, key string, source bool) bool {
	ctx := m.w.t.Context()
	kind, rest, _ := strings.Cut(key, "/")
	switch {
	case kind == "points" && op == "delete":
		delete(m.points, backup.PointID(rest))
		return true
	case kind == "points":
		id := backup.PointID(rest)
		chunks, known := m.w.source.points[id]
		if source || !known {
			var err error
			chunks, err = backup.ChunksOf(ctx, m.reader, id)
			if errors.Is(err, provider.ErrNotFound) && !errors.Is(err, backup.ErrDamaged) {
				return false // a tombstone
			}
			if err != nil {
				if source {
					m.w.violate("%s was committed and is not whole: %v", key, err)
				}
				return false
			}
		}
		m.points[id] = chunks
		return true
	case kind == "data" || kind == "meta":
		for _, c := range m.packs[key] {
			m.copies[c]--
		}
		delete(m.packs, key)
		if op == "delete" {
			return true
		}
		info, err := m.store.Stat(ctx, key)
		if err == nil {
			m.packs[key], err = backup.ChunksIn(ctx, m.reader, info)
		}
		if err != nil {
			m.w.violate("pack %s: %v", key, err)
		}
		for _, c := range m.packs[key] {
			m.copies[c]++
		}
	}
	return false
}
