package providertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

var conditionClauses = []clause{
	sentence("put-if-absent", "Put with IfAbsent creates an object, and is ErrConflict on a key that has one, which stays.", putIfAbsent),
	sentence("put-if-absent-race", "Of racing puts with IfAbsent exactly one succeeds, the others are ErrConflict, and the object is the winner's.", putIfAbsentRace),
	sentence("put-if-match", "Put with IfMatch replaces exactly that version, and is ErrConflict on any other and on a key without an object.", putIfMatch),
	sentence("put-if-match-race", "Of racing puts with one IfMatch exactly one succeeds, the others are ErrConflict, and the object is the winner's.", putIfMatchRace),
	sentence("delete-version", "Delete with a Version that is not the present one is ErrConflict, or every Version is declined, and the object stays.", deleteVersion),
	sentence("delete-version-race", "Of a Delete with a Version and a Put with the same IfMatch at most one succeeds.", deleteVersionRace),
}

func putIfAbsent(ctx context.Context, p *probe) error {
	first, err := p.put(ctx, "x", "first", provider.PutOptions{IfAbsent: true})
	if err != nil {
		return err
	}
	for _, s := range []provider.BlobStore{p.store, p.second} {
		for _, content := range []string{"second", "first", ""} {
			_, err := s.Put(ctx, p.key("x"), strings.NewReader(content), provider.PutOptions{IfAbsent: true})
			if err := want(err, provider.ErrConflict); err != nil {
				return fmt.Errorf("put of %q on a key that has an object: %w", content, err)
			}
		}
	}
	info, err := p.store.Stat(ctx, p.key("x"))
	if err != nil {
		return err
	}
	if info.Version != first.Version {
		return fmt.Errorf("refused puts changed the version from %q to %q", first.Version, info.Version)
	}
	if err := p.holds(ctx, "x", "first"); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{}); err != nil {
		return err
	}
	if _, err := p.put(ctx, "x", "third", provider.PutOptions{IfAbsent: true}); err != nil {
		return fmt.Errorf("after a delete: %w", err)
	}
	return p.holds(ctx, "x", "third")
}

