package dr

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// Check asks the world whether the configuration can work there: every bucket
// can be reached, written, read and listed; the one that holds lease and
// journal honours conditions; keys open what is there; a key that survives
// the primary is at hand; every target opens; the zone answers. It returns
// every fault it finds, and writes and deletes only objects of its own.
func (p *Planner) Check(ctx context.Context) error {
	var f faults
	for _, s := range p.config.sites() {
		if err := p.checkStore(ctx, strings.TrimPrefix(s.field, "sites.")); err != nil {
			f.add(s.field+".bucket", oneLine(err), "make it reachable and writable with the credentials of this process")
		} else if s.Lock != nil {
			p.checkLocks(ctx, &f, s.field)
		}
	}
	p.checkControl(ctx, &f)
	p.checkKeys(ctx, &f)
	p.checkRepositories(ctx, &f)
	for i, w := range p.config.Workloads {
		if _, err := p.target(ctx, w, w.Source); err != nil {
			f.add(at("targets", i)+".source", oneLine(err), "make it reachable for this process")
		}
	}
	if p.config.DNS != nil {
		p.checkZone(ctx, &f)
	}
	if p.config.TrafficSwitch != nil {
		p.checkTrafficSwitch(ctx, &f)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	return f.err()
}

// checkStore writes an object, finds it, reads it and deletes it.
func (p *Planner) checkStore(ctx context.Context, site string) error {
	store, err := p.store(ctx, site)
	if err != nil {
		return err
	}
	// Its own corner: buckets may be shared, and checks run at the same time.
	store = provider.Sub(store, controlPrefix+p.config.Name+"/check/")
	key, content := strings.ToLower(rand.Text()), []byte(rand.Text())
	if _, err := store.Put(ctx, key, provider.Bytes(content), provider.PutOptions{IfAbsent: true, SHA256: sha256.Sum256(content)}); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	defer store.Delete(context.WithoutCancel(ctx), key, provider.DeleteOptions{})
	got, _, err := provider.ReadAll(ctx, store, key, 1024)
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got, content) {
		return errors.New("read: other bytes came back than were written")
	}
	found := false
	for info, err := range store.List(ctx, key, provider.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		found = found || info.Key == key
	}
	if !found {
		return errors.New("list: an object that was just written is not listed")
	}
	if err := store.Delete(ctx, key, provider.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// checkLocks sees that a store has locks. That they can be extended shows when
// that is done.
func (p *Planner) checkLocks(ctx context.Context, f *faults, field string) {
	store, err := p.repositoryStore(ctx, strings.TrimPrefix(field, "sites."))
	if err != nil {
		return // said by checkStore
	}
	if _, ok := provider.As[provider.Locker](store); !ok {
		f.add(field+".lock", "the store has no locks", "use one with object lock or immutability, or leave lock out")
	}
}

func (p *Planner) checkControl(ctx context.Context, f *faults) {
	control, err := p.LeaseStore(ctx)
	if err != nil {
		return // said by checkStore
	}
	if err := failover.CheckStore(ctx, control); err != nil {
		f.add("sites."+p.config.controlSite()+".bucket", "cannot hold lease and journal: "+oneLine(err), "use a store that honours conditional writes")
	}
}

// checkKeys sees that identities match their recipients and that one of them
// survives the primary.
func (p *Planner) checkKeys(ctx context.Context, f *faults) {
	survives := false
	for i, r := range p.config.Recipients {
		if r.Identity == "" {
			continue
		}
		if err := r.matches(ctx); err != nil {
			f.add(at("recipients", i)+".identity", oneLine(err), "give the private key that belongs to this recipient")
			continue
		}
		survives = survives || r.UsableWithoutPrimary()
	}
	if !survives && !p.config.unprotected() {
		f.add("recipients", "no identity of a recipient with home: standby or home: offline can be used by this process: nothing can be shown to be restorable",
			"give this process the identity of such a recipient")
	}
}

// matches wraps a secret to r and unwraps it again.
func (r Recipient) matches(ctx context.Context) error {
	ids, err := r.identities(ctx)
	if err != nil {
		return err
	}
	public, err := age.ParseRecipients(strings.NewReader(r.Key))
	if err != nil {
		return errors.New("the public key is none")
	}
	secret := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, secret); err != nil {
		return err
	}
	for _, to := range backup.AgeRecipients(public...) {
		stanza, err := to.Wrap(ctx, secret)
		if err != nil {
			return fmt.Errorf("wrap: %w", err)
		}
		fits := slices.ContainsFunc(ids, func(id backup.Identity) bool {
			got, err := id.Unwrap(ctx, stanza)
			return err == nil && bytes.Equal(got, secret)
		})
		if !fits {
			return fmt.Errorf("%s does not open what is encrypted to the key of %s", r.Identity, r.Name)
		}
	}
	return nil
}

// checkRepositories opens what is there. No repository yet is no fault: the
// first plan creates it.
func (p *Planner) checkRepositories(ctx context.Context, f *faults) {
	for _, site := range []string{PrimarySite, StandbySite} {
		repo, err := p.Repository(ctx, site)
		switch {
		case err == nil:
			p.checkBucketLock(ctx, f, site, repo)
		case errors.Is(err, backup.ErrNoRepository), errors.Is(err, errNoKey):
		case errors.Is(err, backup.ErrNoIdentity):
			f.add("sites."+site+".bucket", oneLine(err), "give the identity of one of these recipients, or choose the right bucket")
		default:
			if _, storeErr := p.store(ctx, site); storeErr == nil {
				f.add("sites."+site+".bucket", oneLine(err), "see whether this is the right bucket; Repository.Repair rebuilds what can be rebuilt")
			}
		}
	}
}

// checkBucketLock finds a bucket that locks by itself what is stored in it:
// where that is not known here, nobody makes these locks last.
func (p *Planner) checkBucketLock(ctx context.Context, f *faults, site string, repo *backup.Repository) {
	store, err := p.repositoryStore(ctx, site)
	if err != nil || p.config.lockOf(site) != nil {
		return
	}
	for info, err := range repo.Manifests(ctx) {
		if err != nil {
			return // a plan says so
		}
		if now, err := store.Stat(ctx, info.Key); err == nil && now.Retain.Until.After(time.Now()) {
			f.add("sites."+site+".lock", fmt.Sprintf("is not set, but the bucket locks what is stored in it, until %s for one: points lose that although they are kept", now.Retain.Until.UTC().Format(time.RFC3339)),
				"set it, with keep no longer than points are to be protected; with extend_off: true if locks are to end")
		}
		return // one tells; each costs a request
	}
}

// checkZone asks the provider for the service name. It must point to one of
// the two sites, or a failover would refuse to move it.
func (p *Planner) checkZone(ctx context.Context, f *faults) {
	d := *p.config.DNS
	zone, err := p.parts.DNS(ctx, d)
	if err != nil {
		f.add("dns.zone", oneLine(err), "make the zone reachable with the credentials of this process")
		return
	}
	typ, _ := recordType(d.Primary)
	set, err := zone.Get(ctx, fqdn(d.Name), typ)
	switch {
	case errors.Is(err, provider.ErrNotFound):
		f.add("dns.name", fmt.Sprintf("%s has no %s record", d.Name, typ), "create it, pointing to "+d.Primary)
	case err != nil:
		f.add("dns.zone", oneLine(err), "make the zone reachable with the credentials of this process")
	case !slices.Equal(set.Values, []string{recordValue(d.Primary)}) && !slices.Equal(set.Values, []string{recordValue(d.Standby)}):
		f.add("dns.name", fmt.Sprintf("%s points to %s, which is neither dns.primary nor dns.standby", d.Name, strings.Join(set.Values, " ")),
			"correct the record or the configuration")
	case set.TTL > p.config.Failover.budget():
		f.add("dns.name", fmt.Sprintf("the record has a TTL of %v, longer than the failover budget of %v", Duration(set.TTL), Duration(p.config.Failover.budget())),
			fmt.Sprintf("lower it to %v", Duration(d.ttl())))
	}
}
