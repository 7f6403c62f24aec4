package backup_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// A logged target is a tree that needs a log.
type logged struct {
	*tree
	need backup.LogPosition
}

func (l logged) Backup(ctx context.Context, s *backup.Session) error {
	if err := s.NeedLog(l.need); err != nil {
		return err
	}
	return l.tree.Backup(ctx, s)
}

// A leg is a stretch of a log, and what it holds.
type leg struct {
	key      string // of the segment
	branch   uint32
	from, to uint64
}

// fillWide makes a repository whose keys were changed twice, with a log and with
// a sealed writer whose packs were attested.
func (s *specimen) fillWide(t *testing.T) {
	r, err := backup.Init(t.Context(), plain(s.store))
	if err != nil {
		t.Fatal(err)
	}
	l := logOf(t, r)
	const end = backup.MaxSegment // of a window of compaction
	mustAppend(t, l, 1, end-20, end-10, end)
	if rep, err := l.Compact(t.Context()); err != nil || rep.Written.Segments != 1 {
		t.Fatalf("compact: %+v, %v", rep, err)
	}
	mustAppend(t, l, 1, end, end+10)
	need := func(branch uint32, from, consistent uint64) backup.LogPosition {
		return backup.LogPosition{Log: "wal-of-main", Branch: branch, From: from, Consistent: consistent}
	}
	backUp := func(r *backup.Repository, files map[string]string, p backup.LogPosition) backup.PointID {
		id := mustBackup(t, r, "w", logged{treeOf(files), p}, backup.Full).ID
		s.points[id] = treeOf(files).files
		time.Sleep(time.Minute)
		return id
	}
	one := backUp(r, map[string]string{"a": "alpha", "b": "beta"}, need(1, end-20, end-10))
	if err := r.Rotate(t.Context(), backup.Unprotected{}); err != nil {
		t.Fatal(err)
	}
	forgotten := mustBackup(t, r, "w", treeOf(map[string]string{"a": "alpha", "f": "phi"}), backup.Full)
	if err := r.Rotate(t.Context(), backup.Unprotected{}); err != nil {
		t.Fatal(err)
	}
	r = reopenWith(t, plain(s.store))
	l = logOf(t, r)
	if err := l.StartBranch(t.Context(), backup.Branch{Branch: 2, Parent: 1, At: end + 5, History: []byte("promoted")}); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 2, end+5, end+15)
	before := keysOf(t, s.store, "")
	sealed := seal(t, r, s.store, "sealed")
	two := backUp(sealed, map[string]string{"a": "alpha", "s": "sigma"}, need(2, end+2, end+8))
	if rep, err := r.Attest(t.Context(), backup.AttestOptions{}); err != nil || rep.Attested.Packs == 0 {
		t.Fatalf("attest: %+v, %v", rep, err)
	}
	bySealed := slices.DeleteFunc(keysOf(t, s.store, ""), func(key string) bool { return slices.Contains(before, key) })
	last := backUp(r, map[string]string{"c": "gamma", "s": "sigma"}, need(2, end+8, end+8))
	if err := r.Forget(t.Context(), forgotten.ID); err != nil {
		t.Fatal(err)
	}
	if rep := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !rep.OK() {
		t.Fatalf("before any damage: %s", rep)
	}

	for id := range s.points {
		for _, info := range collect(t, r.Objects(t.Context(), "points/"+string(id))) {
			if !strings.HasPrefix(info.Key, "logs/") {
				s.users[info.Key] = append(s.users[info.Key], id)
			}
		}
	}
	s.log = []leg{{"", 1, end - 20, end}, {"", 1, end, end + 10}, {"", 2, end + 5, end + 15}}
	s.tail["points/"+string(two)], s.tail["points/"+string(last)] = true, true // the last of each writer
	for i, x := range s.log {
		seg := collect(t, l.Segments(t.Context(), x.branch, x.from, x.to))
		if len(seg) != 1 {
			t.Fatalf("segments %+v", seg)
		}
		s.log[i].key = seg[0].Key
		s.users[seg[0].Key] = [][]backup.PointID{{one}, {two}, {two}}[i]
	}
	prefix, _, _ := strings.Cut(s.log[2].key, "/00000002/")
	s.users[prefix+"/00000002/start"] = []backup.PointID{two}
	for _, key := range keysOf(t, s.store, "index/") { // what was attested is in two of them
		without := copyStore(t, s.store)
		if err := without.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		rep, err := reopenWith(t, plain(without)).Repair(t.Context(), backup.RepairOptions{DryRun: true})
		if err != nil {
			t.Fatal(err)
		}
		s.tail[key] = rep.Indexed == 0
	}
	// What the other specimen does not have in this form: keys, logs, what a
	// sealed writer has written, and what was said of it since.
	full := map[string]int{}
	for _, key := range keysOf(t, s.store, "") {
		switch kind := kindOfKey(key); {
		case kind == "keys", kind == "logs", slices.Contains(bySealed, key) && slices.Contains([]string{"data", "meta", "index", "points"}, kind):
			full[kind]++
		default:
			s.sample[key] = true
		}
	}
	if want := map[string]int{"keys": 2, "logs": 4, "data": 1, "meta": 1, "points": 1, "index": 2}; !maps.Equal(full, want) {
		t.Errorf("of %v every byte is flipped, want %v", full, want)
	}
}

// readable compares what can be read of the log with what the report says.
func (c corner) readable(ctx context.Context, r *backup.Repository, rep backup.CheckReport) error {
	l, err := r.Log("wal-of-main")
	if err != nil {
		return err
	}
	for _, x := range c.log {
		lost := false
		for _, y := range rep.LostLogs {
			lost = lost || y.Branch == x.branch && y.From < x.to && x.from < y.To
		}
		rc, err := l.Open(ctx, x.branch, x.from, x.to)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(rc)
		}
		if err == nil && string(got) != string(stream(x.branch, x.from, x.to)) {
			return fmt.Errorf("%s was read wrongly and nobody said so", x.key)
		}
		if start := strings.Contains(fmt.Sprint(rep.Problems), "/start"); (err != nil) != lost && !start {
			return fmt.Errorf("reading %s gives %v, and the check says %s", x.key, err, rep)
		}
	}
	return nil
}

// An earlier keys object that is damaged or gone is put back from a copy in
// what was written while it was the present one, and sealed writers that know
// only what was before it follow again.
func TestRepairEarlierKeys(t *testing.T) {
	s := newSpecimen(t, (*specimen).fillWide)
	good, _, err := provider.ReadAll(t.Context(), s.store, "keys/0000000000000002", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, damage := range []func(*testing.T, provider.BlobStore){
		func(t *testing.T, b provider.BlobStore) { flip(t, b, "keys/0000000000000002", 100) },
		func(t *testing.T, b provider.BlobStore) { flip(t, b, "keys/0000000000000002", -200) }, // its MAC
		func(t *testing.T, b provider.BlobStore) {
			if err := b.Delete(t.Context(), "keys/0000000000000002", provider.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		store := copyStore(t, s.store)
		damage(t, store)
		r := reopenWith(t, plain(store))
		rep, err := r.Repair(t.Context(), backup.RepairOptions{})
		if err != nil || len(rep.Keys) != 1 || rep.Keys[0] != "keys/0000000000000002" {
			t.Errorf("repair: %+v, %v", rep, err)
		}
		if got, _, err := provider.ReadAll(t.Context(), store, "keys/0000000000000002", 1<<20); err != nil || string(got) != string(good) {
			t.Errorf("it is not what it was: %v", err)
		}
		mustBeSound(t, r)
	}
}
