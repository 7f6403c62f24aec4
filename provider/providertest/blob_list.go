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

var listClauses = []clause{
	sentence("list-order", "List yields keys in ascending order of the bytes of whole keys.", listOrder),
	sentence("list-beside", "List shows keys of which one is another's path prefix, in order, if the store takes both.", listBeside),
	sentence("list-prefix", "List takes any string as a prefix, not only whole segments.", listPrefix),
	sentence("list-start-after", "List yields only keys greater than StartAfter, whether or not that is a key.", listStartAfter),
	sentence("list-pages", "List yields each of more than a thousand objects exactly once.", listPages),
	sentence("list-writes", "List sees every Put and Delete that has returned, at once.", listWrites),
	sentence("list-meanwhile", "Objects that are there all along appear exactly once while others are written and deleted.", listMeanwhile),
	sentence("list-break", "Breaking off a List is safe.", listBreak),
	sentence("list-error", "A List that fails yields a zero Info with the error and ends.", listError),
	sentence("list-info", "List tells Key, Size, Version and Modified of each object.", listInfo),
}

// listNames are in ascending order of bytes; the directory walk that sorts
// segments gets them wrong. None is a path prefix of another.
var listNames = []string{
	"a-/x", "a-b", "a.b", "a/-", "a/b-c", "a/b/c/d", "a/b0", "a/z", "a0", "a_", "aa", "ab/c",
	"b/1", "b/10", "b/11/x", "b/2", "b0/1", "z", "zz/y",
}

// listOdd may be refused by a store.
var listOdd = []string{"A/b", "Z", "a b", "a/é", "a/日本", "a~", "z\x7f", "é", "日", "日本", "😀", "\uffee"}

// listFixture stores listNames and those of listOdd that the store takes, and
// returns them in order.
func (p *probe) listFixture(ctx context.Context) ([]string, error) {
	if err := p.putAll(ctx, listNames); err != nil {
		return nil, err
	}
	names := slices.Clone(listNames)
	for _, name := range listOdd {
		_, err := p.put(ctx, name, name, provider.PutOptions{})
		if errors.Is(err, provider.ErrInvalidKey) {
			continue
		}
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

// yields checks what a listing yields, in its order.
func (p *probe) yields(ctx context.Context, prefix string, o provider.ListOptions, names []string) error {
	for _, s := range []provider.BlobStore{p.store, p.second} {
		got, err := p.list(ctx, s, prefix, o)
		if err != nil {
			return err
		}
		if !slices.Equal(got, names) {
			return fmt.Errorf("list %q after %q: %s", prefix, o.StartAfter, difference(got, names))
		}
	}
	return nil
}

// difference says where two lists part.
func difference(got, want []string) string {
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	around := func(s []string) []string { return s[min(at, len(s)):min(at+3, len(s))] }
	return fmt.Sprintf("%d keys, want %d; from the %dth on %q, want %q", len(got), len(want), at+1, around(got), around(want))
}

func listOrder(ctx context.Context, p *probe) error {
	names, err := p.listFixture(ctx)
	if err != nil {
		return err
	}
	return p.yields(ctx, "", provider.ListOptions{}, names)
}

func listBeside(ctx context.Context, p *probe) error {
	var names []string
	for _, name := range []string{"a", "a-", "a-/x", "a/b", "a/b-c", "a/b/c", "a/b/c/d", "a/b0", "a0"} {
		_, err := p.put(ctx, name, name, provider.PutOptions{})
		if errors.Is(err, provider.ErrInvalidKey) {
			continue
		}
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	return p.yields(ctx, "", provider.ListOptions{}, names)
}

func listPrefix(ctx context.Context, p *probe) error {
	names, err := p.listFixture(ctx)
	if err != nil {
		return err
	}
	for _, prefix := range []string{"a", "a/", "a-", "a/b", "a/b/", "a/b/c/d", "a/b/c/d/", "b/1", "b/10", "b/3", "zz", "zzz", "日", "é", "q"} {
		matching := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, prefix) })
		got, err := p.list(ctx, p.store, prefix, provider.ListOptions{})
		if err != nil {
			return err
		}
		slices.Sort(got) // the order is another clause
		if !slices.Equal(got, matching) {
			return fmt.Errorf("list %q: %s", prefix, difference(got, matching))
		}
	}
	return nil
}

func listStartAfter(ctx context.Context, p *probe) error {
	names, err := p.listFixture(ctx)
	if err != nil {
		return err
	}
	for _, after := range []string{"a-b", "a", "a/", "a/b", "a/b/", "a/b/c", "a/b/c/d", "a/b/c/d/e", "a0", "b", "b/10", "b/11", "b/9", "zz/y", "~~~~", "!"} {
		for _, prefix := range []string{"", "a", "a/b", "b/1"} {
			rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, prefix) || n <= after })
			got, err := p.list(ctx, p.store, prefix, provider.ListOptions{StartAfter: after})
			if err != nil {
				return err
			}
			slices.Sort(got)
			if !slices.Equal(got, rest) {
				return fmt.Errorf("list %q after %q: %s", prefix, after, difference(got, rest))
			}
		}
	}
	return nil
}

