package dr

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/throttle"
)

// The names of the sites, as they stand in plans, lease and journal.
const (
	PrimarySite = "primary"
	StandbySite = "standby"
	WitnessSite = "witness"
)

// otherSite is the peer of a site.
func otherSite(name string) string {
	if name == StandbySite {
		return PrimarySite
	}
	return StandbySite
}

// What a bucket holds: the repository, and (at the witness, or else at the
// standby) what the control of each configuration needs.
const (
	repositoryPrefix = "repository/"
	controlPrefix    = "control/"
)

func (c Config) site(name string) (Site, bool) {
	switch {
	case name == PrimarySite:
		return c.Sites.Primary, true
	case name == StandbySite:
		return c.Sites.Standby, true
	case name == WitnessSite && c.Sites.Witness != nil:
		return *c.Sites.Witness, true
	}
	return Site{}, false
}

// controlSite is where lease, journal and records are: never at the primary.
func (c Config) controlSite() string {
	if c.Sites.Witness != nil {
		return WitnessSite
	}
	return StandbySite
}

// homeOf is where a workload lives at a site: its source at the primary, the
// place failover restores it to at the standby. Empty means nowhere.
func homeOf(w Workload, site string) string {
	if site == StandbySite {
		return w.RestoreTo
	}
	return w.Source
}

