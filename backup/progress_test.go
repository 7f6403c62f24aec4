package backup_test

import (
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

func TestProgress(t *testing.T) {
	for name, c := range map[string]struct {
		p    backup.Progress
		done float64
		rate float64
		left time.Duration
	}{
		"nothing known":  {backup.Progress{Bytes: 10, Elapsed: time.Second}, 0, 10, 0},
		"not begun":      {backup.Progress{TotalBytes: 10, TotalItems: 1}, 0, 0, 0},
		"half":           {backup.Progress{Bytes: 50, TotalBytes: 100, Items: 1, TotalItems: 2, Elapsed: 2 * time.Second}, 0.5, 25, 2 * time.Second},
		"items to do":    {backup.Progress{Bytes: 100, TotalBytes: 100, TotalItems: 2, Elapsed: time.Second}, 0.5, 100, time.Second},
		"only items":     {backup.Progress{Items: 1, TotalItems: 4, Elapsed: time.Second}, 0.25, 0, 3 * time.Second},
		"more than told": {backup.Progress{Bytes: 200, TotalBytes: 100, Items: 3, TotalItems: 2, Elapsed: time.Second}, 1, 200, 0},
	} {
		if d, r, l := c.p.Done(), c.p.Rate(), c.p.Remaining(); d != c.done || r != c.rate || l != c.left {
			t.Errorf("%s: done %v, rate %v, remaining %v; want %v, %v, %v", name, d, r, l, c.done, c.rate, c.left)
		}
	}
}
