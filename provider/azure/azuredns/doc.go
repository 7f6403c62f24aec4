// Package azuredns changes record sets in public and private zones of Azure DNS
// by compare-and-swap: a [provider.DNSProvider].
//
//	zones, err := azuredns.Open(ctx, azuredns.Config{Zones: []string{
//		"/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/dnsZones/example.com"}})
//	now, err := zones.Get(ctx, "www.example.com.", "A")
//	ref, err := zones.Swap(ctx, provider.Change{Old: &now, New: &next})
//
// # How a swap is made
//
// A Swap reads the record set, compares it with Old, and writes New with
// If-Match and the ETag it has read, or If-None-Match: * if there is none. The
// service refuses that if anybody has written in between, and then the Swap
// looks again: if it was the metadata only that changed, it goes on. Azure
// changes one record set at a time, so that several changes in one Swap are
// refused with errors.ErrUnsupported ([provider.RecordSetAtomic]).
//
// With each New a random mark goes into the metadata of the record set,
// "holdfastSwap", beside those there are. When a reply is lost, the record set
// is read, and the mark says whether it was this Swap that wrote it. A removal
// leaves nothing that could tell: after a lost reply its error is none of
// package provider, since the outcome is not known. The owner and the epoch of
// a failover are in a record set of their own, as with every provider that is
// atomic by record set.
//
// # What is refused
//
// Alias record sets, which point to a resource of Azure, and those that a
// virtual network registers by itself have no values that would say all about
// them. Get and Swap refuse them with errors.ErrUnsupported and touch nothing.
// Types are A, AAAA, CNAME and TXT; a TTL has at least one second.
//
// A name at or below NS records of a public zone is in another one, to which they
// delegate it: that is an error, and never ErrNotFound.
//
// # What the credential must be allowed
//
// On the zones: Microsoft.Network/dnsZones/read and
// Microsoft.Network/dnsZones/{A,AAAA,CNAME,TXT}/{read,write,delete} and
// Microsoft.Network/dnsZones/NS/read, for private
// ones Microsoft.Network/privateDnsZones/... likewise. The roles DNS Zone
// Contributor and Private DNS Zone Contributor have them.
//
// # What is not proven
//
// The suite runs on the SDK's fake servers, with what Azure documents behind
// them, and the requests of a swap are asserted to the letter. Not seen on
// Azure: that ETags change with every write, that a deletion of nothing is 204
// although it has a condition, the code of an answer that a record set is not
// there ("NotFound", where "ResourceNotFound" is the zone), that metadata of
// this name are taken. The same suite, races included, runs in a zone of yours,
// below a name of its own, and cleans up after itself:
//
//	HOLDFAST_AZURE_ZONE=/subscriptions/S/resourceGroups/G/providers/Microsoft.Network/dnsZones/example.com go test -v -run TestAzure ./provider/azure/azuredns
package azuredns
