package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// less is a repository in which some objects of the log are missing.
func (p *past) less(t *testing.T, keys ...string) *backup.Repository {
	t.Helper()
	return walRepository(t, &lacking{p.store, keys}, p.key)
}

// A lacking store has all that another has but some objects.
type lacking struct {
	provider.BlobStore
	keys []string
}

func (s *lacking) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range s.BlobStore.List(ctx, prefix, o) {
			if !slices.Contains(s.keys, info.Key) && !yield(info, err) {
				return
			}
		}
	}
}

func (s *lacking) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	if slices.Contains(s.keys, key) {
		key += " is missing"
	}
	return s.BlobStore.Get(ctx, key, o)
}

// changed is one with all objects as change has them; nil removes one.
func (p *past) changed(t *testing.T, change func(key string, b []byte) []byte) *backup.Repository {
	t.Helper()
	to := providertest.NewMemory()
	for info, err := range p.store.List(t.Context(), "", provider.ListOptions{}) {
		must(t, err)
		b, _, err := provider.ReadAll(t.Context(), p.store, info.Key, 1<<30)
		must(t, err)
		if b = change(info.Key, b); b == nil {
			continue
		}
		_, err = provider.PutOnce(t.Context(), to, info.Key, b, provider.PutOptions{})
		must(t, err)
	}
	return walRepository(t, to, p.key)
}

// segments are those of a timeline.
func (p *past) segments(t *testing.T, timeline uint32) (out []backup.Segment) {
	t.Helper()
	log, err := p.repo.Log(p.bases[0].Logs[0].Log)
	must(t, err)
	for s, err := range log.Segments(t.Context(), timeline, 0, 0) {
		must(t, err)
		out = append(out, s)
	}
	return out
}

