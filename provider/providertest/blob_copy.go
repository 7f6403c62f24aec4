package providertest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/provider"
)

var copyClauses = []clause{
	sentence("copy", "CopyFrom stores the content of an object under another key, tells Key, Size and Version as Stat would, and changes nothing of the source.", copyContent),
	sentence("copy-attributes", "The SHA256 and the Meta that are kept of the source go along; a Meta that is given replaces it.", copyAttributes),
	sentence("copy-tags", "The tags of the source go along, whatever else is asked for, and no others are there.", copyTags),
	sentence("copy-sha256", "CopyFrom with a SHA256 other than the one kept of the source is ErrCorrupt, and nothing is changed.", copySHA256),
	sentence("copy-version", "CopyFrom copies the version of the source that is asked for; if it is not there it is ErrNotFound, and nothing is changed.", copyVersion),
	sentence("copy-conditions", "CopyFrom with a condition that does not hold is ErrConflict, and what is there stays; else it copies.", copyConditions),
	sentence("copy-race", "Of racing copies with IfAbsent exactly one succeeds, the others are ErrConflict, and the object is the winner's.", copyRace),
	sentence("copy-part", "CopyFrom copies from a part of a store, and into one.", copyPart),
	sentence("copy-foreign", "CopyFrom of a store of another kind is errors.ErrUnsupported, and nothing is changed.", copyForeign),
	sentence("copy-cancelled", "CopyFrom with an ended ctx changes nothing.", copyCancelled),
	retaining("retain-copy", "A copy made with Retain is under that retention at once, and one made without has none, as Stat tells.", copyRetain),
}

// copier returns how the store copies, within itself, or an unsupportedError.
func (p *probe) copier(ctx context.Context) (provider.Copier, error) {
	c, ok := provider.As[provider.Copier](p.store)
	if !ok {
		return nil, &unsupportedError{errors.New("the store is no provider.Copier")}
	}
	info, err := p.put(ctx, "probe", "probe", provider.PutOptions{})
	if err != nil {
		return nil, err
	}
	if _, err := c.CopyFrom(ctx, p.key("probed"), p.store, info, provider.PutOptions{}); errors.Is(err, errors.ErrUnsupported) {
		return nil, &unsupportedError{err}
	}
	return c, nil // any other error is met again, and judged
}

// copies puts content under the name "from" and copies it.
func (p *probe) copies(ctx context.Context, c provider.Copier, name, content string, put, o provider.PutOptions) (info, source provider.Info, err error) {
	if source, err = p.put(ctx, "from", content, put); err != nil {
		return info, source, err
	}
	info, err = c.CopyFrom(ctx, p.key(name), p.second, source, o)
	return info, source, err
}

func copyContent(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	odd := "a b+c%2B&d=ä#e?f"
	for name, content := range map[string]string{"small": "content", "empty": "", "large": string(noise(9, 300_000)), odd: "odd", "again": "content"} {
		before := time.Now()
		info, source, err := p.copies(ctx, c, name, content, provider.PutOptions{}, provider.PutOptions{})
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		there, err := p.store.Stat(ctx, p.key(name))
		if err != nil {
			return err
		}
		if info.Key != there.Key || info.Size != there.Size || info.Version != there.Version {
			return fmt.Errorf("%q: copy says key %q, size %d, version %q; stat says %q, %d, %q", name, info.Key, info.Size, info.Version, there.Key, there.Size, there.Version)
		}
		now, err := p.store.Stat(ctx, p.key("from"))
		if err == nil && now.Version != source.Version {
			err = fmt.Errorf("%q: the source had version %q and has %q", name, source.Version, now.Version)
		}
		if err := errors.Join(err, checkInfo(there, p.key(name), content, before), p.holds(ctx, name, content), p.holds(ctx, "from", content)); err != nil {
			return err
		}
	}
	// From a key that has to be escaped, without a version, over what is there.
	if _, err := c.CopyFrom(ctx, p.key("small"), p.store, provider.Info{Key: p.key(odd)}, provider.PutOptions{}); err != nil {
		return fmt.Errorf("from %q: %w", odd, err)
	}
	return p.holds(ctx, "small", "odd")
}

