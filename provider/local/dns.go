package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/dnsrecord"
)

// DNSConfig says where the zone's servers are and how to sign for them.
type DNSConfig struct {
	Server  string // "host:port" of the primary server; required
	Zone    string // "example.test."; required
	KeyName string // name of the TSIG key, e.g. "holdfast."; required
	Secret  string // the key itself in base64 (hmac-sha256); required

	// Secondaries are the "host:port" of further authoritative servers.
	// Status asks them too, unsigned, since they need not know the key.
	Secondaries []string

	// Timeout is how long one exchange with a server may take; 0 means 5 s.
	Timeout time.Duration
}

// DNS is a [provider.DNSProvider] that edits one zone by DNS UPDATE
// (RFC 2136) signed with TSIG (RFC 8945), as [DNSServer] takes them.
//
// # How a swap is a compare-and-swap
//
// The prerequisites of an UPDATE can say that a record set has certain
// values, but not which TTL. So a swap reads the SOA record first and the
// record sets after it, compares those itself, TTL included, and sends the
// UPDATE with that SOA record, serial and all, as a prerequisite (and the old
// values as well, so that the server's log shows what was expected). Every
// change to a zone raises the serial; if the server accepts, then what was
// read was still there. If it does not, something in the zone has changed,
// not necessarily these record sets: the swap reads again, and reports
// [provider.ErrConflict] only if they differ.
//
// A [provider.ChangeRef] names the serial before the change: a server whose
// serial is greater has it.
//
// It supports A, AAAA, CNAME and TXT, and errors.ErrUnsupported is what it
// says to other types. Queries go to the
// server over TCP, signed, and an answer without a good signature or without
// the authoritative bit is an error.
type DNS struct{ c DNSConfig }

var _ provider.DNSProvider = (*DNS)(nil)

// maxSwapAttempts bounds how often a swap begins anew because the zone has
// changed elsewhere.
const maxSwapAttempts = 100

// NewDNS returns a provider for the zone of c. It does no I/O.
func NewDNS(c DNSConfig) (*DNS, error) {
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("local: DNSConfig.%s: %w", field, err))
		}
	}
	hostPort := func(s string) error { _, _, err := net.SplitHostPort(s); return err }
	bad("Server", hostPort(c.Server))
	bad("Zone", rules.CheckName(c.Zone))
	field, err := checkKey(DNSKey{c.KeyName, c.Secret})
	bad(strings.Replace(field, "Name", "KeyName", 1), err)
	for i, s := range c.Secondaries {
		bad(fmt.Sprintf("Secondaries[%d]", i), hostPort(s))
	}
	if c.Timeout < 0 {
		bad("Timeout", errors.New("negative"))
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &DNS{c}, nil
}

// Atomicity is provider.ZoneAtomic.
func (d *DNS) Atomicity() provider.Atomicity { return provider.ZoneAtomic }

// Get implements [provider.DNSProvider].
func (d *DNS) Get(ctx context.Context, name, typ string) (provider.RecordSet, error) {
	rs, err := d.get(ctx, name, typ)
	if err != nil {
		return provider.RecordSet{}, dnsError("dns get", name+" "+typ, err)
	}
	return rs, nil
}

func (d *DNS) get(ctx context.Context, name, typ string) (rs provider.RecordSet, err error) {
	n, err := recordType(typ)
	if err == nil {
		err = d.inZone(name)
	}
	if err != nil {
		return rs, err
	}
	s, err := d.dial(ctx)
	if err != nil {
		return rs, err
	}
	defer s.close()
	m, err := s.query(ctx, name, n)
	if err != nil {
		return rs, err
	}
	rs, ok := recordSet(m.Answer, name, n)
	if !ok {
		return rs, provider.ErrNotFound
	}
	return rs, nil
}

// Swap implements [provider.DNSProvider]. An error that is not
// provider.ErrConflict and says "outcome unknown" means that the change may
// have been made: read the record sets.
func (d *DNS) Swap(ctx context.Context, changes ...provider.Change) (provider.ChangeRef, error) {
	edits, err := d.edits(changes)
	if err != nil {
		return "", dnsError("dns swap", "", err)
	}
	for attempt := 1; ; attempt++ {
		ref, err := d.attempt(ctx, edits)
		if !errors.Is(err, errZoneMoved) || attempt == maxSwapAttempts {
			return ref, dnsError("dns swap", edits[0].Name, err)
		}
		select {
		case <-time.After(rand.N(time.Duration(min(attempt, 10)) * 2 * time.Millisecond)):
		case <-ctx.Done():
			return "", dnsError("dns swap", edits[0].Name, ctx.Err())
		}
	}
}

var errZoneMoved = errors.New("the zone kept changing")

