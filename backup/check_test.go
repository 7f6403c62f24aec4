package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// plain is a config whose key needs no unwrapping, for tests that open a
// repository many times.
func plain(s provider.BlobStore) backup.Config {
	c := config(s)
	c.Keyring = backup.Keyring{Recipients: []backup.Recipient{backup.Unprotected{}}, Identities: []backup.Identity{backup.Unprotected{}}}
	return c
}

// manyPoints makes a repository with n points, an hour apart, none of which shares
// anything with another.
func manyPoints(t testing.TB, n int) (*providertest.Memory, *backup.Repository) {
	t.Helper()
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		another(t, r, i)
		time.Sleep(time.Hour)
	}
	return store, r
}

func another(t testing.TB, r *backup.Repository, i int) backup.Point {
	t.Helper()
	return mustBackup(t, r, "w", treeOf(map[string]string{fmt.Sprintf("dir/file%d", i): random(uint64(1000+i), 3000)}), backup.Full)
}

func mustCheck(t testing.TB, r *backup.Repository, o backup.CheckOptions) backup.CheckReport {
	t.Helper()
	rep, err := r.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

func keysOf(t testing.TB, s provider.BlobStore, prefixes ...string) (keys []string) {
	t.Helper()
	for _, p := range prefixes {
		for _, info := range collect(t, s.List(t.Context(), p, provider.ListOptions{})) {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

func flip(t testing.TB, s provider.BlobStore, key string, at int) {
	t.Helper()
	b, _, err := provider.ReadAll(t.Context(), s, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	b = slices.Clone(b)
	b[(at+len(b))%len(b)] ^= 1
	put(t, s, key, b)
}

// reads counts how often each pack was read in full.
type reads struct {
	provider.BlobStore
	mu   sync.Mutex
	keys []string
}

func (s *reads) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.keys
	s.keys = nil
	return out
}

func recordReads(store provider.BlobStore) *reads {
	r := &reads{}
	r.BlobStore = providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
		if c.Op == "get" && (strings.HasPrefix(c.Key, "data/") || strings.HasPrefix(c.Key, "meta/")) {
			r.mu.Lock()
			r.keys = append(r.keys, c.Key)
			r.mu.Unlock()
		}
		return providertest.Fault{}
	})
	return r
}

// With a share of 1/n, n checks read every byte, the oldest first, however
// much is added meanwhile.
func TestCheckBudgetComesRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r := manyPoints(t, 8)
		spy := recordReads(store)
		o := backup.CheckOptions{Budget: backup.CheckBudget{Share: 1.0 / 8}, Period: 8*24*time.Hour - time.Minute}
		first := keysOf(t, store, "data/")
		seen := map[string]int{}
		for day := range 8 {
			time.Sleep(24 * time.Hour)
			rep := mustCheck(t, reopenWith(t, plain(spy)), o)
			if !rep.OK() || rep.ReadPacks == 0 || float64(rep.Read) < float64(rep.Bytes)/8 || float64(rep.Read) > float64(rep.Bytes)/8+20<<10 {
				t.Errorf("day %d: %s", day, rep)
			}
			if day < 4 && (rep.Verified <= float64(day)/12 || rep.Verified > float64(day+3)/8) {
				t.Errorf("day %d: %.2f is verified", day, rep.Verified)
			}
			for _, k := range spy.take() {
				seen[k]++
			}
			another(t, r, 100+day) // younger than all that is due
		}
		for _, k := range first {
			if seen[k] == 0 {
				t.Errorf("%s was not read in 8 checks of an eighth each", k)
			}
		}
		// Full reads count as well, and what was read longest ago is next.
		rep := mustCheck(t, reopenWith(t, plain(spy)), backup.CheckOptions{ReadData: true, Period: o.Period})
		if rep.Verified != 1 || !rep.Oldest.Equal(rep.At.Truncate(time.Millisecond)) {
			t.Errorf("after reading everything: %s", rep)
		}
		time.Sleep(time.Hour)
		spy.take()
		half := mustCheck(t, reopenWith(t, plain(spy)), backup.CheckOptions{Budget: backup.CheckBudget{Share: 0.5}})
		one := spy.take()
		time.Sleep(time.Hour)
		mustCheck(t, reopenWith(t, plain(spy)), backup.CheckOptions{Budget: backup.CheckBudget{Bytes: half.Bytes - half.Read}})
		for _, k := range spy.take() {
			if slices.Contains(one, k) && strings.HasPrefix(k, "data/") {
				t.Errorf("%s was read again before others had been", k)
			}
		}
		rep = mustCheck(t, reopenWith(t, plain(spy)), backup.CheckOptions{})
		if rep.ReadPacks != 0 || rep.Verified != 1 || rep.At.Sub(rep.Oldest) > 2*time.Hour {
			t.Errorf("structure only: %s", rep)
		}
		time.Sleep(31 * 24 * time.Hour)
		if rep = mustCheck(t, r, backup.CheckOptions{}); rep.Verified != 0 {
			t.Errorf("a month later: %s", rep)
		}
	})
}