func copyAttributes(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	meta := map[string]string{"a": "b  c", "0": "=?utf-8?q?x?="}
	for name, o := range map[string]provider.PutOptions{
		"kept": {}, "kept-absent": {IfAbsent: true}, "kept-sum": {SHA256: sha256.Sum256([]byte("content"))},
		"replaced": {Meta: map[string]string{"d": "e"}}, "replaced-absent": {IfAbsent: true, Meta: map[string]string{"d": "e"}}, "none": {Meta: map[string]string{}},
	} {
		_, source, err := p.copies(ctx, c, name, "content", provider.PutOptions{Meta: meta}, o)
		if o.SHA256 != [32]byte{} && errors.Is(err, errors.ErrUnsupported) {
			continue // the store keeps none to compare it with
		}
		if err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		want := meta
		if o.Meta != nil {
			want = o.Meta
		}
		if err := p.hasMeta(ctx, name, want); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		info, err := p.store.Stat(ctx, p.key(name))
		if err != nil {
			return err
		}
		if now, err := p.store.Stat(ctx, source.Key); err != nil || info.SHA256 != now.SHA256 {
			return fmt.Errorf("%q: stat says SHA256 %x, and of the source %x, %w", name, info.SHA256, now.SHA256, err)
		}
	}
	return nil
}

func copyTags(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	t, err := p.tagger(ctx)
	if err != nil {
		return err
	}
	all := []map[string]string{{"team": "storage", "key 1": "+-.:=_/ 1"}, {"team": "another"}, nil}
	for name, content := range map[string]string{"small": "content", "empty": "", "large": string(noise(8, 300_000))} {
		var last provider.Version
		for i, tags := range all { // the last copies over what has tags
			source, err := p.put(ctx, "from-"+name, content, provider.PutOptions{})
			if err == nil {
				err = t.SetTags(ctx, source.Key, "", tags)
			}
			if err != nil {
				return err
			}
			for what, o := range map[string]provider.PutOptions{"plain": {}, "absent": {IfAbsent: true}, "meta": {Meta: map[string]string{"a": "b"}}, "match": {}} {
				to := fmt.Sprint(name, "-", what)
				switch what {
				case "absent":
					to = fmt.Sprint(to, i)
				case "match":
					o.IfMatch = last
				}
				info, err := c.CopyFrom(ctx, p.key(to), p.second, source, o)
				if err == nil {
					err = p.hasTags(ctx, to, "", tags)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", to, err)
				}
				if what == "match" {
					last = info.Version
				}
			}
		}
	}
	old, err := p.put(ctx, "from-small", "another content", provider.PutOptions{})
	if err == nil {
		err = t.SetTags(ctx, old.Key, "", all[0])
	}
	if err == nil {
		_, err = p.put(ctx, "from-small", "new content", provider.PutOptions{})
	}
	if err != nil {
		return err
	}
	if _, _, err := read(ctx, p.store, old.Key, provider.GetOptions{Version: old.Version}); err != nil {
		return nil // it is not kept
	}
	for name, o := range map[string]provider.PutOptions{"old": {}, "old-absent": {IfAbsent: true}} {
		_, err := c.CopyFrom(ctx, p.key(name), p.store, old, o)
		if err == nil {
			err = p.hasTags(ctx, name, "", all[0])
		}
		if err != nil {
			return fmt.Errorf("of a version that was replaced, %s: %w", name, err)
		}
	}
	return nil
}

func copySHA256(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	return p.failingPut(ctx, func(name string) error {
		_, _, err := p.copies(ctx, c, name, "content", provider.PutOptions{}, provider.PutOptions{SHA256: sha256.Sum256([]byte("other"))})
		return want(err, provider.ErrCorrupt, errors.ErrUnsupported)
	})
}

