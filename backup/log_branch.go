package backup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// A Branch says where a branch of a log comes from.
type Branch struct {
	Branch uint32 `json:"branch"`
	Parent uint32 `json:"parent"` // 0: none is known
	At     uint64 `json:"at"`     // what lies before this position is read from the parent

	// History is what its source says of it, such as the .history file of a
	// timeline; at most 64 KiB. It needs an identity to be read back.
	History []byte `json:"history,omitempty"`
}

const (
	maxBranches     = 4096 // between a branch and its oldest ancestor
	maxBranchObject = maxHeader + maxHistory + 1<<10
)

// StartBranch records where a branch comes from. It can be repeated;
// [ErrSplit] if another origin is recorded. It is never removed.
func (l *Log) StartBranch(ctx context.Context, b Branch) error {
	if err := l.startBranch(ctx, b); err != nil {
		return fmt.Errorf("start branch %d of log %q: %w", b.Branch, l.name, err)
	}
	return nil
}

func (l *Log) startBranch(ctx context.Context, b Branch) error {
	if b.Branch == 0 || b.Parent == 0 || b.Parent == b.Branch || len(b.History) > maxHistory {
		return fmt.Errorf("want a Branch and another as Parent, and at most %d bytes of History", maxHistory)
	}
	o := origin{l.name, b.Branch, b.Parent, b.At, l.r.keys.logContent(b.History)}
	sealed, err := l.sealBranch(o, b.History)
	if err != nil {
		return err
	}
	key := l.startKey(b.Branch)
	_, err = provider.PutOnce(ctx, l.r.c.Store, key, sealed, l.r.c.put())
	if err == nil || ctx.Err() != nil {
		return err
	}
	there, _, rerr := l.readBranch(ctx, b.Branch)
	switch {
	case rerr == nil && there == o:
		return nil
	case rerr == nil:
		return ErrSplit
	case errors.Is(err, provider.ErrConflict):
		return rerr
	}
	return fmt.Errorf("put %s: %w", key, err)
}

// An origin is what the start of a branch says to whoever has the index key.
type origin struct {
	name           string
	branch, parent uint32
	at             uint64
	history        [32]byte // logContent of it
}

func (o origin) encode() []byte {
	b := appendBytes(nil, o.name)
	b = binary.AppendUvarint(b, uint64(o.branch))
	b = binary.AppendUvarint(b, uint64(o.parent))
	b = binary.AppendUvarint(b, o.at)
	return append(b, o.history[:]...)
}

func decodeOrigin(plain []byte) (origin, error) {
	d := &decoder{b: plain}
	o := origin{name: string(d.bytes("name", maxLogName))}
	o.branch = uint32(d.uint("branch", math.MaxUint32))
	o.parent = uint32(d.uint("parent", math.MaxUint32))
	o.at = d.uint("position", math.MaxUint64)
	o.history = d.sum("sum")
	if o.branch == 0 || o.parent == 0 || o.branch == o.parent {
		d.fail("branch %d of %d", o.branch, o.parent)
	}
	return o, d.end()
}

func (l *Log) sealBranch(o origin, history []byte) ([]byte, error) {
	secret, enc, _, err := l.session()
	if err != nil {
		return nil, err
	}
	k, key := l.r.keys, l.startKey(o.branch)
	h, head, err := k.newHeader(kindBranch, "", enc)
	if err != nil {
		return nil, err
	}
	b := appendSection(slices.Clone(head), sealSection(nil, k.index, h, head, "branch", key, o.encode()))
	b = appendSection(b, sealSection(nil, secret, h, head, "history", key, history))
	return k.signObject(kindBranch, key, b), nil
}

// readBranch reads where a branch comes from; history opens the rest.
// [provider.ErrNotFound] if that is not recorded.
func (l *Log) readBranch(ctx context.Context, branch uint32) (o origin, history func() ([]byte, error), err error) {
	key := l.startKey(branch)
	b, _, err := provider.ReadAll(ctx, l.r.c.Store, key, maxBranchObject)
	if err != nil {
		if errors.Is(err, provider.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return o, nil, err
	}
	o, history, err = l.openBranch(b, key)
	if err == nil && (o.branch != branch || o.name != l.name) {
		err = fmt.Errorf("%w: it says it is branch %d of another log or place", ErrDamaged, o.branch)
	}
	if err != nil {
		return o, nil, fmt.Errorf("%s: %w", key, err)
	}
	return o, history, nil
}

func (l *Log) openBranch(b []byte, key string) (o origin, history func() ([]byte, error), err error) {
	h, head, rest, _, err := l.r.keys.verifyObject(kindBranch, key, b)
	if err != nil {
		return o, nil, err
	}
	first, rest, err := cutSection(rest)
	if err != nil {
		return o, nil, err
	}
	second, rest, err := cutSection(rest)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d bytes too many", ErrDamaged, len(rest))
	}
	if err != nil {
		return o, nil, err
	}
	plain, err := openSection(l.r.keys.index, h, head, "branch", key, first)
	if err != nil {
		return o, nil, err
	}
	if o, err = decodeOrigin(plain); err != nil {
		return o, nil, err
	}
	return o, func() ([]byte, error) {
		secret, err := l.r.secret(h.Enc)
		if err != nil {
			return nil, err
		}
		text, err := openSection(secret, h, head, "history", key, second)
		if err == nil && l.r.keys.logContent(text) != o.history {
			err = fmt.Errorf("%w: history is not what it was", ErrDamaged)
		}
		return text, err
	}, nil
}

