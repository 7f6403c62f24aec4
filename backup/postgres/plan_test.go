package postgres_test

import (
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