// attempt reads, compares and sends one UPDATE.
func (d *DNS) attempt(ctx context.Context, edits []edit) (provider.ChangeRef, error) {
	s, err := d.dial(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	soa, err := s.soa(ctx)
	if err != nil {
		return "", err
	}
	for _, e := range edits {
		if err := s.compare(ctx, e, edits); err != nil {
			return "", err
		}
	}
	base := soa.Serial
	m := d.message(soa, edits)
	if len(m.Ns) == 0 {
		base-- // no change, and the zone as it is has it
	}
	answer, err := s.exchange(ctx, m)
	switch {
	case err != nil && answer == nil:
		return "", fmt.Errorf("outcome unknown, read the record sets again: %w", err)
	case err != nil:
		return "", err
	}
	switch answer.Rcode {
	case dns.RcodeSuccess:
		return provider.ChangeRef(fmt.Sprintf("%s/%d", d.c.Zone, base)), nil
	case dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeNameError, dns.RcodeYXDomain:
		return "", errZoneMoved
	}
	return "", fmt.Errorf("outcome unknown, read the record sets again: %w", rcodeError(answer.Rcode))
}

// message is the UPDATE that makes edits in the zone of that serial. All
// records in it are made anew, since the library changes those it is given.
func (d *DNS) message(soa *dns.SOA, edits []edit) *dns.Msg {
	m := new(dns.Msg).SetUpdate(d.c.Zone)
	m.Used([]dns.RR{dns.Copy(soa)})
	empty := func(e edit) []dns.RR {
		return []dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: e.Name, Rrtype: e.typ}}}
	}
	for _, e := range edits {
		if e.From == nil {
			m.RRsetNotUsed(empty(e))
		} else {
			m.Used(must(records(*e.From)))
		}
		if e.From != nil && e.Alters() {
			m.RemoveRRset(empty(e))
		}
	}
	for _, e := range edits { // after all removals: a CNAME makes room first
		if e.To != nil && e.Alters() {
			m.Insert(must(records(*e.To)))
		}
	}
	return m
}

// must: the record sets of an edit have been through canonical.
func must(rrs []dns.RR, err error) []dns.RR {
	if err != nil {
		panic(err)
	}
	return rrs
}

// Status implements [provider.DNSProvider]. It asks the primary and every
// secondary; one that does not answer is an error.
func (d *DNS) Status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	st, err := d.status(ctx, ref)
	return st, dnsError("dns status", string(ref), err)
}

func (d *DNS) status(ctx context.Context, ref provider.ChangeRef) (provider.ChangeStatus, error) {
	n, ok := strings.CutPrefix(string(ref), d.c.Zone+"/")
	base, err := strconv.ParseUint(n, 10, 32)
	if !ok || err != nil {
		return "", provider.ErrNotFound
	}
	s, err := d.dial(ctx)
	if err != nil {
		return "", err
	}
	defer s.close()
	soa, err := s.soa(ctx)
	if err != nil {
		return "", err
	}
	if !serialAfter(soa.Serial, uint32(base)) {
		return "", provider.ErrNotFound // the zone has never been there
	}
	for _, addr := range d.c.Secondaries {
		serial, err := d.secondarySerial(ctx, addr)
		if err != nil {
			return "", err
		}
		if !serialAfter(serial, uint32(base)) {
			return provider.ChangePending, nil
		}
	}
	return provider.ChangeInSync, nil
}

// An edit is a change that has been checked, of records of a type.
type edit struct {
	dnsrecord.Change
	typ uint16
}

func (d *DNS) edits(wanted []provider.Change) ([]edit, error) {
	changes, err := dnsrecord.Check(wanted, func(rs provider.RecordSet) (provider.RecordSet, error) {
		rs, err := rules.Canonical(rs)
		if err == nil {
			err = d.inZone(rs.Name)
		}
		return rs, err
	})
	var edits []edit
	for _, c := range changes {
		edits = append(edits, edit{c, dns.StringToType[c.Type]})
	}
	return edits, err
}

// inZone: a name outside of the zone is not one that is not there.
func (d *DNS) inZone(name string) error {
	if err := rules.CheckName(name); err != nil {
		return err
	}
	if !dns.IsSubDomain(d.c.Zone, name) {
		return fmt.Errorf("%s is not in zone %s", name, d.c.Zone)
	}
	return nil
}

func dnsError(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return &provider.Error{Op: op, Provider: "local", Key: strings.TrimSpace(key), Err: err}
}

// rcodeError is an answer that says no.
func rcodeError(rcode int) error {
	err := fmt.Errorf("server answers %s", dns.RcodeToString[rcode])
	if rcode == dns.RcodeRefused || rcode == dns.RcodeNotAuth {
		return fmt.Errorf("%w: check zone, key and the server's update policy: %w", err, fs.ErrPermission)
	}
	return err
}