// Branches lists the branches of a log in ascending order, those without a
// recorded origin with Parent zero. History is filled in unless this process
// is a sealed writer.
func (l *Log) Branches(ctx context.Context) iter.Seq2[Branch, error] {
	return func(yield func(Branch, error) bool) {
		numbers, err := l.branches(ctx)
		if err != nil {
			yield(Branch{}, err)
			return
		}
		for _, n := range numbers {
			b := Branch{Branch: n}
			o, history, err := l.readBranch(ctx, n)
			if err == nil {
				b.Parent, b.At = o.parent, o.at
				if b.History, err = history(); errors.Is(err, ErrSealed) {
					err = nil
				} else if err != nil {
					err = fmt.Errorf("%s: %w", l.startKey(n), err)
				}
			} else if errors.Is(err, provider.ErrNotFound) {
				err = nil
			}
			if err != nil {
				yield(Branch{}, err)
				return
			}
			if !yield(b, nil) {
				return
			}
		}
	}
}

// branches lists the numbers of the branches there are, with one request for
// each.
func (l *Log) branches(ctx context.Context) (out []uint32, err error) {
	for after := ""; ; {
		next := ""
		for info, err := range l.r.c.Store.List(ctx, l.prefix, provider.ListOptions{StartAfter: after}) {
			if err != nil {
				return nil, fmt.Errorf("list branches: %w", err)
			}
			next, _, _ = strings.Cut(strings.TrimPrefix(info.Key, l.prefix), "/")
			break
		}
		if next == "" {
			return out, nil
		}
		if n, err := strconv.ParseUint(next, 16, 32); err == nil && len(next) == 8 && n > 0 {
			out = append(out, uint32(n))
		}
		after = l.prefix + next + "0" // behind all keys that begin with a slash there
	}
}

// A leg is a part of the way to a branch: the positions that are read on one
// of its ancestors, or on itself.
type leg struct {
	branch uint32
	lo, hi uint64
}

// way returns the legs to a branch, in order: from the oldest ancestor, or
// from that on which the position from is read.
func (l *Log) way(ctx context.Context, branch uint32, from uint64) ([]leg, error) {
	return wayTo(branch, from, func(b uint32) (origin, bool, error) {
		o, _, err := l.readBranch(ctx, b)
		if errors.Is(err, provider.ErrNotFound) {
			return o, false, nil
		}
		return o, err == nil, err
	})
}

// A wayError says of which branch it is not known where it comes from.
type wayError struct {
	branch uint32
	err    error
}

func (e *wayError) Error() string { return fmt.Sprintf("origin of branch %d: %v", e.branch, e.err) }

func (e *wayError) Unwrap() error { return e.err }

// wayTo is [Log.way] with any way to learn where a branch comes from.
func wayTo(branch uint32, from uint64, originOf func(branch uint32) (o origin, known bool, err error)) ([]leg, error) {
	out := []leg{{branch: branch, hi: math.MaxUint64}} // the youngest first
	seen := map[uint32]bool{}
	for {
		last := &out[len(out)-1]
		seen[last.branch] = true
		o, known, err := originOf(last.branch)
		switch {
		case err != nil:
			return nil, &wayError{last.branch, err}
		case known && seen[o.parent]:
			return nil, &wayError{last.branch, fmt.Errorf("%w: branch %d is an ancestor of itself", ErrDamaged, o.parent)}
		case len(out) > maxBranches:
			return nil, &wayError{branch, fmt.Errorf("%w: it has more than %d ancestors", ErrDamaged, maxBranches)}
		case known:
			last.lo = o.at
		}
		if !known || last.lo <= from {
			break
		}
		out = append(out, leg{branch: o.parent, hi: o.at})
	}
	// A branch that parts from its parent before that began parts from one of
	// its ancestors.
	for i := 1; i < len(out); i++ {
		out[i].hi = min(out[i].hi, out[i-1].hi)
	}
	for i := range out {
		out[i].lo = min(out[i].lo, out[i].hi)
	}
	slices.Reverse(out)
	return out, nil
}

// logName reads from an object of a log whose it is.
func (r *Repository) logName(ctx context.Context, info provider.Info) (string, error) {
	id, rest, _ := strings.Cut(strings.TrimPrefix(info.Key, logPrefix), "/")
	l := &Log{r: r, prefix: logPrefix + id + "/"}
	var name string
	if number, what, _ := strings.Cut(rest, "/"); what == startName {
		b, _, err := provider.ReadAll(ctx, r.c.Store, info.Key, maxBranchObject)
		if err != nil {
			return "", err
		}
		o, _, err := l.openBranch(b, info.Key)
		if n, perr := strconv.ParseUint(number, 16, 32); err == nil && (perr != nil || uint32(n) != o.branch) {
			err = fmt.Errorf("%w: in another place", ErrDamaged)
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", info.Key, err)
		}
		name = o.name
	} else {
		s, ok := l.parse(info.Key)
		if !ok {
			return "", fmt.Errorf("%w: %s is no object of a log", ErrDamaged, info.Key)
		}
		seg, err := l.interval(ctx, s, info.Size)
		if err != nil {
			return "", err
		}
		name = seg.name
	}
	if hexID(r.keys.logID(name)) != id {
		return "", fmt.Errorf("%w: %s says it is of another log", ErrDamaged, info.Key)
	}
	return name, nil
}
