package files

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

// A selection says which paths a restore is about. A path is selected if it
// or a directory above it matches an include pattern, or if there are none,
// unless it or a directory above it matches an exclude pattern.
type selection struct {
	include, exclude []*pattern
	names            map[string]string // for files whose own path is not selected: the path of another name that is
	items, bytes     int64
}

type pattern struct {
	text string
	segs []string // nil for one that is matched against each name
	used bool
}

func newSelection(o options) (*selection, error) {
	s := &selection{}
	var errs []error
	for _, l := range []struct {
		option string
		texts  []string
		out    *[]*pattern
	}{{"include", o.include, &s.include}, {"exclude", o.exclude, &s.exclude}} {
		for _, t := range l.texts {
			p, err := newPattern(t)
			if err != nil {
				errs = append(errs, fmt.Errorf("destination: option %s: %w", l.option, err))
				continue
			}
			*l.out = append(*l.out, p)
		}
	}
	return s, errors.Join(errs...)
}

func newPattern(text string) (*pattern, error) {
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

// all reports whether everything is selected.
func (s *selection) all() bool { return len(s.include)+len(s.exclude) == 0 }

// has reports whether a path is selected.
func (s *selection) has(rel string) bool {
	switch {
	case s.all():
		return true
	case rel == rootPath:
		return len(s.include) == 0
	}
	segs := strings.Split(rel, "/")
	in := len(s.include) == 0 || anyCovers(s.include, segs)
	return !anyCovers(s.exclude, segs) && in
}

// resolve goes through a point, so that a pattern that matches nothing is
// found before anything is written, and that a selected name of a file finds
// its content under another that is not.
func (s *selection) resolve(ctx context.Context, v *backup.View) error {
	if s.all() {
		return nil
	}
	s.names = map[string]string{}
	var direct int64
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		if !s.has(it.Path) {
			continue
		}
		direct++
		s.bytes += it.Size
		m, err := checkItem(it)
		if err != nil {
			return err
		}
		if to := string(m.Link); m.Type == typeLink && !s.has(to) {
			if _, ok := s.names[to]; !ok {
				s.names[to] = it.Path
			}
		}
	}
	s.items = direct
	var errs []error
	for _, p := range s.include {
		if !p.used {
			errs = append(errs, fmt.Errorf("destination: option include: nothing in the point matches %q", p.text))
		}
	}
	for _, p := range s.exclude {
		if !p.used {
			errs = append(errs, fmt.Errorf("destination: option exclude: nothing in the point matches %q", p.text))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if direct == 0 {
		return errors.New("destination: the options include and exclude together leave nothing to restore")
	}
	if len(s.names) > 0 {
		s.items, s.bytes = 0, 0
		for e, err := range selected(ctx, v, s) {
			if err != nil {
				return err
			}
			s.items++
			s.bytes += e.it.Size
		}
	}
	v.Expect(s.items, s.bytes)
	return nil
}
