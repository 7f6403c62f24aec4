package dr

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// A Lock has the store of a site refuse to delete or replace what the
// repository holds there; see [backup.Lock]. The Planner makes the locks of
// every point last for as long as it is kept, and raises an alarm if they were
// not extended in time. A point that retention lets go stays until its locks
// are over, which is up to Keep and Ahead later.
type Lock struct {
	// Mode is governance, which a privileged caller can lift, or compliance,
	// which nobody can. Empty means governance.
	Mode provider.LockMode `yaml:"mode,omitempty" json:"mode,omitempty"`

	// Keep is for how long from now on every point that is kept is locked, at
	// any time, and from when it was made one that is not.
	Keep Duration `yaml:"keep" json:"keep"`

	// Ahead is how much longer than Keep locks are made, so that not each of
	// them has to be extended each time. 0 means half of Keep.
	Ahead Duration `yaml:"ahead,omitempty" json:"ahead,omitzero"`

	// Raw is for how long segments of logs are locked that pruning replaces
	// by larger ones. 0 means Keep and Ahead. Copies of them are locked that
	// long in any case.
	Raw Duration `yaml:"raw,omitempty" json:"raw,omitzero"`

	// ExtendEvery is how often locks are extended: at most a quarter of
	// Ahead, so that one that failed can be repeated in time. 0 means an
	// eighth of Ahead, a day at most.
	ExtendEvery Duration `yaml:"extend_every,omitempty" json:"extend_every,omitzero"`

	// ExtendOff extends nothing: another program does, or points need no
	// protection beyond Keep from when they were made.
	ExtendOff bool `yaml:"extend_off,omitempty" json:"extend_off,omitempty"`
}

func (l *Lock) ahead() time.Duration { return or(l.Ahead, l.Keep/2).Std() }

// whole is how long a lock is.
func (l *Lock) whole() time.Duration { return l.Keep.Std() + l.ahead() }

func (l *Lock) every() time.Duration {
	return or(l.ExtendEvery.Std(), min(l.ahead()/8, Day))
}

// inRepository is what the repository of the site does.
func (l *Lock) inRepository() backup.Lock {
	if l == nil {
		return backup.Lock{}
	}
	return backup.Lock{Mode: or(l.Mode, provider.Governance), Keep: l.Keep.Std(), Ahead: l.ahead(), Raw: l.Raw.Std()}
}

// lockOf is the lock of a site, or nil.
func (c Config) lockOf(site string) *Lock {
	s, _ := c.site(site)
	return s.Lock
}

func (l *Lock) validate(f *faults, field string, prune Prune) {
	if l == nil {
		return
	}
	if l.Mode != "" && l.Mode != provider.Governance && l.Mode != provider.Compliance {
		f.add(field+".mode", fmt.Sprintf("%q is neither governance nor compliance", l.Mode), "write one of them")
	}
	const least = 8 * time.Minute // an eighth of it is how often the Planner looks
	switch {
	case l.Keep <= 0:
		f.add(field+".keep", "is not set", "say for how long points are to be protected, for example 30d")
	case l.Ahead < 0 || l.ahead() < least:
		f.add(field+".ahead", fmt.Sprintf("%v is shorter than %v", Duration(l.ahead()), Duration(least)), "a third of keep is good; leave it out for half of it")
	case l.ExtendOff && l.ExtendEvery != 0:
		f.add(field+".extend_every", "is set, but extend_off is true", "set one of them")
	case l.ExtendEvery != 0 && l.ExtendEvery.Std() < time.Minute:
		f.add(field+".extend_every", fmt.Sprintf("%v is shorter than a minute", l.ExtendEvery), "leave it out")
	case l.every() > l.ahead()/4:
		f.add(field+".extend_every", fmt.Sprintf("%v is more than a quarter of ahead, %v: one that failed could not be repeated in time", l.ExtendEvery, Duration(l.ahead())),
			fmt.Sprintf("extend every %v or more often, or set a longer ahead", Duration(l.ahead()/4)))
	}
	if l.Raw < 0 || l.Raw != 0 && !prune.Off && l.Raw.Std() < 2*prune.every() {
		f.add(field+".raw", fmt.Sprintf("%v is less than two intervals of prune, %v each: segments would lose their locks before they are replaced", l.Raw, Duration(prune.every())),
			"set a longer one, or leave it out")
	}
}

// lockedCopies is the repository of a site as replication writes to it: what
// is put there gets the locks of the site, whatever it had where it came from.
func (c Config) lockedCopies(store provider.BlobStore, site string) provider.BlobStore {
	if l := c.lockOf(site); l != nil {
		return lockedCopies{store, l}
	}
	return store
}

type lockedCopies struct {
	provider.BlobStore
	lock *Lock
}

// Unwrap is for [provider.As].
func (s lockedCopies) Unwrap() provider.BlobStore { return s.BlobStore }

func (s lockedCopies) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	// The next whole second, as some stores keep no parts of it.
	until := time.Now().UTC().Add(s.lock.whole() + time.Second).Truncate(time.Second)
	o.Retain = provider.Retention{Mode: s.lock.inRepository().Mode, Until: until}
	return s.BlobStore.Put(ctx, key, b, o)
}
