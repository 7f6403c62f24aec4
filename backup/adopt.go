package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast-go/holdfast/provider"
)

// A backup that was killed leaves packs that no index names yet: up to
// packsPerIndex, and those that were on their way. The next one adopts them:
// it names them in an index of its own before it looks for what it need not
// store. It takes the word of nobody for what is in them:
//
//   - Whoever has a cache notes there what a pack will be, signed, before the
//     pack is stored. That is enough, even for who cannot read.
//   - Else a holder reads packs of sessions of the same workload that have
//     not ended, and opens every chunk, as Attest does.
//
// Whether such a session is dead or only slow nobody can know, and need not:
// to rely on its packs is as safe as to rely on any that was listed after
// one's own session was recorded, and a pack may be in two indexes.

// adopt names packs that no index lists, as far as they are what they should
// be, and returns them.
func (r *Repository) adopt(ctx context.Context, session PointID, name string, unlisted []provider.Info) ([]packRecord, error) {
	var found []packRecord
	var rest []provider.Info
	for _, info := range unlisted {
		if rec, ok := r.noted(info); ok {
			found = append(found, rec)
		} else {
			rest = append(rest, info)
		}
	}
	if r.readable() == nil && len(rest) > 0 {
		orphans, err := r.orphans(ctx, session, name, rest)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil { // they are stored again
			r.c.Logger.Warn("what a backup that did not end has stored cannot be looked at", "error", err)
		}
		found = append(found, orphans...)
	}
	var size int64
	for batch := range slices.Chunk(found, packsPerIndex) {
		if _, err := r.writeIndex(ctx, session, batch); err != nil {
			return nil, err
		}
		for _, rec := range batch {
			size += rec.size
			r.forgetNote(rec.sum)
		}
	}
	if len(found) > 0 {
		r.c.Logger.Info("going on from what a backup has stored that did not end", "target", name, "packs", len(found), "bytes", size)
	}
	return found, nil
}

// orphans returns what is in those of the packs that other sessions of the
// workload have written, and in which every chunk is right.
func (r *Repository) orphans(ctx context.Context, session PointID, name string, packs []provider.Info) ([]packRecord, error) {
	from, err := r.unended(ctx, session, name)
	if err != nil || len(from) == 0 {
		return nil, err
	}
	type result struct {
		pack packSum
		h    objectHeader
		err  error
	}
	var theirs []packSum
	for res := range inOrder(ctx, slices.Values(packs), func(info provider.Info) result {
		kind, sum, _ := parsePackKey(info.Key)
		h, _, err := readHeader(ctx, r.c.Store, info)
		return result{packSum{sum, kind, info.Size}, h, err}
	}) {
		switch {
		case res.err == nil && from[PointID(res.h.Session)]:
			theirs = append(theirs, res.pack)
		case res.err != nil && !isDamage(res.err): // of one that is damaged a check tells
			return nil, res.err
		}
	}
	var (
		workers sync.WaitGroup
		mu      sync.Mutex
		out     []packRecord
		failed  error
	)
	next := make(chan packSum)
	for range min(r.c.Uploads, len(theirs)) { // in no more memory than they were made in
		workers.Go(func() {
			a := &attester{r: r, ids: r.keys.newIdentifier()}
			for p := range next {
				if err := a.pack(ctx, p); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out = append(out, a.good...)
		})
	}
	for _, p := range theirs {
		next <- p
	}
	close(next)
	workers.Wait()
	slices.SortFunc(out, func(a, b packRecord) int { return bytes.Compare(a.sum[:], b.sum[:]) })
	return out, failed
}

// unended returns the sessions of a workload, other than one's own, that have
// neither a manifest nor a tombstone.
func (r *Repository) unended(ctx context.Context, own PointID, name string) (map[PointID]bool, error) {
	open := map[PointID]bool{}
	first := ""
	for info, err := range r.c.Store.List(ctx, sessionPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		id := PointID(strings.TrimPrefix(info.Key, sessionPrefix))
		if _, err := id.Time(); err == nil && id != own { // and no copy
			open[id] = true
			if first == "" {
				first = pointPrefix + string(id[:len(id)-1]) // before it in every order
			}
		}
	}
	for info, err := range r.c.Store.List(ctx, pointPrefix, provider.ListOptions{StartAfter: first}) {
		if err != nil {
			return nil, fmt.Errorf("list points: %w", err)
		}
		delete(open, PointID(strings.TrimPrefix(info.Key, pointPrefix)))
	}
	out, want := map[PointID]bool{}, r.keys.workload(name)
	type result struct {
		id  PointID
		b   []byte
		err error
	}
	for res := range inOrder(ctx, slices.Values(slices.Sorted(maps.Keys(open))), func(id PointID) result {
		b, err := r.readSealed(ctx, kindSession, sessionKey(id))
		return result{id, b, err}
	}) {
		var s sessionContent
		switch {
		case res.err == nil:
			if !tooManyValues(res.b) && json.Unmarshal(res.b, &s) == nil && bytes.Equal(s.For, want) {
				out[res.id] = true
			}
		case !isDamage(res.err):
			return nil, fmt.Errorf("get session: %w", res.err)
		}
	}
	return out, nil
}

// A sessionContent is what a backup says in its session.
type sessionContent struct {
	For []byte `json:"for,omitempty"` // keys.workload of its name
}

// workload stands for the name of a workload where those can read it who may
// not know the names of others. No log has a name with a zero byte.
func (k *keys) workload(name string) []byte {
	id := k.logID("session\x00" + name)
	return id[:]
}

func cachedNote(sum [32]byte) string { return ownPrefix + fmt.Sprintf("%x", sum) }

// note keeps what is in a pack that is about to be stored. It is the index
// that would name this pack alone.
func (r *Repository) note(session PointID, rec packRecord) {
	if r.cache == nil {
		return
	}
	b, err := r.keys.encodeIndex(string(session), []packRecord{rec})
	if err != nil {
		r.c.Logger.Warn("cache: not kept", "error", err)
		return
	}
	r.cache.put(cachedNote(rec.sum), b)
}

func (r *Repository) forgetNote(sum [32]byte) { r.cache.remove(cachedNote(sum)) }

// noted returns what a process with this cache has noted of a pack.
func (r *Repository) noted(info provider.Info) (packRecord, bool) {
	kind, sum, ok := parsePackKey(info.Key)
	b := r.cache.get(cachedNote(sum))
	if !ok || b == nil {
		return packRecord{}, false
	}
	packs, err := r.keys.decodeIndex(b)
	if err != nil || len(packs) != 1 {
		return packRecord{}, false
	}
	rec := packs[0]
	return rec, rec.sum == sum && rec.kind == kind && rec.size == info.Size && r.keys.trusts(rec.by)
}

// errUnsettled: an object was stored or not.
var errUnsettled = errors.New("whether it is there could not be found out")

// stored finds out whether an object is there whose reply was lost, also when
// ctx has ended: what is there and not known to be is stored again by the
// next backup.
func (r *Repository) stored(ctx context.Context, key string, size int) (bool, error) {
	ctx, cancel := moment(ctx)
	defer cancel()
	info, err := r.c.Store.Stat(ctx, key)
	switch {
	case err == nil:
		return info.Size == int64(size), nil
	case errors.Is(err, provider.ErrNotFound):
		return false, nil
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrCorrupt):
		return false, nil
	}
	return false, fmt.Errorf("%w: %w", errUnsettled, err)
}
