package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// MemoryDNS is a [provider.DNSProvider] with one zone in memory, ZoneAtomic
// and in sync at once. It keeps the contract, needs no socket (so it works
// within a bubble of testing/synctest), and is for tests.
type MemoryDNS struct {
	zone string

	mu      sync.Mutex
	sets    map[[2]string]provider.RecordSet // by name and type
	changes int
}

var _ provider.DNSProvider = (*MemoryDNS)(nil)

// NewMemoryDNS returns an empty zone, named with the final dot.
func NewMemoryDNS(zone string) *MemoryDNS {
	return &MemoryDNS{zone: zone, sets: map[[2]string]provider.RecordSet{}}
}

// Get implements [provider.DNSProvider].
func (m *MemoryDNS) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	if err := errors.Join(ctx.Err(), m.inZone(name)); err != nil {
		return provider.RecordSet{}, memoryDNSError("dns get", name+" "+typ, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rs, ok := m.sets[[2]string{name, typ}]
	if !ok {
		return rs, memoryDNSError("dns get", name+" "+typ, provider.ErrNotFound)
	}
	rs.Values = slices.Clone(rs.Values)
	return rs, nil
}

// Swap implements [provider.DNSProvider].
func (m *MemoryDNS) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next := make(map[[2]string]provider.RecordSet, len(m.sets))
	for k, v := range m.sets {
		next[k] = v
	}
	err := ctx.Err()
	if err == nil {
		err = m.check(changes)
	}
	for _, c := range changes {
		if err != nil {
			break
		}
		err = m.apply(next, c)
	}
	if err == nil {
		err = checkCNAMEs(next)
	}
	if err != nil {
		key := "changes"
		if len(changes) > 0 {
			key = changeKey(changes[0])[0]
		}
		return "", memoryDNSError("dns swap", key, err)
	}
	m.sets = next
	m.changes++
	return provider.ChangeRef("memory/" + strconv.Itoa(m.changes)), nil
}

func (m *MemoryDNS) apply(next map[[2]string]provider.RecordSet, c provider.Change) error {
	k := changeKey(c)
	now, there := m.sets[k]
	if there != (c.Old != nil) || there && describeSet(&now) != describeSet(sorted(c.Old)) {
		return provider.ErrConflict
	}
	delete(next, k)
	if c.New != nil {
		next[k] = *sorted(c.New)
	}
	return nil
}

// check refuses changes that are not well formed.
func (m *MemoryDNS) check(changes []provider.Change) error {
	seen := map[[2]string]bool{}
	for _, c := range changes {
		k := changeKey(c)
		if seen[k] {
			return fmt.Errorf("two changes of %s %s", k[0], k[1])
		}
		seen[k] = true
		if c.Old != nil && c.New != nil && (c.Old.Name != c.New.Name || c.Old.Type != c.New.Type) {
			return errors.New("a change has Old and New not of one name and type")
		}
		for _, rs := range []*provider.RecordSet{c.Old, c.New} {
			if rs == nil {
				continue
			}
			if err := errors.Join(m.inZone(rs.Name), checkSet(rs)); err != nil {
				return err
			}
		}
		if c.Old == nil && c.New == nil {
			return errors.New("a change has neither Old nor New")
		}
	}
	if len(changes) == 0 {
		return errors.New("no changes")
	}
	return nil
}

func checkSet(rs *provider.RecordSet) error {
	if len(rs.Values) == 0 || rs.TTL < 0 || rs.TTL%time.Second != 0 {
		return fmt.Errorf("%s has no values, or a TTL that is not whole seconds", describeSet(rs))
	}
	if rs.Name != strings.ToLower(rs.Name) {
		return fmt.Errorf("%s is not in lower case", describeSet(rs))
	}
	for i, v := range rs.Values {
		if slices.Contains(rs.Values[:i], v) {
			return fmt.Errorf("%s has a value twice", describeSet(rs))
		}
		a, err := netip.ParseAddr(v)
		switch {
		case (rs.Type == "A" || rs.Type == "AAAA") && (err != nil || a.String() != v), rs.Type == "CNAME" && v != strings.ToLower(v):
			return fmt.Errorf("%s has a value that is not in canonical form", describeSet(rs))
		}
	}
	return nil
}

// checkCNAMEs: a CNAME is alone (RFC 1034 section 3.6.2).
func checkCNAMEs(sets map[[2]string]provider.RecordSet) error {
	count := map[string]int{}
	for k := range sets {
		count[k[0]]++
	}
	for k := range sets {
		if k[1] == "CNAME" && count[k[0]] > 1 {
			return fmt.Errorf("%s: other records beside a CNAME", k[0])
		}
	}
	return nil
}

func (m *MemoryDNS) inZone(name string) error {
	if name != m.zone && !strings.HasSuffix(name, "."+m.zone) {
		return fmt.Errorf("%q is not in zone %s", name, m.zone)
	}
	return nil
}

// Status implements [provider.DNSProvider].
func (m *MemoryDNS) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := strings.CutPrefix(string(ref), "memory/")
	i, err := strconv.Atoi(n)
	if !ok || err != nil || i < 1 || i > m.changes {
		return "", memoryDNSError("dns status", string(ref), provider.ErrNotFound)
	}
	return provider.ChangeInSync, nil
}

// Atomicity is provider.ZoneAtomic.
func (m *MemoryDNS) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

func changeKey(c provider.Change) [2]string {
	for _, rs := range []*provider.RecordSet{c.Old, c.New} {
		if rs != nil {
			return [2]string{rs.Name, rs.Type}
		}
	}
	return [2]string{}
}

func sorted(rs *provider.RecordSet) *provider.RecordSet {
	c := *rs
	c.Values = slices.Sorted(slices.Values(rs.Values))
	return &c
}

func memoryDNSError(op, key string, err error) error {
	return &provider.Error{Op: op, Provider: "memory", Key: key, Err: err}
}
