// Package throttle holds a [provider.BlobStore] to limits, slows down when the
// service says that it is asked too much, and makes again what failed in
// passing. One [Throttle] is shared by all who use one service; what they ask
// together stays under its limits:
//
//	t, err := throttle.New(throttle.Config{Write: throttle.Limit{PerSecond: 3000}, BytesUp: 50e6})
//	store := t.Store(bucket)
//
// # Classes
//
// A request counts in the class of the call it is made for: Get, Stat and Tags
// read; Put, Lock, Warm and SetTags write; List and Versions list; Delete deletes. Each class has
// its own limits, its own rate and its own budget, as services have: S3 allows
// 3,500 writes and deletes and 5,500 reads a second for each part of its index,
// Cloud Storage some 1,000 writes and 5,000 reads and listings a second for a
// bucket that is new to load, Blob Storage 20,000 and more of any kind for an
// account. The stores of this module count every request, those that an SDK
// makes again and those of parts and pages included; of any other store a call
// is one request.
//
// # Rates
//
// An answer of [provider.ErrThrottled] halves the rate of its class, and no
// request of the class is made before the time that the service asked for with
// Retry-After, up to a minute. Then the rate grows by a twentieth of what it
// was each second, and past that by 5 % a second, until the configured limit
// is reached, or twice of what was too much, where there is none.
// Several processes that do so share a bucket fairly.
//
// # What is made again
//
// What fails otherwise than by a sentinel of package provider or by permission:
//
//   - Get, Stat. A body that breaks goes on where it broke, with the same
//     version, or fails; the SHA-256 of a whole object is compared after that.
//   - List and Versions, behind the last key.
//   - Put, with the same body. If a condition does not hold after an attempt
//     whose outcome is unknown, the object is read: the same bytes and Meta under
//     no weaker retention are success, others are an unknown outcome, which is an
//     error that is not [provider.ErrConflict]. Who must know which of two equal Puts won puts
//     something of his own into the body. Without a condition a bucket that
//     keeps versions may get two.
//   - Delete, unless DeleteOptions.Version is set: then the key is looked at,
//     and that it is gone is success.
//   - Lock, Warm and SetTags.
//
// Between attempts passes a random time, twice as long at most each time. The
// end of ctx ends every wait at once.
//
// A failed request that is made again costs one of Config.Retries of its class,
// and ten that succeed give one back: in an outage a service meets few
// requests more than without this package.
//
// # Who makes it again
//
// The stores of this module make requests again by themselves, since only they
// know parts, pages and what may be sent twice. Their attempts pass this
// package one by one, pay from its budget and are ended by it. They are not
// multiplied: a call fails when Config.Attempts have failed, whoever made them.
//
// # What it does not do
//
// It does not hedge and does not cut off a server that is silent: that is for
// the deadline of ctx. Bytes are counted as a body is read, so that one that a
// store reads twice (Cloud Storage, large ones that are not [provider.Summed])
// counts twice, and are sent in bursts of as many as a store reads at once.
// A [provider.Copier], a [provider.Tagger], snapshotters and DNS providers ask little, and their
// packages retry.
package throttle