// A damaged pack is found when its turn comes, and from then on reported by
// every check until it is right again. It never keeps others from their turn.
func TestCheckRemembersDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r := manyPoints(t, 4)
		packs := keysOf(t, store, "data/")
		good, _, err := provider.ReadAll(t.Context(), store, packs[2], 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		mustCheck(t, r, backup.CheckOptions{ReadData: true})
		time.Sleep(time.Hour)
		another(t, r, 50)
		flip(t, store, packs[2], -3000)
		time.Sleep(time.Hour)
		o := backup.CheckOptions{Budget: backup.CheckBudget{Bytes: 1}}
		found := 0
		for range 10 {
			rep := mustCheck(t, r, o)
			time.Sleep(time.Hour)
			if !rep.OK() {
				found++
				if rep.Problems[0].Key != packs[2] || len(rep.Damaged) != 1 || rep.Damaged[0].Lost[0].Bytes != 3000 || rep.Whole != 4 {
					t.Errorf("%s", rep)
				}
			}
		}
		if found == 0 || found == 10 {
			t.Errorf("found by %d of 10 checks that read one pack each, of 10", found)
		}
		if rep := mustCheck(t, reopenWith(t, plain(store)), backup.CheckOptions{}); rep.OK() || rep.ReadPacks != 1 {
			t.Errorf("a check of the structure forgets the damage: %s", rep)
		}
		for range 10 {
			mustCheck(t, r, o)
			time.Sleep(time.Hour)
		}
		rep := mustCheck(t, r, backup.CheckOptions{})
		if rep.Verified >= 1 || rep.At.Sub(rep.Oldest) < 20*time.Hour {
			t.Errorf("damage counts as verified: %s", rep)
		}
		rep = mustCheck(t, r, backup.CheckOptions{Period: 12 * time.Hour})
		if want := 1 - float64(len(good))/float64(rep.Bytes); rep.Verified < want-1e-9 {
			t.Errorf("the damaged pack keeps others from being verified: %s", rep)
		}
		put(t, store, packs[2], good)
		for range 2 {
			if rep := mustCheck(t, r, backup.CheckOptions{}); !rep.OK() {
				t.Errorf("right again, and still reported: %s", rep)
			}
		}
	})
}

func TestCheckTimeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := manyPoints(t, 10)
		slow := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			if c.Op == "get" && strings.HasPrefix(c.Key, "data/") {
				return providertest.Fault{Wait: func(context.Context) error { time.Sleep(3 * time.Second); return nil }}
			}
			return providertest.Fault{}
		})
		c := plain(slow)
		c.Workers = 1
		rep := mustCheck(t, reopenWith(t, c), backup.CheckOptions{Budget: backup.CheckBudget{Time: 10 * time.Second}})
		if took := time.Since(rep.At); !rep.OK() || rep.ReadPacks == 0 || rep.ReadPacks == rep.Packs || took < 10*time.Second || took > 16*time.Second {
			t.Errorf("in %v: %s", took, rep)
		}
	})
}

