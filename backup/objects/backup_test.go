package objects_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func run(t testing.TB, repo *backup.Repository, target *objects.Target, mode backup.Mode) backup.Point {
	t.Helper()
	time.Sleep(2 * time.Millisecond) // or points could be of one moment, and none the newest
	p, err := repo.Backup(t.Context(), "bucket", target, backup.BackupOptions{Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// whole is run for a point that has to be whole.
func whole(t testing.TB, repo *backup.Repository, target *objects.Target, mode backup.Mode) backup.Point {
	t.Helper()
	p := run(t, repo, target, mode)
	if p.Partial() {
		t.Fatalf("the point is partial: %v", p.Warnings)
	}
	return p
}

func restore(t testing.TB, repo *backup.Repository, p backup.Point, target *objects.Target, location string, options ...string) {
	t.Helper()
	if err := tryRestore(t, repo, p, target, location, options...); err != nil {
		t.Fatal(err)
	}
}

func tryRestore(t testing.TB, repo *backup.Repository, p backup.Point, target *objects.Target, location string, options ...string) error {
	t.Helper()
	d := backup.Destination{Location: location, Options: map[string]string{}}
	for _, o := range options {
		k, v, _ := strings.Cut(o, "=")
		d.Options[k] = v
	}
	return repo.Restore(t.Context(), p.ID, target, d, backup.RestoreOptions{})
}

// count counts the calls of a kind.
func count(s *providertest.Faulty, op string) (n int) {
	for _, c := range s.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// What has not changed is not asked for, what has is read alone.
func TestUnchanged(t *testing.T) {
	memory := providertest.NewMemory()
	fill(t, memory, "")
	repo := repository(t, providertest.NewMemory())
	first := whole(t, repo, target(t, objects.Config{Store: memory}), backup.Incremental)
	for _, k := range []struct {
		change func()
		gets   int
		read   int64
	}{
		{func() {}, 0, 0},
		{func() { put(t, memory, "a/b", "changed", nil) }, 1, 7},
		{func() { put(t, memory, "zzz", "new!", nil) }, 1, 4},
		{func() { _ = memory.Delete(t.Context(), "a", provider.DeleteOptions{}) }, 0, 0},
	} {
		k.change()
		s := providertest.NewFaulty(memory, nil)
		p := whole(t, repo, target(t, objects.Config{Store: s}), backup.Incremental)
		if n := count(s, "get"); n != k.gets || p.Stats.BytesRead != k.read || len(s.Calls()) != 1+k.gets {
			t.Errorf("%d gets, %d bytes read, calls %v; want %d and %d", n, p.Stats.BytesRead, s.Calls(), k.gets, k.read)
		}
		out := providertest.NewMemory()
		restore(t, repo, p, target(t, objects.Config{Store: out}), "")
		if got, want := mustState(t, out, ""), mustState(t, memory, ""); got != want {
			t.Errorf("restored\n%s\nwant\n%s", got, want)
		}
	}
	if p := whole(t, repo, target(t, objects.Config{Store: memory}), backup.Full); p.Stats.BytesRead < first.Stats.BytesRead-1000 {
		t.Errorf("a full backup read %d bytes of %d", p.Stats.BytesRead, first.Stats.BytesRead)
	}
}

// etags is a store whose Version is that of the bytes, as that of S3 is, and
// which keeps no sums and tells no Meta in listings.
type etags struct{ provider.BlobStore }

func (s etags) tell(info provider.Info) provider.Info {
	info.Version, info.SHA256 = provider.Version(fmt.Sprintf("%x", info.SHA256[:8])), [32]byte{}
	return info
}

func (s etags) version(ctx context.Context, key string, v provider.Version) (provider.Version, error) {
	if v == "" {
		return "", nil
	}
	info, err := s.BlobStore.Stat(ctx, key)
	if err == nil && s.tell(info).Version != v {
		err = provider.ErrNotFound
	}
	return info.Version, err
}

func (s etags) Stat(ctx context.Context, key string) (provider.Info, error) {
	info, err := s.BlobStore.Stat(ctx, key)
	return s.tell(info), err
}

func (s etags) Get(ctx context.Context, key string, o provider.GetOptions) (r io.ReadCloser, info provider.Info, err error) {
	if o.Version, err = s.version(ctx, key, o.Version); err != nil {
		return nil, info, err
	}
	r, info, err = s.BlobStore.Get(ctx, key, o)
	return r, s.tell(info), err
}

func (s etags) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (info provider.Info, err error) {
	if o.IfMatch, err = s.version(ctx, key, o.IfMatch); err != nil {
		return info, provider.ErrConflict
	}
	info, err = s.BlobStore.Put(ctx, key, b, o)
	return s.tell(info), err
}

func (s etags) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		for info, err := range s.BlobStore.List(ctx, prefix, o) {
			info = s.tell(info)
			info.Meta = nil
			if !yield(info, err) {
				return
			}
		}
	}
}

// The same bytes with another description are not read again, but described
// anew.
func TestDescribedAnew(t *testing.T) {
	memory := providertest.NewMemory()
	repo := repository(t, providertest.NewMemory())
	put(t, memory, "a", "same", map[string]string{"x": "1"})
	put(t, memory, "b", "other", nil)
	whole(t, repo, target(t, objects.Config{Store: etags{memory}}), backup.Incremental)
	put(t, memory, "a", "same", map[string]string{"x": "2"})
	p := whole(t, repo, target(t, objects.Config{Store: etags{memory}}), backup.Incremental)
	if p.Stats.BytesRead != 0 {
		t.Errorf("%d bytes read", p.Stats.BytesRead)
	}
	out := providertest.NewMemory()
	restore(t, repo, p, target(t, objects.Config{Store: out}), "")
	if got, want := mustState(t, out, ""), mustState(t, memory, ""); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	s := providertest.NewFaulty(etags{memory}, nil)
	whole(t, repo, target(t, objects.Config{Store: s}), backup.Incremental)
	if len(s.Calls()) != 1 {
		t.Errorf("then unchanged, and asked %v", s.Calls())
	}
}

// A store that keeps no sums gets them from a restore, and what is there is
// then compared by its content.
func TestSums(t *testing.T) {
	memory := providertest.NewMemory()
	fill(t, memory, "")
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: etags{memory}}), backup.Incremental)
	out := providertest.NewMemory()
	s := providertest.NewFaulty(out, nil)
	sums := &announced{BlobStore: s}
	restore(t, repo, p, target(t, objects.Config{Store: sums}), "x/")
	if n := count(s, "put"); n == 0 || n != int(sums.n.Load()) {
		t.Errorf("%d of %d puts had the SHA-256 of their body", sums.n.Load(), n)
	}
	s = providertest.NewFaulty(etags{out}, nil)
	restore(t, repo, p, target(t, objects.Config{Store: s}), "x/", "verify=true")
	if n := count(s, "put"); n != 0 {
		t.Errorf("%d objects were written that were there", n)
	}
}

