// Package gcp is Google Cloud Storage as a [provider.BlobStore] with the powers
// of a [provider.Locker], a [provider.Versioner] and a [provider.Copier].
// Objects of Cloud Storage have no tags.
//
//	store, err := gcp.Open(ctx, gcp.Config{Bucket: "backups"})
//
// # What it does
//
// A body of up to [Config.PartSize] goes up by one request, a larger one by a
// resumable upload in pieces, one in memory. Every upload begins with the
// CRC-32C of the whole body, which the service verifies before it commits, and
// with the SHA-256, which is kept in the metadata of the object. What is sent is
// what was hashed: a body that has not the announced SHA-256, or that changes
// while it is read, is refused before anything is visible. An upload that is
// not finished is seen by nobody, costs nothing, and is forgotten by the
// service after a week.
//
// Each Put writes a random name into the metadata. When a reply is lost, or a
// request that was made again is told that the condition does not hold, the
// object is looked up, and its name says whether it is that of this Put. For
// that the credential must be allowed to get the object; where it may not, a
// Put after a lost reply fails with an error that is no [provider.ErrConflict]
// and says that the outcome is unknown.
//
// The Version of an object is its generation, which is new with every Put.
//
// Objects that other programs stored under a Content-Encoding are read as they
// are stored. An object whose SHA-256 is not known is verified by the CRC-32C
// that the service keeps of each.
//
// # Buckets with versions and locks
//
// Retain and [Store.Lock] are object retention, which must have been enabled
// for the bucket: [provider.Governance] is its mode Unlocked, [provider.Compliance]
// is Locked. The retention policy of the bucket shows in Info.Retain where an
// object has none of its own, as Governance, because the bucket alone knows
// whether it is locked. It is kept to the second, rounded up. Under either, or
// under a hold, Delete is [provider.ErrLocked], and so is a Put in a bucket
// without versions.
//
// Delete makes the present version noncurrent in a bucket with versions. Nothing
// here removes a version: that is what lifecycle rules (daysSinceNoncurrentTime)
// are for. A soft-delete policy of the bucket is neither used nor seen.
//
// # What the credential must be allowed
//
//   - read: storage.objects.get, storage.objects.list
//   - write: storage.objects.create, and with Retain storage.objects.setRetention
//     and storage.buckets.get; storage.objects.delete to replace an object
//   - maintain: storage.objects.delete, storage.objects.update and
//     storage.objects.setRetention; storage.objects.overrideUnlockedRetention to
//     turn Governance into Compliance
//
// A credential without storage.objects.delete can create objects and replace
// none. That is what a sealed writer of package backup should have, with get
// only on what holds no content, by a condition on resource.name: format, keys/,
// index/, condemned/, points/ and sessions/. With storage.objects.setRetention
// it may lock what it writes.
//
// # What has been tried
//
// The suite in provider/providertest runs in this package's tests on
// fake-gcs-server 1.56.1, on buckets without and with versions;
// provider/CONFORMANCE.md has what it says, clause by clause. Racing conditional
// puts have one winner there, of goroutines and of processes (TestRace). The
// service itself has not been tried. What that server does not do, and the tests
// therefore only show behind a handler of their own (rules_test.go) that does
// what the service documents:
//
//	unproven                                            fake-gcs-server
//	a delete with a precondition deletes no other       ignores the precondition
//	retention of objects, and its changes               keeps it, and locks nothing
//	a piece of an upload that is sent twice             takes it twice
//	the CRC-32C of an upload in pieces                  forgets it after the first
//	holds, retention policies, KMS and customer keys    knows none; what is sent is looked at
//	a version ends when the next begins, by the clock   ends it some microseconds later
//	of the service, unless it was deleted in between
//
// Nor has it been seen that the service judges the condition of a resumable
// upload when the last piece arrives, as fake-gcs-server and Google's own test
// bench do. Uploads of up to PartSize, among them all of leases and journals,
// do not depend on that. To prove all of it on a bucket of your own:
//
//	HOLDFAST_GCS_BUCKET=name go test -run TestRealBucket ./provider/gcp
package gcp
