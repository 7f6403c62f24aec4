package providertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

var keyClauses = []clause{
	sentence("keys-plain", "Keys of the form [a-z0-9._/-] of up to 1,024 bytes, in up to 254 segments of up to 255 that end in no dot, are always taken.", keysPlain),
	sentence("keys-refused", "A key that is empty, longer than 1,024 bytes or not UTF-8 is ErrInvalidKey, and nothing is written.", keysRefused),
	sentence("keys-odd", "Any other key is taken as it is, beside all others, or refused with ErrInvalidKey before anything is written.", keysOdd),
	sentence("keys-beside", "Keys that differ only by case, or of which one is another's path prefix, do not disturb each other, or are refused.", keysBeside),
}

// maxSegments is how many segments a key has that every store takes.
const maxSegments = 254

func keysPlain(ctx context.Context, p *probe) error {
	names := []string{"a", "0", "a-b_c.d/e/0", "x.y", "x-y/..z", "x-y/-", "packs/ab/" + strings.Repeat("ab", 32)}
	names = append(names, strings.Repeat("n", 255), "n/"+strings.Repeat("n", 255)+"/n")
	long := strings.Repeat(strings.Repeat("k", 254)+"/", 5)
	deep := strings.Repeat("d/", maxSegments-1-strings.Count(p.prefix, "/"))
	names = append(names, long[:1024-len(p.prefix)-1]+"e", deep+"e")
	return p.keep(ctx, names, never)
}

// Whether a store may refuse a key.
func never(string) bool        { return false }
func always(string) bool       { return true }
func notPlain(key string) bool { return !isPlain(key) }

// keep stores an object for each name and checks all of them afterwards. A
// name that the store refuses as invalid is left out if it may.
func (p *probe) keep(ctx context.Context, names []string, mayRefuse func(key string) bool) error {
	var kept []string
	for _, name := range names {
		_, err := p.put(ctx, name, "content of "+name, provider.PutOptions{})
		if errors.Is(err, provider.ErrInvalidKey) && mayRefuse(p.prefix+name) {
			if err := p.absent(ctx, name); err != nil {
				return fmt.Errorf("after it was refused: %w", err)
			}
			continue
		}
		if err != nil {
			return err
		}
		kept = append(kept, name)
	}
	for _, name := range kept {
		if err := p.holds(ctx, name, "content of "+name); err != nil {
			return err
		}
		info, err := p.store.Stat(ctx, p.key(name))
		if err != nil {
			return fmt.Errorf("stat %q: %w", name, err)
		}
		if info.Key != p.key(name) {
			return fmt.Errorf("stat %q: Info.Key is %q, want %q", name, info.Key, p.key(name))
		}
	}
	slices.Sort(kept)
	got, err := p.list(ctx, p.store, "", provider.ListOptions{})
	slices.Sort(got) // the order is another clause
	if err == nil && !slices.Equal(got, kept) {
		err = fmt.Errorf("list yields %q, want %q", got, kept)
	}
	return err
}

func isPlain(key string) bool {
	if strings.Count(key, "/") >= maxSegments {
		return false
	}
	for _, segment := range strings.Split(key, "/") {
		if segment == "" || strings.HasSuffix(segment, ".") || len(segment) > 255 ||
			strings.Trim(segment, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return false
		}
	}
	return true
}

func keysRefused(ctx context.Context, p *probe) error {
	bad := map[string]string{
		"an empty key":      "",
		"1,025 bytes":       p.prefix + strings.Repeat("k", 1025-len(p.prefix)),
		"invalid UTF-8":     p.prefix + "a\xff",
		"half a rune":       p.prefix + "a\xc3",
		"a surrogate":       p.prefix + "a\xed\xa0\x80",
		"an overlong slash": p.prefix + "a\xc0\xafb",
	}
	for what, key := range bad {
		if key != "" {
			p.track(key)
		}
		_, err := p.store.Put(ctx, key, strings.NewReader("x"), provider.PutOptions{})
		if err := want(err, provider.ErrInvalidKey); err != nil {
			return fmt.Errorf("put with %s: %w", what, err)
		}
		r, _, err := p.store.Get(ctx, key, provider.GetOptions{})
		if err == nil {
			r.Close()
		}
		if err := want(err, provider.ErrInvalidKey, provider.ErrNotFound); err != nil {
			return fmt.Errorf("get with %s: %w", what, err)
		}
		if err := p.store.Delete(ctx, key, provider.DeleteOptions{}); err != nil && !errors.Is(err, provider.ErrInvalidKey) {
			return fmt.Errorf("delete with %s: %w", what, err)
		}
	}
	got, err := p.list(ctx, p.store, "", provider.ListOptions{})
	if err == nil && len(got) > 0 {
		err = fmt.Errorf("list yields %q although every key was refused", got)
	}
	return err
}

func keysOdd(ctx context.Context, p *probe) error {
	odd := []string{
		"a//b", "./b", "c/./d", "e/../f", "g/..", "h/", "//", "..", ".", "...", "../../../../x",
		"nul\x00byte", "new\nline", "del\x7f", "tab\t", " space ", "trailing.", "dot./x",
		"back\\slash", "..\\up", "c:", "con", "aux.txt", "a:b", "*?\"<>|", "%2e%2e", "%", "%zz", "#frag?q=1&r+s", "~",
		"ü", "日本/語", "😀", "\u2028", "\ufeff", "e\u0301", "\u00e9",
		strings.Repeat("n", 300), strings.Repeat("ü", 150), strings.Repeat("日", 100) + "/x",
		strings.Repeat("%", 200), strings.Repeat("d/", 200) + "x", strings.Repeat("d/", 300) + "x",
	}
	if err := p.keep(ctx, odd, notPlain); err != nil {
		return err
	}
	// A store that resolves ".." would show these objects elsewhere.
	for _, name := range []string{"f", "x", "b", "c/d"} {
		if err := p.absent(ctx, name); err != nil {
			return fmt.Errorf("after puts of keys that contain dots: %w", err)
		}
	}
	for _, key := range []string{"/" + p.prefix + "rooted", "../" + p.prefix + "above", p.prefix + strings.Repeat("../", 40) + "tmp/holdfast-above"} {
		p.track(key)
		_, err := p.store.Put(ctx, key, strings.NewReader(key), provider.PutOptions{})
		if errors.Is(err, provider.ErrInvalidKey) {
			err = p.absentKey(ctx, key)
		} else if err == nil {
			err = p.exactly(ctx, key)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	for _, name := range []string{"rooted", "above"} {
		if err := p.absent(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// exactly checks that a key holds itself and is listed.
func (p *probe) exactly(ctx context.Context, key string) error {
	b, _, err := read(ctx, p.store, key, provider.GetOptions{})
	if err != nil {
		return err
	}
	if err := same(b, []byte(key)); err != nil {
		return err
	}
	for info, err := range p.store.List(ctx, key, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		if info.Key == key {
			return nil
		}
	}
	return errors.New("taken, but not listed")
}

func keysBeside(ctx context.Context, p *probe) error {
	return p.keep(ctx, []string{
		"case/a", "case/A", "Case/a", "straße", "strasse",
		"p", "p/q", "p/q/r", "p/q/r/", "p/", "pq", "o-p", "d-p", "p.tmp",
		strings.Repeat("l", 100), strings.Repeat("l", 100) + "/m", strings.Repeat("l", 80), strings.Repeat("l", 80) + "/m", strings.Repeat("l", 80) + "-",
	}, always)
}
