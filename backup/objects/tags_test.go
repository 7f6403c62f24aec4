package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

type tagged interface {
	provider.BlobStore
	provider.Tagger
}

func setTags(t testing.TB, s tagged, key string, pairs ...string) {
	t.Helper()
	tags := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		tags[k] = v
	}
	if err := s.SetTags(t.Context(), key, "", tags); err != nil {
		t.Fatal(err)
	}
}

// allTags tells the tags of every version below a prefix.
func allTags(t testing.TB, s tagged, prefix string) string {
	t.Helper()
	var b strings.Builder
	for v, err := range provider.Versions(t.Context(), s, prefix, provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if v.Deleted {
			continue
		}
		tags, err := s.Tags(t.Context(), v.Key, v.Version)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %v\n", strings.TrimPrefix(v.Key, prefix), v.Size, tags)
	}
	return b.String()
}

// A tagger is a store whose tags are in the way of what a test wants.
type tagger struct {
	tagged
	do   func(op, key string) error // before; nil is nothing
	lost func() error               // behind what was set
	sets atomic.Int32
}

func (s *tagger) Unwrap() provider.BlobStore { return s.tagged }

func (s *tagger) Tags(ctx context.Context, key string, v provider.Version) (map[string]string, error) {
	if s.do != nil {
		if err := s.do("tags", key); err != nil {
			return nil, err
		}
	}
	return s.tagged.Tags(ctx, key, v)
}

func (s *tagger) SetTags(ctx context.Context, key string, v provider.Version, tags map[string]string) error {
	if s.do != nil {
		if err := s.do("set", key); err != nil {
			return err
		}
	}
	s.sets.Add(1)
	err := s.tagged.SetTags(ctx, key, v, tags)
	if err == nil && s.lost != nil {
		err = s.lost()
	}
	return err
}

// littleTagged is a store with some tags, and a point of it.
func littleTagged(t testing.TB) (s *providertest.Memory, repo *backup.Repository, p backup.Point) {
	t.Helper()
	return pointTagged(t, 5<<20)
}

// pointTagged is that, with a large object of so many bytes.
func pointTagged(t testing.TB, large int) (s *providertest.Memory, repo *backup.Repository, p backup.Point) {
	t.Helper()
	s = providertest.NewMemory()
	for _, key := range []string{"both", "large", "none", "one"} {
		put(t, s, "in/"+key, "content of "+key, nil)
	}
	put(t, s, "in/large", noise(large, 7), nil)
	setTags(t, s, "in/both", "a=b", "team=x y")
	setTags(t, s, "in/large", "size=large")
	setTags(t, s, "in/one", "flag=")
	repo = repository(t, providertest.NewMemory())
	return s, repo, whole(t, repo, target(t, objects.Config{Store: s, Prefix: "in/", Tags: true}), backup.Full)
}

// Tags are restored with the content, once; a store that has others differs.
func TestTags(t *testing.T) {
	s, repo, p := littleTagged(t)
	out := &tagger{tagged: providertest.NewMemory()}
	to := target(t, objects.Config{Store: out})
	restore(t, repo, p, to, "to/", "verify=true")
	if got, want := allTags(t, out, "to/"), allTags(t, s, "in/"); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	if out.sets.Load() != 3 {
		t.Errorf("tags were set %d times, for 3 objects", out.sets.Load())
	}
	restore(t, repo, p, to, "to/")
	if out.sets.Load() != 3 {
		t.Error("tags that are there were set again")
	}
	setTags(t, out, "to/none", "other=1")
	setTags(t, out, "to/one", "other=1")
	err := tryRestore(t, repo, p, to, "to/")
	if !errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "2 objects are not restored") {
		t.Errorf("over other tags: %v", err)
	}
	restore(t, repo, p, to, "to/", "overwrite=true")
	if got, want := allTags(t, out, "to/"), allTags(t, s, "in/"); got != want {
		t.Errorf("with overwrite restored\n%s\nwant\n%s", got, want)
	}
	setTags(t, out, "to/both") // a restore that was killed before it set them
	restore(t, repo, p, to, "to/")
	if got, want := allTags(t, out, "to/"), allTags(t, s, "in/"); got != want {
		t.Errorf("where they were missing restored\n%s\nwant\n%s", got, want)
	}
}

// A backup that did not ask for tags says nothing of them; the next one that
// does asks, and reads no content. What is unchanged is not asked for again.
func TestTagsAskedLater(t *testing.T) {
	s := &tagger{tagged: providertest.NewBucket(providertest.BucketOptions{})}
	put(t, s, "x", "old", nil)
	setTags(t, s, "x", "n=1")
	put(t, s, "x", "newer", nil)
	put(t, s, "y", "y", nil)
	var asked atomic.Int32
	s.do = func(string, string) error { asked.Add(1); return nil }
	repo := repository(t, providertest.NewMemory())
	out := providertest.NewBucket(providertest.BucketOptions{})
	p := whole(t, repo, target(t, objects.Config{Store: s, Versions: true}), backup.Incremental)
	if asked.Load() != 0 {
		t.Errorf("asked %d times for tags that nobody wants", asked.Load())
	}
	put(t, out, "x", "newer", nil)
	setTags(t, out, "x", "stays=1")
	restore(t, repo, p, target(t, objects.Config{Store: out}), "")
	if got := allTags(t, out, ""); got != "x 5 map[stays:1]\ny 1 map[]\n" {
		t.Errorf("a point without tags made %q of them", got)
	}
	from := target(t, objects.Config{Store: s, Versions: true, Tags: true})
	p = whole(t, repo, from, backup.Incremental)
	if p.Stats.BytesRead != 0 || asked.Load() != 3 {
		t.Errorf("%d bytes were read, and %d times asked, for the tags of 3 versions", p.Stats.BytesRead, asked.Load())
	}
	restore(t, repo, p, target(t, objects.Config{Store: out}), "to/", "versions=true")
	if got, want := allTags(t, out, "to/"), "x 3 map[n:1]\nx 5 map[]\ny 1 map[]\n"; got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	if whole(t, repo, from, backup.Incremental); asked.Load() != 3 {
		t.Error("asked again for the tags of what is unchanged")
	}
	setTags(t, s, "y", "seen=full")
	p = whole(t, repo, from, backup.Full)
	restore(t, repo, p, target(t, objects.Config{Store: out}), "full/", "versions=true")
	if got, want := allTags(t, out, "full/"), allTags(t, s, ""); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}