func listPages(ctx context.Context, p *probe) error {
	var names []string
	for i := range 1103 {
		names = append(names, fmt.Sprintf("%04d", i))
	}
	if err := p.putAll(ctx, names); err != nil {
		return err
	}
	if err := p.yields(ctx, "", provider.ListOptions{}, names); err != nil {
		return err
	}
	for _, i := range []int{0, 99, 100, 998, 999, 1000, 1001, 1101, 1102} {
		if err := p.yields(ctx, "", provider.ListOptions{StartAfter: names[i]}, names[i+1:]); err != nil {
			return err
		}
	}
	return p.yields(ctx, "10", provider.ListOptions{}, names[1000:1100])
}

func listWrites(ctx context.Context, p *probe) error {
	var names []string
	for i := range 12 {
		name := fmt.Sprintf("x%02d", i)
		if _, err := p.put(ctx, name, name, provider.PutOptions{}); err != nil {
			return err
		}
		names = append(names, name)
		if err := p.yields(ctx, "", provider.ListOptions{}, names); err != nil {
			return fmt.Errorf("after the put of %q: %w", name, err)
		}
	}
	for len(names) > 0 {
		i := len(names) / 2
		if err := p.store.Delete(ctx, p.key(names[i]), provider.DeleteOptions{}); err != nil {
			return err
		}
		gone := names[i]
		names = slices.Delete(names, i, i+1)
		if err := p.yields(ctx, "", provider.ListOptions{}, names); err != nil {
			return fmt.Errorf("after the delete of %q: %w", gone, err)
		}
	}
	return nil
}

func listMeanwhile(ctx context.Context, p *probe) error {
	var stable, other []string
	for i := range 60 {
		stable = append(stable, fmt.Sprintf("d%d/s%02d", i/20, i))
		other = append(other, fmt.Sprintf("d%d/r%02d", i/20, i), fmt.Sprintf("d%d/t%02d", i/20, i))
	}
	if err := p.putAll(ctx, slices.Concat(stable, other[:60])); err != nil {
		return err
	}
	var got []string
	i := 0
	for info, err := range p.store.List(ctx, p.prefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		if name := strings.TrimPrefix(info.Key, p.prefix); strings.Contains(name, "/s") {
			got = append(got, name)
		}
		if i < 60 {
			_, putErr := p.put(ctx, other[60+i], "new", provider.PutOptions{})
			deleteErr := p.store.Delete(ctx, p.key(other[i]), provider.DeleteOptions{})
			if err := errors.Join(putErr, deleteErr); err != nil {
				return fmt.Errorf("while listing: %w", err)
			}
		}
		i++
	}
	slices.Sort(got) // the order is another clause
	if !slices.Equal(got, stable) {
		return fmt.Errorf("of the objects that did not change: %s", difference(got, stable))
	}
	return nil
}

func listBreak(ctx context.Context, p *probe) error {
	if err := p.putAll(ctx, listNames); err != nil {
		return err
	}
	for stop := range len(listNames) {
		n := 0
		for _, err := range p.store.List(ctx, p.prefix, provider.ListOptions{}) {
			if err != nil {
				return err
			}
			if n++; n > stop {
				break
			}
		}
		if n != stop+1 {
			return fmt.Errorf("broke off after %d objects, got %d", stop+1, n)
		}
	}
	got, err := p.list(ctx, p.store, "", provider.ListOptions{})
	if err == nil && len(got) != len(listNames) {
		err = fmt.Errorf("after breaking off, list yields %d objects, want %d", len(got), len(listNames))
	}
	return err
}

func listError(ctx context.Context, p *probe) error {
	if err := p.putAll(ctx, listNames); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	pairs := 0
	for info, err := range p.store.List(ended, p.prefix, provider.ListOptions{}) {
		pairs++
		if err := want(err, context.Canceled); err != nil {
			return fmt.Errorf("list with an ended ctx: %w", err)
		}
		if info.Key != "" || info.Version != "" || info.Size != 0 {
			return fmt.Errorf("list yields %q together with an error", info.Key)
		}
	}
	if pairs != 1 {
		return fmt.Errorf("list with an ended ctx yields %d pairs, want one with the error", pairs)
	}
	return nil
}

func listInfo(ctx context.Context, p *probe) error {
	before := time.Now()
	if err := p.putAll(ctx, listNames); err != nil {
		return err
	}
	for info, err := range p.store.List(ctx, p.prefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(info.Key, p.prefix)
		if err := checkInfo(info, p.prefix+name, name, before); err != nil {
			return fmt.Errorf("list of %q: %w", name, err)
		}
		stat, err := p.store.Stat(ctx, info.Key)
		if err != nil {
			return err
		}
		if stat.Version != info.Version {
			return fmt.Errorf("list says that %q has version %q, stat says %q", name, info.Version, stat.Version)
		}
	}
	return nil
}
