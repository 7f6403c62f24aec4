package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// createOnly is a store for credentials that may create and list, read
// anything but packs, and never replace or delete.
type createOnly struct {
	provider.BlobStore
	t *testing.T
}

func (s createOnly) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if !o.IfAbsent {
		s.t.Errorf("put %s is not conditional", key)
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

func (s createOnly) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	s.t.Errorf("delete %s", key)
	return s.BlobStore.Delete(ctx, key, o)
}

func (s createOnly) Get(ctx context.Context, key string, o provider.GetOptions) (rc io.ReadCloser, info provider.Info, err error) {
	if strings.HasPrefix(key, "data/") || strings.HasPrefix(key, "meta/") {
		s.t.Errorf("get %s", key)
	}
	return s.BlobStore.Get(ctx, key, o)
}

// scene is a repository with one point, and the data of the next.
type scene struct {
	store *providertest.Memory
	first backup.PointID
	one   *tree
	two   *tree
}

func newScene(t *testing.T) *scene {
	store := providertest.NewMemory()
	s := &scene{store: store, one: treeOf(map[string]string{"a": random(1, 300_000), "b": "bee"})}
	s.first = mustBackup(t, reopenWith(t, newRepoConfig(t, store)), "w", s.one, backup.Full).ID
	s.two = &tree{files: maps.Clone(s.one.files)}
	for i := range 4 {
		s.two.files[fmt.Sprintf("new%d", i)] = file{content: random(uint64(10+i), 500_000)}
	}
	return s
}

func newRepoConfig(t *testing.T, store provider.BlobStore) backup.Config {
	c := config(store)
	c.PackSize = 1 << 20 // several packs
	if _, err := backup.Init(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func reopenWith(t testing.TB, c backup.Config) *backup.Repository {
	t.Helper()
	r, err := backup.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// survives checks what must hold whatever happened to a backup of s.two:
// what is listed restores, what was acknowledged is listed, and the next
// backup works and uploads only what is missing.
func (s *scene) survives(t *testing.T, what string, store *providertest.Memory, acked backup.Point, err error) {
	t.Helper()
	c := config(store)
	c.PackSize = 1 << 20
	r := reopenWith(t, c)
	var ids []backup.PointID
	for _, p := range collect(t, r.Points(t.Context(), "")) {
		ids = append(ids, p.ID)
		want := s.two.files
		if p.ID == s.first {
			want = s.one.files
		}
		mustHold(t, r, p.ID, want)
	}
	if !slices.Contains(ids, s.first) || len(ids) > 2 {
		t.Errorf("%s: points %v", what, ids)
	}
	if err == nil && !slices.Contains(ids, acked.ID) {
		t.Errorf("%s: %s was acknowledged and is not there", what, acked.ID)
	}
	if err != nil && len(ids) == 2 && !strings.Contains(err.Error(), "is not known") {
		t.Errorf("%s: the point exists, but the error does not say that it may: %v", what, err)
	}
	again := mustBackup(t, r, "w", s.two, backup.Full)
	mustHold(t, r, again.ID, s.two.files)
	if n := twice(t, store); n > 0 {
		t.Errorf("%s: %d bytes were stored twice", what, n)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("%s: check: %+v, %v", what, rep, err)
	}
}

// A process is killed at every request of a backup, before and after the
// request has its effect.
func TestCrashAtEveryRequest(t *testing.T) {
	s := newScene(t)
	attempt := func(store *providertest.Memory, script providertest.Script) (backup.Point, int, error) {
		f := providertest.NewFaulty(store, script)
		c := config(createOnly{f, t})
		c.PackSize = 1 << 20
		r, err := backup.Open(t.Context(), c)
		if err != nil {
			return backup.Point{}, 0, err
		}
		p, err := r.Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		return p, len(f.Calls()), err
	}
	_, calls, err := attempt(copyStore(t, s.store), nil)
	if err != nil || calls < 10 {
		t.Fatalf("undisturbed: %v after %d requests", err, calls)
	}
	for n := 1; n <= calls; n++ {
		for name, script := range map[string]providertest.Script{"before": providertest.CrashBefore(n), "after": providertest.CrashAfter(n)} {
			store := copyStore(t, s.store)
			p, _, err := attempt(store, script)
			what := fmt.Sprintf("crash %s request %d", name, n)
			s.survives(t, what, store, p, err)
			if t.Failed() {
				t.Fatal(what)
			}
		}
	}
}

// The reply to each request is lost once, and then to all puts: what took
// effect is recognised, and the backup goes on.
func TestLostReplies(t *testing.T) {
	s := newScene(t)
	attempt := func(script providertest.Script) (*providertest.Memory, backup.Point, []providertest.Call, error) {
		store := copyStore(t, s.store)
		f := providertest.NewFaulty(store, script)
		c := config(f)
		c.PackSize = 1 << 20
		r, err := backup.Open(t.Context(), c)
		if err != nil {
			return store, backup.Point{}, f.Calls(), err
		}
		p, err := r.Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		return store, p, f.Calls(), err
	}
	_, _, calls, _ := attempt(nil)
	for n := range len(calls) {
		for _, fault := range []providertest.Fault{{After: providertest.ErrInjected}, {Before: providertest.ErrInjected}} {
			put := false
			store, p, _, err := attempt(func(c providertest.Call) providertest.Fault {
				if c.N == n+1 {
					put = c.Op == "put"
					return fault
				}
				return providertest.Fault{}
			})
			what := fmt.Sprintf("request %d: %+v", n+1, fault)
			if put && fault.After != nil && err != nil {
				t.Errorf("%s: the lost reply of a put was not survived: %v", what, err)
			}
			s.survives(t, what, store, p, err)
		}
	}
	store, p, _, err := attempt(func(c providertest.Call) providertest.Fault {
		if c.Op == "put" {
			return providertest.Fault{After: providertest.ErrInjected}
		}
		return providertest.Fault{}
	})
	if err != nil {
		t.Errorf("all replies to puts lost: %v", err)
	}
	s.survives(t, "all replies to puts lost", store, p, err)
}

// A full store ends the backup with its error, and loses nothing.
func TestFullStore(t *testing.T) {
	s := newScene(t)
	for room := range 8 {
		store := copyStore(t, s.store)
		var mu sync.Mutex
		puts := 0
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if c.Op == "put" {
				if puts++; puts > room {
					return providertest.Fault{Before: syscall.ENOSPC}
				}
			}
			return providertest.Fault{}
		})
		c := config(f)
		c.PackSize = 1 << 20
		p, err := reopenWith(t, c).Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("room for %d objects: %v, want ENOSPC", room, err)
		}
		if err == nil && room < 5 {
			t.Errorf("room for %d objects: the backup succeeded", room)
		}
		s.survives(t, fmt.Sprintf("room for %d objects", room), store, p, err)
	}
}

