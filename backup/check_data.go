package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// due returns the packs and segments to read, in the order of reading, and how
// many of them to read whatever the budget.
func (c *checker) due() (packs []provider.Info, always int) {
	all := c.o.ReadData || c.o.Budget != (CheckBudget{})
	for _, info := range slices.Concat(c.infos, c.segments) {
		if all || c.last[contentID(info.Key)].damaged {
			packs = append(packs, info)
		}
	}
	slices.SortStableFunc(packs, func(a, b provider.Info) int {
		x, y := c.last[contentID(a.Key)], c.last[contentID(b.Key)]
		switch {
		case x.damaged && !y.damaged:
			return -1
		case y.damaged && !x.damaged:
			return 1
		}
		return cmp.Or(c.since(a).Compare(c.since(b)), strings.Compare(a.Key, b.Key))
	})
	always = slices.IndexFunc(packs, func(info provider.Info) bool { return !c.last[contentID(info.Key)].damaged })
	if always < 0 || c.o.ReadData {
		always = len(packs)
	}
	return packs, always
}

// since is when a pack or segment was last known to be right: verified, or stored. If a
// new pack came before all others, a busy repository would never get round
// to its old ones.
func (c *checker) since(info provider.Info) time.Time {
	at := info.Modified
	if at.After(c.report.At) {
		at = c.report.At // clocks differ
	}
	if v := c.last[contentID(info.Key)]; !v.damaged && v.at.After(at) {
		at = v.at
	}
	return at
}

// content reads packs, as many as there is budget for.
func (c *checker) content(ctx context.Context) error {
	packs, always := c.due()
	if len(packs) > 0 {
		r := &packReader{c: c, began: time.Now()}
		err := r.run(ctx, packs, always)
		r.record(ctx)
		if err != nil {
			return err
		}
	}
	c.coverage()
	return nil
}

// coverage tells how much was verified within the period.
func (c *checker) coverage() {
	var fresh int64
	for _, info := range slices.Concat(c.infos, c.segments) {
		if v := c.last[contentID(info.Key)]; !v.damaged && !v.at.IsZero() && c.report.At.Sub(v.at) <= c.o.Period {
			fresh += info.Size
		}
		if at := c.since(info); c.report.Oldest.IsZero() || at.Before(c.report.Oldest) {
			c.report.Oldest = at
		}
	}
	c.report.Verified = 1
	if all := c.report.Bytes + c.report.Segments.Bytes; all > 0 {
		c.report.Verified = float64(fresh) / float64(all)
	}
}

// A packReader is the reading of packs and segments of one check. The checker's lock guards it.
type packReader struct {
	c     *checker
	began time.Time
	todo  int64 // bytes, for progress

	largest int64 // size of a pack to read, so that buffers can be used again

	since time.Time // the oldest of found was begun not before
	found []verdictOnPack
}

