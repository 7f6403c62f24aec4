// Package route53 changes record sets in hosted zones of Amazon Route 53 by
// compare-and-swap: a [provider.DNSProvider].
//
//	zones, err := route53.Open(ctx, route53.Config{})
//	now, err := zones.Get(ctx, "www.example.com.", "A")
//	ref, err := zones.Swap(ctx, provider.Change{Old: &now, New: &next})
//
// # How a swap is made
//
// A Swap reads the names it is about, compares them with each Old, and sends
// one batch: a DELETE of exactly what the zone holds, to the letter, and a
// CREATE. Route 53 applies a batch as a whole, and refuses it if a record set
// to delete is not exactly so any more or one to create is there, so that what
// changed in between is a conflict too. There is no UPSERT anywhere. A change
// whose Old and New are alike is a DELETE and a CREATE of the same: a condition
// of the whole batch. All changes of a Swap must be in one zone.
//
// If the reply to a batch is lost, or is 5xx, the SDK sends it again, and Route 53
// refuses it because it was applied. The zone is read then: if it holds every New,
// the Swap has succeeded. Two swaps from one state to the very same content cannot
// be told apart by that; the owner and the epoch that failover writes beside a
// name make them differ. In all other cases of a lost reply the error is none
// of package provider, since the outcome is not known.
//
// # What is refused
//
// A name and type with a routing policy (weighted, failover, latency,
// geolocation, geoproximity, multivalue, IP-based), with a health check, of a
// traffic policy or that is an alias has no TTL and values that would say all
// about it. Get and Swap refuse it with errors.ErrUnsupported and touch nothing
// of it, whatever Old and New are. Other types of the name can be swapped. To
// fail over such a name is the work of its own routing policy.
//
// Types are A, AAAA, CNAME and TXT. A batch has up to 1,000 values, of 32,000
// characters together, and a text up to 4,000; more is an error before
// anything is sent.
//
// # Zones
//
// A name belongs to the public zone of the account with the longest name above
// it; with Config.Private, to the private one. If several zones have that name
// the error lists them: put the ID of one into Config.Zones. Zones are listed
// once; a name in none of them makes them be listed anew.
//
// A name at or below NS records of the zone is in another one, to which they
// delegate it: that is an error, and never ErrNotFound. So the names between it
// and the zone are read, too.
//
// # When us-east-1 is down
//
// Route 53 answers queries from everywhere, but takes changes in us-east-1
// only (in its other partitions: in one region of theirs). A failover away from
// that region must not depend on a change to a zone.
//
// # What the credential must be allowed
//
// route53:ListResourceRecordSets and route53:ChangeResourceRecordSets on the
// zones, route53:GetChange, and route53:ListHostedZones; with Config.Zones,
// route53:GetHostedZone on those instead.
//
// # What is not proven
//
// The suite runs on moto, which accepts a CREATE of what is there and a CNAME
// beside other records, and knows no pending changes: the tests put in front
// of it what AWS documents, and assert the request of a swap byte by byte. Not
// seen on AWS: that the two refusals above have the effect described, how
// backslashes and quotes in a text come back, how often PriorRequestNotComplete
// is met. The same suite, races included, runs in a public zone of yours, below
// a name of its own, and cleans up after itself:
//
//	HOLDFAST_AWS_ZONE=example.com. go test ./provider/aws/route53 -run TestAWS -v
package route53
