package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// little is a point of a few objects, one of them in several chunks.
func little(t testing.TB) (*backup.Repository, backup.Point, string) {
	t.Helper()
	memory := providertest.NewMemory()
	for i := range 6 {
		put(t, memory, fmt.Sprintf("d/%d", i), fmt.Sprint("object ", i), map[string]string{"n": fmt.Sprint(i)})
	}
	put(t, memory, "large", noise(5<<20, 1), nil)
	repo := repository(t, providertest.NewMemory())
	return repo, whole(t, repo, target(t, objects.Config{Store: memory}), backup.Full), mustState(t, memory, "")
}

// Whatever becomes of a restore, at every request and in both ways a request
// can fail, running it again completes it; what is whole is not written again,
// and nothing outside of the location is touched.
func TestCrashedRestore(t *testing.T) {
	repo, p, want := little(t)
	scripts := func(n int) []providertest.Script {
		return []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n), func(c providertest.Call) (f providertest.Fault) {
			if c.N == n {
				f.Before = providertest.ErrInjected
			}
			return f
		}, func(c providertest.Call) (f providertest.Fault) {
			if c.N == n {
				f.After = providertest.ErrInjected
			}
			return f
		}}
	}
	for _, options := range [][]string{nil, {"overwrite=true", "mirror=true", "verify=true"}} {
		world := func() *providertest.Memory {
			m := providertest.NewMemory()
			put(t, m, "other", "other", nil)
			put(t, m, "out", "beside", nil)
			put(t, m, "out.", "beside", nil)
			if options != nil {
				put(t, m, "out/d/3", "old", nil)
				put(t, m, "out/extra", "extra", nil)
				put(t, m, "out/large", noise(5<<20, 2), nil)
			}
			return m
		}
		s := providertest.NewFaulty(world(), nil)
		restore(t, repo, p, target(t, objects.Config{Store: s, Readers: 2}), "out/", options...)
		calls := len(s.Calls())
		for n := 1; n <= calls; n++ {
			for i, script := range scripts(n) {
				memory := world()
				s := providertest.NewFaulty(memory, script)
				err := tryRestore(t, repo, p, target(t, objects.Config{Store: s, Readers: 2}), "out/", options...)
				if i < 2 && err == nil {
					t.Errorf("crashed at %d of %d and returned nil", n, calls)
				}
				for _, c := range s.Calls() {
					if !strings.HasPrefix(c.Key, "out/") {
						t.Errorf("%s %q is outside of the location", c.Op, c.Key)
					}
				}
				if err == nil && mustState(t, memory, "out/") != want {
					t.Errorf("fault %d at %d was no error, and not everything was restored", i, n)
				}
				there := mustState(t, memory, "out/")
				s = providertest.NewFaulty(memory, nil)
				restore(t, repo, p, target(t, objects.Config{Store: s}), "out/", options...)
				if got := mustState(t, memory, "out/"); got != want {
					t.Errorf("fault %d at %d, then again:\n%s\nwant\n%s", i, n, got, want)
				}
				missing := 0
				for line := range strings.Lines(want) {
					if !strings.Contains(there, line) {
						missing++
					}
				}
				if puts := count(s, "put"); puts != missing {
					t.Errorf("fault %d at %d: %d were missing, and %d written", i, n, missing, puts)
				}
				for _, key := range []string{"other", "out", "out."} {
					if _, err := memory.Stat(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			}
		}
	}
}

// A network that loses one request or reply in five.
func TestLossyRestore(t *testing.T) {
	repo, p, want := little(t)
	for seed := range uint64(30) {
		memory := providertest.NewMemory()
		s := providertest.NewFaulty(memory, providertest.Seeded(seed, 0.2))
		for try := 0; ; try++ {
			err := tryRestore(t, repo, p, target(t, objects.Config{Store: s}), "out/", "verify=true")
			if err == nil {
				break
			}
			if !errors.Is(err, providertest.ErrInjected) || try > 50 {
				t.Fatalf("try %d: %v", try, err)
			}
		}
		if got := mustState(t, memory, "out/"); got != want {
			t.Errorf("seed %d:\n%s\nwant\n%s", seed, got, want)
		}
	}
}

func keys(t testing.TB, s provider.BlobStore) (all []string) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, info.Key)
	}
	return all
}

