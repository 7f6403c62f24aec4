// Package dr composes backup, replication, retention, drills and failover
// from one [Config].
//
// Read a configuration with [Load], judge it with [Config.Validate], and hand
// it to [New] together with [Parts]: the stores, targets and clouds that the
// configuration names only by kind. The [Planner] then offers this:
//
//   - Check asks the world whether the configuration can work there.
//   - Plan says what is due, why, and which objectives it predicts to miss;
//     it changes nothing. Run executes exactly such a plan.
//   - Serve does all of it until it is cancelled, and fails over by itself
//     where the configuration says so and is armed.
//   - Drill restores a point from the standby and proves it.
//   - FailoverPlan, Failover, Resume and Rollback move the service to the
//     other site and back.
//     A program that detects for itself starts an automatic failover so, too.
//   - Measure says how well the promises were kept.
//   - Repository and LeaseStore open what the rest works on: the points of a
//     site, and the lease that a [failover.Sentry] beside the service reads.
//
// # What it guarantees
//
// Validate reports every fault at once, each with its field, the arithmetic,
// and what to do. A plan that was made from another world than the present one
// does not run. A run that is due is never lost, whenever processes die: what
// is due follows from the points in the repositories, and a missed run is made
// up for once. Schedules neither lose nor double a run when clocks change.
//
// A point counts for the RPO when it is listed at the other site by a
// repository that was opened with keys which survive the loss of the primary.
// Retention never forgets the last proven point, nor a point that has not
// arrived, nor anything while the records of proofs cannot be read. Where a
// site has a [Lock], everything that its kept points need is locked for Keep at
// any time, or Plan.Locks and a violation name the points in danger. A
// repository is never created where one seems to have been lost. While nobody
// can tell which site is in charge, nothing is replicated.
//
// # What is where
//
// Below each bucket, "repository/" is the repository, and "control/<name>/"
// at the witness (or else the standby) holds lease, journal and records: who
// is in charge, attempts, arrivals, proofs. Losing the records loses history
// and proofs, and no point.
//
// # What it does not do
//
// It imports no cloud, and decides nothing about a site that no probe asks
// about. It keeps no secret: a configuration holds references ([Secret]).
// Records are not removed; one is some hundred bytes.
package dr