func copyVersion(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	old, err := p.put(ctx, "x", "the old content", provider.PutOptions{})
	if err != nil {
		return err
	}
	if _, err := p.put(ctx, "x", "new content", provider.PutOptions{}); err != nil {
		return err
	}
	_, _, err = read(ctx, p.store, p.key("x"), provider.GetOptions{Version: old.Version})
	kept := err == nil
	for name, o := range map[string]provider.PutOptions{"plain": {}, "absent": {IfAbsent: true}, "meta": {Meta: map[string]string{"a": "b"}}} {
		if kept {
			if _, err := c.CopyFrom(ctx, p.key(name), p.store, old, o); err != nil {
				return fmt.Errorf("of a version that was replaced and is there, %s: %w", name, err)
			}
			if err := p.holds(ctx, name, "the old content"); err != nil {
				return err
			}
			continue
		}
		if err := p.notCopied(ctx, c, name, old, o, provider.ErrNotFound); err != nil {
			return fmt.Errorf("of a version that was replaced, %s: %w", name, err)
		}
	}
	if _, err := c.CopyFrom(ctx, p.key("now"), p.store, provider.Info{Key: p.key("x")}, provider.PutOptions{}); err != nil {
		return fmt.Errorf("of the present version: %w", err)
	}
	if err := p.holds(ctx, "now", "new content"); err != nil {
		return err
	}
	for _, missing := range []provider.Info{{Key: p.key("never")}, {Key: p.key("never"), Version: old.Version, Size: old.Size}} {
		if err := p.notCopied(ctx, c, "of-missing", missing, provider.PutOptions{}, provider.ErrNotFound); err != nil {
			return fmt.Errorf("of a key without an object: %w", err)
		}
	}
	return nil
}

// notCopied checks that a copy fails as it should and leaves nothing.
func (p *probe) notCopied(ctx context.Context, c provider.Copier, name string, source provider.Info, o provider.PutOptions, as error) error {
	_, err := c.CopyFrom(ctx, p.key(name), p.store, source, o)
	if err := want(err, as); err != nil {
		return err
	}
	if errors.Is(err, provider.ErrConflict) && as != provider.ErrConflict {
		return fmt.Errorf("is also a conflict: %w", err)
	}
	return p.absent(ctx, name)
}

func copyConditions(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	first, _, err := p.copies(ctx, c, "x", "first", provider.PutOptions{}, provider.PutOptions{IfAbsent: true})
	if err != nil {
		return fmt.Errorf("IfAbsent on a key without an object: %w", err)
	}
	source, err := p.put(ctx, "other", "another", provider.PutOptions{})
	if err != nil {
		return err
	}
	refused := func(name string, o provider.PutOptions) error {
		_, err := c.CopyFrom(ctx, p.key(name), p.store, source, o)
		return want(err, provider.ErrConflict)
	}
	if err := errors.Join(refused("x", provider.PutOptions{IfAbsent: true}), refused("x", provider.PutOptions{IfMatch: source.Version}), p.holds(ctx, "x", "first")); err != nil {
		return fmt.Errorf("on a key with an object: %w", err)
	}
	if err := errors.Join(refused("y", provider.PutOptions{IfMatch: first.Version}), p.absent(ctx, "y")); err != nil {
		return fmt.Errorf("IfMatch on a key without an object: %w", err)
	}
	if _, err := c.CopyFrom(ctx, p.key("x"), p.store, source, provider.PutOptions{IfMatch: first.Version}); err != nil {
		return fmt.Errorf("IfMatch of the present version: %w", err)
	}
	return p.holds(ctx, "x", "another")
}