// What is there and differs is kept, and named, unless it may be overwritten.
func TestTaken(t *testing.T) {
	repo, p, want := little(t)
	memory := providertest.NewMemory()
	put(t, memory, "out/d/3", "mine", nil)
	put(t, memory, "out/d/4", "object 4", map[string]string{"n": "another"})
	put(t, memory, "out/zz", "mine", nil)
	to := target(t, objects.Config{Store: memory})
	err := tryRestore(t, repo, p, to, "out/")
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "2 objects are not restored") ||
		!strings.Contains(err.Error(), `"out/d/3"`) || !strings.Contains(err.Error(), `"out/d/4"`) || !strings.Contains(err.Error(), "overwrite") {
		t.Errorf("restoring over other objects returned %v", err)
	}
	if got := mustState(t, memory, "out/"); !strings.Contains(got, `"d/3" 4 "mine"`) || strings.Count(got, "\n") != 8 {
		t.Errorf("there is now\n%s", got)
	}
	restore(t, repo, p, to, "out/", "overwrite=true")
	if got := mustState(t, memory, "out/"); got != want+"\"zz\" 4 \"mine\"\n" {
		t.Errorf("overwritten to\n%s", got)
	}
}

// An object that somebody writes while it is restored is not replaced, also
// with overwrite.
func TestRacedRestore(t *testing.T) {
	repo, p, _ := little(t)
	for _, options := range [][]string{nil, {"overwrite=true"}} {
		memory := providertest.NewMemory()
		put(t, memory, "out/d/3", "object 3", map[string]string{"n": "3"})
		if options != nil {
			put(t, memory, "out/d/2", "old", nil)
		}
		raced := 0
		s := providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
			if c.Op == "put" && c.Key == "out/d/2" {
				raced++
				f.Wait = func(context.Context) error { put(t, memory, "out/d/2", fmt.Sprint("race ", raced), nil); return nil }
			}
			return f
		})
		err := tryRestore(t, repo, p, target(t, objects.Config{Store: s}), "out/", options...)
		if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), `1 objects are not restored`) {
			t.Errorf("%v: %v", options, err)
		}
		if got := mustState(t, memory, "out/"); !strings.Contains(got, fmt.Sprintf("race %d", raced)) {
			t.Errorf("%v: there is now\n%s", options, got)
		}
	}
}

func TestMirror(t *testing.T) {
	repo, p, want := little(t)
	world := func() *providertest.Memory {
		m := providertest.NewMemory()
		for _, k := range []string{"out", "out-of", "out/a", "out/d/1/x", "out/d", "out/large/x", "out/spared/x", "out/zz", "outer/x", "zz"} {
			put(t, m, k, "extra", nil)
		}
		return m
	}
	memory := world()
	restore(t, repo, p, target(t, objects.Config{Store: memory, Exclude: []string{"spared"}}), "out/", "overwrite=true", "mirror=true")
	if got := mustState(t, memory, "out/"); got != strings.Replace(want, `"large"`, `"large"`, 1)+"\"spared/x\" 5 \"extra\"\n" {
		t.Errorf("mirrored to\n%s", got)
	}
	if got := keys(t, memory); !slices.Contains(got, "out") || !slices.Contains(got, "out-of") || !slices.Contains(got, "outer/x") || !slices.Contains(got, "zz") {
		t.Errorf("left %q", got)
	}
	memory = world()
	restore(t, repo, p, target(t, objects.Config{Store: memory}), "out/", "overwrite=true", "mirror=true", "include=d")
	if got := keys(t, memory); slices.Contains(got, "out/d") || slices.Contains(got, "out/d/1/x") || !slices.Contains(got, "out/zz") || !slices.Contains(got, "out/d/5") || slices.Contains(got, "out/large") {
		t.Errorf("a part mirrored to %q", got)
	}
	// One that has changed since it was listed is not deleted.
	memory = world()
	s := providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "delete" && c.Key == "out/zz" {
			f.Wait = func(context.Context) error { put(t, memory, "out/zz", "new", nil); return nil }
		}
		return f
	})
	err := tryRestore(t, repo, p, target(t, objects.Config{Store: s}), "out/", "overwrite=true", "mirror=true")
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "out/zz") || !slices.Contains(keys(t, memory), "out/zz") {
		t.Errorf("deleting what changed returned %v", err)
	}
	// A store that cannot compare and delete in one step.
	memory = world()
	restore(t, repo, p, target(t, objects.Config{Store: incomparable{memory}}), "out/", "overwrite=true", "mirror=true")
	if got := mustState(t, memory, "out/"); got != want {
		t.Errorf("mirrored to\n%s", got)
	}
}

