package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A plan is data, and reads well.
func TestPlanString(t *testing.T) {
	p := postgres.RestorePlan{
		Name: "db1", Point: "20260301t000000.000z-9f86d081884c7d65", Time: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Verified: time.Date(2026, 3, 2, 4, 0, 0, 0, time.UTC), Warnings: 2, System: 7713855962591821868, Timelines: []uint32{1, 2},
		From: 0x1600028, Consistent: 0x17437A8, To: 0x18C9D30, BaseBytes: 40 << 20, WALBytes: 3 << 20, RTO: 498 * time.Millisecond,
		Rates: [2]float64{100 << 20, 30 << 20}, Options: map[string]string{"target-time": "2026-03-01T12:00:00Z", "target-timeline": "2"},
		PassedOver: []postgres.PassedOver{{Point: "20260302t000000.000z-9f86d081884c7d65", Why: "was never verified"}},
	}
	want := `restore 20260301t000000.000z-9f86d081884c7d65 of "db1", begun 2026-03-01T00:00:00Z, verified 2026-03-02T04:00:00Z, partial: 2 warnings
  system 7713855962591821868, timeline 1 to 2
  WAL from 0/1600028, consistent at 0/17437A8, up to 0/18C9D30: the log has it without a gap
  40.0 MiB of files and 3.0 MiB of WAL, about 498ms at 100 and 30 MiB/s
  with target-time=2026-03-01T12:00:00Z target-timeline=2
  passed over: 20260302t000000.000z-9f86d081884c7d65 was never verified
`
	if got := p.String(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// The segment with the first commit behind a time is found without looking at
// each: where many have none, and where a commit has overtaken others.
func TestCommitBehind(t *testing.T) {
	repo, _ := newRepository(t)
	log, err := repo.Log(postgres.LogName(1))
	must(t, err)
	epoch := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	const size, n = 100, 60
	last := func(i int) time.Time {
		at := epoch.Add(time.Duration(i) * 10 * time.Second)
		switch {
		case i < 5 || i%7 == 0 || i > 30 && i < 40: // none in these
			return time.Time{}
		case i == 22:
			return at.Add(40 * time.Second) // behind those of the next three
		}
		return at
	}
	for i := range n {
		s := backup.Segment{Branch: 1, From: uint64(i * size), Last: last(i)}
		s.First = s.Last
		must(t, log.Append(t.Context(), s, make([]byte, size)))
	}
	for i := -1; i <= n; i++ {
		at := epoch.Add(time.Duration(i)*10*time.Second + time.Duration(i%2)*time.Second)
		want := wal.LSN(n * size)
		for j := range n {
			if last(j).After(at) {
				want = wal.LSN((j + 1) * size)
				break
			}
		}
		for _, few := range []wal.LSN{150, 1000, 1 << 20} {
			got, err := postgres.CommitBehind(t.Context(), log, 0, n*size, at, few)
			if err != nil || got != want {
				t.Fatalf("%v, few %d: %v, want %v, %v", at, few, got, want, err)
			}
		}
	}
}

// nextPoint makes a point behind all others: they are in the order of the
// millisecond in which they began.
func nextPoint(t *testing.T, repo *backup.Repository, b postgres.BaseTarget) backup.PointID {
	t.Helper()
	time.Sleep(2 * time.Millisecond)
	return backUp(t, repo, b).ID
}

// An old primary goes on beside the one that took its place, and is backed up:
// its line is not taken for the other, and a base without its WAL for none.
func TestTwoLines(t *testing.T) {
	repo, _ := newRepository(t)
	log, err := repo.Log(postgres.LogName(7))
	must(t, err)
	epoch := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	write := func(timeline uint32, from, to uint64) {
		for at := from; at < to; at += 0x80000 {
			when := epoch.Add(time.Duration(at) * time.Microsecond)
			must(t, log.Append(t.Context(), backup.Segment{Branch: timeline, From: at, First: when, Last: when}, make([]byte, 0x80000)))
		}
	}
	write(1, 0x100000, 0x500000)
	must(t, log.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: 0x300000, History: []byte("1\t0/300000\tno reason\n")}))
	write(2, 0x300000, 0x600000)
	base := func(timeline uint32, start wal.LSN) backup.PointID {
		b := postgres.BaseTarget{System: 7, Timeline: timeline, Start: start, Stop: start + 0x1000, At: epoch.Add(time.Duration(start) * time.Microsecond)}
		return nextPoint(t, repo, b)
	}
	bare, both, new, old := base(1, 0x20000), base(1, 0x110000), base(2, 0x510000), base(1, 0x410000)
	all, err := postgres.Windows(t.Context(), repo, "db")
	must(t, err)
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	for i, want := range []postgres.Window{
		{System: 7, Timeline: 1, From: 0x111000, To: 0x500000, Points: []backup.PointID{both, old}},
		{System: 7, Timeline: 2, From: 0x300000, To: 0x600000, Points: []backup.PointID{both, new}, Continues: true},
	} {
		w := all[i]
		w.Since, w.Until = time.Time{}, time.Time{}
		if fmt.Sprint(w) != fmt.Sprint(want) {
			t.Errorf("%+v, want %+v", w, want)
		}
		if all[i].Since != epoch.Add(0x110000*time.Microsecond+time.Second) || all[i].Until != epoch.Add(time.Duration(want.To-0x80000)*time.Microsecond) {
			t.Errorf("%+v", all[i])
		}
	}
	plan, err := postgres.PlanRestore(t.Context(), repo, "db", postgres.RecoveryTarget{}, postgres.PlanOptions{})
	must(t, err)
	if plan.Point != new || len(plan.PassedOver) != 1 || plan.PassedOver[0].Point != old || !strings.Contains(plan.PassedOver[0].Why, "leaves timeline 1 at 0/300000") {
		t.Errorf("%s", plan)
	}
	plan, err = postgres.PlanRestore(t.Context(), repo, "db", postgres.RecoveryTarget{Timeline: 1}, postgres.PlanOptions{})
	must(t, err)
	if plan.Point != old || fmt.Sprint(plan.Timelines) != "[1]" {
		t.Errorf("%s", plan)
	}
	_, err = postgres.PlanRestore(t.Context(), repo, "db", postgres.RecoveryTarget{LSN: 0x21000}, postgres.PlanOptions{})
	e, ok := errors.AsType[*postgres.UnreachableError](err)
	if !ok || e.Before != nil || e.After == nil || e.After.Point != both || !strings.Contains(err.Error(), string(bare)) || !errors.Is(err, backup.ErrGap) {
		t.Errorf("from a base without its WAL: %v", err)
	}
}