// refused removes what a log has, and sees that it is noticed before anything
// is written, that what is missing is said, and that the nearest moments it
// names are reached.
func (p *past) refused(t *testing.T) {
	first, second := p.bases[0], p.bases[1]
	behind := func(s backup.Segment) bool { return s.From > first.Logs[0].Consistent && s.To < second.Logs[0].From }
	var middle, tail []backup.Segment
	for _, s := range p.segments(t, 1) {
		if behind(s) {
			middle = append(middle, s)
		}
		if s.From > second.Logs[0].Consistent {
			tail = append(tail, s)
		}
	}
	if len(middle) < 5 || len(tail) < 5 || first.Logs[0].Consistent >= second.Logs[0].From {
		t.Fatalf("%d and %d segments", len(middle), len(tail))
	}
	hole, late := middle[len(middle)/2], tail[len(tail)/2]
	log, err := p.repo.Log(first.Logs[0].Log)
	must(t, err)
	start := ""
	listed := p.segments(t, 2)
	for info, err := range log.Manifests(t.Context()) {
		must(t, err)
		if strings.Contains(info.Key, "/00000002/") && !slices.ContainsFunc(listed, func(s backup.Segment) bool { return s.Key == info.Key }) {
			start = info.Key
		}
	}
	if start == "" {
		t.Fatal("the log does not say where timeline 2 comes from")
	}
	full := t.TempDir()
	must(t, os.WriteFile(filepath.Join(full, "a"), nil, 0o600))
	far := time.Now().Add(time.Hour)
	for _, c := range []struct {
		name          string
		drop          []string
		target        postgres.RecoveryTarget
		point         backup.PointID // of which alone it is wanted; "": of those that PlanRestore takes
		want          []string
		before, after bool
		is            error
	}{
		{"WAL removed from the middle", []string{hole.Key}, postgres.RecoveryTarget{Time: middle[len(middle)-1].Last}, "",
			[]string{"older one", wal.LSN(hole.From).String() + " to " + wal.LSN(hole.To).String(), "the last commit before"}, true, true, backup.ErrGap},
		{"WAL removed from the middle, by LSN", []string{hole.Key}, postgres.RecoveryTarget{LSN: wal.LSN(hole.From) + 100}, "", []string{wal.LSN(hole.From).String()}, true, true, backup.ErrGap},
		{"WAL removed from the middle, of the first base", []string{hole.Key}, postgres.RecoveryTarget{}, first.ID,
			[]string{wal.LSN(hole.From).String() + " to " + wal.LSN(hole.To).String()}, true, false, backup.ErrGap},
		{"WAL removed behind both", []string{late.Key}, postgres.RecoveryTarget{}, "",
			[]string{wal.LSN(late.From).String() + " to " + wal.LSN(late.To).String() + " on timeline 1"}, true, false, backup.ErrGap},
		{"history missing", []string{start}, postgres.RecoveryTarget{}, "", []string{"00000002.history"}, true, false, nil},
		{"history missing, of the first base", []string{start}, postgres.RecoveryTarget{}, first.ID, []string{"00000002.history", "target-timeline=1"}, true, false, nil},
		{"history missing, a time", []string{start}, postgres.RecoveryTarget{Time: late.First}, "", []string{"00000002.history", "target-timeline=1"}, true, false, nil},
		{"beyond the last commit", nil, postgres.RecoveryTarget{Time: far}, "", []string{"is not before the last commit"}, true, false, nil},
		{"beyond the last commit, of the first base", nil, postgres.RecoveryTarget{Time: far}, first.ID, []string{"is not before the last commit"}, true, false, nil},
		{"beyond the log", nil, postgres.RecoveryTarget{LSN: 0xFF << 32}, "", []string{"FF/0"}, true, false, backup.ErrGap},
		{"before the first base", nil, postgres.RecoveryTarget{Time: first.Time.Add(-time.Hour)}, "", []string{"older one"}, false, true, nil},
		{"LSN before the first base", nil, postgres.RecoveryTarget{LSN: 1}, "", []string{"older one"}, false, true, nil},
		{"no such transaction", nil, postgres.RecoveryTarget{XID: "4000000000"}, "", []string{"4000000000"}, true, false, nil},
		{"no such restore point", nil, postgres.RecoveryTarget{Name: "nowhere"}, first.ID, []string{"nowhere"}, true, false, nil},
		{"no such timeline", nil, postgres.RecoveryTarget{Timeline: 9}, "", []string{"timeline 9"}, true, false, nil},
	} {
		repo := p.less(t, c.drop...)
		dir := filepath.Join(t.TempDir(), "data")
		var err error
		if c.point == "" {
			_, err = postgres.PlanRestore(t.Context(), repo, "db", c.target, postgres.PlanOptions{})
		} else {
			err = repo.Restore(t.Context(), c.point, newTarget(t, postgres.Config{}), backup.Destination{Location: dir, Options: postgres.OptionsOf(c.target)}, backup.RestoreOptions{})
		}
		e, ok := errors.AsType[*postgres.UnreachableError](err)
		if !ok || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		t.Logf("%s: %v", c.name, err)
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", c.name, err, want)
			}
		}
		if c.before != (e.Before != nil) || c.after != (e.After != nil) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, m := range []*postgres.Moment{e.Before, e.After} {
			if m == nil {
				continue
			}
			// What has been proven is refused for the next reason.
			err := repo.Restore(t.Context(), m.Point, newTarget(t, postgres.Config{}), backup.Destination{Location: full, Options: m.Options}, backup.RestoreOptions{})
			if err == nil || !strings.Contains(err.Error(), "overwrite=true") {
				t.Errorf("%s: the moment %v: %v", c.name, m, err)
			}
		}
		if at := c.target.Time; !at.IsZero() && (e.Before != nil && e.Before.Time.After(at) || e.After != nil && !e.After.Time.After(at)) {
			t.Errorf("%s: %v", c.name, err)
		}
		for _, made := range []string{dir, dir + ".wal"} {
			if _, err := os.Lstat(made); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s was made", c.name, made)
			}
		}
	}
}

