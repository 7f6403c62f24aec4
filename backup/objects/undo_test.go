package objects_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// taken is a destination with something of every kind for the point of
// littleTagged: the same, other content, other Meta, other tags, none, and more.
func taken(t testing.TB) *providertest.Memory {
	t.Helper()
	return takenBy(t, 3000)
}

// takenBy is that, with one object of so many bytes.
func takenBy(t testing.TB, large int) *providertest.Memory {
	t.Helper()
	m := providertest.NewMemory()
	put(t, m, "other", "other", nil)
	put(t, m, "to", "beside", nil)
	put(t, m, "to.", "beside", nil)
	put(t, m, "to/a", "extra", map[string]string{"a": "b"})
	setTags(t, m, "to/a", "extra=yes")
	put(t, m, "to/both", "mine", map[string]string{"of": "me"})
	setTags(t, m, "to/both", "of=me")
	put(t, m, "to/none", "content of none", nil)
	put(t, m, "to/one", "content of one", nil)
	setTags(t, m, "to/one", "of=me")
	put(t, m, "to/zz", noise(large, 9), nil)
	return m
}

// there is all that a test compares of a store.
func there(t testing.TB, m *providertest.Memory) string {
	t.Helper()
	return mustState(t, m, "") + allTags(t, m, "")
}

func destination(location string, options ...string) backup.Destination {
	d := backup.Destination{Location: location, Options: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		d.Options[k] = v
	}
	return d
}

