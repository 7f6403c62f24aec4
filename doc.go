// Package holdfast is disaster recovery as a library: back up, keep,
// replicate, fail over, and prove that all of it works.
//
// This package holds no code; it is the front page. The rooms of the house,
// from the top down:
//
//   - [github.com/holdfast-go/holdfast/dr]: one Config, the Planner that runs
//     backups, retention, replication and failover by it, and the report.
//   - [github.com/holdfast-go/holdfast/backup]: the repository of recovery
//     points, encrypted and deduplicated, in any BlobStore;
//     [github.com/holdfast-go/holdfast/backup/files] protects a directory tree.
//   - [github.com/holdfast-go/holdfast/replicate]: copies recovery points to
//     another store, verified and throttled, and knows how far behind it is.
//   - [github.com/holdfast-go/holdfast/failover]: who is in charge: health,
//     lease, journal, the steps of a failover and the way back.
//   - [github.com/holdfast-go/holdfast/retention]: decides which points to
//     keep, and says why; a pure function.
//   - [github.com/holdfast-go/holdfast/provider]: what all of this asks of a
//     cloud, as small interfaces;
//     [github.com/holdfast-go/holdfast/provider/local] implements them on a
//     directory and a loopback DNS server, for development and tests.
//
// Arrows of import point down this list, never up, so each room can be used
// without those above it: a program that only replicates imports replicate
// and a provider.
//
// To see the whole house at work, run
//
//	go run ./examples/quickstart
//
// which protects a live service, destroys its primary site, fails over, checks
// every record and fails back, with measured RPO and RTO. The runnable example
// of this package tells the same story in one function.
package holdfast