// run hands them to workers until the budget is used up.
func (r *packReader) run(ctx context.Context, packs []provider.Info, always int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	budget := r.c.o.Budget
	limit := int64(1) << 62
	if budget.Share > 0 {
		limit = int64(budget.Share * float64(r.c.report.Bytes+r.c.report.Segments.Bytes))
	}
	if budget.Bytes > 0 {
		limit = min(limit, budget.Bytes)
	}
	for n, sum := 0, int64(0); n < len(packs) && (n <= always || sum < limit); n++ {
		r.todo += packs[n].Size
		if !isLogKey(packs[n].Key) {
			r.largest = min(max(r.largest, packs[n].Size), maxPack)
		}
		if n >= always {
			sum += packs[n].Size
		}
	}
	next := make(chan provider.Info)
	var wg sync.WaitGroup
	for range r.c.r.c.Workers {
		wg.Go(func() {
			var buf []byte
			ids := r.c.r.keys.newIdentifier()
			for info := range next {
				var err error
				if buf, err = r.one(ctx, info, buf, ids); err != nil {
					cancel(err)
				}
			}
		})
	}
	var begun int64 // bytes of the budget
	for n, info := range packs {
		if n > always && (begun >= limit || budget.Time > 0 && time.Since(r.began) >= budget.Time) {
			break
		}
		if n >= always {
			begun += info.Size
		}
		select {
		case next <- info:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// one reads one pack, into buf if that is large enough, or one segment.
func (r *packReader) one(ctx context.Context, info provider.Info, buf []byte, ids *identifier) ([]byte, error) {
	if ctx.Err() != nil {
		return buf, nil
	}
	began := time.Now()
	var ok bool
	var err error
	if isLogKey(info.Key) {
		ok, err = r.c.segment(ctx, info)
	} else {
		if int64(cap(buf)) < info.Size && info.Size <= maxPack {
			buf = make([]byte, info.Size, max(info.Size, r.largest))
		}
		ok, err = r.c.pack(ctx, info, buf, ids)
	}
	if errors.Is(err, provider.ErrNotFound) {
		return buf, nil
	}
	if err != nil {
		return buf, err
	}
	r.c.mu.Lock()
	rep := &r.c.report
	if isLogKey(info.Key) {
		rep.ReadSegments.add(info.Size)
	} else {
		rep.ReadPacks++
		rep.Read += info.Size
	}
	if r.c.o.Progress != nil {
		r.c.o.Progress(Progress{Items: int64(rep.ReadPacks + rep.ReadSegments.Segments), Bytes: r.todo, Read: rep.Read + rep.ReadSegments.Bytes})
	}
	if len(r.found) == 0 || began.Before(r.since) {
		r.since = began
	}
	sum := contentID(info.Key)
	r.found = append(r.found, verdictOnPack{sum, !ok})
	r.c.last[sum] = verification{at: began, damaged: !ok}
	full := len(r.found) >= verifiedPerObject
	r.c.mu.Unlock()
	if full {
		r.record(ctx)
	}
	return buf, nil
}

// record keeps what was read, also when the check is being cancelled.
func (r *packReader) record(ctx context.Context) {
	r.c.mu.Lock()
	found, since := r.found, r.since
	r.found = nil
	r.c.mu.Unlock()
	if len(found) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := r.c.r.putVerified(ctx, since, found); err != nil {
		r.c.mu.Lock()
		r.c.report.Unrecorded = err.Error()
		r.c.mu.Unlock()
		r.c.r.c.Logger.Warn("what was verified could not be recorded", "error", err)
	}
}

// pack reads a pack into buf and reports whether all of it is right.
// [provider.ErrNotFound] if it is gone: that is a problem if a point needs
// it.
func (c *checker) pack(ctx context.Context, info provider.Info, buf []byte, ids *identifier) (ok bool, err error) {
	kind, sum, is := parsePackKey(info.Key)
	if !is || info.Size > maxPack {
		c.problem(info.Key, "is no pack")
		return false, nil
	}
	n, known := c.r.index.packBySum(sum)
	b := buf[:info.Size]
	if err := readFull(ctx, c.r.c.Store, info.Key, 0, b); isDamage(err) {
		c.mu.Lock()
		for _, n := range c.r.index.numbers(sum) {
			c.badPacks[n] = true
		}
		gone := errors.Is(err, provider.ErrNotFound)
		if gone {
			delete(c.stored, info.Key)
		}
		c.mu.Unlock()
		if gone {
			return false, err
		}
		c.problem(info.Key, err.Error())
		return false, nil
	} else if err != nil {
		return false, err
	}
	ok = sha256.Sum256(b) == sum
	if !ok {
		c.problem(info.Key, "its bytes are not those of its name")
	}
	rec, err := c.r.keys.decodePack(kind, sum, info.Size, b, b)
	switch {
	case err != nil && known:
		c.problem(info.Key, err.Error())
		p := c.r.index.pack(n)
		rec = packRecord{kind: kind, salt: p.salt, enc: p.enc, entries: c.r.index.entries(n)}
		ok = false
	case err != nil:
		c.problem(info.Key, err.Error())
		return false, nil
	}
	if known && err == nil && !c.r.index.pack(n).trusted {
		n = c.refute(rec)
	}
	intact, err := c.frames(ctx, info.Key, rec, n, b, ids)
	return ok && intact, err
}

// refute marks what indexes say about a pack that says something else itself.
// It returns the pack's number for what it says.
func (c *checker) refute(rec packRecord) (n uint32) {
	c.r.index.add("", []packRecord{rec})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.r.index.numbers(rec.sum) {
		if c.r.index.says(other, rec) {
			n = other
		} else {
			c.badPacks[other] = true
		}
	}
	return n
}

// frames opens every chunk of a pack and reports whether all are right.
func (c *checker) frames(ctx context.Context, key string, rec packRecord, n uint32, b []byte, ids *identifier) (ok bool, err error) {
	secret, err := c.r.secret(rec.enc)
	if err != nil {
		c.problem(key, err.Error())
		secret = make([]byte, 32)
	}
	ok = err == nil
	aead := newAEAD(derive(secret, rec.salt, rec.kind+" frames"))
	for _, e := range rec.entries {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		err := fmt.Errorf("%w: chunk %s lies outside", ErrDamaged, e.id)
		if int64(e.off)+int64(e.stored) <= int64(len(b)) {
			_, err = openFrame(aead, c.r.zstd, ids, rec.kind, e.ref, b[e.off:][:e.stored], ids.spare())
		}
		if err != nil {
			ok = false
			c.problem(key, err.Error())
			c.mu.Lock()
			c.badChunks[place{n, e.id}] = true
			c.mu.Unlock()
		}
	}
	return ok, nil
}
