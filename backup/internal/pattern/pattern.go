// Package pattern selects paths by patterns, as the targets do that are trees
// of names.
package pattern

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// A Selection says which paths are meant. A path is selected if it or a
// directory above it matches an include pattern, or if there are none, unless
// it or a directory above it matches an exclude pattern. Has notes which
// patterns have matched, so a Selection is used by one goroutine at a time.
type Selection struct {
	include, exclude []*pattern
}

// A pattern without a slash is matched against each name of a path, one with a
// slash against the path from its root, where "**" stands for any number of
// directories; names are matched by [path.Match].
type pattern struct {
	text string
	segs []string // nil for one that is matched against each name
	used bool
}

// New reads patterns. Errors name the pattern, and begin with where it stands.
func New(includeName string, include []string, excludeName string, exclude []string) (*Selection, error) {
	s := &Selection{}
	var errs []error
	for _, l := range []struct {
		name  string
		texts []string
		out   *[]*pattern
	}{{includeName, include, &s.include}, {excludeName, exclude, &s.exclude}} {
		for _, t := range l.texts {
			p, err := parse(t)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", l.name, err))
				continue
			}
			*l.out = append(*l.out, p)
		}
	}
	return s, errors.Join(errs...)
}

func parse(text string) (*pattern, error) {
	if _, err := path.Match(text, ""); err != nil || strings.Trim(text, "/") == "" {
		return nil, fmt.Errorf("bad pattern %q; see path.Match", text)
	}
	p := &pattern{text: text}
	if strings.Contains(text, "/") {
		p.segs = strings.Split(strings.Trim(text, "/"), "/")
		for _, s := range p.segs {
			if s == "" || s == "." || s == ".." {
				return nil, fmt.Errorf("bad pattern %q: segment %q matches nothing", text, s)
			}
		}
	}
	return p, nil
}

// covers reports whether the pattern matches a path or a directory above it.
func (p *pattern) covers(segs []string) bool {
	if p.segs == nil {
		for _, s := range segs {
			if ok, _ := path.Match(p.text, s); ok {
				return true
			}
		}
		return false
	}
	return matchPrefix(p.segs, segs)
}

// matchPrefix matches a pattern with the first segments of a path; "**"
// stands for any number of them.
func matchPrefix(pat, segs []string) bool {
	for i, p := range pat {
		if p == "**" {
			if i == len(pat)-1 {
				return len(segs) > 0
			}
			for n := range len(segs) + 1 {
				if matchPrefix(pat[i+1:], segs[n:]) {
					return true
				}
			}
			return false
		}
		if len(segs) == 0 {
			return false
		}
		if ok, _ := path.Match(p, segs[0]); !ok {
			return false
		}
		segs = segs[1:]
	}
	return true
}

func anyCovers(patterns []*pattern, segs []string) bool {
	found := false
	for _, p := range patterns {
		if (!p.used || !found) && p.covers(segs) {
			p.used, found = true, true
		}
	}
	return found
}

// All reports whether there are no patterns: everything is selected.
func (s *Selection) All() bool { return len(s.include)+len(s.exclude) == 0 }

// Includes reports whether there are patterns without which nothing is selected.
func (s *Selection) Includes() bool { return len(s.include) > 0 }

// Has reports whether a path is selected.
func (s *Selection) Has(rel string) bool {
	if s.All() {
		return true
	}
	segs := strings.Split(rel, "/")
	in := len(s.include) == 0 || anyCovers(s.include, segs)
	return !anyCovers(s.exclude, segs) && in
}

// Unused returns the patterns that matched no path Has was asked about.
func (s *Selection) Unused() (include, exclude []string) {
	unused := func(patterns []*pattern) (texts []string) {
		for _, p := range patterns {
			if !p.used {
				texts = append(texts, p.text)
			}
		}
		return texts
	}
	return unused(s.include), unused(s.exclude)
}