func putIfMatch(ctx context.Context, p *probe) error {
	one, err := p.put(ctx, "x", "one", provider.PutOptions{})
	if err != nil {
		return err
	}
	two, err := p.put(ctx, "x", "two", provider.PutOptions{IfMatch: one.Version})
	if err != nil {
		return fmt.Errorf("IfMatch of the present version: %w", err)
	}
	other, err := p.put(ctx, "y", "other", provider.PutOptions{})
	if err != nil {
		return err
	}
	refused := []provider.Version{one.Version}
	if other.Version != two.Version {
		refused = append(refused, other.Version)
	}
	for _, v := range refused {
		_, err := p.second.Put(ctx, p.key("x"), strings.NewReader("three"), provider.PutOptions{IfMatch: v})
		if err := want(err, provider.ErrConflict); err != nil {
			return fmt.Errorf("IfMatch of a version that is not the present one: %w", err)
		}
	}
	if err := p.holds(ctx, "x", "two"); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{}); err != nil {
		return err
	}
	for _, name := range []string{"x", "never"} {
		_, err := p.store.Put(ctx, p.key(name), strings.NewReader("three"), provider.PutOptions{IfMatch: two.Version})
		if err := want(err, provider.ErrConflict); err != nil {
			return fmt.Errorf("IfMatch on a key without an object: %w", err)
		}
		if err := p.absent(ctx, name); err != nil {
			return err
		}
	}
	for what, o := range map[string]provider.PutOptions{
		"IfMatch of what is no version of the store": {IfMatch: "none-of-this-store"},
		"IfMatch beside IfAbsent":                    {IfMatch: other.Version, IfAbsent: true},
	} {
		for _, name := range []string{"y", "never"} {
			_, err := p.store.Put(ctx, p.key(name), strings.NewReader("three"), o)
			if err := want(err, provider.ErrConflict); err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
		}
		if err := errors.Join(p.absent(ctx, "never"), p.holds(ctx, "y", "other")); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

const (
	racers = 8
	rounds = 6
)

func putIfAbsentRace(ctx context.Context, p *probe) error {
	for round := range rounds {
		name := fmt.Sprintf("x%d", round)
		if _, err := p.race(ctx, name, fmt.Sprint("round ", round), provider.PutOptions{IfAbsent: true}); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

func putIfMatchRace(ctx context.Context, p *probe) error {
	info, err := p.put(ctx, "x", "start", provider.PutOptions{})
	if err != nil {
		return err
	}
	version := info.Version
	for round := range rounds {
		version, err = p.race(ctx, "x", fmt.Sprint("round ", round), provider.PutOptions{IfMatch: version})
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}

// race makes puts of different bytes under one condition at the same time,
// half of them by the second handle, and returns the version of the winner.
func (p *probe) race(ctx context.Context, name, content string, o provider.PutOptions) (provider.Version, error) {
	line := newStart(racers)
	var infos [racers]provider.Info
	var errs [racers]error
	var wg sync.WaitGroup
	for i := range racers {
		store := p.store
		if i%2 == 1 {
			store = p.second
		}
		wg.Go(func() {
			defer line.arrive()
			body := line.body([]byte(fmt.Sprintf("%s, racer %d", content, i)))
			infos[i], errs[i] = store.Put(ctx, p.key(name), body, o)
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner >= 0:
			return "", fmt.Errorf("puts %d and %d of %d both succeeded", winner, i, racers)
		case err == nil:
			winner = i
		case !errors.Is(err, provider.ErrConflict):
			return "", fmt.Errorf("put %d of %d: %w", i, racers, want(err, provider.ErrConflict))
		}
	}
	if winner < 0 {
		return "", fmt.Errorf("none of %d puts succeeded", racers)
	}
	info, err := p.store.Stat(ctx, p.key(name))
	if err != nil {
		return "", err
	}
	if info.Version != infos[winner].Version {
		return "", fmt.Errorf("put %d succeeded with version %q, but present is %q", winner, infos[winner].Version, info.Version)
	}
	return info.Version, p.holds(ctx, name, fmt.Sprintf("%s, racer %d", content, winner))
}

// start is a line at which racing puts wait for each other while they read
// their bodies, so that a store that checks first and acts later has made all
// of its checks. Nobody waits long: a store may as well let one finish first.
type start struct {
	mu      sync.Mutex
	missing int
	all     chan struct{}
}

func newStart(n int) *start { return &start{missing: n, all: make(chan struct{})} }

func (s *start) arrive() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.missing--; s.missing == 0 { // later ones find it closed
		close(s.all)
	}
}

func (s *start) body(content []byte) provider.Body {
	var once sync.Once
	return &oddBody{content: content, read: func(b []byte, off int64) (int, error) {
		once.Do(func() {
			s.arrive()
			select {
			case <-s.all:
			case <-time.After(50 * time.Millisecond):
			}
		})
		return upTo(content, len(content), b, off)
	}}
}

func deleteVersion(ctx context.Context, p *probe) error {
	one, err := p.put(ctx, "x", "one", provider.PutOptions{})
	if err != nil {
		return err
	}
	two, err := p.put(ctx, "x", "two", provider.PutOptions{})
	if err != nil {
		return err
	}
	err = p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{Version: one.Version})
	if errors.Is(err, errors.ErrUnsupported) {
		return p.declinesVersion(ctx, "x", "two", two.Version)
	}
	if err := want(err, provider.ErrConflict); err != nil {
		return fmt.Errorf("delete of the replaced version: %w", err)
	}
	if err := p.holds(ctx, "x", "two"); err != nil {
		return err
	}
	if err := p.store.Delete(ctx, p.key("x"), provider.DeleteOptions{Version: two.Version}); err != nil {
		return fmt.Errorf("delete of the present version: %w", err)
	}
	return p.absent(ctx, "x")
}

// declinesVersion checks that a store that declined to delete another version
// of an object declines the present one, too. It returns an unsupportedError.
func (p *probe) declinesVersion(ctx context.Context, name, content string, v provider.Version) error {
	err := p.second.Delete(ctx, p.key(name), provider.DeleteOptions{Version: v})
	if !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("delete with another version is unsupported, with the present one: %w", want(err, errors.ErrUnsupported))
	}
	if err := p.holds(ctx, name, content); err != nil {
		return fmt.Errorf("after the declined delete: %w", err)
	}
	return &unsupportedError{err}
}

func deleteVersionRace(ctx context.Context, p *probe) error {
	for round := range rounds {
		old, err := p.put(ctx, "x", fmt.Sprint("old ", round), provider.PutOptions{})
		if err != nil {
			return err
		}
		// In even rounds the delete comes while the put reads its body, in odd
		// rounds the put comes a moment after the delete has begun.
		line := newStart(2)
		var young provider.Info
		var putErr, deleteErr error
		var wg sync.WaitGroup
		put := func() {
			young, putErr = p.store.Put(ctx, p.key("x"), line.body([]byte("new")), provider.PutOptions{IfMatch: old.Version})
		}
		remove := func() {
			defer line.arrive()
			deleteErr = p.second.Delete(ctx, p.key("x"), provider.DeleteOptions{Version: old.Version})
		}
		if round%2 == 1 {
			line.arrive()
			wg.Go(remove)
			time.Sleep(300 * time.Microsecond)
			wg.Go(put)
		} else {
			wg.Go(put)
			time.Sleep(300 * time.Microsecond)
			wg.Go(remove)
		}
		wg.Wait()
		switch {
		case errors.Is(deleteErr, errors.ErrUnsupported) && putErr == nil:
			return p.declinesVersion(ctx, "x", "new", young.Version)
		case putErr == nil && deleteErr == nil:
			// Also wrong if the delete came later: it was to spare the new one.
			return fmt.Errorf("round %d: put with IfMatch and delete with the same Version both succeeded", round)
		case putErr == nil:
			err = errors.Join(want(deleteErr, provider.ErrConflict), p.holds(ctx, "x", "new"))
		case deleteErr == nil:
			err = errors.Join(want(putErr, provider.ErrConflict), p.absent(ctx, "x"))
		default:
			err = fmt.Errorf("neither succeeded: %w", errors.Join(putErr, deleteErr))
		}
		if err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
	}
	return nil
}