// Another cluster has come under the name: a target means the one of its time,
// or the one that is there now.
func TestTwoSystems(t *testing.T) {
	repo, _ := newRepository(t)
	epoch := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	points := map[uint64]backup.PointID{}
	for system, begin := range map[uint64]time.Time{7: epoch, 8: epoch.Add(10 * time.Hour)} {
		log, err := repo.Log(postgres.LogName(system))
		must(t, err)
		for i := range uint64(4) {
			when := begin.Add(time.Duration(i) * 4 * time.Hour)
			must(t, log.Append(t.Context(), backup.Segment{Branch: 1, From: i << 20, First: when, Last: when}, make([]byte, 1<<20)))
		}
	}
	for _, system := range []uint64{7, 8} {
		b := postgres.BaseTarget{System: system, Timeline: 1, Start: 0x1000, Stop: 0x2000, At: epoch.Add(time.Duration(system-7) * 10 * time.Hour)}
		points[system] = nextPoint(t, repo, b)
	}
	for _, c := range []struct {
		target postgres.RecoveryTarget
		o      postgres.PlanOptions
		want   uint64
	}{
		{postgres.RecoveryTarget{}, postgres.PlanOptions{}, 8},
		{postgres.RecoveryTarget{}, postgres.PlanOptions{System: 7}, 7},
		{postgres.RecoveryTarget{Immediate: true}, postgres.PlanOptions{}, 8},
		{postgres.RecoveryTarget{Time: epoch.Add(9 * time.Hour)}, postgres.PlanOptions{}, 7},
		{postgres.RecoveryTarget{Time: epoch.Add(15 * time.Hour)}, postgres.PlanOptions{}, 8},
	} {
		plan, err := postgres.PlanRestore(t.Context(), repo, "db", c.target, c.o)
		if err != nil || plan.System != c.want || plan.Point != points[c.want] {
			t.Errorf("%+v, %+v: %v, %v", c.target, c.o, plan, err)
		}
	}
	_, err := postgres.PlanRestore(t.Context(), repo, "db", postgres.RecoveryTarget{Time: epoch.Add(9 * time.Hour)}, postgres.PlanOptions{System: 8})
	if e, ok := errors.AsType[*postgres.UnreachableError](err); !ok || e.Before != nil || e.After == nil || e.After.Point != points[8] {
		t.Errorf("of the other cluster: %v", err)
	}
	all, err := postgres.Windows(t.Context(), repo, "db")
	if err != nil || len(all) != 2 || all[0].System != 7 || all[1].System != 8 {
		t.Errorf("%+v, %v", all, err)
	}
}
