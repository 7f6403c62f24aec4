package files

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/internal/pattern"
)

// A selection says which paths a restore is about.
type selection struct {
	*pattern.Selection
	names        map[string]string // for files whose own path is not selected: the path of another name that is
	items, bytes int64
}

func newSelection(o options) (*selection, error) {
	p, err := pattern.New("destination: option include", o.include, "destination: option exclude", o.exclude)
	return &selection{Selection: p}, err
}

// has reports whether a path is selected.
func (s *selection) has(rel string) bool {
	if rel == rootPath && !s.All() {
		return !s.Includes()
	}
	return s.Has(rel)
}

// resolve goes through a point, so that a pattern that matches nothing is
// found before anything is written, and that a selected name of a file finds
// its content under another that is not.
func (s *selection) resolve(ctx context.Context, v *backup.View) error {
	if s.All() {
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
	include, exclude := s.Unused()
	for _, p := range include {
		errs = append(errs, fmt.Errorf("destination: option include: nothing in the point matches %q", p))
	}
	for _, p := range exclude {
		errs = append(errs, fmt.Errorf("destination: option exclude: nothing in the point matches %q", p))
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
