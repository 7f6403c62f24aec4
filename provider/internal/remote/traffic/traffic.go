// Package traffic is what the implementations of [provider.TrafficSwitch]
// have in common: what is a state, and how one is swapped for another by a
// service that can be read and written. It knows no service.
package traffic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// An Outcome says what became of a write.
type Outcome int

const (
	Done    Outcome = iota // the service has it
	Failed                 // it has not and never will, for a reason that trying again does not mend
	Refused                // it has not: what it holds, or a rule of it, is against the change
	Busy                   // it has not, and may do it later
	Lost                   // it may have it, or may yet
)

// A Service is what a switch works with. All fields but Settle are required.
type Service struct {
	Name   string // of the provider
	Key    string // what the switch is called in errors
	Traits provider.TrafficTraits

	Read func(ctx context.Context) (provider.TrafficState, error)

	// Write makes the state exactly to, of which from is what was read last.
	// The error is nil if the Outcome is Done, and only then.
	Write func(ctx context.Context, from, to provider.TrafficState) (Outcome, error)

	// Meaning is the error of package provider that a vendor's error means,
	// or nil.
	Meaning func(error) error

	// Writes is how often a write is tried at most, after a look each time.
	Writes int

	// Settle is how long what was written may take to be read. 0 means that
	// Done is proof enough; it has to be where Traits.Compared is set, since
	// another may move on at once.
	Settle time.Duration
}

// refusals is after how many a rule is believed to be against the change: a
// service also refuses what meets another change on its way.
const refusals = 3

// State implements [provider.TrafficSwitch].
func (s *Service) State(ctx context.Context) (provider.TrafficState, error) {
	if err := ctx.Err(); err != nil {
		return provider.TrafficState{}, s.wrap(ctx, "traffic state", err)
	}
	now, err := s.Read(ctx)
	if err != nil {
		return provider.TrafficState{}, s.wrap(ctx, "traffic state", err)
	}
	return now, nil
}

// Switch implements [provider.TrafficSwitch].
func (s *Service) Switch(ctx context.Context, from, to provider.TrafficState) error {
	err := ctx.Err()
	if err == nil {
		err = errors.Join(Check(s.Traits, "from", from), Check(s.Traits, "to", to))
	}
	if err == nil {
		err = s.swap(ctx, from, to)
	}
	if err != nil {
		return s.wrap(ctx, "traffic switch", err)
	}
	return nil
}

// swap looks, writes, and looks again wherever the answer does not tell.
func (s *Service) swap(ctx context.Context, from, to provider.TrafficState) error {
	var lost, last error
	for writes, refusedTimes := 0, 0; ; writes++ {
		now, err := s.Read(ctx)
		switch {
		case err != nil && lost != nil:
			return uncertain("a reply was lost, and the state cannot be read (%v): %w", err, lost)
		case err != nil:
			return err
		case Equal(now, to):
			return nil
		case !Equal(now, from) && lost != nil:
			return uncertain("a reply was lost, and traffic goes to %s, which is neither: %w", Describe(now), lost)
		case !Equal(now, from):
			return fmt.Errorf("traffic goes to %s, neither to %s nor to %s: %w", Describe(now), Describe(from), Describe(to), provider.ErrConflict)
		case lost != nil && (writes >= s.Writes || refusedTimes >= refusals):
			return uncertain("a reply was lost, and whether the change will be made is not known: %w", lost)
		case refusedTimes >= refusals:
			return fmt.Errorf("%w: %w", provider.ErrRefused, last)
		case writes >= s.Writes:
			return last
		}
		outcome, err := s.Write(ctx, now, to)
		switch outcome {
		case Done:
			return s.confirm(ctx, to)
		case Lost:
			lost = err
		case Refused:
			last = err
			refusedTimes++
		case Busy:
			last = err
		default:
			if lost != nil {
				return uncertain("a reply was lost, and whether the change was made is not known (%v): %w", err, lost)
			}
			return err
		}
		if err := sleep(ctx, pause(writes)); err != nil {
			if lost != nil {
				return uncertain("whether the change was made is not known: %w", lost)
			}
			return err
		}
	}
}

