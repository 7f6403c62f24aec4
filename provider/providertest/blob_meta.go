package providertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

var metaClauses = []clause{
	sentence("meta", "Meta is kept with the object as given, up to 32 pairs and 1 KiB.", metaKept),
	sentence("meta-replaced", "The Meta of a replaced object does not live on.", metaReplaced),
	sentence("meta-refused", "Meta that a store cannot keep as given is refused, and nothing is visible.", metaRefused),
}

func (p *probe) hasMeta(ctx context.Context, name string, meta map[string]string) error {
	info, err := p.store.Stat(ctx, p.key(name))
	if err != nil {
		return err
	}
	_, got, err := read(ctx, p.second, p.key(name), provider.GetOptions{})
	if err != nil {
		return err
	}
	if !maps.Equal(info.Meta, meta) {
		return fmt.Errorf("stat says Meta %q, want %q", info.Meta, meta)
	}
	if !maps.Equal(got.Meta, meta) {
		return fmt.Errorf("get says Meta %q, want %q", got.Meta, meta)
	}
	return nil
}

func metaKept(ctx context.Context, p *probe) error {
	many := map[string]string{}
	for i := range 32 {
		many[fmt.Sprintf("key-%02d", i)] = strings.Repeat(string(rune('a'+i%26)), 1024/32-len("key-00"))
	}
	for name, meta := range map[string]map[string]string{
		"plain":  {"point": "2026-11-23t10-00", "a": "b", "0": "1"},
		"values": {"text": `with inner  spaces, "quotes", =?utf-8?q?x?=, %20, \ and ~`, "url": "https://example.com/?a=b&c=d#e"},
		"names":  {"x-amz-meta-x": "y", "content-type": "z", "a--b": "c"},
		"large":  {"large": strings.Repeat("v", 1024-5)},
		"many":   many,
		"none":   nil,
	} {
		if _, err := p.put(ctx, name, name, provider.PutOptions{Meta: meta}); err != nil {
			return err
		}
		if err := p.hasMeta(ctx, name, meta); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
	info, err := p.store.Stat(ctx, p.key("none"))
	if err == nil && info.Meta != nil {
		err = errors.New("Info.Meta of an object without any is not nil")
	}
	return err
}

func metaReplaced(ctx context.Context, p *probe) error {
	for _, meta := range []map[string]string{{"a": "1", "b": "2"}, {"b": "3"}, nil} {
		if _, err := p.put(ctx, "x", fmt.Sprint(meta), provider.PutOptions{Meta: meta}); err != nil {
			return err
		}
		if err := p.hasMeta(ctx, "x", meta); err != nil {
			return err
		}
	}
	return nil
}

func metaRefused(ctx context.Context, p *probe) error {
	for what, meta := range map[string]map[string]string{
		"an upper-case key":        {"Key": "v"},
		"a key with an underscore": {"a_b": "v"},
		"an empty key":             {"": "v"},
		"a line break":             {"a": "b\r\nc: d"},
		"a value beyond ASCII":     {"a": "ü"},
		"a space at the end":       {"a": "b "},
		"3 KiB":                    {"a": strings.Repeat("v", 3072)},
	} {
		name := strings.ReplaceAll(what, " ", "-")
		_, err := p.store.Put(ctx, p.key(name), strings.NewReader("x"), provider.PutOptions{Meta: meta})
		if err == nil {
			err = p.hasMeta(ctx, name, meta) // it may keep more than it must
		} else {
			err = p.absent(ctx, name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}
