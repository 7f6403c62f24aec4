package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// history writes the versions of an object, one after the other, behind those
// that are there already. What was done is found out from the store, so it
// goes on where it was, whatever became of a request.
func (r *restorer) history(ctx context.Context, w wanted) error {
	all := w.before
	if !w.gone {
		all = append(all, w.version)
	}
	kept, wrote := -1, 0 // contents that were there, and that must be there
	var cause error
	for failures := 0; failures < attempts; {
		have, err := r.versions(ctx, w.key)
		var n int
		if err == nil {
			n, err = r.done(ctx, w.key, have.contents, all)
		}
		switch {
		case err == nil:
		case final(ctx, err):
			return err
		default:
			cause = err
			failures++
			continue
		}
		switch {
		case n < len(have.contents) && !r.o.overwrite:
			return errTaken
		case n < wrote:
			return fmt.Errorf("option versions: the store does not keep what is replaced: %w", errors.ErrUnsupported)
		}
		if kept < 0 {
			kept = n
		}
		left := r.left(all, n, have.present)
		if len(left) == 0 {
			if err := r.tagAll(ctx, w.key, have.contents[len(have.contents)-n:], all); err == nil {
				r.progress(all, kept)
				return nil
			} else if errors.Is(err, errTaken) || final(ctx, err) {
				return err
			} else {
				cause = err
				failures++
				continue
			}
		}
		wrote, err = r.steps(ctx, w.key, have.present, left)
		if err == nil {
			wrote += n
			continue // and look whether all is as it should be
		}
		if final(ctx, err) {
			return err
		}
		cause, wrote = err, 0
		failures++
	}
	return cause
}

// tagAll gives versions that are there their tags.
func (r *restorer) tagAll(ctx context.Context, key string, have []provider.VersionInfo, all []version) error {
	for i, v := range contents(all)[:len(have)] {
		if err := r.tag(ctx, key, have[i].Version, v); err != nil {
			return err
		}
	}
	return nil
}

// contents are the versions that are no deletions.
func contents(all []version) []version {
	return slices.DeleteFunc(slices.Clone(all), func(v version) bool { return v.meta.Deleted })
}

// behind returns what comes after so many versions that have content.
// Deletions are not counted: not every store tells of them.
func behind(all []version, contents int) []version {
	for i, v := range all {
		if contents == 0 {
			return all[i:]
		}
		if !v.meta.Deleted {
			contents--
		}
	}
	return nil
}

// left is what there is still to do when so many contents are there.
func (r *restorer) left(all []version, contents int, now provider.Version) []version {
	left := behind(all, contents)
	for now == "" && len(left) > 0 && left[0].meta.Deleted {
		left = left[1:]
	}
	return left
}

// progress tells of a history of which so many contents were there.
func (r *restorer) progress(all []version, kept int) {
	for _, v := range all {
		if kept > 0 && !v.meta.Deleted {
			kept--
			r.v.Kept(1, v.it.Size)
		} else {
			r.v.Wrote(1, v.it.Size)
		}
	}
}

// steps writes versions one over the other and returns how many it wrote.
func (r *restorer) steps(ctx context.Context, key string, now provider.Version, left []version) (wrote int, err error) {
	for _, v := range left {
		if now, err = r.step(ctx, key, v, now); err != nil {
			return wrote, err
		}
		if !v.meta.Deleted {
			wrote++
		}
	}
	return wrote, nil
}

// step writes one version over now, which is empty if there is none.
func (r *restorer) step(ctx context.Context, key string, v version, now provider.Version) (provider.Version, error) {
	if v.meta.Deleted {
		if now == "" {
			return "", nil // what was deleted had expired before the backup
		}
		return "", r.delete(ctx, key, now)
	}
	info, err := r.write(ctx, key, v, now)
	return info.Version, err
}

// A past is what a store tells of a key.
type past struct {
	contents []provider.VersionInfo // the oldest first
	present  provider.Version       // empty if there is none
}

func (r *restorer) versions(ctx context.Context, key string) (p past, err error) {
	for all, err := range grouped(provider.Versions(ctx, r.t.store, key, provider.ListOptions{})) {
		if err != nil {
			return past{}, err
		}
		if all[0].Key != key {
			break // the first one is the shortest
		}
		p.contents = slices.DeleteFunc(slices.Clone(all), func(v provider.VersionInfo) bool { return v.Deleted })
		if last := all[len(all)-1]; !last.Deleted {
			p.present = last.Version
		}
		break
	}
	return p, nil
}

// done returns how many of the contents to write are the last ones that the
// store has.
func (r *restorer) done(ctx context.Context, key string, have []provider.VersionInfo, all []version) (int, error) {
	want := contents(all)
	for n := min(len(have), len(want)); n > 0; n-- {
		same := true
		for i := 0; i < n && same; i++ {
			var err error
			if same, err = r.sameVersion(ctx, key, have[len(have)-n+i], want[i]); err != nil {
				return 0, err
			}
		}
		if same {
			return n, nil
		}
	}
	return 0, nil
}

func (r *restorer) sameVersion(ctx context.Context, key string, have provider.VersionInfo, v version) (bool, error) {
	if have.Size != v.it.Size {
		return false, nil
	}
	body, info, err := r.t.store.Get(ctx, key, provider.GetOptions{Version: have.Version})
	if err != nil {
		return false, missing(err)
	}
	body.Close()
	if info.SHA256 != [32]byte{} {
		return info.SHA256 == v.meta.sum() && sameMeta(info, v), nil
	}
	return r.same(ctx, key, info, v)
}

// verifyPast reads versions again that were written behind each other.
func (r *restorer) verifyPast(ctx context.Context, w wanted) error {
	have, err := r.versions(ctx, w.key)
	if err != nil {
		return err
	}
	want := contents(w.before)
	if !w.gone {
		want = append(want, w.version)
	}
	first := len(have.contents) - len(want)
	if first < 0 || w.before[len(w.before)-1].meta.Deleted && w.gone && have.present != "" {
		return fmt.Errorf("its versions are not those that were restored: %w", provider.ErrCorrupt)
	}
	for i, v := range want {
		same, err := r.equal(ctx, w.key, have.contents[first+i].Info, v.it)
		if err == nil && !same {
			err = fmt.Errorf("version %d of %d is not what was restored: %w", i+1, len(want), provider.ErrCorrupt)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
