package local

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/miekg/dns"

	"github.com/holdfast-go/holdfast/internal/durable"
)

const (
	zoneFile = "zone" // the zone, as a master file
	zoneLock = "lock" // held by the server
)

const zoneHead = "; Written by the server at every update. Edit it only while the server is stopped,\n" +
	"; and raise the serial when you do.\n"

// A zoneStore is the directory of a zone, which one server holds at a time.
type zoneStore struct {
	root   *os.Root
	origin string
	unlock func() error
}

// openZoneStore opens the directory of c, making it and the zone if there are
// none, and returns the zone.
func openZoneStore(c DNSServerConfig) (_ *zoneStore, _ *zone, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, nil, err
	}
	s := &zoneStore{root: root, origin: c.Zone}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.unlock, err = durable.TryLock(root, zoneLock); err != nil {
		return nil, nil, fmt.Errorf("lock: %w", err)
	}
	if s.unlock == nil {
		return nil, nil, fmt.Errorf("%s is in use by another server", c.Dir)
	}
	if err := s.sweep(); err != nil {
		return nil, nil, err
	}
	z, err := s.read()
	if errors.Is(err, fs.ErrNotExist) {
		z, err = newZone(c)
		if err == nil {
			err = s.write(z)
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(c.Dir, zoneFile), err)
	}
	return s, z, nil
}

// sweep removes what a server left that died while it wrote.
func (s *zoneStore) sweep() error {
	entries, err := fs.ReadDir(s.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), zoneFile+".tmp-") {
			if err := s.root.Remove(e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *zoneStore) read() (*zone, error) {
	b, err := s.root.ReadFile(zoneFile)
	if err != nil {
		return nil, err
	}
	return parseZone(s.origin, string(b))
}

// write returns when the zone is on disk. After an error either zone may be.
func (s *zoneStore) write(z *zone) error {
	return durable.WriteFile(s.root, zoneFile, []byte(zoneHead+z.text()))
}

func (s *zoneStore) close() error {
	var err error
	if s.unlock != nil {
		err = s.unlock()
	}
	return errors.Join(err, s.root.Close())
}

// newZone is a zone with nothing in it but its server.
func newZone(c DNSServerConfig) (*zone, error) {
	z := &zone{origin: c.Zone, names: map[string]map[uint16][]dns.RR{}}
	head := func(name string, typ uint16, ttl uint32) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: ttl}
	}
	z.insert(&dns.SOA{
		Hdr: head(c.Zone, dns.TypeSOA, 60), Ns: c.Nameserver, Mbox: "hostmaster." + strings.TrimPrefix(c.Zone, "."),
		Serial: 1, Refresh: 60, Retry: 30, Expire: 7 * 24 * 3600,
		Minttl: 5, // how long a name that is not there yet stays missing in caches
	})
	z.insert(&dns.NS{Hdr: head(c.Zone, dns.TypeNS, 3600), Ns: c.Nameserver})
	if !dns.IsSubDomain(c.Zone, c.Nameserver) {
		return z, nil
	}
	for _, a := range c.NameserverAddrs {
		if a = a.Unmap(); a.Is4() {
			z.insert(&dns.A{Hdr: head(c.Nameserver, dns.TypeA, 3600), A: net.IP(a.AsSlice())})
		} else {
			z.insert(&dns.AAAA{Hdr: head(c.Nameserver, dns.TypeAAAA, 3600), AAAA: net.IP(a.AsSlice())})
		}
	}
	return z, nil
}

// listenAddrs is the address that a new zone gives its name server when the
// configuration names none: where the server listens, if that is one place.
func listenAddrs(hostport string) []netip.Addr {
	ap, err := netip.ParseAddrPort(hostport)
	if err != nil || ap.Addr().IsUnspecified() {
		return nil
	}
	return []netip.Addr{ap.Addr()}
}
