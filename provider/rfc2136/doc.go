// Package rfc2136 edits a zone by DNS UPDATE (RFC 2136), signed with TSIG
// (RFC 8945): the protocol of BIND, Knot, PowerDNS and others who serve their
// zones themselves. [Zone] is a [provider.DNSProvider].
//
//	zone, err := rfc2136.New(rfc2136.Config{
//		Zone:    "example.com.",
//		Servers: []string{"ns-primary.example.com"},
//		KeyName: "holdfast.", Secret: secret, // as tsig-keygen made them
//	})
//
// # How a swap is a compare-and-swap
//
// An UPDATE carries prerequisites, and a server applies all of it or nothing.
// But a prerequisite can say only which values a record set has, not which
// TTL (RFC 2136 section 3.2.5), and the contract demands both: of two swaps
// that differ in their TTL alone, one must lose. So a swap reads the zone's
// SOA record first and the record sets after it, compares those itself, TTL
// included, and sends the UPDATE with that SOA record as a prerequisite beside
// the old values. Every change to a zone raises the serial in it (section
// 3.6); if the server accepts, then all that was read was still there. If it
// does not, something in the zone has changed, not necessarily these record
// sets: the swap reads again, and reports [provider.ErrConflict] only if they
// differ. In a zone that others update all the time it may take several
// attempts, a hundred at most; then it fails, and nothing was changed.
//
// That needs a server which raises the serial for every UPDATE by itself, as BIND
// does. Knot carries out those that arrive together at one serial: then two swaps
// of which one changes a TTL alone can both be applied. So a swap reads what it
// has written, and if the zone has something else it is an error that says
// "outcome unknown"; that the last stays is all that is sure there. Swaps that
// change values are safe on Knot, too.
//
// Since a serial does not come back, an UPDATE can be applied once at most.
// That is what makes these harmless:
//
//   - A lost reply. While the zone still has the serial, the same UPDATE is
//     sent again: of the two the server takes one. When the serial is another,
//     the zone tells: if it holds every New, the swap was made. (If another
//     swap has put there the very same, that counts, too.) If it holds
//     anything else, the outcome is an error that is not ErrConflict, as
//     nobody can tell whether the swap was made and undone.
//   - An UPDATE that arrives after its sender has given up, or again, by a
//     fault of the network or by the hand of somebody who recorded it.
//
// Zone is ZoneAtomic. It talks TCP only, whatever the size of a message, and a
// swap whose UPDATE would not fit into the 65,535 bytes of one is refused.
//
// # Reading
//
// Get asks the primary server, signed, and takes no answer without its
// signature and the authoritative bit: so it sees every Swap that has
// returned. What a wildcard makes up for a name is not the name's; to tell, a
// name whose neighbours get answers is looked for by an UPDATE that has
// prerequisites alone. A name in a zone below this one is an error, whether it is
// delegated to another server or served by the same.
//
// Status compares serials: a change is in sync when the primary and all
// secondaries, or all servers in the zone's NS records, have a later one than
// before the change. Where a signer stands between the primary and them and
// counts serials of its own, Status says nothing; failover.WaitAuthoritative
// asks for the records instead.
//
// # Types
//
// A, AAAA, CAA, CNAME, HTTPS, MX, PTR, SRV, SVCB, TLSA and TXT. Other types
// are [errors.ErrUnsupported]. Names are of letters, digits and "-_./*".
//
// # Inline signing
//
// A server that serves another zone than it updates, with serials of its own,
// refuses every swap, which then says so: BIND with inline-signing, which
// dnssec-policy implies since 9.20 unless told otherwise, and PowerDNS with
// SOA-EDIT. Either configure it away (BIND: inline-signing no, the zone is
// signed in place; all of the above holds), or set [Config.InlineSigning],
// which gives up the serial as a prerequisite and keeps the values. Then:
//
//	racing swaps that leave the values alone     more than one can win, and the last one stays
//	and differ in their TTL
//	another changes only the TTL between the     is overwritten unseen
//	reading and the UPDATE
//	an UPDATE that arrives late, or again        is applied if the zone then holds the old values again
//	a lost reply                                 is not repeated; the error says "outcome unknown", unless the zone comes
//	                                             to hold every New within Config.Timeout
//
// failover.Traffic is safe with it: its swaps have the epoch among the values.
//
// # Servers
//
// The primary must allow the key to update and to query. Where a key may
// update some names only, that is enough: BIND asks it for what changes,
// not for prerequisites.
//
//	BIND     key "holdfast." { algorithm hmac-sha256; secret "..."; };
//	         zone ... { update-policy { grant holdfast. subdomain example.com. ANY; }; };
//	Knot     acl: an entry with action [query, update] and the key
//	PowerDNS dnsupdate=yes, and the metadata TSIG-ALLOW-DNSUPDATE of the zone
//
// The tests run on BIND 9.20, the whole contract on zones that are plain, signed in
// place and signed inline, and on Knot 3.4:
//
//	BIND  limits TTLs (max-zone-ttl, which a dnssec-policy sets to a day)   a swap that asks for more fails after it was applied
//	Knot  carries out several updates at one serial                         swaps that race for a TTL alone: "outcome unknown", not ErrConflict
//	Knot  in a zone that it signs, leaves out a CNAME that takes the place  such a swap fails after it has removed the address:
//	      of another type in one update, and says nothing                   make it two swaps
//
// PowerDNS is not tested; providertest.CheckDNS tells about one that is there.
//
// Not supported: GSS-TSIG (RFC 3645), so neither Windows DNS nor Samba, which know
// no other signature; unsigned updates; several primaries that each take updates,
// as there is no compare-and-swap across them.
package rfc2136
