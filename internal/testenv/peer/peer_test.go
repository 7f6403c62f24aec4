package peer_test

import (
	"cmp"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv/peer"
)

type task struct{ A, B int }

func TestAdds(t *testing.T) {
	peer.Serve(t, func(offset int) func(task) (int, error) {
		return func(q task) (int, error) {
			if q.A < 0 {
				return 0, errors.New("negative")
			}
			return offset + q.A + q.B, nil
		}
	})
}

func TestProcess(t *testing.T) {
	p := peer.Start(t, "TestAdds", 1000)
	for _, q := range []task{{1, 2}, {3, 4}} {
		if err := p.Ask(q); err != nil {
			t.Fatal(err)
		}
	}
	var one, two int
	if err := cmp.Or(p.Answer(&one), p.Answer(&two)); err != nil || one != 1003 || two != 1007 {
		t.Errorf("%d, %d, %v", one, two, err)
	}
	// One that fails says why.
	err := cmp.Or(p.Ask(task{-1, 0}), p.Answer(&one))
	if err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a process that failed: %v", err)
	}
}
