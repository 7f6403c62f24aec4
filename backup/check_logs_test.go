package backup_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A logScene is a repository with a log and points that need it:
//
//	branch 1   0 .. 100 .. 200 .. 300 .. 400
//	branch 2          parts at 250: 250 .. 350 .. 450
//
// early needs 0 to 100 of branch 1, late 300 to 350 of branch 2.
type logScene struct {
	store       *providertest.Memory
	r           *backup.Repository
	l           *backup.Log
	early, late backup.PointID
	prefix      string // of the keys of the log
}

func newLogScene(t testing.TB) *logScene {
	t.Helper()
	s := &logScene{store: providertest.NewMemory()}
	var err error
	if s.r, err = backup.Init(t.Context(), plain(s.store)); err != nil {
		t.Fatal(err)
	}
	s.l = logOf(t, s.r)
	mustAppend(t, s.l, 1, 0, 100, 200, 300, 400)
	if err := s.l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: 250}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s.l, 2, 250, 350, 450)
	s.prefix = keysOf(t, s.store, "logs/")[0][:len("logs/")+32]
	s.early = s.point(t, 1, 0, 100)
	s.late = s.point(t, 2, 300, 350)
	if rep := mustCheck(t, s.r, backup.CheckOptions{ReadData: true}); !rep.OK() || rep.Logs != 1 || rep.Segments.Segments != 6 || rep.ReadSegments != rep.Segments || rep.Verified != 1 {
		t.Fatalf("before any damage: %+v\n%s", rep, rep)
	}
	return s
}

func (s *logScene) point(t testing.TB, branch uint32, from, consistent uint64) backup.PointID {
	t.Helper()
	return mustBackup(t, s.r, "w", &base{needs: []backup.LogPosition{{Log: "wal-of-main", Branch: branch, From: from, Consistent: consistent}}}, backup.Full).ID
}

// segment is the key of a segment.
func (s *logScene) segment(t testing.TB, branch uint32, from uint64) string {
	t.Helper()
	for _, x := range collect(t, s.l.Segments(t.Context(), branch, from, from+1)) {
		if x.From == from {
			return x.Key
		}
	}
	t.Fatalf("there is no segment at %d of branch %d", from, branch)
	return ""
}

func (s *logScene) start(branch uint32) string {
	return fmt.Sprintf("%s/%08x/start", s.prefix, branch)
}

