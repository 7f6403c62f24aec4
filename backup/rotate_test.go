package backup_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// keyScene is a repository of a key in one service, with keys in another for
// those who come later.
type keyScene struct {
	store  *providertest.Memory
	kms    *providertest.KMS
	first  backup.PointID
	target *tree
}

func newKeyScene(t *testing.T) *keyScene {
	s := &keyScene{store: providertest.NewMemory(), kms: providertest.NewKMS("east", "key/1", "key/2", "key/3"), target: treeOf(map[string]string{"a": random(1, 300_000), "b": "bee"})}
	r, err := backup.Init(t.Context(), s.config(s.store, "key/1"))
	if err != nil {
		t.Fatal(err)
	}
	s.first = mustBackup(t, r, "w", s.target, backup.Full).ID
	return s
}

// config is that of who may unwrap with some of the keys.
func (s *keyScene) config(store provider.BlobStore, keys ...string) backup.Config {
	return backup.Config{Store: store, Writer: "test", Keyring: backup.Keyring{Recipients: kmsRecipients(s.kms, "key/1"), Identities: kmsIdentities(s.kms, keys...)}}
}

func (s *keyScene) open(t *testing.T, keys ...string) *backup.Repository {
	t.Helper()
	return reopenWith(t, s.config(s.store, keys...))
}

func recipients(t *testing.T, r *backup.Repository) (generation int, keys []string) {
	t.Helper()
	list, err := r.Recipients(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range list {
		generation = x.Generation
		keys = append(keys, x.Recipient)
	}
	return generation, keys
}

func mustBeSound(t *testing.T, r *backup.Repository) {
	t.Helper()
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check: %+v, %v", rep, err)
	}
}