func copyRace(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	sources := make([]provider.Info, racers)
	for i := range sources {
		if sources[i], err = p.put(ctx, fmt.Sprint("from", i), fmt.Sprint("racer ", i), provider.PutOptions{}); err != nil {
			return err
		}
	}
	for round := range rounds {
		name := fmt.Sprint("x", round)
		errs := make([]error, racers)
		var g errgroup.Group
		for i := range racers {
			g.Go(func() error {
				_, errs[i] = c.CopyFrom(ctx, p.key(name), p.store, sources[i], provider.PutOptions{IfAbsent: true})
				return nil
			})
		}
		_ = g.Wait() // its functions return nil
		winner := -1
		for i, err := range errs {
			switch {
			case err == nil && winner >= 0:
				return fmt.Errorf("round %d: both %d and %d succeeded", round, winner, i)
			case err == nil:
				winner = i
			case want(err, provider.ErrConflict) != nil:
				return fmt.Errorf("round %d: %w", round, want(err, provider.ErrConflict))
			}
		}
		if winner < 0 {
			return fmt.Errorf("round %d: nobody succeeded: %w", round, errs[0])
		}
		if err := p.holds(ctx, name, fmt.Sprint("racer ", winner)); err != nil {
			return err
		}
	}
	return nil
}

func copyPart(ctx context.Context, p *probe) error {
	if _, err := p.copier(ctx); err != nil {
		return err
	}
	source, err := p.put(ctx, "from", "content", provider.PutOptions{})
	if err != nil {
		return err
	}
	part := provider.Sub(provider.Sub(p.store, p.prefix[:len(p.prefix)/2]), p.prefix[len(p.prefix)/2:])
	into, ok := provider.As[provider.Copier](part)
	if !ok {
		return errors.New("a part of a provider.Copier is none")
	}
	source.Key = "from"
	p.key("to")
	info, err := into.CopyFrom(ctx, "to", part, source, provider.PutOptions{})
	if err != nil {
		return err
	}
	if info.Key != "to" {
		return fmt.Errorf("tells key %q of what it calls %q", info.Key, "to")
	}
	return p.holds(ctx, "to", "content")
}

// foreign is a store of a kind of its own.
type foreign struct{}

func (foreign) Get(context.Context, string, provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	return io.NopCloser(strings.NewReader("content")), foreignInfo, nil
}
func (foreign) Put(context.Context, string, provider.Body, provider.PutOptions) (provider.Info, error) {
	return provider.Info{}, errors.ErrUnsupported
}
func (foreign) Stat(context.Context, string) (provider.Info, error) { return foreignInfo, nil }
func (foreign) Delete(context.Context, string, provider.DeleteOptions) error {
	return errors.ErrUnsupported
}
func (foreign) List(context.Context, string, provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) { yield(foreignInfo, nil) }
}

var foreignInfo = provider.Info{Key: "from", Size: 7, Version: "1"}

func copyForeign(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	_, err = c.CopyFrom(ctx, p.key("to"), foreign{}, foreignInfo, provider.PutOptions{})
	return errors.Join(want(err, errors.ErrUnsupported), p.absent(ctx, "to"))
}

func copyCancelled(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	source, err := p.put(ctx, "from", "content", provider.PutOptions{})
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, o := range []provider.PutOptions{{}, {IfAbsent: true}} {
		_, err = c.CopyFrom(ended, p.key("to"), p.store, source, o)
		if err := errors.Join(want(err, context.Canceled), p.absent(ctx, "to")); err != nil {
			return err
		}
	}
	return nil
}

func copyRetain(ctx context.Context, p *probe) error {
	c, err := p.copier(ctx)
	if err != nil {
		return err
	}
	return p.eachMode(ctx, func(name string, r provider.Retention) error {
		source, err := p.store.Stat(ctx, p.key(name))
		if err != nil {
			return err
		}
		for to, o := range map[string]provider.PutOptions{name + "-copy": {Retain: r}, name + "-absent": {Retain: r, IfAbsent: true}, name + "-free": {}, name + "-free-absent": {IfAbsent: true}} {
			if _, err := c.CopyFrom(ctx, p.key(to), p.store, source, o); err != nil {
				return fmt.Errorf("%s: %w", to, err)
			}
			info, err := p.second.Stat(ctx, p.key(to))
			if err != nil {
				return err
			}
			if info.Retain.Mode != o.Retain.Mode || !info.Retain.Until.Equal(o.Retain.Until) {
				return fmt.Errorf("%s: stat says %+v, want %+v", to, info.Retain, o.Retain)
			}
		}
		return nil
	})
}
