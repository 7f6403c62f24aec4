// Package azure is Azure Blob Storage as a [provider.BlobStore] with the
// powers of a [provider.Locker], a [provider.Versioner], a [provider.Warmer],
// a [provider.Copier] and a [provider.Tagger].
//
//	store, err := azure.Open(ctx, azure.Config{Account: "account", Container: "backups"})
//
// # What it does
//
// A body of up to [Config.PartSize] goes up by one Put Blob, a larger one in
// blocks beside each other, with so many in memory and no more, and a Put
// Block List that makes the blob of them. What is sent is what was hashed: a
// body that has not the announced SHA-256 is refused before anything is
// visible. Each request that carries content carries its CRC-64, too, which the
// service compares. The SHA-256 is kept in the metadata of the blob.
//
// Each Put writes a random name into the metadata. When a reply is lost, or a
// request that was made again is told that the condition does not hold, the
// blob is looked up, and its name says whether it is that of this Put. For
// that the credential must be allowed to read the blob; where it may not, a
// Put after a lost reply fails with an error that is no [provider.ErrConflict]
// and says that the outcome is unknown.
//
// The Version of a blob is its ETag. Get with the Version of one that was
// replaced or deleted looks its version ID up in the history of the key.
//
// Blocks that a Put has sent and not committed, because it failed or was
// killed, are seen by nobody. The service removes them with the next Put of
// the key, or after a week; there is nothing to clean up. It also removes those
// of another Put of the same key that is under way, which then sends them
// again.
//
// # Keys
//
// A key is the name of a blob as it is. ErrInvalidKey are those that the
// service would change or cannot carry: with an empty segment, one that ends in
// a dot or has more than 255 bytes, more than 254 of them, a backslash, or
// characters that RFC 3987 keeps out of a path (controls, private use,
// noncharacters). So are characters beyond the basic plane (emoji among them),
// because they come earlier in UTF-16 than in UTF-8, and the service does not
// say by which it orders. Blobs under such names are left out of listings.
//
// Accounts with a hierarchical namespace (Data Lake Storage) order by directory
// and show directories as blobs. Put and List ask once, where the credential
// may, and refuse them with errors.ErrUnsupported; List also refuses any order
// but that of bytes.
//
// # Versions and locks
//
// Where the account keeps versions, Put and Delete keep what was there as an
// earlier one, and nothing here removes a version: that is what lifecycle rules
// are for. See [Store.Versions] for what the service does not tell of
// deletions. Where the container supports immutability policies of versions,
// Retain and [Store.Lock] set them: [provider.Governance] is an unlocked one,
// [provider.Compliance] a locked one, to the second, rounded up. Delete of a
// blob under one, or under a legal hold, is [provider.ErrLocked]. So is what a
// policy of the container forbids; of such a policy and of legal holds
// Info.Retain says nothing.
//
// # The Archive tier
//
// Blobs that a lifecycle rule has moved to the Archive tier are
// [provider.ErrCold] to Get. Warm brings them back; [provider.WarmAll] brings
// back all that a recovery point needs. Of a repository move data/ and meta/ only:
// the rest is small, and needed to find out what to bring back. A rule that goes
// by the time of the last modification moves them there again the next day; pause
// it meanwhile.
//
// # What the credential must be allowed
//
// Storage Blob Data Reader reads, Storage Blob Data Contributor does all but
// retentions, for which Storage Blob Data Owner has the actions
// (immutableStorage/runAsSuperUser/action for unlocked ones). A shared access
// signature needs r, l, c, w and d, i for retentions and t for tags.
//
// A signature with c and l only can create and never replace, which the service
// sees to by itself. It cannot send blocks: PartSize must be larger than any
// body, which 16 MiB is for the packs of package backup. A Put with IfAbsent on
// a taken key is [provider.ErrConflict] if the signature has r, too, and
// fs.ErrPermission if not.
//
// # Where it has been tried
//
// What the suite says is in provider/CONFORMANCE.md, clause by clause. Racing
// conditional puts have one winner on Azurite, of goroutines and of processes
// (TestRace).
//
// The suite in provider/providertest runs in this package's tests on Azurite
// 3.37.0, which has neither versions nor immutability policies, leaves the
// blocks of others where they are, and has no hierarchical namespaces. What is
// sent for these, and what follows from the answers that are documented, is
// tested against a model of the service in the tests, on which the whole suite
// runs, too. One deviation from the contract: where the account keeps versions,
// a deletion before the last version leaves no trace in Versions.
//
// # What is not proven
//
// Until the suite has run on an account of Azure: the order of listings beyond
// ASCII, that odd characters are kept, that a policy of a version leaves the
// ETag as it is, which of two reasons for a refusal comes first,
// customer-provided keys, encryption scopes and tiers; of copies, sources by a
// token, and of earlier versions by a signature of the container; that a source
// tells who may not read its tags that it has some, so that its copy fails and
// does not lose them. This runs it on a container of your own, with the standard
// chain of credentials:
//
//	HOLDFAST_AZURE_CONTAINER_URL=https://ACCOUNT.blob.core.windows.net/CONTAINER go test -v -run TestRealContainer ./provider/azure
package azure