type incomparable struct{ provider.BlobStore }

func (s incomparable) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	if o.Version != "" {
		return errors.ErrUnsupported
	}
	return s.BlobStore.Delete(ctx, key, o)
}

func TestSelected(t *testing.T) {
	repo, p, _ := little(t)
	memory := providertest.NewMemory()
	to := target(t, objects.Config{Store: memory})
	restore(t, repo, p, to, "out/", "include=d/*\nlarge", "exclude=3\n[45]")
	if got, want := strings.Join(keys(t, memory), " "), "out/d/0 out/d/1 out/d/2 out/large"; got != want {
		t.Errorf("restored %q, want %q", got, want)
	}
	for options, text := range map[string]string{
		"include=x":     `include: nothing in the point matches "x"`,
		"exclude=x":     `exclude: nothing in the point matches "x"`,
		"exclude=*":     "leave nothing",
		"include=[":     "bad pattern",
		"mirror=true":   "wants overwrite",
		"verify=maybe":  "want true or false",
		"versions=true": "keeps none",
	} {
		s := providertest.NewFaulty(providertest.NewMemory(), nil)
		if err := tryRestore(t, repo, p, target(t, objects.Config{Store: unversioned{s}}), "out/", options); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q in it", options, err, text)
		}
		if n := len(s.Calls()); n > 0 {
			t.Errorf("%s: the store was asked: %v", options, s.Calls())
		}
	}
	if err := tryRestore(t, repo, p, to, "\xff"); err == nil || !strings.Contains(err.Error(), "Location") {
		t.Errorf("location of other bytes: %v", err)
	}
}

type unversioned struct{ provider.BlobStore }

func TestDryRun(t *testing.T) {
	repo, p, _ := little(t)
	s := providertest.NewFaulty(providertest.NewMemory(), nil)
	var last backup.Progress
	err := repo.Restore(t.Context(), p.ID, target(t, objects.Config{Store: s}), backup.Destination{Options: map[string]string{"dry-run": "true"}},
		backup.RestoreOptions{Progress: func(p backup.Progress) { last = p }})
	if err != nil || len(s.Calls()) > 0 || last.Items != p.Stats.Items || last.Bytes != p.Stats.Bytes || last.TotalItems != p.Stats.Items {
		t.Errorf("%v, %d requests, progress %+v", err, len(s.Calls()), last)
	}
}

// spoiling stores other bytes than it was given.
type spoiling struct{ *providertest.Memory }

func (s spoiling) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if key == "out/d/2" {
		b, o.SHA256 = provider.Bytes([]byte("OBJECT 2")), [32]byte{}
	}
	if key == "out/d/3" {
		o.Meta = nil
	}
	return s.Memory.Put(ctx, key, b, o)
}