// rival stores a segment with the content of some branch on branch 1, as
// another source that did not look might have.
func (s *logScene) rival(t testing.TB, content uint32, from, to uint64) {
	t.Helper()
	elsewhere := copyStore(t, s.store)
	for _, key := range keysOf(t, elsewhere, "logs/") {
		if err := elsewhere.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := logOf(t, reopenWith(t, plain(elsewhere))).Append(t.Context(), backup.Segment{Branch: 1, From: from, To: to}, stream(content, from, to)); err != nil {
		t.Fatal(err)
	}
	bring(t, elsewhere, s.store)
}

func (s *logScene) remove(t testing.TB, key string) {
	t.Helper()
	if err := s.store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// lost tells which positions a report calls lost, and who needs them.
func (s *logScene) lost(rep backup.CheckReport) string {
	var out []string
	for _, l := range rep.LostLogs {
		who := ""
		for _, id := range l.Points {
			who += map[backup.PointID]string{s.early: " early", s.late: " late"}[id]
		}
		out = append(out, fmt.Sprintf("%s %d: %d-%d%s", l.Log, l.Branch, l.From, l.To, who))
	}
	return strings.Join(out, "; ")
}

// What of a log is missing, damaged or contradicts itself is named with its
// positions, and the points that need it are not whole.
func TestCheckLogs(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, s *logScene)
		lost   string
		text   string // in what the report says
		whole  int
	}{
		{"a gap", func(t *testing.T, s *logScene) { s.remove(t, s.segment(t, 1, 100)) },
			"wal-of-main 1: 100-200", "commits from 2026-01-02T03:04:05.0000001Z to 2026-01-02T03:04:05.0000002Z", 2},
		{"a gap that a point needs", func(t *testing.T, s *logScene) { s.remove(t, s.segment(t, 1, 0)) },
			"wal-of-main 1: 0-100 early", "not consistent: needs log \"wal-of-main\", branch 1, positions 0 to 100", 1},
		{"the end, behind what points need", func(t *testing.T, s *logScene) { s.remove(t, s.segment(t, 2, 350)) },
			"", "", 2}, // cannot be told from a log that ends there
		{"the end, within what a point needs", func(t *testing.T, s *logScene) {
			s.remove(t, s.segment(t, 2, 350))
			s.remove(t, s.segment(t, 2, 250))
		}, "wal-of-main 2: 250-350 late", "", 1},
		{"damage", func(t *testing.T, s *logScene) { flip(t, s.store, s.segment(t, 2, 250), -70) },
			"wal-of-main 2: 250-350 late", "commits from 2026-01-02T03:04:05.00000025Z to 2026-01-02T03:04:05.00000035Z", 1},
		{"damage of what a segment says of itself", func(t *testing.T, s *logScene) { flip(t, s.store, s.segment(t, 2, 350), 30) },
			"wal-of-main 2: 350-450", "commits after 2026-01-02T03:04:05.00000035Z", 2},
		{"the end of a parent", func(t *testing.T, s *logScene) { s.remove(t, s.segment(t, 1, 200)) },
			"wal-of-main 1: 200-300", "", 2},
		{"a parent", func(t *testing.T, s *logScene) {
			for from := range uint64(4) {
				s.remove(t, s.segment(t, 1, from*100))
			}
		}, "wal-of-main 1: 0-250 early", "", 1},
		{"where a branch comes from", func(t *testing.T, s *logScene) { s.remove(t, s.start(2)) },
			"", "where branch 2 comes from is not recorded", 2},
		{"where a branch comes from, damaged", func(t *testing.T, s *logScene) { flip(t, s.store, s.start(2), 20) },
			"", "00000002/start", 1},
		{"another's segment", func(t *testing.T, s *logScene) { s.rival(t, 2, 50, 150) },
			"wal-of-main 1: 50-100 early; wal-of-main 1: 100-150", "other bytes than", 1},
		{"a repetition with other bounds", func(t *testing.T, s *logScene) { s.rival(t, 1, 50, 150) }, "", "", 2},
		{"a longer one", func(t *testing.T, s *logScene) { s.rival(t, 2, 150, 350) },
			"wal-of-main 1: 150-200; wal-of-main 1: 200-300; wal-of-main 1: 300-350", "positions 300 to 350: log holds other bytes", 2},
		{"a name that is none", func(t *testing.T, s *logScene) { put(t, s.store, s.start(1)+"x", nil) }, "", "is no object of a log", 2},
		{"a segment in another place", func(t *testing.T, s *logScene) {
			b, _, err := provider.ReadAll(t.Context(), s.store, s.segment(t, 1, 300), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s.store, strings.Replace(s.segment(t, 1, 300), "/00000001/", "/00000002/", 1), b)
		}, "", "does not decrypt", 2}, // those positions are in others, too
		{"a branch that comes from itself", func(t *testing.T, s *logScene) {
			if err := s.l.StartBranch(t.Context(), backup.Branch{Branch: 1, Parent: 2, At: 90}); err != nil {
				t.Fatal(err)
			}
		}, "", "ancestor of itself", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newLogScene(t)
			c.damage(t, s)
			rep := mustCheck(t, s.r, backup.CheckOptions{ReadData: true})
			if got := s.lost(rep); got != c.lost || rep.Whole != c.whole || !strings.Contains(rep.String(), c.text) || rep.OK() != (c.lost+c.text == "") {
				t.Errorf("lost %q, want %q; %d points whole, want %d, with %q:\n%s", got, c.lost, rep.Whole, c.whole, c.text, rep)
			}
		})
	}
}

