package local

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// window is how many names of one directory a listing holds in memory at a
// time. A larger directory is read once for every so many names, each time
// for the names that come next: a million names in one directory are read 31
// times, and never take more than some megabytes.
const window = 1 << 15

// List implements [provider.BlobStore]. It holds some 65,000 names of each
// directory between the root and the present key at most, whatever their
// number. An object with a damaged description has no Version, and the size
// and time of its file. A Retain is not told.
func (s *BlobStore) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		dir, rest := locate(prefix)
		w := &walk{s: s, prefix: prefix, after: o.StartAfter, window: window, yield: yield}
		err := w.directory(ctx, dir, strings.TrimSuffix(prefix, rest))
		if err == nil && !w.stopped {
			err = s.checkMarker()
		}
		if err != nil && !w.stopped {
			yield(provider.Info{}, s.failure("list", prefix, err))
		}
	}
}

type walk struct {
	s       *BlobStore
	prefix  string
	after   string
	window  int
	yield   func(provider.Info, error) bool
	stopped bool // yield wants no more
}

// directory yields the objects below dir, all of whose keys begin with base.
func (w *walk) directory(ctx context.Context, dir, base string) error {
	var entries []string
	for more, last := true, noEntry; more; {
		var err error
		if entries, more, err = w.next(ctx, dir, base, last, entries[:0]); err != nil {
			return err
		}
		for _, e := range entries {
			if path := dir + "/" + entryName(e); isDirectory(e) {
				err = w.directory(ctx, path, base+e)
			} else {
				err = w.object(ctx, path, base+e)
			}
			if err != nil || w.stopped {
				return err
			}
		}
		if more {
			last = entries[len(entries)-1]
		}
	}
	return nil
}

// noEntry stands for the place before every entry. No sort string equals it,
// the empty one included: they have no "/" but at their end.
const noEntry = "//"

// next returns the first entries of dir, by their sort strings, that come
// after last and may lead to keys that are wanted; more says that there are
// others behind them.
func (w *walk) next(ctx context.Context, dir, base, last string, entries []string) (_ []string, more bool, err error) {
	f, err := w.s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return entries, false, ctx.Err()
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	cut := func() {
		slices.Sort(entries)
		entries = slices.Compact(entries)
		if len(entries) > w.window {
			entries, more = entries[:w.window], true
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			e, ok := sortString(name)
			switch {
			case !ok, last != noEntry && e <= last:
			case more && e >= entries[w.window-1]: // behind a full window, whatever follows it
			case w.wants(base, e):
				entries = append(entries, e)
			}
		}
		if len(entries) >= 2*w.window {
			cut()
		}
		if err == io.EOF {
			cut()
			return entries, more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// wants says whether the entry e of a directory is, or leads to, a key that is
// to be listed.
func (w *walk) wants(base, e string) bool {
	key := base + e
	if !isDirectory(e) {
		return strings.HasPrefix(key, w.prefix) && key > w.after
	}
	inPrefix := strings.HasPrefix(key, w.prefix) || strings.HasPrefix(w.prefix, key)
	return inPrefix && (key > w.after || strings.HasPrefix(w.after, key))
}

func (w *walk) object(ctx context.Context, path, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f, d, err := w.s.openObject(path, key)
	if errors.Is(err, provider.ErrNotFound) {
		return nil // deleted meanwhile
	}
	var info provider.Info
	if err == nil {
		f.Close()
		info, err = d.info(provider.Retention{}, time.Now())
	}
	if errors.Is(err, provider.ErrCorrupt) {
		fi, statErr := w.s.root.Stat(path)
		if statErr != nil {
			return statErr
		}
		info, err = provider.Info{Key: key, Size: fi.Size(), Modified: fi.ModTime().UTC()}, nil
	}
	if err != nil {
		return err
	}
	w.stopped = !w.yield(info, nil)
	return nil
}