// store opens the bucket of a site, or returns the one opened before.
func (p *Planner) store(ctx context.Context, site string) (provider.BlobStore, error) {
	p.mu.Lock()
	s, ok := p.stores[site]
	p.mu.Unlock()
	if ok {
		return s, nil
	}
	spec, ok := p.config.site(site)
	if !ok {
		return nil, fmt.Errorf("open store: there is no site %q", site)
	}
	u, err := bucketURL(spec.Bucket)
	if err != nil {
		return nil, fmt.Errorf("open store of %s: bucket %w", site, err)
	}
	opened, err := p.parts.Stores[strings.ToLower(u.Scheme)](ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("open store of %s: %w", site, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s, ok := p.stores[site]; ok {
		return s, nil // another goroutine was faster
	}
	p.stores[site] = opened
	return opened, nil
}

// LeaseStore opens the store that holds lease and journal of this
// configuration: a part of the witness' bucket or, without a witness, of the
// standby's. The name of the service in it is Config.Name, its sites are
// [PrimarySite] and [StandbySite]: that is what a [failover.Sentry] beside the
// service, or [failover.ReadLease], needs. Write nothing to it.
func (p *Planner) LeaseStore(ctx context.Context) (provider.BlobStore, error) {
	s, err := p.store(ctx, p.config.controlSite())
	if err != nil {
		return nil, err
	}
	return provider.Sub(s, controlPrefix+p.config.Name+"/"), nil
}

func (p *Planner) records(ctx context.Context) (records, error) {
	s, err := p.LeaseStore(ctx)
	if err != nil {
		return records{}, err
	}
	return records{provider.Sub(s, "records/")}, nil
}

// throttles keep the limits of the sites that have some. Each is one for the
// whole Planner: what its parts ask together stays below them.
func (c Config) throttles() (map[string]*throttle.Throttle, error) {
	all := map[string]*throttle.Throttle{}
	for _, site := range []string{PrimarySite, StandbySite, WitnessSite} {
		spec, _ := c.site(site)
		if spec.Limits == nil {
			continue
		}
		l := *spec.Limits
		of := func(perSecond float64) throttle.Limit {
			return throttle.Limit{PerSecond: perSecond, InFlight: l.InFlight}
		}
		var err error
		all[site], err = throttle.New(throttle.Config{Read: of(l.Reads), Write: of(l.Writes), List: of(l.Lists), Delete: of(l.Deletes),
			BytesUp: int64(l.UploadMB * 1e6), BytesDown: int64(l.DownloadMB * 1e6)})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// repositoryStore is where the repository of a site is, under the limits of
// the site.
func (p *Planner) repositoryStore(ctx context.Context, site string) (provider.BlobStore, error) {
	s, err := p.store(ctx, site)
	if err != nil {
		return nil, err
	}
	if t := p.limits[site]; t != nil {
		s = t.Store(s)
	}
	return provider.Sub(s, repositoryPrefix), nil
}

// Repository opens the repository of a site, [PrimarySite] or [StandbySite],
// anew, with the keys that are there when that site is all that is left: at the
// standby only recipients whose private key does not live at the primary count.
// [backup.ErrNoRepository] if there is none yet. Points that are made or
// forgotten with it are found by the next plan; one that was made before makes
// [Planner.Run] say [ErrStale].
func (p *Planner) Repository(ctx context.Context, site string) (*backup.Repository, error) {
	store, err := p.repositoryStore(ctx, site)
	if err != nil {
		return nil, err
	}
	keys, err := p.keyring(ctx, site)
	if err != nil {
		return nil, err
	}
	r, err := backup.Open(ctx, p.repositoryConfig(site, store, keys))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", site, err)
	}
	return r, nil
}

func (p *Planner) repositoryConfig(site string, store provider.BlobStore, keys backup.Keyring) backup.Config {
	return backup.Config{Store: store, Keyring: keys, Lock: p.config.lockOf(site).inRepository(), Logger: p.log}
}

// errNoKey: this process has no private key that would be there.
var errNoKey = errors.New("no recipient with a home that survives has an identity here")

// keyring holds every recipient, and the identities that are usable at site.
func (p *Planner) keyring(ctx context.Context, site string) (backup.Keyring, error) {
	var k backup.Keyring
	if open := (backup.Unprotected{}); p.config.unprotected() {
		return backup.Keyring{Recipients: []backup.Recipient{open}, Identities: []backup.Identity{open}}, nil
	}
	var errs []error
	for i, r := range p.config.Recipients {
		public, err := age.ParseRecipients(strings.NewReader(r.Key))
		if err != nil {
			return k, fmt.Errorf("%s.key: not an age public key", at("recipients", i))
		}
		k.Recipients = append(k.Recipients, backup.AgeRecipients(public...)...)
		if r.Identity == "" || (site == StandbySite && !r.UsableWithoutPrimary()) {
			continue
		}
		ids, err := r.identities(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.identity: %w", at("recipients", i), err))
			continue
		}
		k.Identities = append(k.Identities, ids...)
	}
	if len(k.Identities) == 0 {
		return k, errors.Join(append([]error{errNoKey}, errs...)...)
	}
	return k, nil
}

// identities reads the private keys that r refers to.
func (r Recipient) identities(ctx context.Context) ([]backup.Identity, error) {
	text, err := r.Identity.content(ctx)
	if err != nil {
		return nil, err
	}
	ids, err := age.ParseIdentities(strings.NewReader(text))
	if err != nil {
		// age's own error may quote a part of the line.
		return nil, fmt.Errorf("%s does not hold an age identity (AGE-SECRET-KEY-1...)", r.Identity)
	}
	return backup.AgeIdentities(ids...), nil
}

// inCharge says which site is, by the lease record; no record means the
// primary. between is true while a run is between fence and pivot. With an
// error, active is what this process saw last, or empty.
func (p *Planner) inCharge(ctx context.Context) (lease failover.LeaseRecord, active string, between bool, err error) {
	lease, err = p.readLease(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		return lease, p.seen, false, err
	case lease.Active == (failover.Active{}):
		active = PrimarySite
	case lease.Active.Site == "":
		return lease, "", true, nil
	default:
		active = lease.Active.Site
	}
	p.seen = active
	return lease, active, false, nil
}

func (p *Planner) readLease(ctx context.Context) (failover.LeaseRecord, error) {
	control, err := p.LeaseStore(ctx)
	if err != nil {
		return failover.LeaseRecord{}, err
	}
	lease, err := failover.ReadLease(ctx, control, "", p.config.Name)
	if errors.Is(err, provider.ErrNotFound) {
		return failover.LeaseRecord{}, nil
	}
	return lease, err
}
