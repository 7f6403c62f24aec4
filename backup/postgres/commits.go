package postgres

import (
	"slices"
	"time"
)

// A commit is where a commit record ends, and its time.
type commit struct {
	start, end LSN
	at         time.Time
}

// commits are those of a stretch of WAL, in order.
type commits []commit

// within returns the earliest and the latest time of the commits that end
// behind from and not behind to; zero if there is none.
func (c commits) within(from, to uint64) (first, last time.Time) {
	n, _ := slices.BinarySearchFunc(c, LSN(from)+1, func(c commit, at LSN) int { return int(int64(c.end) - int64(at)) })
	for _, x := range c[n:] {
		if x.end > LSN(to) {
			break
		}
		if first.IsZero() || x.at.Before(first) {
			first = x.at
		}
		if x.at.After(last) {
			last = x.at
		}
	}
	return first, last
}