// planned sees which base is taken, and what a plan and the windows say.
func (p *past) planned(t *testing.T) {
	first, second := p.bases[0].ID, p.bases[1].ID
	took := func(what string, repo *backup.Repository, target postgres.RecoveryTarget, o postgres.PlanOptions, want backup.PointID, why string) *postgres.RestorePlan {
		t.Helper()
		plan, err := postgres.PlanRestore(t.Context(), repo, "db", target, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if plan.Point != want {
			t.Errorf("%s: it takes\n%s", what, plan)
		}
		if why != "" && (len(plan.PassedOver) != 1 || plan.PassedOver[0].Point != second || !strings.Contains(plan.PassedOver[0].Why, why)) {
			t.Errorf("%s: %+v, want %q", what, plan.PassedOver, why)
		}
		if why == "" && len(plan.PassedOver) > 0 {
			t.Errorf("%s: %+v", what, plan.PassedOver)
		}
		return plan
	}
	latest, yesterday := postgres.RecoveryTarget{}, time.Now().Add(-24*time.Hour).UTC()
	proven := map[backup.PointID]time.Time{first: yesterday}
	plan := took("nothing verified", p.repo, latest, postgres.PlanOptions{RestoreRate: 1 << 20, ReplayRate: 2 << 20}, second, "")
	b := p.bases[1]
	from, size := b.Logs[0].From, uint64(plan.To)-b.Logs[0].From
	seconds := float64(b.Stats.Bytes+int64(size))/(1<<20) + float64(plan.To-plan.From)/(2<<20)
	if !plan.Verified.IsZero() || plan.BaseBytes != b.Stats.Bytes || plan.WALBytes != int64(size) || uint64(plan.From)&^(mib-1) != from || uint64(plan.Consistent) != b.Logs[0].Consistent ||
		!slices.Equal(plan.Timelines, []uint32{1, 2}) || plan.RTO.Seconds() < seconds-0.01 || plan.RTO.Seconds() > seconds+0.01 || plan.Options["target-timeline"] != "2" {
		t.Errorf("%+v, want an RTO of %v s", plan, seconds)
	}
	p.about(t, plan, took)
	plan = took("one proven", p.repo, latest, postgres.PlanOptions{Proven: proven}, first, "never verified")
	if !plan.Verified.Equal(yesterday) {
		t.Errorf("verified %v", plan.Verified)
	}
	took("the newest wanted", p.repo, latest, postgres.PlanOptions{Proven: proven, Newest: true}, second, "")
	took("as it was", p.repo, postgres.RecoveryTarget{Immediate: true}, postgres.PlanOptions{}, second, "")
	took("by the other timeline", p.repo, postgres.RecoveryTarget{Timeline: 1}, postgres.PlanOptions{}, second, "")
	for _, o := range []postgres.PlanOptions{{System: 1}, {RestoreRate: -1}} {
		if _, err := postgres.PlanRestore(t.Context(), p.repo, "db", latest, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if _, err := postgres.PlanRestore(t.Context(), p.repo, "other", latest, postgres.PlanOptions{}); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("no such name: %v", err)
	}

	p.ahead(t, took)
	p.beside(t, took)
	p.windows(t)

	// What only the second needs is damaged.
	needed := map[string]bool{}
	for info, err := range p.repo.Objects(t.Context(), "points/"+string(first)) {
		must(t, err)
		needed[info.Key] = true
	}
	damage := func(prefix string) *backup.Repository {
		n := 0
		repo := p.changed(t, func(key string, b []byte) []byte {
			if strings.HasPrefix(key, prefix) && !needed[key] {
				n++
				b = slices.Clone(b)
				b[len(b)/2] ^= 1
			}
			return b
		})
		if n == 0 {
			t.Fatalf("nothing below %s is the second point's alone", prefix)
		}
		return repo
	}
	took("what is known of the base is damaged", damage("meta/"), latest, postgres.PlanOptions{}, first, backup.ErrDamaged.Error())
	repo := damage("data/")
	took("damage nobody has found", repo, latest, postgres.PlanOptions{}, second, "")
	before := time.Now().Truncate(time.Millisecond)
	_, err := repo.Check(t.Context(), backup.CheckOptions{ReadData: true})
	must(t, err)
	for _, o := range []postgres.PlanOptions{{}, {Newest: true}} {
		if plan := took("damage found", repo, latest, o, first, "damaged"); plan.Verified.Before(before) || plan.Verified.After(time.Now()) {
			t.Errorf("verified %v", plan.Verified)
		}
	}
}

// about plans for moments around the second base, and for the end of the log.
func (p *past) about(t *testing.T, plan *postgres.RestorePlan, took func(string, *backup.Repository, postgres.RecoveryTarget, postgres.PlanOptions, backup.PointID, string) *postgres.RestorePlan) {
	first, second := p.bases[0].ID, p.bases[1].ID
	var during []wal.Record // of the second backup, so that it cannot lead there
	var last wal.Record
	for _, r := range p.records {
		if r.Kind != wal.Commit {
			continue
		}
		if last = r; r.LSN >= plan.From && r.LSN < plan.Consistent && r.Time.After(p.bases[1].Time.Add(time.Millisecond)) {
			during = append(during, r)
		}
	}
	if len(during) < 3 {
		t.Fatalf("%d commits during the second backup", len(during))
	}
	o := postgres.PlanOptions{}
	one := during[len(during)/2]
	took("a time during the backup", p.repo, postgres.RecoveryTarget{Time: one.Time}, o, first, "older one")
	took("a transaction during the backup", p.repo, postgres.RecoveryTarget{XID: fmt.Sprint(one.XID)}, o, first, "older one")
	took("a transaction during the backup, without it", p.repo, postgres.RecoveryTarget{XID: fmt.Sprint(one.XID), Exclusive: true}, o, first, "older one")
	took("a position during the backup", p.repo, postgres.RecoveryTarget{LSN: one.LSN}, o, first, "older one")
	took("with an epoch", p.repo, postgres.RecoveryTarget{XID: fmt.Sprint(uint64(7)<<32 + uint64(last.XID))}, o, second, "")
	took("before the last commit", p.repo, postgres.RecoveryTarget{Time: last.Time, Exclusive: true}, o, second, "")
	for _, target := range []postgres.RecoveryTarget{{Time: last.Time}, {XID: fmt.Sprint(uint64(1) << 32)}, {Time: last.Time, Name: "x"}} {
		if _, err := postgres.PlanRestore(t.Context(), p.repo, "db", target, o); err == nil {
			t.Errorf("%+v: no error", target)
		}
	}
	// No more WAL than is replayed: to where the next record begins.
	for i, r := range p.records {
		if r.LSN < plan.Consistent || r.Kind != wal.Commit || i%3 != 0 {
			continue
		}
		plan := took("a transaction behind the backup", p.repo, postgres.RecoveryTarget{XID: fmt.Sprint(r.XID)}, o, second, "")
		if next := p.records[i+1].LSN; plan.To <= r.LSN || plan.To > next || next-plan.To > 40 {
			t.Errorf("%v to %v, and it plans WAL up to %v", r.LSN, next, plan.To)
		}
		break
	}
}

func (p *past) windows(t *testing.T) {
	said := func(repo *backup.Repository) (out string) {
		all, err := postgres.Windows(t.Context(), repo, "db")
		must(t, err)
		for _, w := range all {
			out += fmt.Sprintf("%d: %v to %v, %d points, continues %v\n", w.Timeline, w.From, w.To, len(w.Points), w.Continues)
			if w.Until.Before(w.Since) && !w.Continues || w.System == 0 {
				t.Errorf("%+v", w)
			}
		}
		return out
	}
	end := p.segments(t, 2)
	last := wal.LSN(end[len(end)-1].To)
	one, two := wal.LSN(p.bases[0].Logs[0].Consistent), wal.LSN(p.bases[1].Logs[0].Consistent)
	if got, want := said(p.repo), fmt.Sprintf("1: %v to %v, 2 points, continues false\n2: %v to %v, 2 points, continues true\n", one, p.fork, p.fork, last); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	var hole backup.Segment
	for _, s := range p.segments(t, 1) {
		if s.From > uint64(one) && s.To < p.bases[1].Logs[0].From {
			hole = s
		}
	}
	repo := p.less(t, hole.Key)
	if got, want := said(repo), fmt.Sprintf("1: %v to %v, 1 points, continues false\n1: %v to %v, 1 points, continues false\n2: %v to %v, 1 points, continues true\n",
		one, wal.LSN(hole.From), two, p.fork, p.fork, last); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
}

// beside is WAL of the old timeline from behind the fork, in the same segment of
// the log as what lies before. Its commits end no recovery along the new one.
func (p *past) beside(t *testing.T, took func(string, *backup.Repository, postgres.RecoveryTarget, postgres.PlanOptions, backup.PointID, string) *postgres.RestorePlan) {
	commits := slices.DeleteFunc(slices.Clone(p.records), func(r wal.Record) bool { return r.Kind != wal.Commit || r.LSN < p.fork })
	target := postgres.RecoveryTarget{Time: commits[len(commits)-2].Time}
	want := took("behind the fork", p.repo, target, postgres.PlanOptions{}, p.bases[1].ID, "")
	ofOld := p.segments(t, 1)
	last := ofOld[len(ofOld)-1]
	if last.To != uint64(p.fork) {
		t.Fatalf("the log has timeline 1 up to %v, and it was left at %v", wal.LSN(last.To), p.fork)
	}
	repo := p.changed(t, func(key string, b []byte) []byte {
		if key == last.Key {
			return nil
		}
		return b
	})
	open := func(r *backup.Repository) *backup.Log {
		log, err := r.Log(p.bases[0].Logs[0].Log)
		must(t, err)
		return log
	}
	in, err := open(p.repo).Open(t.Context(), 1, last.From, last.To)
	must(t, err)
	b, err := io.ReadAll(in)
	must(t, errors.Join(err, in.Close()))
	later := target.Time.Add(time.Hour)
	must(t, open(repo).Append(t.Context(), backup.Segment{Branch: 1, From: last.From, First: later, Last: later}, append(b, make([]byte, 100)...)))
	plan := took("beside a line that went on", repo, target, postgres.PlanOptions{}, p.bases[1].ID, "")
	if plan.To != want.To || !slices.Equal(plan.Timelines, want.Timelines) {
		t.Errorf("beside a line that went on: to %v on %v, want %v on %v", plan.To, plan.Timelines, want.To, want.Timelines)
	}
}

// ahead is WAL that a target does not need, and that is not there; but for a
// server that pauses it is, as it may go on.
func (p *past) ahead(t *testing.T, took func(string, *backup.Repository, postgres.RecoveryTarget, postgres.PlanOptions, backup.PointID, string) *postgres.RestorePlan) {
	tail := p.segments(t, 1)
	hole := tail[len(tail)-2]
	repo := p.less(t, hole.Key)
	plan := took("before a hole", repo, postgres.RecoveryTarget{Name: "point 2"}, postgres.PlanOptions{}, p.bases[1].ID, "")
	dir := filepath.Join(t.TempDir(), "data")
	restore(t, repo, p.bases[1], dir, plan.Options)
	files := func() int {
		all, err := filepath.Glob(filepath.Join(dir+".wal", "????????????????????????"))
		must(t, err)
		return len(all)
	}
	if n, want := files(), int((plan.To+mib-1)/mib-plan.From/mib); n != want {
		t.Errorf("%d files of WAL, want %d", n, want)
	}
	plan.Options["action"], plan.Options["overwrite"] = "pause", "true"
	restore(t, p.repo, p.bases[1], dir, plan.Options)
	end := p.segments(t, 2)
	want := int((end[len(end)-1].To+mib-1)/mib - uint64(plan.From/mib))
	if p.fork%mib != 0 {
		want++ // that with the fork is there by both names
	}
	if n := files(); n != want {
		t.Errorf("paused: %d files of WAL, want %d", n, want)
	}
}
