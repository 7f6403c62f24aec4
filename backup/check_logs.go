package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A checkedLog is what a check knows of one log.
type checkedLog struct {
	l        *Log // without a name until an object of it was read
	segments map[uint32][]checkedSegment
	origins  map[uint32]origin
	lost     map[uint32]bool // branches whose start is there and cannot be read
	needs    []pointNeed
	gaps     []span // positions that no segment has, by branch and position
	losses   []loss
}

// A checkedSegment is one that was listed, and what it says of itself.
type checkedSegment struct {
	storedSpan
	first, last time.Time
	sum         [32]byte
	parts       int
	bad         bool // cannot be read
}

// A pointNeed is what a point needs of a log.
type pointNeed struct {
	point PointID
	LogPosition
}

// segmentID stands for a segment where packs are known by their sum.
func segmentID(key string) [32]byte { return sha256.Sum256([]byte(key)) }

func isLogKey(key string) bool { return strings.HasPrefix(key, logPrefix) }

// contentID is what the verification of a pack or segment is recorded under.
func contentID(key string) [32]byte {
	if isLogKey(key) {
		return segmentID(key)
	}
	return sumOf(key)
}

// listLogs lists what is stored of all logs; misnamed is told of what belongs
// to none.
func (c *checker) listLogs(ctx context.Context, misnamed func(key string)) (logs map[string]*checkedLog, starts, segments []provider.Info, err error) {
	logs = map[string]*checkedLog{}
	for info, err := range c.r.c.Store.List(ctx, logPrefix, provider.ListOptions{}) {
		if err != nil {
			return nil, nil, nil, fmt.Errorf("list logs: %w", err)
		}
		l, s, branch := c.r.logObject(info.Key)
		if branch == 0 {
			misnamed(info.Key)
			continue
		}
		g := logs[logIDOf(info.Key)]
		if g == nil {
			g = newCheckedLog(l)
			logs[logIDOf(info.Key)] = g
		}
		if s == (span{}) {
			starts = append(starts, info)
			continue
		}
		segments = append(segments, info)
		g.segments[s.branch] = append(g.segments[s.branch], checkedSegment{storedSpan: storedSpan{s, info.Size, info.Modified}})
	}
	return logs, starts, segments, nil
}

func newCheckedLog(l *Log) *checkedLog {
	return &checkedLog{l: l, segments: map[uint32][]checkedSegment{}, origins: map[uint32]origin{}, lost: map[uint32]bool{}}
}

// logObject returns what the key of an object of a log says: the log, without
// its name, the branch, and unless it is the start of that the positions. The
// branch is 0 if it is no such key.
func (r *Repository) logObject(key string) (l *Log, s span, branch uint32) {
	id, name, _ := strings.Cut(strings.TrimPrefix(key, logPrefix), "/")
	l = &Log{r: r, prefix: logPrefix + id + "/"}
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return l, s, 0
	}
	if s, ok := l.parse(key); ok {
		return l, s, s.branch
	}
	number, _, _ := strings.Cut(name, "/")
	if n, err := strconv.ParseUint(number, 16, 32); err == nil && key == l.startKey(uint32(n)) {
		return l, s, uint32(n)
	}
	return l, s, 0
}

// logIDOf returns what stands for the log in the key of one of its objects.
func logIDOf(key string) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(key, logPrefix), "/")
	return id
}

// readLogs reads what every segment and every start of a branch says of
// itself. What of them is missing is found out when the points are known.
func (c *checker) readLogs(ctx context.Context) (err error) {
	var starts []provider.Info
	c.logs, starts, c.segments, err = c.listLogs(ctx, func(key string) {
		c.problem(key, "is no object of a log, by its name")
	})
	if err != nil {
		return err
	}
	for _, info := range c.segments {
		c.report.Segments.add(info.Size)
	}
	if err := c.readStarts(ctx, c.logs, starts, func(key string, err error) { c.problem(key, textOf(key, err)) }); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(c.logs)) {
		g := c.logs[id]
		for _, b := range slices.Sorted(maps.Keys(g.segments)) {
			if err := c.readIntervals(ctx, g, b); err != nil {
				return err
			}
		}
	}
	return nil
}