// confirm waits until what was written is read.
func (s *Service) confirm(ctx context.Context, to provider.TrafficState) error {
	if s.Settle == 0 {
		return nil
	}
	until := time.Now().Add(s.Settle)
	for looks := 0; ; looks++ {
		now, err := s.Read(ctx)
		switch {
		case err == nil && Equal(now, to):
			return nil
		case ctx.Err() != nil || time.Now().After(until):
			if err == nil {
				err = fmt.Errorf("it says that traffic goes to %s", Describe(now))
			}
			return uncertain("the service took the change to %s, and does not show it after that: %w", Describe(to), err)
		}
		if err := sleep(ctx, pause(looks)); err != nil {
			return uncertain("the service took the change to %s, and was not seen to have made it: %w", Describe(to), err)
		}
	}
}

// wrap makes a [provider.Error].
func (s *Service) wrap(ctx context.Context, op string, err error) error {
	var meaning error
	if _, ok := errors.AsType[*unknown](err); !ok {
		meaning = s.Meaning(err)
	}
	return remote.Wrap(ctx, s.Name, op, s.Key, err, meaning)
}

// unknown is an error that means none of those of package provider, whatever
// the vendor's error in it would mean: callers take those for certain.
type unknown struct{ error }

func (u *unknown) Unwrap() error { return u.error }

func uncertain(format string, args ...any) error { return &unknown{fmt.Errorf(format, args...)} }

// Check accepts a state that is well formed; name is what it is called.
func Check(t provider.TrafficTraits, name string, s provider.TrafficState) error {
	for i, site := range s.Sites {
		switch {
		case !slices.Contains(t.Sites, site):
			return fmt.Errorf("%s: there is no site %q, but %s", name, site, strings.Join(t.Sites, ", "))
		case i > 0 && s.Sites[i-1] == site:
			return fmt.Errorf("%s: site %q is there twice", name, site)
		case i > 0 && s.Sites[i-1] > site:
			return fmt.Errorf("%s: sites %q and %q are not in ascending order", name, s.Sites[i-1], site)
		}
	}
	switch m := s.Mark; {
	case m == provider.TrafficMark{}:
		return nil
	case !t.Marked:
		return fmt.Errorf("%s: the service has no place for a mark: %w", name, errors.ErrUnsupported)
	case !ValidOwner(m.Owner):
		return fmt.Errorf("%s: owner %q of the mark: use up to 63 of a-z, 0-9 and -", name, m.Owner)
	}
	return nil
}

// ValidOwner says whether the owner of a mark is well formed.
func ValidOwner(owner string) bool {
	return owner != "" && len(owner) <= 63 && strings.Trim(owner, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// CheckSites returns the sites of a switch in order, and calls fault with what
// is wrong with them. A name is 1 to 63 printable characters of ASCII without
// space, so that it can stand in an error and in evidence as it is.
func CheckSites(sites []string, fault func(format string, args ...any)) []string {
	if len(sites) < 2 {
		fault("%d, want at least two", len(sites))
	}
	for _, site := range sites {
		if site == "" || len(site) > 63 || strings.ContainsFunc(site, func(r rune) bool { return r <= ' ' || r > '~' }) {
			fault("%q is no name of a site: use up to 63 printable characters", site)
		}
	}
	sites = slices.Clone(sites)
	slices.Sort(sites)
	if len(slices.Compact(slices.Clone(sites))) < len(sites) {
		fault("a site is there twice")
	}
	return sites
}

// Equal: the same sites, and the same mark.
func Equal(a, b provider.TrafficState) bool {
	return slices.Equal(a.Sites, b.Sites) && a.Mark == b.Mark
}

// Describe reads "eu-west, us-east (shop, epoch 7)".
func Describe(s provider.TrafficState) string {
	text := strings.Join(s.Sites, ", ")
	if text == "" {
		text = "nowhere"
	}
	if s.Mark != (provider.TrafficMark{}) {
		text += fmt.Sprintf(" (%s, epoch %d)", s.Mark.Owner, s.Mark.Epoch)
	}
	return text
}

// Clone is a copy of traits that the caller may change.
func Clone(t provider.TrafficTraits) provider.TrafficTraits {
	t.Sites, t.Endpoints = slices.Clone(t.Sites), slices.Clone(t.Endpoints)
	return t
}

// pause doubles from a fifth of a second to three.
func pause(n int) time.Duration { return min(200*time.Millisecond<<min(n, 4), 3*time.Second) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