// Objects of one kind cannot be written at all: there is no point without
// them.
func TestRefusedObjects(t *testing.T) {
	s := newScene(t)
	for _, prefix := range []string{"sessions/", "data/", "meta/", "index/", "points/"} {
		store := copyStore(t, s.store)
		f := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
			if c.Op == "put" && strings.HasPrefix(c.Key, prefix) {
				return providertest.Fault{Before: providertest.ErrInjected}
			}
			return providertest.Fault{}
		})
		c := config(f)
		c.PackSize = 1 << 20
		p, err := reopenWith(t, c).Backup(t.Context(), "w", s.two, backup.BackupOptions{})
		if !errors.Is(err, providertest.ErrInjected) {
			t.Errorf("%s refused: %v", prefix, err)
		}
		s.survives(t, prefix+" refused", store, p, err)
	}
}

// What a backup had uploaded when it failed is not uploaded again.
func TestResume(t *testing.T) {
	store := providertest.NewMemory()
	c := newRepoConfig(t, store)
	big := treeOf(map[string]string{"a": random(7, 20<<20), "b": "last"})
	stop := errors.New("stop")
	big.during = func(p string) error {
		if p == "b" {
			return stop
		}
		return nil
	}
	if _, err := reopenWith(t, c).Backup(t.Context(), "w", big, backup.BackupOptions{}); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if got := collect(t, reopenWith(t, c).Points(t.Context(), "")); len(got) != 0 {
		t.Fatalf("a failed backup left points: %+v", got)
	}
	big.during = nil
	p := mustBackup(t, reopenWith(t, c), "w", big, backup.Full)
	if p.Stats.BytesNew > 6<<20 {
		t.Errorf("after 20 MiB were interrupted, %d bytes were new again", p.Stats.BytesNew)
	}
	mustHold(t, reopenWith(t, c), p.ID, big.files)
}

// Init is killed at every request; repeating it, or opening what it left,
// works.
func TestCrashInInit(t *testing.T) {
	f := providertest.NewFaulty(providertest.NewMemory(), nil)
	newRepo(t, f)
	for n := 1; n <= len(f.Calls()); n++ {
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			store := providertest.NewMemory()
			if _, err := backup.Init(t.Context(), config(providertest.NewFaulty(store, script))); err == nil {
				t.Errorf("crash at request %d went unnoticed", n)
			}
			r, err := backup.Init(t.Context(), config(store))
			if errors.Is(err, backup.ErrExists) {
				r, err = backup.Open(t.Context(), config(store))
			}
			if err != nil {
				t.Fatalf("crash at request %d: %v", n, err)
			}
			target := treeOf(map[string]string{"a": "b"})
			mustHold(t, r, mustBackup(t, r, "w", target, backup.Full).ID, target.files)
		}
	}
	store := providertest.NewMemory()
	lost := providertest.NewFaulty(store, func(c providertest.Call) providertest.Fault {
		if c.Op == "put" {
			return providertest.Fault{After: providertest.ErrInjected}
		}
		return providertest.Fault{}
	})
	if _, err := backup.Init(t.Context(), config(lost)); err != nil {
		t.Errorf("the reply to Init's put was lost: %v", err)
	}
	if _, err := backup.Init(t.Context(), config(store)); !errors.Is(err, backup.ErrExists) {
		t.Errorf("second Init: %v, want ErrExists", err)
	}
}

// What maintenance puts in the place of a manifest fences the session.
func TestFenced(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	target := treeOf(map[string]string{"a": "b"})
	target.during = func(string) error {
		for _, info := range collect(t, store.List(t.Context(), "sessions/", provider.ListOptions{})) {
			put(t, store, strings.Replace(info.Key, "sessions/", "points/", 1), []byte("tombstone"))
		}
		return nil
	}
	if _, err := r.Backup(t.Context(), "w", target, backup.BackupOptions{}); !errors.Is(err, backup.ErrFenced) {
		t.Errorf("%v, want ErrFenced", err)
	}
}