// textOf says what is wrong with an object, whose key is said beside it.
func textOf(key string, err error) string { return strings.TrimPrefix(err.Error(), key+": ") }

// openStart opens the start of a branch of a log whose name is not known.
func (l *Log) openStart(b []byte, branch uint32) (origin, error) {
	key := l.startKey(branch)
	o, _, err := l.openBranch(b, key)
	if err == nil && o.branch != branch {
		err = fmt.Errorf("%w: it says it is of branch %d", ErrDamaged, o.branch)
	}
	if err == nil {
		err = l.r.keys.ofLog(o.name, key)
	}
	return o, err
}

// readStarts reads where branches come from.
func (c *checker) readStarts(ctx context.Context, logs map[string]*checkedLog, starts []provider.Info, damaged func(string, error)) error {
	type result struct {
		key    string
		branch uint32
		o      origin
		err    error
	}
	for res := range inOrder(ctx, slices.Values(starts), func(info provider.Info) result {
		l, _, branch := c.r.logObject(info.Key)
		b, _, err := provider.ReadAll(ctx, c.r.c.Store, info.Key, maxBranchObject)
		res := result{key: info.Key, branch: branch, err: err}
		if err == nil {
			res.o, res.err = l.openStart(b, branch)
		}
		return res
	}) {
		g := logs[logIDOf(res.key)]
		switch {
		case res.err == nil:
			g.origins[res.branch] = res.o
			g.named(res.o.name)
		case isDamage(res.err) && !errors.Is(res.err, provider.ErrNotFound):
			damaged(res.key, res.err)
			g.lost[res.branch] = true
		case !isDamage(res.err):
			return fmt.Errorf("get %s: %w", res.key, res.err)
		}
	}
	return ctx.Err()
}

func (g *checkedLog) named(name string) {
	if g.l.name == "" {
		g.l = &Log{r: g.l.r, prefix: g.l.prefix, name: name}
	}
}

// ofLog reports whether an object is stored below the log that it says it is
// of.
func (k *keys) ofLog(name, key string) error {
	if hexID(k.logID(name)) != logIDOf(key) {
		return fmt.Errorf("%w: it says it is of another log", ErrDamaged)
	}
	return nil
}

// readIntervals reads what the segments of a branch say of themselves, and
// leaves out those that were compacted or trimmed since they were listed.
func (c *checker) readIntervals(ctx context.Context, g *checkedLog, branch uint32) error {
	type result struct {
		s    checkedSegment
		name string
		err  error
	}
	nameless := &Log{r: c.r, prefix: g.l.prefix}
	kept := g.segments[branch][:0]
	for res := range inOrder(ctx, slices.Values(g.segments[branch]), func(s checkedSegment) result {
		seg, err := nameless.interval(ctx, s.span, s.size)
		if err == nil {
			err = c.r.keys.ofLog(seg.name, seg.key)
		}
		s.first, s.last, s.sum, s.parts = seg.first, seg.last, seg.sum, len(seg.parts)
		return result{s, seg.name, err}
	}) {
		switch {
		case errors.Is(res.err, provider.ErrNotFound):
			continue
		case res.err != nil && !isDamage(res.err):
			return fmt.Errorf("get %s: %w", nameless.key(res.s.span), res.err)
		case res.err != nil:
			c.problem(nameless.key(res.s.span), textOf(nameless.key(res.s.span), res.err))
			res.s.bad = true
		default:
			g.named(res.name)
		}
		kept = append(kept, res.s)
	}
	g.segments[branch] = kept
	return ctx.Err()
}

// segment reads all of a segment and reports whether it is right.
// [provider.ErrNotFound] if it is gone.
func (c *checker) segment(ctx context.Context, info provider.Info) (ok bool, err error) {
	l, s, _ := c.r.logObject(info.Key)
	_, _, err = l.load(ctx, s)
	if err == nil || errors.Is(err, provider.ErrNotFound) || !isDamage(err) {
		return err == nil, err
	}
	c.problem(info.Key, textOf(info.Key, err))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.badSegments[info.Key] = true
	return false, nil
}