// A check that is cancelled, or that loses its store, keeps what it has
// verified.
func TestCheckInterrupted(t *testing.T) {
	for name, crash := range map[string]bool{"cancelled": false, "store fails": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, _ := manyPoints(t, 6)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var mu sync.Mutex
				failing := false
				faulty := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
					mu.Lock()
					defer mu.Unlock()
					if failing && c.Op == "get" {
						return providertest.Fault{Before: providertest.ErrInjected}
					}
					return providertest.Fault{}
				})
				c := plain(faulty)
				c.Workers = 1
				_, err := reopenWith(t, c).Check(ctx, backup.CheckOptions{ReadData: true, Progress: func(p backup.Progress) {
					if p.Items == 5 && crash {
						mu.Lock()
						failing = true
						mu.Unlock()
					} else if p.Items == 5 {
						cancel()
					}
				}})
				if want := map[bool]error{true: providertest.ErrInjected, false: context.Canceled}[crash]; !errors.Is(err, want) {
					t.Fatalf("%v, want %v", err, want)
				}
				spy := recordReads(store)
				time.Sleep(time.Hour)
				rep := mustCheck(t, reopenWith(t, plain(spy)), backup.CheckOptions{})
				if rep.Verified < 4.0/12 || rep.Verified > 8.0/12 {
					t.Errorf("5 of 12 packs had been read: %s", rep)
				}
			})
		})
	}
}

// A check with a credential that may only read says so and checks; and the
// state of others is not needed, whatever happens to it.
func TestCheckWithoutState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, _ := manyPoints(t, 2)
		before := keysOf(t, store, "")
		readOnly := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			if c.Op == "put" || c.Op == "delete" {
				return providertest.Fault{Before: fs.ErrPermission}
			}
			return providertest.Fault{}
		})
		rep := mustCheck(t, reopenWith(t, plain(readOnly)), backup.CheckOptions{ReadData: true})
		if !rep.OK() || rep.Unrecorded == "" || rep.Verified != 1 || !strings.Contains(rep.String(), "could not be recorded") {
			t.Errorf("%s", rep)
		}
		if got := keysOf(t, store, ""); !slices.Equal(got, before) {
			t.Errorf("objects %v, were %v", got, before)
		}
		r := reopenWith(t, plain(store))
		mustCheck(t, r, backup.CheckOptions{ReadData: true})
		state := keysOf(t, store, "verified/")
		if len(state) != 1 {
			t.Fatalf("state %v", state)
		}
		flip(t, store, state[0], -1)
		rep = mustCheck(t, r, backup.CheckOptions{Budget: backup.CheckBudget{Share: 1}})
		if len(rep.Problems) != 1 || rep.Problems[0].Key != state[0] || !rep.Problems[0].Repairable || rep.ReadPacks != rep.Packs {
			t.Errorf("damaged state: %s", rep)
		}
		if _, err := r.Prune(t.Context(), backup.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		if rep = mustCheck(t, r, backup.CheckOptions{}); !rep.OK() || rep.Verified != 1 {
			t.Errorf("after Prune: %s", rep)
		}
	})
}

// State that is dated in the future, as a checker whose clock was wrong
// leaves it, keeps nothing from being checked.
func TestCheckStateOfTheFuture(t *testing.T) {
	var store *providertest.Memory
	synctest.Test(t, func(t *testing.T) {
		var r *backup.Repository
		store, r = manyPoints(t, 2)
		time.Sleep(365 * 24 * time.Hour)
		mustCheck(t, r, backup.CheckOptions{ReadData: true})
	})
	synctest.Test(t, func(t *testing.T) { // which begins at the same time as the one before
		r := reopenWith(t, plain(store))
		if rep := mustCheck(t, r, backup.CheckOptions{}); !rep.OK() || rep.Verified != 0 {
			t.Errorf("%s", rep)
		}
		if rep := mustCheck(t, r, backup.CheckOptions{ReadData: true}); !rep.OK() || rep.Verified != 1 {
			t.Errorf("%s", rep)
		}
		if _, err := r.Prune(t.Context(), backup.PruneOptions{}); err != nil {
			t.Fatal(err)
		}
		if n := len(keysOf(t, store, "verified/")); n != 1 {
			t.Errorf("%d objects of state, want that of the present", n)
		}
		if rep := mustCheck(t, r, backup.CheckOptions{}); rep.Verified != 1 {
			t.Errorf("%s", rep)
		}
	})
}

