package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

var tagClauses = []clause{
	sentence("tags", "SetTags gives an object up to 10 tags in place of those it had, Tags tells them, and its content, Version and Meta stay.", tagsKept),
	sentence("tags-empty", "The value of a tag may be empty.", tagsEmpty),
	sentence("tags-replaced", "What Put makes anew has no tags.", tagsReplaced),
	sentence("tags-version", "Tags and SetTags with a Version mean that version; if it is not there they are ErrNotFound, and nothing is changed.", tagsVersion),
	sentence("tags-missing", "Tags and SetTags of a key without an object are ErrNotFound.", tagsMissing),
	sentence("tags-refused", "Tags that a store cannot keep as given are errors.ErrUnsupported, and nothing is changed.", tagsRefused),
	sentence("tags-cancelled", "Tags and SetTags with an ended ctx fail with its error, and change nothing.", tagsCancelled),
}

// tagger returns how the store keeps tags, or an unsupportedError.
func (p *probe) tagger(ctx context.Context) (provider.Tagger, error) {
	t, ok := provider.As[provider.Tagger](p.store)
	if !ok {
		return nil, &unsupportedError{errors.New("the store is no provider.Tagger")}
	}
	if _, err := p.put(ctx, "probe", "probe", provider.PutOptions{}); err != nil {
		return nil, err
	}
	if _, err := t.Tags(ctx, p.key("probe"), ""); errors.Is(err, errors.ErrUnsupported) {
		return nil, &unsupportedError{err}
	}
	return t, nil // any other error is met again, and judged
}

// tagged puts an object with tags.
func (p *probe) tagged(ctx context.Context, t provider.Tagger, name string, tags map[string]string) (provider.Info, error) {
	info, err := p.put(ctx, name, "content of "+name, provider.PutOptions{Meta: map[string]string{"a": "b"}})
	if err == nil {
		err = t.SetTags(ctx, p.key(name), "", tags)
	}
	return info, err
}

// hasTags checks the tags of a name by both handles.
func (p *probe) hasTags(ctx context.Context, name string, v provider.Version, tags map[string]string) error {
	for _, s := range []provider.BlobStore{p.store, p.second} {
		t, _ := provider.As[provider.Tagger](s)
		got, err := t.Tags(ctx, p.key(name), v)
		if err != nil {
			return fmt.Errorf("tags of %q: %w", name, err)
		}
		if !maps.Equal(got, tags) || len(tags) == 0 && got != nil {
			return fmt.Errorf("%q has the tags %#v, want %#v", name, got, tags)
		}
	}
	return nil
}

func tagsKept(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	info, err := p.put(ctx, "x", "content", provider.PutOptions{Meta: map[string]string{"a": "b"}})
	if err != nil {
		return err
	}
	if err := p.hasTags(ctx, "x", "", nil); err != nil {
		return fmt.Errorf("before any was set: %w", err)
	}
	many := map[string]string{strings.Repeat("k", 128): strings.Repeat("v", 256)}
	for i := range 9 {
		many[fmt.Sprint("key ", i)] = fmt.Sprint("+-.:=_/", i)
	}
	for _, tags := range []map[string]string{{"team": "storage", "Keep": "7 days"}, {"team": "backup"}, many, {}, {"a": "b"}, nil} {
		if err := t.SetTags(ctx, p.key("x"), "", tags); err != nil {
			return fmt.Errorf("set %d tags: %w", len(tags), err)
		}
		if err := p.hasTags(ctx, "x", "", tags); err != nil {
			return err
		}
		now, err := p.store.Stat(ctx, p.key("x"))
		if err != nil {
			return err
		}
		if now.Version != info.Version {
			return fmt.Errorf("version %q has become %q", info.Version, now.Version)
		}
	}
	return errors.Join(p.holds(ctx, "x", "content"), p.hasMeta(ctx, "x", map[string]string{"a": "b"}))
}

func tagsEmpty(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	tags := map[string]string{"flag": "", "a": "b"}
	if _, err := p.tagged(ctx, t, "x", tags); err != nil {
		return err
	}
	return p.hasTags(ctx, "x", "", tags)
}

