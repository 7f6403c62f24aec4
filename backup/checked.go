package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A PointCheck is what checks have found of the packs of a point.
type PointCheck struct {
	At      time.Time // since then each of them has been read and was right; zero if one never was
	Damaged bool      // what was last read of one was damaged
}

// Checked tells of points what [Repository.Check] has found when it read the
// packs that they need, here or elsewhere. It reads none of them. A point that
// is not there is left out. [ErrSealed] in a process that cannot read.
func (r *Repository) Checked(ctx context.Context, ids ...PointID) (map[PointID]PointCheck, error) {
	out, err := r.checked(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("what was checked: %w", err)
	}
	return out, nil
}

func (r *Repository) checked(ctx context.Context, ids []PointID) (map[PointID]PointCheck, error) {
	if err := r.readable(); err != nil {
		return nil, err
	}
	r, err := r.current(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	last, err := r.lastVerified(ctx, time.Now(), func(key string, err error) {
		r.c.Logger.Warn("what was verified cannot be read; Check puts this right", "key", key, "error", err)
	})
	if err != nil {
		return nil, err
	}
	out := map[PointID]PointCheck{}
	for _, id := range ids {
		m, err := r.manifest(ctx, id)
		if errors.Is(err, provider.ErrNotFound) {
			continue
		}
		var sums [][32]byte
		if err == nil {
			sums, err = r.needs(ctx, m)
		}
		if isDamage(err) {
			out[id] = PointCheck{Damaged: true}
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("point %s: %w", id, err)
		}
		out[id] = checkOf(sums, last)
	}
	return out, nil
}

// checkOf is what is known of a point that needs these packs.
func checkOf(packs [][32]byte, last map[[32]byte]verification) (c PointCheck) {
	for i, sum := range packs {
		v := last[sum]
		c.Damaged = c.Damaged || v.damaged
		if i == 0 || v.at.Before(c.At) {
			c.At = v.at
		}
	}
	if c.Damaged {
		c.At = time.Time{}
	}
	return c
}
