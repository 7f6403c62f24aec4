package failovertest

import (
	"math/rand/v2"
	"testing"
	"time"
)

// CrashPoints runs a plan once for every request it makes, store and actions
// alike, with a crash before that request, with one after it took effect, and
// with one after which it takes effect, and has another process resume. Options.Seeds is not used. broken names a
// step that fails until the first process is dead or done, so that the run
// goes back (or, past the pivot, stops); empty means that nothing fails.
//
// With depth 2 the process that resumes crashes too, at each of its requests,
// and a third one finishes: the square of the number of requests.
func CrashPoints(t *testing.T, o Options, broken string, depth int) Report {
	t.Helper()
	o = o.withDefaults(t)
	r := newReport()
	life := func(n uint64, crashes ...crash) *scenario {
		s := &scenario{o: o, seed: n, rng: rand.New(rand.NewPCG(1, 1)), calm: true}
		s.rates.broken = broken
		copy(s.crash[:], crashes)
		if len(crashes) > 0 {
			s.second = 5 * time.Minute
		}
		s.play(t)
		r.add(s)
		return s
	}
	ways := []crash{{}, {after: true}, {after: true, late: true}}
	whole := life(0)
	n := uint64(0)
	for at := 1; at <= whole.counts[0]; at++ {
		for _, how := range ways {
			n++
			first := crash{request: at, after: how.after, late: how.late}
			s := life(n, first)
			for again := 1; depth > 1 && again <= s.counts[1]; again++ {
				for _, how := range ways {
					n++
					life(n, first, crash{request: again, after: how.after, late: how.late})
				}
			}
			if o.StopAtFirst && len(r.Violations) > 0 {
				return r
			}
		}
	}
	return r
}