func tagsReplaced(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	if _, err := p.tagged(ctx, t, "x", map[string]string{"a": "b"}); err != nil {
		return err
	}
	if _, err := p.put(ctx, "x", "other content", provider.PutOptions{}); err != nil {
		return err
	}
	return p.hasTags(ctx, "x", "", nil)
}

func tagsVersion(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	first, second := map[string]string{"which": "first"}, map[string]string{"which": "second"}
	old, err := p.tagged(ctx, t, "x", first)
	if err != nil {
		return err
	}
	now, err := p.put(ctx, "x", "other content", provider.PutOptions{})
	if err != nil {
		return err
	}
	if err := t.SetTags(ctx, p.key("x"), now.Version, second); err != nil {
		return fmt.Errorf("set tags of the present version: %w", err)
	}
	_, _, err = read(ctx, p.store, p.key("x"), provider.GetOptions{Version: old.Version})
	if err != nil { // it is not kept
		_, err := t.Tags(ctx, p.key("x"), old.Version)
		return errors.Join(want(err, provider.ErrNotFound), want(t.SetTags(ctx, p.key("x"), old.Version, first), provider.ErrNotFound),
			p.hasTags(ctx, "x", now.Version, second), p.hasTags(ctx, "x", "", second))
	}
	if err := errors.Join(p.hasTags(ctx, "x", old.Version, first), p.hasTags(ctx, "x", now.Version, second)); err != nil {
		return err
	}
	first["which"] = "still the first"
	if err := t.SetTags(ctx, p.key("x"), old.Version, first); err != nil {
		return fmt.Errorf("set tags of a version that was replaced: %w", err)
	}
	return errors.Join(p.hasTags(ctx, "x", old.Version, first), p.hasTags(ctx, "x", "", second))
}

func tagsMissing(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	if _, err := p.tagged(ctx, t, "deleted", map[string]string{"a": "b"}); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.key("deleted"), provider.DeleteOptions{}); err != nil {
		return err
	}
	for _, name := range []string{"never", "deleted"} {
		_, err := t.Tags(ctx, p.key(name), "")
		err = errors.Join(want(err, provider.ErrNotFound), want(t.SetTags(ctx, p.key(name), "", map[string]string{"a": "b"}), provider.ErrNotFound),
			want(t.SetTags(ctx, p.key(name), "", nil), provider.ErrNotFound), p.absent(ctx, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func tagsRefused(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	kept := map[string]string{"a": "b"}
	if _, err := p.tagged(ctx, t, "x", kept); err != nil {
		return err
	}
	eleven := map[string]string{}
	for i := range 11 {
		eleven[fmt.Sprint(i)] = ""
	}
	for what, tags := range map[string]map[string]string{
		"eleven tags": eleven, "an empty key": {"": "v"}, "a long key": {strings.Repeat("k", 129): ""}, "a long value": {"k": strings.Repeat("v", 257)},
		"a letter beyond ASCII": {"größe": "v"}, "an @": {"k": "a@b"}, "a line break": {"k": "a\nb"}, "markup": {"k": "<a>&"}, "no UTF-8": {"k": "\xff"}, "a space at the end": {"k": "v "}, "a space before a key": {" k": "v"},
	} {
		err := t.SetTags(ctx, p.key("x"), "", tags)
		if err == nil {
			err = p.hasTags(ctx, "x", "", tags) // it may keep more than it must
			kept = tags
		} else {
			err = errors.Join(want(err, errors.ErrUnsupported), p.hasTags(ctx, "x", "", kept))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

func tagsCancelled(ctx context.Context, p *probe) error {
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	info, err := p.tagged(ctx, t, "x", map[string]string{"a": "b"})
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, v := range []provider.Version{"", info.Version} {
		_, err := t.Tags(ended, p.key("x"), v)
		err = errors.Join(want(err, context.Canceled), want(t.SetTags(ended, p.key("x"), v, nil), context.Canceled), p.hasTags(ctx, "x", "", map[string]string{"a": "b"}))
		if err != nil {
			return err
		}
	}
	return nil
}
