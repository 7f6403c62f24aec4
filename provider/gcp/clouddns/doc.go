// Package clouddns changes record sets in managed zones of Google's Cloud DNS
// by compare-and-swap: a [provider.DNSProvider].
//
//	zones, err := clouddns.Open(ctx, clouddns.Config{Project: "p"})
//	now, err := zones.Get(ctx, "www.example.com.", "A")
//	ref, err := zones.Swap(ctx, provider.Change{Old: &now, New: &next})
//
// # How a swap is made
//
// A Swap reads the names it is about, compares them with each Old, and sends
// one Change: deletions of exactly what the zone holds, to the letter, and
// additions. Cloud DNS applies a Change as a whole, and refuses it with 412, 409
// or 404 if a record set to delete is not exactly so any more or one to add is
// there. The zone is read again then: it is provider.ErrConflict if an Old does
// not hold, and otherwise the Change is sent twice more before the refusal is
// returned as it is. A change whose Old and New are alike is a deletion and an
// addition of the same: a condition of the whole Change. All changes of a Swap
// must be in one zone.
//
// If the reply to a Change is lost it is sent again, and Cloud DNS refuses it
// because it was applied. The zone is read then: if it holds every New, the Swap
// has succeeded, and the list of changes tells the ID to follow it by. Two swaps
// from one state to the very same content cannot be told apart by that; the
// owner and the epoch that failover writes beside a name make them differ. In all
// other cases of a lost reply the error is none of package provider, since the
// outcome is not known.
//
// # What is refused
//
// A name and type with a routing policy (weighted, geolocation, failover), and A
// and AAAA beside an ALIAS, have no TTL and values that would say all about
// them. Get and Swap refuse them with errors.ErrUnsupported and touch nothing,
// whatever Old and New are. Other types of the name can be swapped. To fail over
// such a name is the work of its own routing policy, of which [Zones.Policy]
// switches one kind, that of failover.
//
// Types are A, AAAA, CNAME and TXT. What exceeds a quota of the project, such as
// 1,000 additions in a Change, the service refuses as a whole.
//
// # Zones
//
// A name belongs to the public zone of the project with the longest name above
// it; with Config.Private, to the private one. A private zone that forwards,
// peers or mirrors Service Directory has no records of its own: a name in one is
// an error. If several zones have the longest name the error lists them: put the
// name of one into Config.Zones. Zones are listed once; a name in none of them
// makes them be listed anew.
//
// A name at or below NS records of the zone is in another one, to which they
// delegate it: that is an error, and never ErrNotFound. So the names between it
// and the zone are read, too.
//
// # What the credential must be allowed
//
// dns.resourceRecordSets.list, dns.resourceRecordSets.create,
// dns.resourceRecordSets.delete, dns.changes.create, dns.changes.get,
// dns.changes.list, dns.managedZones.list; with Config.Zones
// dns.managedZones.get on those instead.
//
// # What is not proven
//
// There is no emulator. The suite runs on a server in the tests that does what
// Google documents, and that checks each request and each answer against the
// discovery document of dns/v1; the request of a swap is asserted byte by byte.
// Not seen on Google: by which of the three statuses each refusal comes, that a
// Change may delete and add the same record set, that reads see a Change as soon
// as it is accepted, how backslashes and quotes in a text come back. The same
// suite, races included, runs in a public zone of yours, below a name of its own,
// and cleans up after itself:
//
//	HOLDFAST_GCP_ZONE=example.com. HOLDFAST_GCP_PROJECT=p go test ./provider/gcp/clouddns -run TestGCP -v
//
// The same goes for a [Policy]. Not seen on Google: that a trickle of 1 leaves no
// query to the primary, that a trickle that is left out is 0, that a deletion is
// compared with all of the policy. Its suite runs on a record set of type A that
// has a failover policy, moves its trickle, and puts it back:
//
//	HOLDFAST_GCP_POLICY=shop.example.com. HOLDFAST_GCP_PROJECT=p go test ./provider/gcp/clouddns -run TestGCPPolicy -v
package clouddns
