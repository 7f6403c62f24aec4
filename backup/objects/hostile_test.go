package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// foreign has objects that another program wrote, with Meta that no store has
// to take, until a Put replaces them.
type foreign struct {
	*providertest.Faulty
	written map[string]bool
}

func (s foreign) tell(info provider.Info) provider.Info {
	if !s.written[info.Key] {
		info.Meta = map[string]string{"ok": "yes", "file_name": "x.jpg"}
	}
	return info
}

func (s foreign) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := s.Faulty.Stat(ctx, key)
	return s.tell(info), err
}

func (s foreign) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.Faulty.Get(ctx, key, o)
	return r, s.tell(info), err
}

func (s foreign) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	s.written[key] = true
	return s.Faulty.Put(ctx, key, b, o)
}

// An object that is as it was when it was backed up is not written, nor is it
// in the way, whatever Meta it has: written again it would lose a part of it.
func TestForeignMetaStays(t *testing.T) {
	for _, options := range [][]string{nil, {"overwrite=true"}, {"overwrite=true", "verify=true"}} {
		memory := providertest.NewMemory()
		put(t, memory, "a", "content of a", nil)
		put(t, memory, "b", "content of b", nil)
		s := foreign{providertest.NewFaulty(memory, nil), map[string]bool{}}
		on := target(t, objects.Config{Store: s, Readers: 1})
		repo := repository(t, providertest.NewMemory())
		p := whole(t, repo, on, backup.Full)
		if err := memory.Delete(t.Context(), "b", provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got, want := planned(t, repo, p.ID, on, destination("", options...)), `{"key":"b","action":"create","bytes":12}`+"\n"; got != want {
			t.Errorf("%q: planned\n%s\nwant\n%s", options, got, want)
		}
		if err := tryRestore(t, repo, p, on, "", options...); err != nil {
			t.Errorf("%q: %v", options, err)
		}
		if s.written["a"] || !s.written["b"] {
			t.Errorf("%q: written %v, want b alone", options, s.written)
		}
	}
}

// What is missing from a point, since it could not be read, is not what has
// been added since: a mirror spares it.
func TestMirrorSparesTheUnread(t *testing.T) {
	memory := providertest.NewMemory()
	put(t, memory, "photos/a/b", "cold", nil)
	put(t, memory, "photos/c", "warm", nil)
	cold := providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "get" && c.Key == "photos/a/b" {
			f.Before = provider.ErrCold
		}
		return f
	})
	repo := repository(t, providertest.NewMemory())
	p := run(t, repo, target(t, objects.Config{Store: cold, Prefix: "photos/"}), backup.Full)
	if !p.Partial() {
		t.Fatal("the point is not partial")
	}
	put(t, memory, "photos/extra", "extra", nil)
	on := target(t, objects.Config{Store: cold})
	d := destination("photos/", "overwrite=true", "mirror=true")
	if got, want := planned(t, repo, p.ID, on, d), `{"key":"photos/extra","action":"delete","bytes":5}`+"\n"; got != want {
		t.Errorf("planned\n%s\nwant\n%s", got, want)
	}
	restore(t, repo, p, on, "photos/", "overwrite=true", "mirror=true")
	if got, want := strings.Join(keys(t, memory), " "), "photos/a/b photos/c"; got != want {
		t.Errorf("mirrored to %q, want %q", got, want)
	}
}

// garbled lists more keys that are not UTF-8 than a point names.
type garbled struct {
	*providertest.Memory
	more int
}

func (s garbled) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range s.Memory.List(ctx, prefix, o) {
			if !yield(info, err) {
				return
			}
		}
		for i := range s.more {
			if !yield(provider.Info{Key: fmt.Sprintf("\xff%04d", i), Version: "v"}, nil) {
				return
			}
		}
	}
}

// Nor does it delete what no point can have, or anything if it cannot know what
// is missing.
func TestMirrorOfGarbled(t *testing.T) {
	for _, n := range []int{1, 1001} {
		memory := providertest.NewMemory()
		put(t, memory, "z", "z", nil)
		repo := repository(t, providertest.NewMemory())
		p := run(t, repo, target(t, objects.Config{Store: garbled{memory, n}}), backup.Full)
		put(t, memory, "zz", "extra", nil)
		s := providertest.NewFaulty(garbled{memory, n}, nil)
		err := tryRestore(t, repo, p, target(t, objects.Config{Store: s}), "", "overwrite=true", "mirror=true")
		if refused := err != nil && strings.Contains(err.Error(), "option mirror: 1001 parts"); refused != (n > 1000) || err != nil && !refused {
			t.Errorf("a mirror of a point that lacks %d objects returned %v", p.WarningCount, err)
		}
		for _, c := range s.Calls() {
			if c.Op == "delete" && (n > 1000 || c.Key != "zz") {
				t.Errorf("%d: deleted %q", n, c.Key)
			}
		}
		restore(t, repo, p, target(t, objects.Config{Store: s}), "", "overwrite=true")
	}
}