// Prune removes state that is superseded, and whatever stops it on the way,
// what is known of each pack stays known.
func TestPruneTidiesVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, r := manyPoints(t, 3)
		for range 20 {
			time.Sleep(time.Hour)
			mustCheck(t, r, backup.CheckOptions{Budget: backup.CheckBudget{Bytes: 1}})
		}
		want := mustCheck(t, r, backup.CheckOptions{})
		if n := len(keysOf(t, store, "verified/")); n != 20 || want.Verified != 1 {
			t.Fatalf("%d objects, %s", n, want)
		}
		for n := 1; ; n += every {
			damaged := copyStore(t, store)
			f := providertest.NewFaulty(damaged, providertest.CrashAfter(n))
			c, err := backup.Open(t.Context(), plain(f))
			if err == nil {
				_, err = c.Prune(t.Context(), backup.PruneOptions{MinGarbage: 1})
			}
			for h := n % 3; h < 8; h += 3 { // with the next crash points it is every hour
				o := backup.CheckOptions{Period: time.Duration(h)*time.Hour + time.Minute}
				if got, want := mustCheck(t, reopenWith(t, plain(damaged)), o), mustCheck(t, r, o); !got.OK() || got.Verified != want.Verified {
					t.Fatalf("crash after request %d: %s\nbefore it: %s", n, got, want)
				}
			}
			if err == nil {
				if left := len(keysOf(t, damaged, "verified/")); left != 6 {
					t.Errorf("%d objects are left, want one for each of 6 packs", left)
				}
				return
			}
		}
	})
}

// What is lost is told by path.
func TestCheckNamesWhatIsLost(t *testing.T) {
	store := providertest.NewMemory()
	r, err := backup.Init(t.Context(), plain(store))
	if err != nil {
		t.Fatal(err)
	}
	target := treeOf(map[string]string{"a": random(1, 2000), "b/c": random(2, 70_000), "d": "", "e": "tiny"})
	hurt := mustBackup(t, r, "shop", target, backup.Full)
	data := keysOf(t, store, "data/")
	whole := mustBackup(t, r, "other", treeOf(map[string]string{"x": "elsewhere"}), backup.Full)
	damaged := copyStore(t, store)
	flip(t, damaged, data[0], 40_000) // in the content of b/c, which is by far the longest
	rep := mustCheck(t, reopenWith(t, plain(damaged)), backup.CheckOptions{ReadData: true})
	want := []backup.Loss{{Path: "b/c", Items: 1, Bytes: 70_000}}
	if len(rep.Damaged) != 1 || rep.Damaged[0].ID != hurt.ID || rep.Damaged[0].Name != "shop" || !slices.Equal(rep.Damaged[0].Lost, want) || rep.Whole != 1 {
		t.Errorf("%s", rep)
	}
	if s := rep.String(); !strings.Contains(s, `"b/c"`) || !strings.Contains(s, data[0]) || strings.Contains(s, string(whole.ID)) {
		t.Errorf("for people: %s", s)
	}
	b, err := json.Marshal(rep)
	var again backup.CheckReport
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if err != nil || again.String() != rep.String() {
		t.Errorf("as JSON: %s, %v", b, err)
	}
	// Without the list of items, how many they were is known.
	damaged = copyStore(t, store)
	for _, k := range keysOf(t, damaged, "meta/") {
		flip(t, damaged, k, -130)
	}
	rep = mustCheck(t, reopenWith(t, plain(damaged)), backup.CheckOptions{ReadData: true})
	if len(rep.Damaged) != 2 || rep.Damaged[0].Items != 4 || rep.Damaged[0].Lost[0].Bytes != -1 || rep.Whole != 0 {
		t.Errorf("%s", rep)
	}
	damaged = copyStore(t, store)
	flip(t, damaged, "points/"+string(hurt.ID), -1)
	rep = mustCheck(t, reopenWith(t, plain(damaged)), backup.CheckOptions{})
	if len(rep.Damaged) != 1 || !rep.Damaged[0].Everything || rep.Damaged[0].Name != "" {
		t.Errorf("%s", rep)
	}
}

func TestCheckOptions(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	for _, o := range []backup.CheckOptions{
		{Period: -1}, {Budget: backup.CheckBudget{Share: 1.1}}, {Budget: backup.CheckBudget{Share: -1}}, {Budget: backup.CheckBudget{Bytes: -1}},
		{Budget: backup.CheckBudget{Time: -1}}, {ReadData: true, Budget: backup.CheckBudget{Bytes: 1}},
	} {
		if _, err := r.Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), "field ") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if rep := mustCheck(t, r, backup.CheckOptions{Budget: backup.CheckBudget{Share: 0.1}}); !rep.OK() || rep.Verified != 1 || !rep.Oldest.IsZero() {
		t.Errorf("an empty repository: %s", rep)
	}
}