func TestVerify(t *testing.T) {
	repo, p, _ := little(t)
	restore(t, repo, p, target(t, objects.Config{Store: spoiling{providertest.NewMemory()}}), "out/")
	err := tryRestore(t, repo, p, target(t, objects.Config{Store: spoiling{providertest.NewMemory()}}), "out/", "verify=true")
	if !errors.Is(err, provider.ErrCorrupt) || !strings.Contains(err.Error(), `"out/d/2"`) || !strings.Contains(err.Error(), `"out/d/3"`) || !strings.Contains(err.Error(), "2 objects") {
		t.Errorf("verifying returned %v", err)
	}
}

// What is damaged is named, and the rest restored; a mirror then deletes
// nothing.
func TestDamaged(t *testing.T) {
	memory, packs := providertest.NewMemory(), providertest.NewMemory()
	for i := range 12 {
		put(t, memory, fmt.Sprintf("%02d", i), noise(900<<10, byte(i)), nil)
	}
	put(t, memory, "large", noise(6<<20, 50), nil)
	repo := repository(t, packs)
	p := whole(t, repo, target(t, objects.Config{Store: memory}), backup.Full)
	n := 0
	for info := range packs.List(t.Context(), "data/", provider.ListOptions{}) {
		if n++; n == 2 {
			_ = packs.Delete(t.Context(), info.Key, provider.DeleteOptions{})
		}
	}
	out := providertest.NewMemory()
	put(t, out, "x", "extra", nil)
	err := tryRestore(t, repo, p, target(t, objects.Config{Store: out}), "", "overwrite=true", "mirror=true")
	if !errors.Is(err, backup.ErrDamaged) || !slices.Contains(keys(t, out), "x") {
		t.Fatalf("restored with a pack lost: %v", err)
	}
	want := mustState(t, memory, "")
	restored := 0
	for line := range strings.Lines(mustState(t, out, "")) {
		switch {
		case strings.HasPrefix(line, `"x"`):
		case !strings.Contains(want, line):
			t.Errorf("restored as %s", line)
		default:
			restored++
		}
	}
	for _, k := range keys(t, memory) {
		if there := slices.Contains(keys(t, out), k); there == strings.Contains(err.Error(), fmt.Sprintf("%q:", k)) {
			t.Errorf("%q is there: %v, and the error says %v", k, there, err)
		}
	}
	if restored == 0 || restored == 13 {
		t.Errorf("%d of 13 restored", restored)
	}
}

// picky refuses some keys, and more Meta than the contract grants.
type picky struct{ *providertest.Memory }

func (s picky) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if strings.Contains(key, "//") || strings.Contains(key, "..") {
		return provider.Info{}, &provider.Error{Op: "put", Provider: "picky", Key: key, Err: provider.ErrInvalidKey}
	}
	return s.Memory.Put(ctx, key, b, o)
}

// rich tells Meta that no store has to take.
type rich struct{ provider.BlobStore }

func (s rich) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	r, info, err = s.BlobStore.Get(ctx, key, o)
	info.Meta = map[string]string{"ok": "yes", "not_ok": "no", "umlaut": "ü", "space": " x", "zz": strings.Repeat("z", 1024)}
	return r, info, err
}

// Keys that a store cannot hold are named, and Meta that it need not take is
// left out.
func TestPickyStore(t *testing.T) {
	memory := providertest.NewMemory()
	for _, k := range []string{"a//b", "../x", "a/b", "a"} {
		put(t, memory, k, k, nil)
	}
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: rich{memory}}), backup.Full)
	out := picky{providertest.NewMemory()}
	for range 2 {
		err := tryRestore(t, repo, p, target(t, objects.Config{Store: out}), "to/")
		if !errors.Is(err, provider.ErrInvalidKey) || !strings.Contains(err.Error(), `2 objects are not restored`) || !strings.Contains(err.Error(), `"to/../x"`) {
			t.Errorf("restoring keys that a store refuses returned %v", err)
		}
		if got, want := mustState(t, out, ""), "\"to/a\" 1 \"a\" ok=\"yes\"\n\"to/a/b\" 3 \"a/b\" ok=\"yes\"\n"; got != want {
			t.Errorf("restored\n%s\nwant\n%s", got, want)
		}
	}
}