// Of two segments with the same positions one may be damaged: it is named, and
// nothing is lost.
func TestCheckLogsCompacted(t *testing.T) {
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	s := &logScene{store: store, r: r, l: logOf(t, r)}
	for from := range uint64(70) {
		mustAppend(t, s.l, 1, from*10, from*10+10)
	}
	raw := copyStore(t, store)
	if rep, err := s.l.Compact(t.Context()); err != nil || rep.Written.Segments != 1 {
		t.Fatalf("compact: %+v, %v", rep, err)
	}
	big := s.segment(t, 1, 0)
	bring(t, raw, store) // as if it had been killed before it deleted anything
	if rep := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !rep.OK() || rep.ReadSegments.Segments != 71 {
		t.Fatalf("before any damage: %s", rep)
	}
	for _, at := range []int{30, -70} {
		for _, key := range []string{big, keysOf(t, raw, "logs/")[7]} {
			flip(t, store, key, at)
			rep := mustCheck(t, r, backup.CheckOptions{ReadData: true})
			if len(rep.Problems) != 1 || rep.Problems[0].Key != key || len(rep.LostLogs) > 0 {
				t.Errorf("byte %d of %s: %s", at, key, rep)
			}
			mustRead(t, s.l, 1, 0, 700)
			flip(t, store, key, at)
		}
	}
	split := &logScene{store: copyStore(t, store)}
	key := keysOf(t, raw, "logs/")[1]
	split.remove(t, key)
	split.rival(t, 2, 10, 20) // the same bounds as a part of the compacted one
	split.r = reopenWith(t, plain(split.store))
	if rep := mustCheck(t, split.r, backup.CheckOptions{}); split.lost(rep) != "wal-of-main 1: 10-20" || rep.Problems[0].Key != key {
		t.Errorf("a part with other bytes: %s", rep)
	}
	// What was compacted while the check listed it is no gap.
	s.point(t, 1, 0, 700)
	beside := copyStore(t, raw)
	for _, key := range keysOf(t, store, "points/", "data/", "meta/", "index/") {
		b, _, err := provider.ReadAll(t.Context(), store, key, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		put(t, beside, key, b)
	}
	f := providertest.NewFaulty(beside, nil)
	busy, behind := reopenWith(t, plain(f)), logOf(t, reopenWith(t, plain(beside)))
	f.Use(func(c providertest.Call) providertest.Fault {
		if c.Op == "get" && strings.HasPrefix(c.Key, "logs/") {
			if _, err := behind.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return providertest.Fault{}
	})
	if rep := mustCheck(t, busy, backup.CheckOptions{}); !rep.OK() {
		t.Errorf("beside compaction: %s", rep)
	}
}

// Segments have their turn with packs, those first that were verified or
// stored longest ago, and a prune keeps what is known of them.
func TestCheckLogsByBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newLogScene(t)
		everything := collect(t, s.store.List(t.Context(), "verified/", provider.ListOptions{}))
		for _, v := range everything {
			s.remove(t, v.Key)
		}
		time.Sleep(time.Hour)
		r := reopenWith(t, plain(s.store))
		read := backup.LogAmount{}
		var last float64
		for range 8 { // 2 packs and 6 segments
			rep := mustCheck(t, r, backup.CheckOptions{Budget: backup.CheckBudget{Bytes: 1}})
			if rep.Verified <= last || rep.ReadPacks+rep.ReadSegments.Segments != 1 || !rep.OK() {
				t.Errorf("after %v verified: %s", last, rep)
			}
			last = rep.Verified
			read.Segments += rep.ReadSegments.Segments
			time.Sleep(time.Minute)
		}
		if last != 1 || read.Segments != 6 {
			t.Errorf("%v verified, %d segments read", last, read.Segments)
		}
		mustPrune(t, r, backup.PruneOptions{MinGarbage: 1})
		if rep := mustCheck(t, r, backup.CheckOptions{}); rep.Verified != 1 {
			t.Errorf("after a prune: %s", rep)
		}
		// What was found damaged is read by every check that reads anything.
		key := s.segment(t, 1, 200)
		flip(t, s.store, key, -70)
		mustCheck(t, r, backup.CheckOptions{ReadData: true})
		rep := mustCheck(t, r, backup.CheckOptions{})
		if rep.ReadSegments.Segments != 1 || s.lost(rep) != "wal-of-main 1: 200-300" || rep.Verified >= 1 {
			t.Errorf("after damage: %s", rep)
		}
		flip(t, s.store, key, -70)
		if rep := mustCheck(t, r, backup.CheckOptions{}); !rep.OK() || rep.Verified != 1 {
			t.Errorf("after it was mended: %s", rep)
		}
	})
}