// Who is added reads all there was; who is left out of a rotation reads
// nothing that comes later; what is there already is not stored again; and
// processes that have the repository open go on.
func TestGenerations(t *testing.T) {
	s := newKeyScene(t)
	open1 := s.open(t, "key/1") // stays open all the time
	open0 := s.open(t, "key/1") // is not told of anything
	if err := open1.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
		t.Fatal(err)
	}
	open2 := s.open(t, "key/2")
	mustHold(t, open2, s.first, s.target.files)
	if g, keys := recipients(t, open2); g != 2 || !slices.Equal(keys, []string{"key/1", "key/2"}) {
		t.Errorf("generation %d of %q", g, keys)
	}
	second := mustBackup(t, open2, "w", treeOf(map[string]string{"second": random(2, 200_000)}), backup.Full)
	mustHold(t, open1, second.ID, map[string]file{"second": {content: random(2, 200_000)}})

	if err := open2.Rotate(t.Context(), kmsRecipients(s.kms, "key/2", "key/3")...); err != nil {
		t.Fatal(err)
	}
	third := mustBackup(t, open2, "w", s.target, backup.Incremental)
	if third.Stats.BytesNew != 0 {
		t.Errorf("%d bytes were stored again after a rotation", third.Stats.BytesNew)
	}
	files := map[string]file{"third": {content: random(3, 200_000)}}
	fourth := mustBackup(t, s.open(t, "key/2"), "w", &tree{files: files}, backup.Full)
	for _, r := range []*backup.Repository{open2, s.open(t, "key/2"), s.open(t, "key/3")} {
		mustHold(t, r, s.first, s.target.files)
		mustHold(t, r, second.ID, map[string]file{"second": {content: random(2, 200_000)}})
		mustHold(t, r, third.ID, s.target.files)
		mustHold(t, r, fourth.ID, files)
		mustBeSound(t, r)
	}
	// What a replica needs of the newest point, for who has been here before.
	var last provider.Info
	for _, info := range collect(t, open2.Manifests(t.Context())) {
		last = info
	}
	var keys []string
	for _, info := range collect(t, open2.Objects(t.Context(), last.Key)) {
		if strings.HasPrefix(info.Key, "keys/") || info.Key == "format" {
			keys = append(keys, info.Key)
		}
	}
	if want := []string{"format", "keys/0000000000000002", "keys/0000000000000003"}; !slices.Equal(keys, want) {
		t.Errorf("a replica gets %q, want %q", keys, want)
	}
	// The one who was removed, with the keys he has in his hands, and without
	// the manners of this library.
	for id, want := range map[backup.PointID]bool{s.first: true, second.ID: true, third.ID: false, fourth.ID: false} {
		if got, err := backup.ReadsWithOldKeys(t.Context(), open0, id); err != nil || got != want {
			t.Errorf("old keys open %s: %t, %v; want %t", id, got, err, want)
		}
	}
	for name, err := range map[string]error{
		"open":   func() error { _, err := backup.Open(t.Context(), s.config(s.store, "key/1")); return err }(),
		"backup": func() error { _, err := open1.Backup(t.Context(), "w", s.target, backup.BackupOptions{}); return err }(),
		"view":   func() error { _, err := open1.View(t.Context(), fourth.ID); return err }(),
		"rotate": open1.Rotate(t.Context(), kmsRecipients(s.kms, "key/1")...),
		"add":    open1.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/1")...),
	} {
		if !errors.Is(err, backup.ErrNoIdentity) {
			t.Errorf("%s by who was removed: %v", name, err)
		}
	}
	for _, info := range collect(t, s.store.List(t.Context(), "", provider.ListOptions{})) {
		for _, k := range copiesIn(t, s.store, info.Key) {
			opens := false
			for _, st := range k.Stanzas {
				_, err := kmsIdentities(s.kms, "key/1")[0].Unwrap(t.Context(), st)
				opens = opens || err == nil
			}
			if opens != (k.Gen < 3) {
				t.Errorf("%s: a copy of generation %d opens for who was removed: %t", info.Key, k.Gen, opens)
			}
		}
	}
	// Prune rewrites and repairs under the new keys.
	r := s.open(t, "key/3")
	if err := r.Forget(t.Context(), second.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Prune(t.Context(), backup.PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	mustHold(t, s.open(t, "key/2"), s.first, s.target.files)
	mustBeSound(t, r)
}

// A keysCopy is what an object holds of the keys: a format or keys object, or
// copies of them.
type keysCopy struct {
	Gen     int
	Stanzas []backup.Stanza
}

func copiesIn(t *testing.T, store provider.BlobStore, key string) (out []keysCopy) {
	t.Helper()
	b, _, err := provider.ReadAll(t.Context(), store, key, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var all [][]byte
	if bytes.HasPrefix(b, []byte("holdfast")) {
		var h struct{ Format, Keys []byte }
		if err := json.Unmarshal(b[12:12+binary.BigEndian.Uint32(b[8:])], &h); err != nil {
			t.Fatal(err)
		}
		all = [][]byte{h.Format, h.Keys}
	} else {
		all = [][]byte{b}
	}
	for _, b := range all {
		if len(b) > 0 {
			var k keysCopy
			unmarshalLine(t, b, &k)
			k.Gen = max(k.Gen, 1)
			out = append(out, k)
		}
	}
	return out
}

// A process is killed at every request of a change, before and after it took
// effect, or the reply is lost: the repository opens, all is there, and the
// change can be made or was made.
func TestCrashInRotation(t *testing.T) {
	s := newKeyScene(t)
	for name, change := range map[string]func(r *backup.Repository) error{
		"rotate": func(r *backup.Repository) error {
			return r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2", "key/3")...)
		},
		"add": func(r *backup.Repository) error {
			return r.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/3")...)
		},
	} {
		attempt := func(script providertest.Script) (*providertest.Memory, []providertest.Call, error) {
			store := copyStore(t, s.store)
			f := providertest.NewFaulty(store, script)
			r, err := backup.Open(t.Context(), s.config(f, "key/1", "key/2"))
			if err == nil {
				err = change(r)
			}
			return store, f.Calls(), err
		}
		_, calls, err := attempt(nil)
		if err != nil {
			t.Fatal(err)
		}
		for n := 1; n <= len(calls); n++ {
			at := func(f providertest.Fault) providertest.Script {
				return func(c providertest.Call) providertest.Fault {
					if c.N == n {
						return f
					}
					return providertest.Fault{}
				}
			}
			for what, script := range map[string]providertest.Script{
				"crash before": providertest.CrashBefore(n), "crash after": providertest.CrashAfter(n),
				"reply lost": at(providertest.Fault{After: providertest.ErrInjected}), "refused": at(providertest.Fault{Before: providertest.ErrInjected}),
			} {
				what := fmt.Sprintf("%s: %s %d, %s %s", name, what, n, calls[n-1].Op, calls[n-1].Key)
				store, _, err := attempt(script)
				if strings.Contains(what, "reply lost") && calls[n-1].Op == "put" && err != nil {
					t.Errorf("%s: %v", what, err)
				}
				r := reopenWith(t, s.config(store, "key/1", "key/2"))
				g, keys := recipients(t, r)
				if made := g == 2 && slices.Contains(keys, "key/3"); !made && (g != 1 || len(keys) != 1) || err == nil && !made {
					t.Errorf("%s: generation %d of %q after %v", what, g, keys, err)
				}
				mustHold(t, r, s.first, s.target.files)
				if err := change(r); err != nil {
					t.Errorf("%s: once more: %v", what, err)
				}
				p := mustBackup(t, reopenWith(t, s.config(store, "key/3")), "w", s.target, backup.Full)
				mustHold(t, reopenWith(t, s.config(store, "key/3")), p.ID, s.target.files)
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	}
}

// Of two that change the recipients at once one wins; the other is told, and
// nothing of what it wanted has happened.
func TestRacingRotations(t *testing.T) {
	s := newKeyScene(t)
	winner := s.open(t, "key/1", "key/2")
	raced := false
	f := providertest.NewFaulty(s.store, nil)
	loser := reopenWith(t, s.config(f, "key/1", "key/3"))
	f.Use(func(c providertest.Call) providertest.Fault {
		if c.Op == "put" && !raced {
			raced = true
			if err := winner.Rotate(t.Context(), kmsRecipients(s.kms, "key/2", "key/1")...); err != nil {
				t.Error(err)
			}
		}
		return providertest.Fault{}
	})
	err := loser.Rotate(t.Context(), kmsRecipients(s.kms, "key/3")...)
	if !raced || !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "at the same time") {
		t.Errorf("the loser is told: %v", err)
	}
	if g, keys := recipients(t, s.open(t, "key/2")); g != 2 || !slices.Equal(keys, []string{"key/2", "key/1"}) {
		t.Errorf("generation %d of %q", g, keys)
	}
	if err := loser.Rotate(t.Context(), kmsRecipients(s.kms, "key/1", "key/3")...); err != nil {
		t.Errorf("the loser, once more: %v", err)
	}

	// Many at once: each success is a generation of its own.
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 6 {
		r := s.open(t, "key/1")
		wg.Go(func() {
			err := r.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/2")...)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, provider.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if g, _ := recipients(t, s.open(t, "key/1")); won == 0 || g != 3+won {
		t.Errorf("%d changes succeeded, and the generation is %d", won, g)
	}
}

// Keys objects that are lost or damaged are taken from the copies in other
// objects, and Repair puts the present one back as it was.
func TestLostKeys(t *testing.T) {
	s := newKeyScene(t)
	r := s.open(t, "key/1", "key/2")
	for range 2 {
		if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
			t.Fatal(err)
		}
	}
	p := mustBackup(t, r, "w", s.target, backup.Full)
	key2, key3 := "keys/0000000000000002", "keys/0000000000000003"
	was, _, err := provider.ReadAll(t.Context(), s.store, key3, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) func(*providertest.Memory) {
		return func(m *providertest.Memory) {
			b := bytes.Clone(was)
			b[i] ^= 1
			put(t, m, key3, b)
		}
	}
	drop := func(keys ...string) func(*providertest.Memory) {
		return func(m *providertest.Memory) {
			for _, k := range keys {
				if err := m.Delete(t.Context(), k, provider.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	harm := map[string]func(*providertest.Memory){
		"newest lost": drop(key3), "all lost": drop(key2, key3), "all and the format lost": drop(key2, key3, "format"),
		"empty": func(m *providertest.Memory) { put(t, m, key3, nil) },
	}
	for i := 0; i < len(was); i += len(was)/25 + 1 {
		harm[fmt.Sprintf("byte %d", i)] = flip(i)
	}
	for name, do := range harm {
		store := copyStore(t, s.store)
		do(store)
		r := reopenWith(t, s.config(store, "key/2"))
		if g, _ := recipients(t, r); g != 3 {
			t.Errorf("%s: opened generation %d", name, g)
		}
		mustHold(t, r, p.ID, s.target.files)
		rep, err := r.Check(t.Context(), backup.CheckOptions{})
		if err != nil || len(rep.Problems) == 0 || !slices.ContainsFunc(rep.Problems, func(p backup.Problem) bool { return p.Key == key3 && p.Repairable }) {
			t.Errorf("%s: check: %+v, %v", name, rep, err)
		}
		if rep, err := r.Repair(t.Context(), backup.RepairOptions{}); err != nil || !slices.Equal(rep.Keys, []string{key3}) {
			t.Errorf("%s: repair: %+v, %v", name, rep, err)
		}
		if b, _, err := provider.ReadAll(t.Context(), store, key3, 1<<20); err != nil || !bytes.Equal(b, was) {
			t.Errorf("%s: what was put back is not what was lost: %v", name, err)
		}
		if strings.HasPrefix(name, "all") {
			mustMissEarlier(t, reopenWith(t, s.config(store, "key/2")), key2)
		} else {
			mustBeSound(t, reopenWith(t, s.config(store, "key/2")))
		}
	}
	// Without an earlier one everything can be read. Nothing was written while
	// it was the present one, so there is no copy of it but in a replica.
	store := copyStore(t, s.store)
	drop(key2)(store)
	r = reopenWith(t, s.config(store, "key/2"))
	mustHold(t, r, s.first, s.target.files)
	mustMissEarlier(t, r, key2)
	if rep, err := r.Repair(t.Context(), backup.RepairOptions{}); err != nil || len(rep.Keys) > 0 || len(rep.Unmended) != 1 || rep.Unmended[0].Key != key2 {
		t.Errorf("repair without a replica: %+v, %v", rep, err)
	}
	if rep, err := r.Repair(t.Context(), backup.RepairOptions{From: s.store}); err != nil || !slices.Equal(rep.Keys, []string{key2}) {
		t.Errorf("repair from a replica: %+v, %v", rep, err)
	}
	mustBeSound(t, r)
}

// mustMissEarlier checks that an earlier keys object is missed, and nothing
// else.
func mustMissEarlier(t *testing.T, r *backup.Repository, key string) {
	t.Helper()
	rep := mustCheck(t, r, backup.CheckOptions{ReadData: true})
	if len(rep.Problems) != 1 || rep.Problems[0].Key != key || rep.Problems[0].Repairable || len(rep.Damaged) > 0 {
		t.Errorf("want %s to be missed: %s", key, rep)
	}
}

// Who can write and holds no key cannot make a generation, nor keep others
// from using the repository; what he put in the way of a rotation is named,
// and Repair removes it.
func TestForgedKeys(t *testing.T) {
	s := newKeyScene(t)
	// A generation of another repository is well formed, opens for the
	// recipient, and is signed by another authority.
	other := newKeyScene(t)
	other.kms = s.kms
	other.store = providertest.NewMemory()
	o, err := backup.Init(t.Context(), other.config(other.store, "key/1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Rotate(t.Context(), kmsRecipients(s.kms, "key/1")...), o.Rotate(t.Context(), kmsRecipients(s.kms, "key/1")...)); err != nil {
		t.Fatal(err)
	}
	forged := func(g int) []byte {
		b, _, err := provider.ReadAll(t.Context(), other.store, fmt.Sprintf("keys/%016d", g), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r := s.open(t, "key/1")
	put(t, s.store, "keys/0000000000000002", forged(2))
	put(t, s.store, "keys/0000000000000003", forged(3))
	put(t, s.store, "keys/0000000000000004", forged(2))
	put(t, s.store, "keys/0000000000000099", []byte("garbage"))
	put(t, s.store, "keys/latest", []byte("garbage"))
	for _, r := range []*backup.Repository{r, s.open(t, "key/1")} {
		if g, keys := recipients(t, r); g != 1 || len(keys) != 1 {
			t.Errorf("generation %d of %q", g, keys)
		}
		p := mustBackup(t, r, "w", s.target, backup.Full)
		mustHold(t, r, p.ID, s.target.files)
	}
	if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/1", "key/2")...); !errors.Is(err, backup.ErrDamaged) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "Repair") {
		t.Errorf("a rotation where the place is taken: %v", err)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{}); err != nil || len(rep.Problems) != 5 {
		t.Errorf("check: %+v, %v", rep, err)
	}
	if rep, err := r.Repair(t.Context(), backup.RepairOptions{}); err != nil || len(rep.Keys) != 5 {
		t.Errorf("repair: %+v, %v", rep, err)
	}
	if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/1", "key/2")...); err != nil {
		t.Error(err)
	}
	mustBeSound(t, s.open(t, "key/2"))
}

// A writer that cannot read goes over to the new keys with what its
// credential holds, in a process that runs and in one that starts; so does
// a credential of a later generation. Who was removed reads nothing of it.
func TestSealedWriterFollows(t *testing.T) {
	s := newKeyScene(t)
	r := s.open(t, "key/1", "key/2")
	credential := func() backup.Config {
		c, err := r.Seal(t.Context(), "host")
		if err != nil {
			t.Fatal(err)
		}
		return backup.Config{Store: s.store, Credential: c}
	}
	old := credential()
	running := reopenWith(t, old)
	for range 2 {
		if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
			t.Fatal(err)
		}
	}
	young := credential()
	for i, w := range []*backup.Repository{running, reopenWith(t, old), reopenWith(t, young)} {
		files := map[string]file{"a": {content: random(uint64(20+i), 100_000)}}
		p := mustBackup(t, w, "sealed", &tree{files: files}, backup.Full)
		mustHold(t, s.open(t, "key/2"), p.ID, files)
		for _, k := range copiesIn(t, s.store, "points/"+string(p.ID)) {
			if k.Gen != 1 && k.Gen != 3 {
				t.Errorf("writer %d: the manifest has a copy of generation %d", i, k.Gen)
			}
		}
		if _, err := w.View(t.Context(), p.ID); !errors.Is(err, backup.ErrSealed) {
			t.Errorf("writer %d reads: %v", i, err)
		}
		if err := w.Rotate(t.Context(), kmsRecipients(s.kms, "key/1")...); !errors.Is(err, backup.ErrSealed) {
			t.Errorf("writer %d rotates: %v", i, err)
		}
		if got := collect(t, w.Points(t.Context(), "")); len(got) != 2+i || slices.ContainsFunc(got, func(p backup.Point) bool { return p.Damaged != "" }) {
			t.Errorf("writer %d lists %+v", i, got)
		}
	}
	mustBeSound(t, s.open(t, "key/2"))
}

// Destroying the key that unwraps leaves nothing readable, whatever copies of
// the wrapped keys there are.
func TestShredding(t *testing.T) {
	s := newKeyScene(t)
	r := s.open(t, "key/1", "key/2")
	if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
		t.Fatal(err)
	}
	mustBackup(t, r, "w", s.target, backup.Full)
	replica := copyStore(t, s.store)
	s.kms.Destroy("key/1")
	s.open(t, "key/2") // one recipient is left
	s.kms.Destroy("key/2")
	stanzas := 0
	for _, store := range []*providertest.Memory{s.store, replica} {
		if _, err := backup.Open(t.Context(), s.config(store, "key/1", "key/2", "key/3")); !errors.Is(err, backup.ErrNoIdentity) || !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("open after the keys were destroyed: %v", err)
		}
		for _, info := range collect(t, store.List(t.Context(), "", provider.ListOptions{})) {
			for _, k := range copiesIn(t, store, info.Key) {
				for _, st := range k.Stanzas {
					stanzas++
					for _, id := range kmsIdentities(s.kms, "key/1", "key/2", "key/3") {
						if _, err := id.Unwrap(t.Context(), st); err == nil {
							t.Errorf("%s: a wrapped key opens", info.Key)
						}
					}
				}
			}
		}
	}
	if stanzas < 20 {
		t.Errorf("only %d wrapped keys were tried", stanzas)
	}
}

// Which recipient an identity is, and that it opens the repository now.
func TestOpenedBy(t *testing.T) {
	s := newKeyScene(t)
	west := providertest.NewKMS("west", "west/1")
	r := s.open(t, "key/1")
	if err := r.AddRecipients(t.Context(), append(kmsRecipients(west, "west/1"), backup.AgeRecipients(identity.Recipient())...)...); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("region does not answer")
	s.kms.Down(gone)
	if got, err := r.OpenedBy(t.Context(), kmsIdentities(west, "west/1")[0]); err != nil || len(got) != 1 || got[0] != (backup.RecipientInfo{Generation: 2, Type: "memory-kms", Recipient: "west/1"}) {
		t.Errorf("with the primary region gone: %+v, %v", got, err)
	}
	if got, err := r.OpenedBy(t.Context(), backup.AgeIdentities(identity)[0]); err != nil || len(got) != 1 || got[0].Recipient != identity.Recipient().String() {
		t.Errorf("age: %+v, %v", got, err)
	}
	if _, err := r.OpenedBy(t.Context(), kmsIdentities(s.kms, "key/1")[0]); !errors.Is(err, gone) {
		t.Errorf("the primary region is gone: %v", err)
	}
	if _, err := r.OpenedBy(t.Context(), backup.AgeIdentities(newIdentity())[0]); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("a stranger: %v", err)
	}
	s.kms.Down(nil)
	if _, err := s.open(t, "key/1").OpenedBy(t.Context(), kmsIdentities(s.kms, "key/1")[0]); err != nil {
		t.Error(err)
	}
}

// What a change of recipients refuses.
func TestRefusedRecipients(t *testing.T) {
	s := newKeyScene(t)
	r := s.open(t, "key/1")
	if err := r.Rotate(t.Context()); err == nil {
		t.Error("rotated to nobody")
	}
	if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); !errors.Is(err, backup.ErrNoIdentity) {
		t.Errorf("rotated to keys that nobody here opens: %v", err)
	}
	if err := r.AddRecipients(t.Context(), backup.Unprotected{}); err == nil {
		t.Error("Unprotected was put beside a recipient")
	}
	s.kms.Down(errors.New("region does not answer"))
	if err := r.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/2")...); err == nil {
		t.Error("added without the key service")
	}
	s.kms.Down(nil)
	if g, keys := recipients(t, s.open(t, "key/1")); g != 1 || len(keys) != 1 {
		t.Errorf("generation %d of %q after refusals", g, keys)
	}
	if err := r.AddRecipients(t.Context(), kmsRecipients(s.kms, "key/1")...); err != nil {
		t.Fatal(err)
	}
	if _, keys := recipients(t, r); len(keys) != 1 {
		t.Errorf("a recipient that was there is there %d times", len(keys))
	}
}

// Forget by a process that opened the repository before a rotation leaves the
// tombstone of a later generation where it is: its writer may yet wake up.
func TestForgetAfterRotation(t *testing.T) {
	s := newKeyScene(t)
	stale := s.open(t, "key/1", "key/2")
	r := s.open(t, "key/1", "key/2")
	if err := r.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
		t.Fatal(err)
	}
	id, err := backup.Tombstone(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := stale.Forget(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.Stat(t.Context(), "points/"+string(id)); err != nil {
		t.Errorf("the tombstone is gone: %v", err)
	}
}

// Repair does not take a generation that is made while it looks for one that
// does not belong there.
func TestRepairDuringRotation(t *testing.T) {
	s := newKeyScene(t)
	f := providertest.NewFaulty(s.store, nil)
	r, other := reopenWith(t, s.config(f, "key/1", "key/2")), s.open(t, "key/1", "key/2")
	lists := 0
	f.Use(func(c providertest.Call) providertest.Fault {
		if c.Op == "list" && c.Key == "keys/" {
			if lists++; lists == 2 { // the first found nothing new
				for range 2 {
					if err := other.Rotate(t.Context(), kmsRecipients(s.kms, "key/2")...); err != nil {
						t.Error(err)
					}
				}
			}
		}
		return providertest.Fault{}
	})
	if rep, err := r.Repair(t.Context(), backup.RepairOptions{}); err != nil || len(rep.Keys) > 0 || lists < 2 {
		t.Errorf("repair: %+v, %v, after %d lists", rep, err, lists)
	}
	if g, _ := recipients(t, s.open(t, "key/2")); g != 3 {
		t.Errorf("generation %d, want 3", g)
	}
	mustBeSound(t, s.open(t, "key/2"))
}