// Content is kept although its tags cannot be read, with a warning; once they
// can, they are.
func TestTagsUnreadable(t *testing.T) {
	memory, _, _ := littleTagged(t)
	s := &tagger{tagged: memory, do: func(op, key string) error {
		return &provider.Error{Op: op, Provider: "test", Key: key, Err: fs.ErrPermission}
	}}
	repo := repository(t, providertest.NewMemory())
	from := target(t, objects.Config{Store: s, Prefix: "in/", Tags: true})
	for _, mode := range []backup.Mode{backup.Incremental, backup.Incremental} {
		p := run(t, repo, from, mode)
		if p.Stats.Items != 4 || len(p.Warnings) != 4 || p.Warnings[0].Path != "in/both" || !strings.Contains(p.Warnings[0].Text, "without its tags") {
			t.Errorf("%d items, warnings %v", p.Stats.Items, p.Warnings)
		}
	}
	s.do = nil
	p := whole(t, repo, from, backup.Incremental)
	if p.Stats.BytesRead != 0 {
		t.Errorf("%d bytes read again for tags alone", p.Stats.BytesRead)
	}
	out := providertest.NewMemory()
	restore(t, repo, p, target(t, objects.Config{Store: out}), "")
	if got, want := allTags(t, out, ""), allTags(t, memory, "in/"); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}

// Whether tags were not set, or set and nobody heard, or the restore ended
// between content and tags: run again, all is there.
func TestTagsCutOff(t *testing.T) {
	s, repo, p := littleTagged(t)
	broken := errors.New("connection reset")
	for name, times := range map[string]int{"once": 1, "twice": 2, "always": 1 << 20} {
		for how, set := range map[string]func(*tagger, func() error){
			"not set": func(x *tagger, fail func() error) {
				x.do = func(op, _ string) error {
					if op == "set" {
						return fail()
					}
					return nil
				}
			},
			"not told": func(x *tagger, fail func() error) { x.lost = fail },
		} {
			out := &tagger{tagged: providertest.NewMemory()}
			left := times
			set(out, func() error {
				if left--; left < 0 {
					return nil
				}
				return broken
			})
			to := target(t, objects.Config{Store: out, Readers: 1})
			err := tryRestore(t, repo, p, to, "to/")
			if times <= 2 && err != nil || times > 2 && how == "not set" && !errors.Is(err, broken) {
				t.Errorf("%s, %s: %v", how, name, err)
			}
			out.do, out.lost = nil, nil
			restore(t, repo, p, to, "to/")
			if got, want := allTags(t, out, "to/"), allTags(t, s, "in/"); got != want {
				t.Errorf("%s, %s: restored\n%s\nwant\n%s", how, name, got, want)
			}
		}
	}
}

// A store that takes no tags, or not these, or not from this credential, gets
// the content, and the log says what is missing.
func TestTagsNotTaken(t *testing.T) {
	s, repo, p := littleTagged(t)
	declines := func(err error) provider.BlobStore {
		return &tagger{tagged: providertest.NewMemory(), do: func(op, key string) error { return &provider.Error{Op: op, Provider: "test", Key: key, Err: err} }}
	}
	for name, out := range map[string]provider.BlobStore{"none": struct{ provider.BlobStore }{providertest.NewMemory()},
		"not these": declines(errors.ErrUnsupported), "not by us": declines(fs.ErrPermission)} {
		for range 2 {
			var log bytes.Buffer
			restore(t, repo, p, target(t, objects.Config{Store: out, Logger: slog.New(slog.NewTextHandler(&log, nil))}), "to/", "verify=true")
			if got, want := mustState(t, out, "to/"), mustState(t, s, "in/"); got != want {
				t.Errorf("%s: restored\n%s\nwant\n%s", name, got, want)
			}
			if n := strings.Count(log.String(), "without its tags"); n != 3 {
				t.Errorf("%s: the log says so %d times, of 3 objects that have some:\n%s", name, n, log.String())
			}
		}
	}
	if _, err := objects.New(objects.Config{Store: struct{ provider.BlobStore }{s}, Tags: true}); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "field Tags") {
		t.Errorf("tags of a store without any: %v", err)
	}
}

// An object that is replaced before its tags are read is backed up as it is
// then, with the tags of that version.
func TestTagsOfReplaced(t *testing.T) {
	memory := providertest.NewMemory()
	put(t, memory, "x", "old", nil)
	setTags(t, memory, "x", "of=old")
	var once sync.Once
	s := &tagger{tagged: memory, do: func(string, string) error {
		once.Do(func() {
			put(t, memory, "x", "newer", nil)
			setTags(t, memory, "x", "of=newer")
		})
		return nil
	}}
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: s, Tags: true}), backup.Full)
	out := providertest.NewMemory()
	restore(t, repo, p, target(t, objects.Config{Store: out}), "")
	if got := allTags(t, out, ""); got != "x 5 map[of:newer]\n" {
		t.Errorf("restored %s", got)
	}
}
