package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-go/holdfast/provider"
)

// Errors of logs.
var (
	// ErrSplit: the log holds other bytes at these positions. Two sources
	// write to one branch: stop one of them and find out which is right,
	// because nothing here can.
	ErrSplit = errors.New("log holds other bytes at these positions")

	// ErrOverlap: the log holds some of these positions already, in segments
	// with other bounds. Go on from where [Log.Coverage] says the log ends.
	ErrOverlap = errors.New("log holds some of these positions already")

	// ErrGap: some positions are not in the log.
	ErrGap = errors.New("positions are missing in the log")
)

const (
	// MaxSegment is how many bytes a segment has at most.
	MaxSegment = 16 << 20

	maxLogName = 200
	maxHistory = 64 << 10

	sessionSegments = 1 << 16 // a writer takes a new secret after so many
	copyEvery       = 64      // and puts copies of format and keys into every so many
)

// A Log is a stream of bytes beside the points of a repository, such as the
// WAL of a database: whoever has a point and the log behind it can return to
// any moment since. Its bytes are numbered by *positions* from 0 on, as an
// LSN of PostgreSQL does; a log of records that has no such numbers counts the
// bytes of its records, framed as it likes. A *segment* is a piece of it,
// stored as one object that never changes; segments may arrive in any order.
//
// A *branch* is one history of the stream, as a timeline of PostgreSQL is:
// where two histories part, one of them goes on under another number, and
// [Log.StartBranch] says from which branch and position on. What is read on a
// branch before that comes from its parent.
//
// A Log is safe for concurrent use. Segments are sealed like everything else;
// appending and listing need no identity, so a sealed writer can do both. Its
// credential of the store has to create, list and get below logs/.
type Log struct {
	r      *Repository
	name   string
	prefix string // of its keys
	zstd   *zstd.Encoder

	mu       sync.Mutex
	secret   []byte
	enc      []byte
	segments int               // under this secret
	ends     map[uint32]uint64 // where a segment of this process ends, by branch; nothing but ours was there
}

// Log returns the log with a name, which is 1 to 200 bytes of UTF-8 without
// control characters. A log exists once something was appended to it.
func (r *Repository) Log(name string) (*Log, error) {
	if name == "" || len(name) > maxLogName || !printable(name) {
		return nil, fmt.Errorf("log %.80q: want 1 to %d bytes of UTF-8 without control characters", name, maxLogName)
	}
	prefix := logPrefix + hexID(r.keys.logID(name)) + "/"
	return &Log{r: r, name: name, prefix: prefix, zstd: newEncoder(r.c.Workers), ends: map[uint32]uint64{}}, nil
}

// Name is the name of the log.
func (l *Log) Name() string { return l.name }

// A Segment is a piece of a log.
type Segment struct {
	Branch   uint32 `json:"branch"` // from 1 on
	From, To uint64 // positions, half-open; at most [MaxSegment] apart

	// First and Last are the times of the first and the last commit within,
	// zero if there is none.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`

	// The rest is set by the repository.
	Key       string    `json:"key"`                 // of the object
	Size      int64     `json:"size"`                // of the object
	Stored    time.Time `json:"stored,omitzero"`     // by the store's clock
	Compacted int       `json:"compacted,omitempty"` // how many segments it was made of, if not appended as it is
	Damaged   string    `json:"damaged,omitempty"`   // why it cannot be read; times are then not known
}

// Append adds a segment with the content data, of To-From bytes; To may be
// left zero. When it returns nil, the segment is durable, and no other
// segment that Append has acknowledged, here or anywhere, has some of its
// positions. It can be repeated: a segment that is there with the same
// content is success, also when it has been compacted since.
//
// [ErrSplit] and [ErrOverlap] tell of another writer. After any other error
// the segment may be stored or not; append it again.
//
// It takes a Put and a List; the first one of a process on a branch a second
// List.
func (l *Log) Append(ctx context.Context, s Segment, data []byte) error {
	if s.To == 0 {
		s.To = s.From + uint64(len(data))
	}
	if err := l.append(ctx, s, data); err != nil {
		return fmt.Errorf("append to log %q, branch %d, %d to %d: %w", l.name, s.Branch, s.From, s.To, err)
	}
	return nil
}

