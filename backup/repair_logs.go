package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// logs takes segments that are damaged, and starts of branches, from the
// replica. All that a segment says of itself is looked at; all of it is read
// if a check has found it damaged, or with ReadData.
func (p *repairer) logs(ctx context.Context) error {
	last, err := p.r.lastVerified(ctx, time.Now(), func(string, error) {})
	if err != nil {
		return err
	}
	type result struct {
		info        provider.Info
		damage, err error
	}
	var listErr error
	listed := func(yield func(provider.Info) bool) {
		for info, err := range p.r.c.Store.List(ctx, logPrefix, provider.ListOptions{}) {
			if err != nil {
				listErr = fmt.Errorf("list logs: %w", err)
				return
			}
			if _, _, branch := p.r.logObject(info.Key); branch != 0 && !yield(info) {
				return
			}
		}
	}
	for res := range inOrder(ctx, listed, func(info provider.Info) result {
		damage, err := p.inLog(ctx, info, p.o.ReadData || last[segmentID(info.Key)].damaged)
		return result{info, damage, err}
	}) {
		if res.err != nil {
			return fmt.Errorf("get %s: %w", res.info.Key, res.err)
		}
		if res.damage != nil && !errors.Is(res.damage, provider.ErrNotFound) {
			right, limit := p.right(ctx, res.info)
			if _, err := p.object(ctx, res.info.Key, limit, right, nil); err != nil {
				return err
			}
		}
		p.looked.add(res.info.Size)
		if p.o.Progress != nil {
			p.o.Progress(Progress{Items: int64(p.looked.Packs), Read: p.looked.Bytes})
		}
	}
	return errors.Join(listErr, ctx.Err())
}

// right returns what proves that bytes are those of an object of a log that is
// damaged, and how many it has at most. A segment has to have the content that
// it had, if that can still be read from what it says of itself.
func (p *repairer) right(ctx context.Context, info provider.Info) (right func([]byte) error, limit int64) {
	l, s, branch := p.r.logObject(info.Key)
	if s == (span{}) {
		return func(b []byte) error { _, err := l.openStart(b, branch); return err }, maxBranchObject
	}
	was, known := l.interval(ctx, s, info.Size)
	return func(b []byte) error {
		seg, _, err := l.open(s, b)
		if err == nil {
			err = p.r.keys.ofLog(seg.name, info.Key)
		}
		if err == nil && known == nil && seg.sum != was.sum {
			err = fmt.Errorf("%w: it has other content", ErrDamaged)
		}
		return err
	}, maxObject
}

// inLog looks at an object of a log, of segments only at what they say of
// themselves unless all is to be read.
func (p *repairer) inLog(ctx context.Context, info provider.Info, all bool) (damage, err error) {
	l, s, branch := p.r.logObject(info.Key)
	switch {
	case s == (span{}):
		var b []byte
		if b, _, err = provider.ReadAll(ctx, p.r.c.Store, info.Key, maxBranchObject); err == nil {
			_, err = l.openStart(b, branch)
		}
	case all:
		_, _, err = l.load(ctx, s)
	default:
		_, err = l.interval(ctx, s, info.Size)
	}
	if isDamage(err) {
		return err, nil
	}
	return nil, err
}