// announced counts the puts that announce the right sum.
type announced struct {
	provider.BlobStore
	n atomic.Int64
}

func (s *announced) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	h := sha256.New()
	_, _ = io.Copy(h, io.NewSectionReader(b, 0, b.Size()))
	if o.SHA256 == [32]byte(h.Sum(nil)) {
		s.n.Add(1)
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

// before calls do once, or always, before an object is opened at an offset.
func before(key string, n int, do func(call int)) providertest.Script {
	calls := 0
	return func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "get" && c.Key == key {
			if calls++; calls <= n {
				at := calls
				f.Wait = func(context.Context) error { do(at); return nil }
			}
		}
		return f
	}
}

func TestChangesWhileRead(t *testing.T) {
	large := noise(9<<20, 7)
	for _, k := range []struct {
		name, key string
		times     int
		do        func(s *providertest.Memory, call int)
		want      string // state of the key; "" if it is left out
		warned    bool
	}{
		{"small, once", "b", 1, func(s *providertest.Memory, n int) { put(t, s, "b", "changed", nil) }, "changed", false},
		{"small, twice", "b", 2, func(s *providertest.Memory, n int) { put(t, s, "b", fmt.Sprint("changed ", n), nil) }, "changed 2", false},
		{"small, always", "b", 99, func(s *providertest.Memory, n int) { put(t, s, "b", fmt.Sprint("changed ", n), nil) }, "", true},
		{"small, deleted", "b", 1, func(s *providertest.Memory, n int) { _ = s.Delete(t.Context(), "b", provider.DeleteOptions{}) }, "", false},
		{"large, once", "large", 1, func(s *providertest.Memory, n int) { put(t, s, "large", large, nil) }, large, false},
		{"large, in the middle", "large", 3, func(s *providertest.Memory, n int) {
			if n == 3 {
				put(t, s, "large", large[1:], nil)
			}
		}, large[1:], false},
		{"large, always", "large", 99, func(s *providertest.Memory, n int) { put(t, s, "large", large[n:], nil) }, "", true},
		{"large, deleted", "large", 99, func(s *providertest.Memory, n int) { _ = s.Delete(t.Context(), "large", provider.DeleteOptions{}) }, "", false},
	} {
		t.Run(k.name, func(t *testing.T) {
			memory := providertest.NewMemory()
			put(t, memory, "a", "a", nil)
			put(t, memory, "b", "b", nil)
			put(t, memory, "large", noise(12<<20, 6), nil)
			put(t, memory, "z", "z", nil)
			s := providertest.NewFaulty(memory, before(k.key, k.times, func(n int) { k.do(memory, n) }))
			repo := repository(t, providertest.NewMemory())
			p := run(t, repo, target(t, objects.Config{Store: s}), backup.Full)
			if p.Partial() != k.warned || k.warned && (p.Warnings[0].Path != k.key || !strings.Contains(p.Warnings[0].Text, "changed")) {
				t.Errorf("warnings %v", p.Warnings)
			}
			out := providertest.NewMemory()
			restore(t, repo, p, target(t, objects.Config{Store: out}), "")
			want := providertest.NewMemory()
			for _, key := range []string{"a", "b", "large", "z"} {
				body := map[string]string{"a": "a", "b": "b", "large": noise(12<<20, 6), "z": "z"}[key]
				if key == k.key {
					body = k.want
				}
				if body != "" {
					put(t, want, key, body, nil)
				}
			}
			if got, want := mustState(t, out, ""), mustState(t, want, ""); got != want {
				t.Errorf("restored\n%s\nwant\n%s", got, want)
			}
			// What was read is described as what it was: the next one sees the difference.
			next := run(t, repo, target(t, objects.Config{Store: memory}), backup.Incremental)
			out = providertest.NewMemory()
			restore(t, repo, next, target(t, objects.Config{Store: out}), "")
			if got, want := mustState(t, out, ""), mustState(t, memory, ""); got != want {
				t.Errorf("the next one restores\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// What cannot be read is named and left out; a store that cannot be read at
// all is no backup.
func TestUnreadable(t *testing.T) {
	memory := providertest.NewMemory()
	fill(t, memory, "")
	repo := repository(t, providertest.NewMemory())
	s := providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
		if c.Key == "a/b" {
			f.Before = fs.ErrPermission
		}
		if c.Key == "large" {
			f.After = provider.ErrCorrupt
		}
		return f
	})
	p := run(t, repo, target(t, objects.Config{Store: s}), backup.Full)
	if len(p.Warnings) != 2 || p.Warnings[0].Path != "a/b" || p.Warnings[1].Path != "large" || p.Stats.Items != int64(len(oddKeys)+44-2) {
		t.Errorf("%d items, warnings %v", p.Stats.Items, p.Warnings)
	}
	down := providertest.NewFaulty(memory, providertest.CrashBefore(20))
	if _, err := repo.Backup(t.Context(), "bucket", target(t, objects.Config{Store: down}), backup.BackupOptions{}); !errors.Is(err, providertest.ErrCrashed) {
		t.Errorf("of a store that went away, a backup returned %v", err)
	}
	cut := providertest.NewFaulty(memory, func(c providertest.Call) (f providertest.Fault) {
		if c.Op == "list" {
			f.After = providertest.ErrInjected
		}
		return f
	})
	if _, err := repo.Backup(t.Context(), "bucket", target(t, objects.Config{Store: cut}), backup.BackupOptions{}); !errors.Is(err, providertest.ErrInjected) {
		t.Errorf("with half of a listing, a backup returned %v", err)
	}
}

// lying keeps a sum that the content has not.
type lying struct{ provider.BlobStore }

func (s lying) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.BlobStore.Get(ctx, key, o)
	if key == "a" || key == "large" {
		info.SHA256[0] ^= 1
	}
	return r, info, err
}

func TestCorrupt(t *testing.T) {
	memory := providertest.NewMemory()
	fill(t, memory, "")
	p := run(t, repository(t, providertest.NewMemory()), target(t, objects.Config{Store: lying{memory}}), backup.Full)
	if len(p.Warnings) != 2 || p.Warnings[0].Path != "a" || !strings.Contains(p.Warnings[1].Text, provider.ErrCorrupt.Error()) {
		t.Errorf("warnings %v", p.Warnings)
	}
}

// A backup that was killed at any request leaves no point, and what it has
// uploaded is not uploaded again.
func TestCrashedBackup(t *testing.T) {
	memory := providertest.NewMemory()
	for i := range 6 {
		put(t, memory, fmt.Sprint(i), noise(10<<10, byte(i)), nil)
	}
	put(t, memory, "large", noise(9<<20, 99), nil)
	undisturbed := providertest.NewFaulty(memory, nil)
	whole(t, repository(t, providertest.NewMemory()), target(t, objects.Config{Store: undisturbed}), backup.Full)
	calls := len(undisturbed.Calls())
	for n := 1; n <= calls; n++ {
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			repo := repository(t, providertest.NewMemory())
			_, err := repo.Backup(t.Context(), "bucket", target(t, objects.Config{Store: providertest.NewFaulty(memory, script)}), backup.BackupOptions{})
			if err == nil {
				t.Fatalf("crashed at %d of %d and made a point", n, calls)
			}
			for p := range repo.Points(t.Context(), "") {
				t.Fatalf("crashed at %d of %d and left %s", n, calls, p.ID)
			}
		}
	}
}

// What an interrupted backup has uploaded is not uploaded again.
func TestResumedBackup(t *testing.T) {
	memory, packs := providertest.NewMemory(), providertest.NewMemory()
	for i := range 12 {
		put(t, memory, fmt.Sprint(i), noise(1<<20, byte(i)), nil)
	}
	put(t, memory, "last", "last", nil)
	repo := repository(t, packs)
	var dead atomic.Bool
	dies := func(c providertest.Call) (f providertest.Fault) {
		if dead.Load() {
			f.Before = providertest.ErrCrashed
		}
		if c.Op != "get" || c.Key != "last" {
			return f
		}
		f.Wait = func(ctx context.Context) error {
			for n := 0; n < 4 && ctx.Err() == nil; {
				n = 0
				for range packs.List(ctx, "data/", provider.ListOptions{}) {
					n++
				}
			}
			dead.Store(true)
			return providertest.ErrCrashed
		}
		return f
	}
	if _, err := repo.Backup(t.Context(), "bucket", target(t, objects.Config{Store: providertest.NewFaulty(memory, dies)}), backup.BackupOptions{}); !errors.Is(err, providertest.ErrCrashed) {
		t.Fatal(err)
	}
	if p := whole(t, repo, target(t, objects.Config{Store: memory}), backup.Incremental); p.Stats.BytesStored > 7<<20 {
		t.Errorf("8 of 12 MiB were there, and %d bytes were stored", p.Stats.BytesStored)
	}
}

// No more than Readers requests are under way.
func TestReaders(t *testing.T) {
	memory := providertest.NewMemory()
	fill(t, memory, "")
	var now, most atomic.Int64
	var mu sync.Mutex
	s := counting{memory, func(d int64) {
		mu.Lock()
		defer mu.Unlock()
		most.Store(max(most.Load(), now.Add(d)))
	}}
	whole(t, repository(t, providertest.NewMemory()), target(t, objects.Config{Store: s, Readers: 3}), backup.Full)
	if most.Load() > 3 || most.Load() < 2 {
		t.Errorf("%d requests at once, want at most 3 and more than 1", most.Load())
	}
}

// counting tells of readers that are open.
type counting struct {
	provider.BlobStore
	add func(int64)
}

func (s counting) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	s.add(1)
	time.Sleep(time.Millisecond)
	r, info, err := s.BlobStore.Get(ctx, key, o)
	if err != nil {
		s.add(-1)
		return r, info, err
	}
	return closing{r, func() { s.add(-1) }}, info, err
}

type closing struct {
	io.ReadCloser
	done func()
}

func (c closing) Close() error { c.done(); return c.ReadCloser.Close() }

func TestConfig(t *testing.T) {
	_, err := objects.New(objects.Config{Prefix: "\xff", Readers: -1, Include: []string{"["}, Exclude: []string{"a/../b"}})
	for _, field := range []string{"Store", "Prefix", "Readers", "Include", "Exclude"} {
		if err == nil || !strings.Contains(err.Error(), "field "+field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// Patterns say what is backed up.
func TestPatterns(t *testing.T) {
	memory := providertest.NewMemory()
	for _, k := range []string{"in/a/x.jpg", "in/a/x.tmp", "in/b/c/y.jpg", "in/b/y.txt", "in/tmp/z.jpg", "out/x.jpg", "in"} {
		put(t, memory, k, k, nil)
	}
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: memory, Prefix: "in/", Include: []string{"*.jpg", "b/*.txt"}, Exclude: []string{"/tmp"}}), backup.Full)
	out := providertest.NewMemory()
	restore(t, repo, p, target(t, objects.Config{Store: out}), "to/")
	var got []string
	for info := range out.List(t.Context(), "", provider.ListOptions{}) {
		got = append(got, info.Key)
	}
	if want := "to/a/x.jpg to/b/c/y.jpg to/b/y.txt"; strings.Join(got, " ") != want {
		t.Errorf("restored %q, want %q", got, want)
	}
}

// An object whose key is the whole prefix has a place, too.
func TestWholePrefix(t *testing.T) {
	memory := providertest.NewMemory()
	put(t, memory, "in", "1", nil)
	put(t, memory, "in/a", "2", nil)
	put(t, memory, "in\x00", "3", nil)
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: memory, Prefix: "in"}), backup.Full)
	restore(t, repo, p, target(t, objects.Config{Store: memory}), "out")
	if got, want := mustState(t, memory, "out"), mustState(t, memory, "in"); got != want {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
	out := providertest.NewMemory()
	if err := tryRestore(t, repo, p, target(t, objects.Config{Store: out}), ""); !errors.Is(err, provider.ErrInvalidKey) {
		t.Errorf("restoring an empty key returned %v", err)
	}
	if got := mustState(t, out, ""); strings.Count(got, "\n") != 2 {
		t.Errorf("the rest was not restored: %s", got)
	}
}
