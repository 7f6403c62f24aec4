package dr

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// A plan shows what surveyors find at each site, goes by the time that they
// expect a restore to take, and waits for none for ever.
func TestSurveys(t *testing.T) {
	f := newFixture(t)
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	calls := 0
	f.parts.Surveyors = map[string]Surveyor{"memory": func(ctx context.Context, _ *backup.Repository, w Workload, proofs []Proof) (Survey, error) {
		calls++
		s := Survey{Windows: []Window{{Since: since, Until: since, Points: len(proofs), Of: "timeline 1"}, {Since: since, Until: since.Add(time.Hour), Points: 2, Of: "timeline 2"}}}
		switch {
		case w.Name != "orders":
			<-ctx.Done()
			return Survey{}, ctx.Err()
		case calls == 3: // at the standby
			s.Restore, s.Basis = 10*time.Minute, "measured by the test"
			return s, nil
		}
		return s, errors.New("no estimate\nhere")
	}}
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		if proof, err := p.Drill(t.Context(), "orders"); err != nil || !proof.Proves() {
			t.Fatal(err)
		}
		calls = 0
		began := time.Now()
		plan, err := p.Plan(t.Context())
		if err != nil || time.Since(began) != 2*surveyWait {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		fc := plan.Forecasts[0]
		if want := []Window{{PrimarySite, since, since, 1, "timeline 1"}, {PrimarySite, since, since.Add(time.Hour), 2, "timeline 2"},
			{StandbySite, since, since, 1, "timeline 1"}, {StandbySite, since, since.Add(time.Hour), 2, "timeline 2"}}; !slices.Equal(fc.Windows, want) {
			t.Errorf("windows %v", fc.Windows)
		}
		if fc.RTO.Basis != "measured by the test" || fc.RTO.Value.Std() < 10*time.Minute {
			t.Errorf("RTO %v", fc.RTO)
		}
		for _, want := range []string{"moments   at standby: 2026-03-01T12:00:00Z to 2026-03-01T13:00:00Z, timeline 2, 2 points",
			"moments   at primary: 2026-03-01T12:00:00Z, nothing has changed since, timeline 1, 1 point\n",
			"moments   not known at primary: no estimate; here", "moments   not known at standby: the survey took longer than 1m0s"} {
			if !strings.Contains(plan.String(), want) {
				t.Errorf("%q is not in\n%v", want, plan)
			}
		}
		if !slices.ContainsFunc(plan.Readiness.Problems, func(s string) bool { return strings.Contains(s, "10m to restore") }) {
			t.Errorf("a failover of so long is no problem: %v", plan.Readiness.Problems)
		}
		if slices.ContainsFunc(plan.Readiness.Problems, func(s string) bool { return strings.Contains(s, "survey") }) {
			t.Errorf("what is only shown keeps a failover from being ready: %v", plan.Readiness.Problems)
		}

		// A failover asks no surveyor, and neither does who runs a plan.
		calls = 0
		_, err = p.Run(t.Context(), plan)
		_, failed := p.FailoverPlan(t.Context(), "failover", time.Time{})
		if err != nil || failed != nil || calls > 0 {
			t.Errorf("%v, %v, %v", err, failed, calls)
		}
	})
}

// What an examiner has measured is in the record of the drill.
func TestMeasured(t *testing.T) {
	f := newFixture(t)
	f.parts.Checkers["memory"] = measuring{f.parts.Checkers["memory"]}
	synctest.Test(t, func(t *testing.T) {
		p := f.planner(t)
		f.catchUp(t, p)
		if _, err := p.Drill(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		proofs, err := p.Proofs(t.Context(), "orders")
		if err != nil || len(proofs) != 1 || len(proofs[0].Measured) != 1 || proofs[0].Measured["speed"] != 7.5 {
			t.Errorf("%+v, %v", proofs, err)
		}
	})
}

type measuring struct{ Checker }

func (measuring) Examine(context.Context, Workload, backup.Point, backup.Destination) (Examination, error) {
	return Examination{Measured: map[string]float64{"speed": 7.5, "none": math.NaN(), "endless": math.Inf(1)}}, nil
}