func planned(t testing.TB, repo *backup.Repository, id backup.PointID, to *objects.Target, d backup.Destination) string {
	t.Helper()
	v, err := repo.View(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for c, err := range to.Plan(t.Context(), v, d) {
		if err != nil {
			t.Fatal(err)
		}
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

// A plan says what a restore then does, and afterwards that there is nothing
// left to do. It writes nothing and reads no content.
func TestPlan(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	for options, want := range map[string]string{
		"": `{"key":"to/both","action":"conflict","bytes":0}
{"key":"to/large","action":"create","bytes":3000}
{"key":"to/one","action":"conflict","bytes":0}
`,
		"overwrite=true": `{"key":"to/both","action":"replace","bytes":15}
{"key":"to/large","action":"create","bytes":3000}
{"key":"to/one","action":"tag","bytes":0}
`,
		"overwrite=true mirror=true": `{"key":"to/a","action":"delete","bytes":5}
{"key":"to/both","action":"replace","bytes":15}
{"key":"to/large","action":"create","bytes":3000}
{"key":"to/one","action":"tag","bytes":0}
{"key":"to/zz","action":"delete","bytes":3000}
`,
		"overwrite=true mirror=true exclude=large": `{"key":"to/a","action":"delete","bytes":5}
{"key":"to/both","action":"replace","bytes":15}
{"key":"to/one","action":"tag","bytes":0}
{"key":"to/zz","action":"delete","bytes":3000}
`,
	} {
		m := taken(t)
		before := there(t, m)
		for _, readers := range []int{1, 8} {
			s := providertest.NewFaulty(m, nil)
			d := destination("to/", slices.DeleteFunc(strings.Split(options, " "), func(o string) bool { return o == "" })...)
			to := target(t, objects.Config{Store: s, Readers: readers})
			if got := planned(t, repo, p.ID, to, d); got != want {
				t.Errorf("%q, %d readers: planned\n%s\nwant\n%s", options, readers, got, want)
			}
			for _, c := range s.Calls() {
				if c.Op != "list" && c.Op != "stat" && c.Op != "tags" {
					t.Errorf("%q: a plan asks for %s %s", options, c.Op, c.Key)
				}
			}
			if readers == 1 || options == "" {
				continue
			}
			if got := there(t, m); got != before {
				t.Errorf("%q: a plan has made\n%s\nof\n%s", options, got, before)
			}
			if err := repo.Restore(t.Context(), p.ID, to, d, backup.RestoreOptions{}); err != nil {
				t.Errorf("%q: %v", options, err)
			}
			if got := planned(t, repo, p.ID, to, d); got != "" {
				t.Errorf("%q: after the restore there is left\n%s", options, got)
			}
		}
	}
}

// A plan ends with what goes wrong, or when it is left or cancelled, and tells
// of destinations that a restore refuses.
func TestPlanFails(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	v, err := repo.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	plan := func(ctx context.Context, s provider.BlobStore, d backup.Destination) (n int, err error) {
		for _, err := range target(t, objects.Config{Store: s, Readers: 2}).Plan(ctx, v, d) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	overwrite := destination("to/", "overwrite=true", "mirror=true")
	calls := providertest.NewFaulty(taken(t), nil)
	if _, err := plan(t.Context(), calls, overwrite); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= len(calls.Calls()); n++ {
		if _, err := plan(t.Context(), providertest.NewFaulty(taken(t), providertest.CrashBefore(n)), overwrite); !errors.Is(err, providertest.ErrCrashed) {
			t.Errorf("call %d fails: %v", n, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := plan(ctx, providertest.NewFaulty(taken(t), func(c providertest.Call) (f providertest.Fault) {
			if c.N == n {
				cancel()
			}
			return f
		}), overwrite)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at call %d: %v", n, err)
		}
	}
	for range target(t, objects.Config{Store: taken(t)}).Plan(t.Context(), v, overwrite) {
		break
	}
	if _, err := plan(t.Context(), taken(t), destination("to/", "nonsense=true")); err == nil {
		t.Error("an option that is unknown is planned with")
	}
	if _, err := plan(t.Context(), taken(t), destination("to/", "include=missing")); err == nil {
		t.Error("a pattern that matches nothing is planned with")
	}
}

// Versions are planned, too.
func TestPlanOfVersions(t *testing.T) {
	from, to := providertest.NewBucket(providertest.BucketOptions{}), providertest.NewBucket(providertest.BucketOptions{})
	for i := range 3 {
		put(t, from, "in/x", strings.Repeat("x", 10+i), nil)
	}
	put(t, from, "in/y", "y", nil)
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: from, Prefix: "in/", Versions: true}), backup.Full)
	put(t, to, "to/x", strings.Repeat("x", 10), nil) // the oldest
	d := destination("to/", "versions=true")
	const want = `{"key":"to/x","action":"replace","bytes":23}
{"key":"to/y","action":"create","bytes":1}
`
	target := target(t, objects.Config{Store: to})
	if got := planned(t, repo, p.ID, target, d); got != want {
		t.Errorf("planned\n%s\nwant\n%s", got, want)
	}
	put(t, to, "to/x", "another", nil)
	if got := planned(t, repo, p.ID, target, d); !strings.Contains(got, `"to/x","action":"conflict"`) {
		t.Errorf("planned\n%s", got)
	}
	d.Options["overwrite"] = "true"
	if err := repo.Restore(t.Context(), p.ID, target, d, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := planned(t, repo, p.ID, target, d); got != "" {
		t.Errorf("after the restore there is left\n%s", got)
	}
}

// A restore that is stopped anywhere is undone, by an undo that is stopped
// anywhere and run again: everything is as it was, tags included, and nothing
// else has been touched.
func TestUndoOfStoppedRestore(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	want := there(t, taken(t))
	for _, options := range [][]string{nil, {"overwrite=true"}, {"overwrite=true", "mirror=true", "verify=true"}} {
		d := destination("to/", options...)
		var safety backup.Point
		keep := backup.RestoreOptions{Safety: func(p backup.Point) error { safety = p; return nil }}
		attempt := func(m *providertest.Memory, script providertest.Script) (calls int, err error) {
			// What comes before the restore changes nothing; it is not stopped.
			secured := 0
			s := providertest.NewFaulty(m, nil)
			again := func(p backup.Point) error {
				secured = len(s.Calls())
				s.Use(func(c providertest.Call) providertest.Fault {
					if script == nil {
						return providertest.Fault{}
					}
					c.N -= secured
					return script(c)
				})
				return keep.Safety(p)
			}
			err = repo.Restore(t.Context(), p.ID, target(t, objects.Config{Store: s, Readers: 2}), d, backup.RestoreOptions{Safety: again})
			return len(s.Calls()) - secured, err
		}
		calls, err := attempt(taken(t), nil)
		if (err == nil) != (options != nil) {
			t.Fatalf("%q: %v", options, err)
		}
		for n := 1; n <= calls; n++ {
			for how, script := range map[string]providertest.Script{"before": providertest.CrashBefore(n), "after": providertest.CrashAfter(n)} {
				m := taken(t)
				if _, err := attempt(m, script); err == nil {
					t.Errorf("%q: crashed at %d of %d and returned nil", options, n, calls)
				}
				half := providertest.NewFaulty(m, providertest.CrashAfter(n%7+2))
				_ = repo.Undo(t.Context(), safety.ID, target(t, objects.Config{Store: half, Readers: 1}), backup.RestoreOptions{})
				s := providertest.NewFaulty(m, nil)
				for range 2 {
					if err := repo.Undo(t.Context(), safety.ID, target(t, objects.Config{Store: s}), backup.RestoreOptions{}); err != nil {
						t.Fatal(err)
					}
					if got := there(t, m); got != want {
						t.Fatalf("%q, stopped %s %d: after the undo there is\n%s\nwant\n%s", options, how, n, got, want)
					}
				}
				for _, c := range s.Calls() {
					if !strings.HasPrefix(c.Key, "to/") {
						t.Errorf("%s %q is outside of the location", c.Op, c.Key)
					}
				}
			}
		}
	}
}

// A restore that ended well is undone, whatever has happened since to what it
// wrote; a key that nobody would restore is left alone.
func TestUndo(t *testing.T) {
	_, repo, p := littleTagged(t)
	m := takenBy(t, 5<<20)
	want := there(t, m)
	to := target(t, objects.Config{Store: m})
	var safety backup.Point
	d := destination("to/", "overwrite=true", "mirror=true")
	if err := repo.Restore(t.Context(), p.ID, to, d, backup.RestoreOptions{Safety: func(p backup.Point) error { safety = p; return nil }}); err != nil {
		t.Fatal(err)
	}
	if safety.Name != p.Name+backup.SafetySuffix || safety.Safety.Point != p.ID || safety.Partial() {
		t.Errorf("the safety point is %+v", safety)
	}
	put(t, m, "to/large", "somebody else's", nil)
	put(t, m, "to/a", "and this", nil)
	put(t, m, "to/unknown", "of nobody", nil)
	if err := repo.Undo(t.Context(), safety.ID, to, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := m.Delete(t.Context(), "to/unknown", provider.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if got := there(t, m); got != want {
		t.Errorf("after the undo there is\n%s\nwant\n%s", got, want)
	}
	// A store that cannot compare and delete in one step, where there was nothing.
	empty := providertest.NewMemory()
	to = target(t, objects.Config{Store: incomparable{empty}})
	if err := repo.Restore(t.Context(), p.ID, to, destination("to/"), backup.RestoreOptions{Safety: func(p backup.Point) error { safety = p; return nil }}); err != nil {
		t.Fatal(err)
	}
	if err := repo.Undo(t.Context(), safety.ID, to, backup.RestoreOptions{}); err != nil || len(keys(t, empty)) > 0 {
		t.Errorf("%v; where there was nothing there is %q", err, keys(t, empty))
	}
}

// What cannot be brought back as it is ends a restore before it begins.
func TestUndoRefused(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	versions := providertest.NewBucket(providertest.BucketOptions{})
	put(t, versions, "in/x", "x", nil)
	history := whole(t, repo, target(t, objects.Config{Store: versions, Prefix: "in/", Versions: true}), backup.Full)
	for name, c := range map[string]struct {
		point backup.Point
		store func(*providertest.Memory) provider.BlobStore
		also  string
		want  string
	}{
		"versions": {history, func(*providertest.Memory) provider.BlobStore {
			return providertest.NewBucket(providertest.BucketOptions{})
		}, "versions=true", "option versions"},
		"tags that may not be read": {p, func(m *providertest.Memory) provider.BlobStore {
			return &tagger{tagged: m, do: func(op, key string) error {
				if key == "to/both" {
					return fs.ErrPermission
				}
				return nil
			}}
		}, "verify=true", "to/both"},
		"content that cannot be read": {p, func(m *providertest.Memory) provider.BlobStore {
			return providertest.NewFaulty(m, func(c providertest.Call) (f providertest.Fault) {
				if c.Op == "get" && c.Key == "to/zz" {
					f.Before = providertest.ErrInjected
				}
				return f
			})
		}, "mirror=true", "to/zz"},
		"metadata that no store has to keep": {p, func(m *providertest.Memory) provider.BlobStore { return &ornate{Memory: m} }, "mirror=true", "Über"},
	} {
		m := taken(t)
		want := there(t, m)
		err := repo.Restore(t.Context(), c.point.ID, target(t, objects.Config{Store: c.store(m)}), destination("to/", "overwrite=true", c.also),
			backup.RestoreOptions{Safety: func(backup.Point) error { t.Errorf("%s: there is no safety point", name); return nil }})
		if err == nil || !strings.Contains(err.Error(), "safety point") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if got := there(t, m); got != want {
			t.Errorf("%s: there is\n%s\nwant\n%s", name, got, want)
		}
	}
	// A store without tags has none to lose, and what a rehearsal changes is nothing.
	for name, s := range map[string]provider.BlobStore{
		"no tagger": struct{ provider.BlobStore }{taken(t)},
		"declines": &tagger{tagged: taken(t), do: func(op, key string) error {
			return &provider.Error{Op: op, Provider: "test", Key: key, Err: errors.ErrUnsupported}
		}},
	} {
		for _, also := range []string{"dry-run=true", "mirror=true"} {
			err := repo.Restore(t.Context(), p.ID, target(t, objects.Config{Store: s}), destination("to/", "overwrite=true", also),
				backup.RestoreOptions{Safety: func(safety backup.Point) error {
					if also == "dry-run=true" && safety.Stats.Items > 0 {
						t.Errorf("%s: %d objects are kept for a rehearsal", name, safety.Stats.Items)
					}
					return nil
				}})
			if err != nil {
				t.Errorf("%s, %s: %v", name, also, err)
			}
		}
	}
}

// ornate has an object with metadata beyond the contract, as another program
// may have written it.
type ornate struct{ *providertest.Memory }

func (s *ornate) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	r, info, err = s.Memory.Get(ctx, key, o)
	if key == "to/a" {
		info.Meta = map[string]string{"Über": "x"}
	}
	return r, info, err
}

// An object that is deleted while it is secured is not there, and is not there
// after an undo.
func TestUndoOfDeleted(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	m := taken(t)
	var once sync.Once
	s := providertest.NewFaulty(m, func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "get" && c.Key == "to/both" {
			once.Do(func() {
				f.Wait = func(ctx context.Context) error { return m.Delete(ctx, "to/both", provider.DeleteOptions{}) }
			})
		}
		return f
	})
	to := target(t, objects.Config{Store: s})
	var safety backup.Point
	err := repo.Restore(t.Context(), p.ID, to, destination("to/", "overwrite=true"), backup.RestoreOptions{Safety: func(p backup.Point) error { safety = p; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := repo.Undo(t.Context(), safety.ID, to, backup.RestoreOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Stat(t.Context(), "to/both"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("what was deleted before the restore is there after the undo: %v", err)
	}
}

// Verifying finds tags that the store has said to have set.
func TestVerifyTags(t *testing.T) {
	_, repo, p := pointTagged(t, 3000)
	for name, spoil := range map[string]func(provider.Tagger, string) error{
		"lost": func(s provider.Tagger, key string) error { return s.SetTags(t.Context(), key, "", nil) },
		"another": func(s provider.Tagger, key string) error {
			return s.SetTags(t.Context(), key, "", map[string]string{"of": "another"})
		},
	} {
		m := providertest.NewMemory()
		out := &tagger{tagged: m}
		var mu sync.Mutex
		var last string
		out.do = func(op, key string) error {
			mu.Lock()
			defer mu.Unlock()
			last = key
			return nil
		}
		out.lost = func() error {
			mu.Lock()
			defer mu.Unlock()
			if last == "to/both" {
				return spoil(m, last)
			}
			return nil
		}
		err := tryRestore(t, repo, p, target(t, objects.Config{Store: out, Readers: 1}), "to/", "verify=true")
		if !errors.Is(err, provider.ErrCorrupt) || !strings.Contains(err.Error(), "to/both") || !strings.Contains(err.Error(), "tags") || strings.Contains(err.Error(), "to/one") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What the store does not take was left out, and is no difference.
	out := &tagger{tagged: providertest.NewMemory(), do: func(op, key string) error {
		if op == "set" && key == "to/both" {
			return &provider.Error{Op: op, Provider: "test", Key: key, Err: errors.ErrUnsupported}
		}
		return nil
	}}
	restore(t, repo, p, target(t, objects.Config{Store: out}), "to/", "verify=true")
}
