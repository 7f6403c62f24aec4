// Package aws is object storage that speaks the protocol of S3, of AWS or of
// another store, as a [provider.BlobStore] with the powers of a
// [provider.Locker], a [provider.Versioner], a [provider.Warmer], a
// [provider.Copier] and a [provider.Tagger].
//
//	store, err := aws.Open(ctx, aws.Config{Bucket: "backups", Region: "eu-central-1"})
//
// # What it does
//
// A body of up to [Config.PartSize] goes up by one request, a larger one in
// parts beside each other, with so many parts in memory and no more. What is
// sent is what was hashed: a body that has not the announced SHA-256 is
// refused before anything is visible, and its SHA-256 goes along for the store
// to verify. What fails, aborts its upload; [Store.AbortUploads] finds what
// killed processes left. The SHA-256 is kept in the metadata of the object,
// unless a body that went up in parts came without it.
//
// Each Put writes a random name into the metadata. When a reply is lost, or a
// request that was made again is told that the condition does not hold, the
// object is looked up, and its name says whether it is that of this Put. For
// that the credential must be allowed to get the object; where it may not, a
// Put after a lost reply fails with an error that is no [provider.ErrConflict]
// and says that the outcome is unknown.
//
// CopyFrom has the service copy, from any bucket that the credential may read
// at the same endpoint, in whatever region. It always says which ETag it means,
// so that what is copied is what was listed. A copy without a condition can be
// made again after a lost reply; one with a condition is made in parts, since
// stores that know no conditions of copies ignore them, and is found by its name.
//
// Listings ask for one page after the other; [Config.ListAhead] fetches several
// parts of the keys beside each other, for a distant bucket of many keys.
//
// The Version of an object is its ETag. Get with the Version of one that was
// replaced or deleted looks its version ID up in the history of the key.
//
// # Buckets with versions and locks
//
// Delete hides an object below a delete marker, but refuses one under
// retention, which the protocol would hide, too. Put over an object under
// retention makes a newer version. Nothing here removes a version: that is
// what lifecycle rules (NoncurrentVersionExpiration,
// AbortIncompleteMultipartUpload) are for. Retention is kept to the second,
// rounded up.
//
// # Cold classes
//
// Objects that a lifecycle rule has moved to GLACIER, DEEP_ARCHIVE or an archive
// tier of INTELLIGENT_TIERING are [provider.ErrCold] to Get. Warm brings them
// back; [provider.WarmAll] brings back all that a recovery point needs. Of a
// repository move data/ and meta/ only: the rest is small, and needed to find out
// what to bring back.
//
// # What the credential must be allowed
//
//   - read: s3:ListBucket, s3:GetObject, s3:GetObjectVersion,
//     s3:ListBucketVersions, s3:GetObjectRetention
//   - copy: of the source s3:GetObject, and s3:GetObjectVersion for a version
//     that was replaced; of the destination as write
//   - write: s3:PutObject, s3:AbortMultipartUpload, and with Retain
//     s3:PutObjectRetention and s3:GetBucketObjectLockConfiguration
//   - maintain: s3:DeleteObject, s3:PutObjectRetention,
//     s3:ListBucketMultipartUploads; s3:BypassGovernanceRetention to turn
//     Governance into Compliance
//   - warm: s3:RestoreObject
//
// A sealed writer of package backup needs less. Its policy is the file
// writer-policy.json beside this page; put the name of the bucket for BUCKET.
// It lets the writer create, list, and read what holds no content: format and
// keys/ (the present keys), index/ and condemned/ (what it may rely on), points/
// (its own previous one) and sessions/ (only after the reply to a put was
// lost). It reads no data/ and no meta/, and deletes nothing. Nothing keeps it
// from putting over what is there, so the bucket must keep versions, and should
// lock them by default; the owner's credential then reads what was there first.
// The test named TestAttack gives this policy to somebody who does his worst.
// What he can do is to fill the bucket, to make a name unusable for a session
// that has begun, to add points in his own name, and, with objects that nobody
// can read, to stop prunes until these are removed and reuse with them.
//
// # Stores
//
// The suite in provider/providertest runs in this package's tests on MinIO
// (2026-02) and versitygw 1.8.0, on buckets without and with versions and with
// locks; provider/CONFORMANCE.md has what each says, clause by clause. Racing
// conditional puts have one winner on both, of goroutines and of processes, in
// buckets with and without versions (TestRace). AWS itself has not been tried. To try a bucket of your own, run
// providertest.CheckBlobStore on it. What these stores do against the contract,
// or otherwise than AWS documents:
//
//	store      deviation                                         effect here
//	MinIO      ignores the If-Match of a delete                  found out on first use; Delete with a Version is errors.ErrUnsupported
//	MinIO      takes a key beside its path prefix ("a", "a/b")   breaks the contract: List shows "a" only. Repositories have no such keys
//	           and does not list the longer one
//	MinIO      refuses a lock with InvalidRequest                mapped; AWS says AccessDenied
//	versitygw  refuses Retain in a bucket without locks, but     asked before: errors.ErrUnsupported, nothing is written
//	           writes the object
//	versitygw  does not tell the retention with a GET            Get has no Info.Retain, Stat has
//	versitygw  with versions: IfAbsent fails on a deleted key,   breaks the contract: do not delete and create a key again
//	           IfMatch succeeds on one
//	versitygw  with versions: a delete does not exclude a put    breaks the contract: no Delete with a Version
//	           with the same If-Match
//	versitygw  lists deletions apart, with times in seconds      Versions cannot tell their order within a second
//	versitygw  does not escape keys in listings                  handled
//
// Directory buckets of S3 Express list in no order: List of one is an error.
// Neither server takes key segments of more than 255 bytes.
package aws
