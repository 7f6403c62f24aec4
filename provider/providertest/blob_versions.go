package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var versionClauses = []clause{
	sentence("versions", "Versions yields the replaced versions of a key that are still there, the oldest first, the present one last, and each can be read.", versionsKept),
	sentence("versions-deleted", "Versions yields what was deleted and is still there, and after it that it was deleted.", versionsDeleted),
	sentence("versions-list", "Versions yields keys in the order and by the prefix and StartAfter of List.", versionsList),
	sentence("versions-error", "Versions can be broken off, and if it fails it yields a zero VersionInfo with the error and ends.", versionsError),
}

// versions returns what Versions yields of names below prefix, which is within
// the probe's own. It is an unsupportedError if the store has not the power.
func (p *probe) versions(ctx context.Context, s provider.BlobStore, prefix string, o provider.ListOptions) ([]provider.VersionInfo, error) {
	v, ok := provider.As[provider.Versioner](s)
	if !ok {
		return nil, &unsupportedError{errors.New("the store is no provider.Versioner")}
	}
	if o.StartAfter != "" {
		o.StartAfter = p.prefix + o.StartAfter
	}
	var all []provider.VersionInfo
	for info, err := range v.Versions(ctx, p.prefix+prefix, o) {
		if errors.Is(err, errors.ErrUnsupported) && len(all) == 0 {
			return nil, &unsupportedError{err}
		}
		if err != nil {
			return nil, fmt.Errorf("versions of %q: %w", prefix, err)
		}
		if !strings.HasPrefix(info.Key, p.prefix) {
			return nil, fmt.Errorf("versions of %q: yields %q, which does not begin with it", prefix, info.Key)
		}
		all = append(all, info)
	}
	return all, nil
}

// history is what was done to a key: one content after the other, "" for a
// deletion.
type history []string

// has checks that Versions tells of a name exactly what Get still knows of its
// history: everything, or only what is present.
func (h history) has(ctx context.Context, p *probe, name string, infos []provider.Info) error {
	kept := h
	_, _, err := read(ctx, p.store, p.key(name), provider.GetOptions{Version: infos[0].Version})
	switch {
	case errors.Is(err, provider.ErrNotFound):
		kept = h[len(h)-1:]
		infos = infos[len(infos)-1:]
		if kept[0] == "" {
			kept = nil
		}
	case err != nil:
		return err
	}
	for _, s := range []provider.BlobStore{p.store, p.second} {
		got, err := p.versions(ctx, s, name, provider.ListOptions{})
		if err != nil {
			return err
		}
		if len(got) != len(kept) {
			return fmt.Errorf("yields %d versions of %q, want %d", len(got), name, len(kept))
		}
		for i, v := range got {
			if err := h.is(ctx, p, v, kept[i], infos[i]); err != nil {
				return fmt.Errorf("version %d of %d of %q: %w", i+1, len(got), name, err)
			}
		}
	}
	return nil
}

// is checks one version against its content and what Put told of it.
func (h history) is(ctx context.Context, p *probe, v provider.VersionInfo, content string, put provider.Info) error {
	if content == "" {
		if !v.Deleted || v.Version != "" || v.Size != 0 || v.Modified.IsZero() {
			return fmt.Errorf("%+v, want a deletion", v)
		}
		return nil
	}
	if v.Deleted {
		return fmt.Errorf("says it was deleted, want %q", content)
	}
	if v.Version != put.Version {
		return fmt.Errorf("version %q, put said %q", v.Version, put.Version)
	}
	if err := checkInfo(v.Info, put.Key, content, time.Now()); err != nil {
		return err
	}
	b, info, err := read(ctx, p.second, v.Key, provider.GetOptions{Version: v.Version})
	if err != nil {
		return fmt.Errorf("get it: %w", err)
	}
	if info.Version != v.Version {
		return fmt.Errorf("get of version %q delivers %q", v.Version, info.Version)
	}
	return same(b, []byte(content))
}

// make does to a name what the history says, and returns what each Put told.
func (h history) make(ctx context.Context, p *probe, name string) ([]provider.Info, error) {
	infos := make([]provider.Info, len(h))
	for i, content := range h {
		var err error
		if content == "" {
			err = p.store.Delete(ctx, p.key(name), provider.DeleteOptions{})
		} else {
			infos[i], err = p.put(ctx, name, content, provider.PutOptions{})
		}
		if err != nil {
			return nil, err
		}
	}
	return infos, nil
}

func (h history) check(ctx context.Context, p *probe, name string) error {
	if _, err := p.versions(ctx, p.store, name, provider.ListOptions{}); err != nil {
		return err
	}
	infos, err := h.make(ctx, p, name)
	if err != nil {
		return err
	}
	return h.has(ctx, p, name, infos)
}

func versionsKept(ctx context.Context, p *probe) error {
	if err := (history{"one"}).check(ctx, p, "single"); err != nil {
		return err
	}
	return history{"one", "two!", "three", "the fourth"}.check(ctx, p, "x")
}

func versionsDeleted(ctx context.Context, p *probe) error {
	if err := (history{"one", "two!", ""}).check(ctx, p, "gone"); err != nil {
		return err
	}
	if err := p.absent(ctx, "gone"); err != nil {
		return err
	}
	return history{"one", "", "two!", "", "three"}.check(ctx, p, "again")
}

func versionsList(ctx context.Context, p *probe) error {
	if _, err := p.versions(ctx, p.store, "", provider.ListOptions{}); err != nil {
		return err
	}
	names, err := p.listFixture(ctx)
	if err != nil {
		return err
	}
	for _, name := range names { // a key has its versions beside each other
		if _, err := p.put(ctx, name, "replaced", provider.PutOptions{}); err != nil {
			return err
		}
	}
	for _, c := range []struct{ prefix, after string }{{}, {prefix: "a"}, {prefix: "a/b"}, {after: "a/b"}, {after: "a/b/"}, {prefix: "b/1", after: "b/10"}, {prefix: "q"}, {after: "~~~~"}} {
		found, err := p.versions(ctx, p.store, c.prefix, provider.ListOptions{StartAfter: c.after})
		if err != nil {
			return err
		}
		var got []string
		for _, v := range found {
			got = append(got, strings.TrimPrefix(v.Key, p.prefix))
		}
		matching := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
			return !strings.HasPrefix(n, c.prefix) || n <= c.after
		})
		if got := slices.Compact(got); !slices.Equal(got, matching) {
			return fmt.Errorf("versions of %q after %q: %s", c.prefix, c.after, difference(got, matching))
		}
	}
	return nil
}

func versionsError(ctx context.Context, p *probe) error {
	if _, err := p.versions(ctx, p.store, "", provider.ListOptions{}); err != nil {
		return err
	}
	if err := p.putAll(ctx, listNames); err != nil {
		return err
	}
	v, _ := provider.As[provider.Versioner](p.store)
	for stop := range len(listNames) {
		n := 0
		for _, err := range v.Versions(ctx, p.prefix, provider.ListOptions{}) {
			if err != nil {
				return err
			}
			if n++; n > stop {
				break
			}
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	pairs := 0
	for info, err := range v.Versions(ended, p.prefix, provider.ListOptions{}) {
		pairs++
		if err := want(err, context.Canceled); err != nil {
			return fmt.Errorf("versions with an ended ctx: %w", err)
		}
		if info.Key != "" || info.Version != "" || info.Deleted {
			return fmt.Errorf("versions yields %q together with an error", info.Key)
		}
	}
	if pairs != 1 {
		return fmt.Errorf("versions with an ended ctx yields %d pairs, want one with the error", pairs)
	}
	return nil
}