// A mirror does not delete what this target backs up, nor what is beside it,
// because Location was taken for a place below Config.Prefix.
func TestMirrorAbovePrefix(t *testing.T) {
	memory := providertest.NewMemory()
	put(t, memory, "photos/a", "a", nil)
	put(t, memory, "repository/format", "all backups", nil)
	on := target(t, objects.Config{Store: memory, Prefix: "photos/"})
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, on, backup.Full)
	before := there(t, memory)
	for _, location := range []string{"", "photos"} {
		err := tryRestore(t, repo, p, on, location, "overwrite=true", "mirror=true")
		if err == nil || !strings.Contains(err.Error(), `"photos/"`) || there(t, memory) != before {
			t.Errorf("a mirror to %q returned %v and left\n%s", location, err, there(t, memory))
		}
	}
	put(t, memory, "photos/b", "b", nil)
	restore(t, repo, p, on, "photos/", "overwrite=true", "mirror=true")
	if got := there(t, memory); got != before {
		t.Errorf("mirrored to\n%s", got)
	}
	restore(t, repo, p, on, "photos/of/2026/", "overwrite=true", "mirror=true")
	restore(t, repo, p, on, "other/", "overwrite=true", "mirror=true")
	restore(t, repo, p, target(t, objects.Config{Store: memory}), "", "overwrite=true", "mirror=true") // the whole bucket, as it says
	if got := strings.Join(keys(t, memory), " "); got != "a" {
		t.Errorf("the whole bucket mirrored to %s", got)
	}
}

// An object in a cold tier that cannot be compared is named, and the others are
// restored.
func TestColdInTheWay(t *testing.T) {
	memory := providertest.NewMemory()
	for _, k := range []string{"a", "b", "c"} {
		put(t, memory, k, "content of "+k, nil)
	}
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: memory}), backup.Full)
	if err := errors.Join(memory.Delete(t.Context(), "a", provider.DeleteOptions{}), memory.Delete(t.Context(), "c", provider.DeleteOptions{})); err != nil {
		t.Fatal(err)
	}
	s := sumless{providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "get" {
			f.Before = provider.ErrCold
		}
		return f
	})}
	err := tryRestore(t, repo, p, target(t, objects.Config{Store: s, Readers: 1}), "", "overwrite=true")
	if !errors.Is(err, provider.ErrCold) || !strings.Contains(err.Error(), `1 objects are not restored`) || !strings.Contains(err.Error(), `"b"`) {
		t.Errorf("with a cold object in the way, a restore returned %v", err)
	}
	if got := strings.Join(keys(t, memory), " "); got != "a b c" {
		t.Errorf("there are %s", got)
	}
}

// sumless keeps no SHA-256.
type sumless struct{ provider.BlobStore }

func (s sumless) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := s.BlobStore.Stat(ctx, key)
	info.SHA256 = [32]byte{}
	return info, err
}

// collided has a Version that two contents share, as an ETag is an MD5.
type collided struct{ *providertest.Memory }

func (s collided) tell(info provider.Info) provider.Info {
	info.Version = "same"
	return info
}

func (s collided) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := s.Memory.Stat(ctx, key)
	return s.tell(info), err
}

func (s collided) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	o.Version = ""
	r, info, err := s.Memory.Get(ctx, key, o)
	return r, s.tell(info), err
}

func (s collided) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range s.Memory.List(ctx, prefix, o) {
			if !yield(s.tell(info), err) {
				return
			}
		}
	}
}

// A Version that is the parent's does not count if the store itself says that
// the content is another.
func TestSameVersionOtherContent(t *testing.T) {
	memory := providertest.NewMemory()
	put(t, memory, "a", "content one", nil)
	repo := repository(t, providertest.NewMemory())
	on := target(t, objects.Config{Store: collided{memory}})
	whole(t, repo, on, backup.Full)
	time.Sleep(2 * time.Millisecond) // another time of modification
	put(t, memory, "a", "content two", nil)
	p := whole(t, repo, on, backup.Incremental)
	out := providertest.NewMemory()
	restore(t, repo, p, target(t, objects.Config{Store: out}), "")
	if got, want := mustState(t, out, ""), mustState(t, memory, ""); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}

// rotten has lost a bit of one old version.
type rotten struct{ *providertest.Bucket }

func (s rotten) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.Bucket.Get(ctx, key, o)
	if err == nil && info.Meta["n"] == "3" {
		defer r.Close()
		b, err := io.ReadAll(r)
		if err == nil {
			b[0] ^= 1
		}
		return io.NopCloser(strings.NewReader(string(b))), info, err
	}
	return r, info, err
}

// Verify reads replaced versions, too.
func TestVerifyVersions(t *testing.T) {
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: versioned(t), Prefix: "in/", Versions: true}), backup.Full)
	out := target(t, objects.Config{Store: rotten{providertest.NewBucket(providertest.BucketOptions{})}})
	restore(t, repo, p, out, "out/", "versions=true")
	err := tryRestore(t, repo, p, out, "out/", "versions=true", "verify=true")
	if !errors.Is(err, provider.ErrCorrupt) || !strings.Contains(err.Error(), `"out/often"`) || !strings.Contains(err.Error(), "1 objects") {
		t.Errorf("verifying versions of which one has rotted returned %v", err)
	}
}
