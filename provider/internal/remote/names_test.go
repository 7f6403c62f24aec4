package remote

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

func TestMeta(t *testing.T) {
	meta := map[string]string{"a": "plain", "b": "two  spaces", "c": "=?utf-8?q?x?=", "d": metaCoded + "eA", "e": ""}
	coded := EncodeMeta(meta, [32]byte{0xab, 0xcd}, "name")
	got, sum, write := DecodeMeta(coded)
	if len(got) != len(meta) || sum != [32]byte{0xab, 0xcd} || write != "name" {
		t.Errorf("%q, %x, %q", got, sum, write)
	}
	for k, v := range meta {
		if got[k] != v {
			t.Errorf("%s: %q, want %q", k, got[k], v)
		}
		if strings.Contains(coded[k], "  ") || strings.Contains(coded[k], "=?") || coded[k] == "" {
			t.Errorf("%s goes out as %q", k, coded[k])
		}
	}
	if _, sum, _ := DecodeMeta(EncodeMeta(nil, [32]byte{}, "name")); sum != [32]byte{} {
		t.Errorf("the sum of what has none: %x", sum)
	}
}

func TestCheckMeta(t *testing.T) {
	many := map[string]string{}
	for i := range 33 {
		many[fmt.Sprint(i)] = ""
	}
	for _, bad := range []map[string]string{
		{"A": ""}, {"": ""}, {"a_b": ""}, {MetaSum: ""}, {MetaWrite: ""}, {"a": "\n"}, {"a": "é"}, {"a": " b"}, {"a": "b "}, {"a": strings.Repeat("b", 1024)}, many,
	} {
		if CheckMeta(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	delete(many, "0")
	if err := errors.Join(CheckMeta(many), CheckMeta(map[string]string{"a-0": "b c", "e": ""}), CheckMeta(nil)); err != nil {
		t.Error(err)
	}
}

func TestCheckKey(t *testing.T) {
	for _, bad := range []string{"", "/a", "a/", "a//b", ".", "a/../b", "a/./b", "a\x00", "a\n", "a\\b", "\xff", "a\uffff", strings.Repeat("a", 256), strings.Repeat("a/", 512) + "a"} {
		if !errors.Is(CheckKey(bad), provider.ErrInvalidKey) {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{"a", "a/b", "...", "a b", "é/ü", "a#?%+", strings.Repeat("a", 255), strings.Repeat("a/", 511) + "aa"} {
		if err := CheckKey(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestInOrder(t *testing.T) {
	broken := errors.New("broken")
	list := func(keys ...string) iter.Seq2[provider.Info, error] {
		return func(yield func(provider.Info, error) bool) {
			for _, k := range keys {
				if k == "!" {
					yield(provider.Info{}, broken)
					return
				}
				if !yield(provider.Info{Key: k}, nil) {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		listed string
		want   string
		err    error
	}{
		{"a a-b a/ a/x b", "a a-b a/x b", nil},
		{"a a/x a-b", "a a/x", errors.ErrUnsupported},
		{"a a", "a", errors.ErrUnsupported},
		{"a !", "a", broken},
	} {
		var got []string
		var failed error
		for info, err := range InOrder(list(strings.Fields(c.listed)...)) {
			if err != nil {
				failed = err
				continue
			}
			got = append(got, info.Key)
		}
		if !slices.Equal(got, strings.Fields(c.want)) || !errors.Is(failed, c.err) {
			t.Errorf("%q: %q, %v", c.listed, got, failed)
		}
	}
	for range InOrder(list("a", "b")) {
		break
	}
}

func TestCheckTags(t *testing.T) {
	takes := func(r rune) bool { return r == ' ' || r >= 'a' && r <= 'z' || r > 0x7f }
	many := map[string]string{}
	for r := 'a'; r <= 'j'; r++ {
		many[string(r)] = ""
	}
	long := map[string]string{strings.Repeat("ü", 128): strings.Repeat("v", 256)}
	for _, tags := range []map[string]string{nil, {}, {"a b": "c d"}, many, long} {
		if err := CheckTags(tags, takes); err != nil {
			t.Errorf("%q: %v", tags, err)
		}
	}
	eleven := maps.Clone(many)
	eleven["k"] = ""
	for _, tags := range []map[string]string{eleven, {"": "v"}, {strings.Repeat("k", 129): ""}, {"k": strings.Repeat("v", 257)}, {"A": "v"}, {"k": "A"},
		{"k ": "v"}, {"k": " v"}, {"k": "\xff"}, {"k": "\ufffd"}} {
		if err := CheckTags(tags, takes); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%.40q: %v, want errors.ErrUnsupported", tags, err)
		}
	}
}