func (l *Log) append(ctx context.Context, s Segment, data []byte) error {
	p := span{s.Branch, s.From, s.To}
	if err := p.valid(); err != nil {
		return err
	}
	if uint64(len(data)) != p.to-p.from {
		return fmt.Errorf("content of %d bytes, want %d", len(data), p.to-p.from)
	}
	if y := s.First.Year(); s.Last.Before(s.First) || s.First.IsZero() != s.Last.IsZero() || !s.First.IsZero() && (y < 1971 || s.Last.Year() > 2261) {
		return fmt.Errorf("fields First and Last: %v and %v are no times of commits in order", s.First, s.Last)
	}
	v := interval{name: l.name, span: p, first: s.First, last: s.Last, sum: l.r.keys.logContent(data)}
	if !l.follows(p) {
		there, err := l.look(ctx, v)
		if there || err != nil {
			return err
		}
	}
	b, err := l.seal(v, data)
	if err != nil {
		return err
	}
	if _, err := provider.PutOnce(ctx, l.r.c.Store, l.key(p), b, provider.PutOptions{Retain: l.r.c.Lock.raw(time.Now())}); err != nil && ctx.Err() == nil {
		// Taken, or not known: what is there decides.
		if there, lerr := l.look(ctx, v); there || lerr != nil {
			return errors.Join(lerr)
		}
		return fmt.Errorf("put segment: %w", err)
	} else if err != nil {
		return fmt.Errorf("put segment: %w", err)
	}
	// Of two who append the same positions at once, the one who looks last
	// sees both.
	if _, err := l.look(ctx, v); err != nil {
		return err
	}
	l.mu.Lock()
	l.ends[p.branch] = p.to
	l.mu.Unlock()
	return nil
}

// follows reports whether a segment begins where the last one of this process
// ended. Who else writes to the branch is then seen afterwards, and needs not
// be looked for before.
func (l *Log) follows(p span) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	end, ok := l.ends[p.branch]
	return ok && end == p.from
}

// session returns the secret that segments are sealed with. It is made once
// for many of them: encapsulating it costs more than sealing. before is how
// many there are under it already.
func (l *Log) session() (secret, enc []byte, before int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secret == nil || l.segments == sessionSegments {
		if l.secret, l.enc, err = l.r.keys.newSession(); err != nil {
			return nil, nil, 0, err
		}
		l.segments = 0
	}
	l.segments++
	return l.secret, l.enc, l.segments - 1, nil
}

// look finds out whether the log holds a segment, or others in its place.
func (l *Log) look(ctx context.Context, v interval) (there bool, err error) {
	for range 10 {
		there, err = l.lookOnce(ctx, v)
		if !errors.Is(err, provider.ErrNotFound) {
			break // else compacted meanwhile
		}
	}
	return there, err
}

func (l *Log) lookOnce(ctx context.Context, v interval) (there bool, err error) {
	found, err := l.spans(ctx, v.span)
	if err != nil {
		return false, err
	}
	for _, f := range found {
		seg, err := l.interval(ctx, f.span, f.size)
		if err != nil {
			return false, err
		}
		holds, err := seg.holds(v)
		if err != nil {
			return false, fmt.Errorf("%s: %w", seg.key, err)
		}
		there = there || holds
	}
	return there, nil
}

// holds reports whether a segment is, or was made of, one with the bounds and
// the content of v.
func (v interval) holds(w interval) (bool, error) {
	at := v.span.from
	if v.span == w.span {
		if v.sum != w.sum {
			return false, ErrSplit
		}
		return true, nil
	}
	for _, p := range v.parts {
		if at == w.span.from && p.to == w.span.to {
			if p.sum != w.sum {
				return false, ErrSplit
			}
			return true, nil
		}
		at = p.to
	}
	return false, ErrOverlap
}