// A replica may lack what no point there needs.
func TestCheckLogsOfReplica(t *testing.T) {
	s := newLogScene(t)
	s.remove(t, s.segment(t, 1, 100))
	if rep := mustCheck(t, s.r, backup.CheckOptions{Replica: true}); !rep.OK() {
		t.Errorf("a gap that no point needs: %s", rep)
	}
	s.remove(t, s.segment(t, 2, 250))
	if rep := mustCheck(t, s.r, backup.CheckOptions{Replica: true}); s.lost(rep) != "wal-of-main 2: 250-350 late" {
		t.Errorf("a gap that one needs: %s", rep)
	}
}

// What Trim has left is no gap, nor is what it deletes while the log is
// looked at.
func TestCheckLogsTrimmed(t *testing.T) {
	s := newLogScene(t)
	first := s.segment(t, 1, 0)
	b, _, err := provider.ReadAll(t.Context(), s.store, first, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.r.Forget(t.Context(), s.early); err != nil {
		t.Fatal(err)
	}
	f := providertest.NewFaulty(s.store, nil)
	busy := reopenWith(t, plain(f))
	f.Use(func(c providertest.Call) providertest.Fault {
		if c.Op == "get" && strings.HasPrefix(c.Key, "logs/") {
			mustTrim(t, s.l, backup.TrimOptions{})
		}
		return providertest.Fault{}
	})
	for range 2 {
		if rep := mustCheck(t, busy, backup.CheckOptions{}); !rep.OK() || rep.Whole != 1 {
			t.Errorf("%s", rep)
		}
	}
	if got := left(t, s.l, 1); strings.Contains(got, "0-100") {
		t.Errorf("nothing was trimmed: %s", got)
	}
	put(t, s.store, first, b) // as if it had been locked
	if rep := mustCheck(t, s.r, backup.CheckOptions{}); !rep.OK() {
		t.Errorf("with a segment that was locked: %s", rep)
	}
}

// Repair takes what is damaged of logs from a replica, if that has the same.
func TestRepairLogs(t *testing.T) {
	s := newLogScene(t)
	good := copyStore(t, s.store)
	damaged := []string{s.segment(t, 1, 0), s.segment(t, 2, 250), s.start(2)}
	for i, key := range damaged {
		flip(t, s.store, key, []int{-70, 30, 20}[i])
	}
	mustCheck(t, s.r, backup.CheckOptions{ReadData: true})
	rep, err := s.r.Repair(t.Context(), backup.RepairOptions{})
	if err != nil || len(rep.Mended) != 0 || len(rep.Unmended) != 3 {
		t.Errorf("without a replica: %+v, %v", rep, err)
	}
	rep, err = s.r.Repair(t.Context(), backup.RepairOptions{From: good, DryRun: true})
	if err != nil || len(rep.Mended) != 3 {
		t.Errorf("dry run: %+v, %v", rep, err)
	}
	if rep := mustCheck(t, s.r, backup.CheckOptions{}); rep.OK() {
		t.Error("a dry run mended something")
	}
	other := copyStore(t, good) // the same positions, and other bytes
	for _, key := range keysOf(t, other, "logs/") {
		if err := other.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := logOf(t, reopenWith(t, plain(other))).Append(t.Context(), backup.Segment{Branch: 1, From: 0, To: 100}, stream(7, 0, 100)); err != nil {
		t.Fatal(err)
	}
	rep, err = s.r.Repair(t.Context(), backup.RepairOptions{From: other})
	if err != nil || len(rep.Mended) != 0 || len(rep.Unmended) != 3 || !strings.Contains(fmt.Sprint(rep.Unmended), "other content") {
		t.Errorf("from a replica with other content: %+v, %v", rep, err)
	}
	rep, err = s.r.Repair(t.Context(), backup.RepairOptions{From: good})
	if err != nil || len(rep.Mended) != 3 || len(rep.Unmended) != 0 {
		t.Errorf("from a replica: %+v, %v", rep, err)
	}
	if rep := mustCheck(t, s.r, backup.CheckOptions{ReadData: true}); !rep.OK() || rep.Whole != 2 {
		t.Errorf("after the repair: %s", rep)
	}
	mustRead(t, s.l, 1, 0, 400)
}
