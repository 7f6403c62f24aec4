// Package libdns uses the DNS providers of https://github.com/libdns, some
// eighty services, as a [provider.DNSProvider], where Holdfast has none of
// its own for a service.
//
//	zone, err := libdns.New(libdns.Config{
//		Zone:     "example.com.",
//		Provider: &cloudflare.Provider{APIToken: token},
//	})
//
// # It has no compare-and-swap
//
// The interfaces of libdns can read a zone and write record sets, and have no
// condition on a write. So [Zone] is [provider.NotAtomic]: it reads, compares,
// writes, and reads again. Between the first and the second another can write,
// and is then overwritten. Use a provider with compare-and-swap where there is
// one; failover.NewTraffic and automatic failovers take this one only when
// told to.
//
// What it does to find a lost race:
//
//   - Swaps through one Zone take turns, so that within a process none races.
//   - After writing it waits for Config.Settle and reads again. If the zone
//     then holds anything else than what was written, another has written
//     after it, and the swap is [provider.ErrConflict]: what it wrote is gone.
//     Of racing swaps that all write within Settle of their reading, and whose
//     writes are seen by every reading after them, so only the last to write
//     succeeds (this is Fischer's mutual exclusion, which rests on time alone).
//   - A write that is not done Settle after the reading began is an error that says "outcome
//     unknown", whatever the zone holds afterwards.
//   - A removal names the records that were read: if another has replaced them,
//     it removes nothing, and is ErrConflict.
//
// What can still go wrong:
//
//	a swap by a process that stood still between its    overwrites what was changed meanwhile; it reports "outcome
//	reading and its writing for longer than Settle      unknown", and who was overwritten is not told
//	a person who edits the zone at the same moment      may be overwritten unseen
//	a service whose readings lag behind its writes      Get may not see a Swap that has returned; races are not found
//	a service with minimal or default TTLs              a Swap with another TTL is an error, after it was applied
//	a write that fails in the middle                    leaves some of the records; the error says that the outcome
//	                                                    is unknown, and the next Get shows them
//
// Readings are of the whole zone, as libdns has no other. Swaps of several
// changes are [errors.ErrUnsupported], as are types other than A, AAAA, CNAME
// and TXT: services and their libdns packages differ too much in how they
// write the others. A name that the zone delegates is in another one, and an error.
//
// Status asks the authoritative servers for the record set as the service has
// it now; so an earlier change is in sync when the latest is.
package libdns