// A storedSpan is a segment as a listing shows it.
type storedSpan struct {
	span
	size   int64
	stored time.Time
}

// spans lists the segments that have some of the positions of s.
func (l *Log) spans(ctx context.Context, s span) (out []storedSpan, err error) {
	after := span{branch: s.branch}
	if s.from > MaxSegment {
		after.from = s.from - MaxSegment
	}
	prefix := fmt.Sprintf("%s%08x/", l.prefix, s.branch)
	for info, err := range l.r.c.Store.List(ctx, prefix, provider.ListOptions{StartAfter: l.key(after)}) {
		if err != nil {
			return nil, fmt.Errorf("list segments: %w", err)
		}
		f, ok := l.parse(info.Key)
		if !ok {
			continue // the start of the branch; or not ours
		}
		if f.from >= s.to {
			break
		}
		if f.overlaps(s) {
			out = append(out, storedSpan{f, info.Size, info.Modified})
		}
	}
	return out, nil
}

// Segments lists what is stored of a branch between two positions, or with to
// zero of all from there on, in ascending order. While a log is compacted,
// positions may be listed twice, once as they were and once compacted, or not
// at all; ask [Log.Coverage] what there is. It reads a few KiB of each
// segment.
func (l *Log) Segments(ctx context.Context, branch uint32, from, to uint64) iter.Seq2[Segment, error] {
	return func(yield func(Segment, error) bool) {
		type result struct {
			s   Segment
			err error
		}
		found, err := l.spans(ctx, span{branch, from, orEnd(to)})
		if err != nil {
			yield(Segment{}, err)
			return
		}
		for res := range inOrder(ctx, slices.Values(found), func(f storedSpan) result {
			seg, err := l.interval(ctx, f.span, f.size)
			out := Segment{Branch: f.branch, From: f.from, To: f.to, Key: l.key(f.span), Size: f.size, Stored: f.stored,
				First: seg.first, Last: seg.last, Compacted: len(seg.parts)}
			if errors.Is(err, ErrDamaged) && !errors.Is(err, provider.ErrNotFound) || errors.Is(err, ErrFormat) {
				out.Damaged, err = err.Error(), nil
			}
			return result{out, err}
		}) {
			if errors.Is(res.err, provider.ErrNotFound) {
				continue // compacted or trimmed since it was listed
			}
			if !yield(res.s, res.err) || res.err != nil {
				return
			}
		}
		if ctx.Err() != nil {
			yield(Segment{}, context.Cause(ctx))
		}
	}
}

func orEnd(to uint64) uint64 {
	if to == 0 {
		return ^uint64(0)
	}
	return to
}

// Logs lists the names of the logs of a repository, in no order.
func (r *Repository) Logs(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		after := ""
		for {
			name, id, err := r.nextLog(ctx, after)
			if err != nil {
				yield("", fmt.Errorf("list logs: %w", err))
				return
			}
			if id == "" || name != "" && !yield(name, nil) {
				return
			}
			after = logPrefix + id + "0" // behind all keys that begin with a slash there
		}
	}
}

// nextLog finds a log behind a key, and its name in one of its objects that
// can be read.
func (r *Repository) nextLog(ctx context.Context, after string) (name, id string, err error) {
	tries := 0
	for info, err := range r.c.Store.List(ctx, logPrefix, provider.ListOptions{StartAfter: after}) {
		if err != nil {
			return "", "", err
		}
		this, _, _ := strings.Cut(strings.TrimPrefix(info.Key, logPrefix), "/")
		if id == "" {
			id = this
		}
		if tries++; id != this || tries > 100 {
			break
		}
		if name, err = r.logName(ctx, info); err == nil {
			return name, id, nil
		}
		if !isDamage(err) {
			return "", "", err
		}
		r.c.Logger.Warn("of which log this is cannot be read", "key", info.Key, "error", err)
	}
	return "", id, nil
}
