// Package failovertest runs failover plans in a simulated world and checks
// after every change that failover has kept its promises.
//
// [Simulate] runs the real [failover.Run], [failover.Resume] and
// [failover.Rollback], with their lease, journal and heartbeat, in a bubble of
// testing/synctest: time is simulated, and everything that can go wrong is
// drawn from a seed. Replies are lost, requests are doubled or land late (a
// fence after its caller gave up, a journal record after its writer died),
// processes crash before or after any request, lose the store for a while, or
// meet a second one that works on the same run. [CrashPoints] enumerates
// instead of drawing: it crashes at every request of a run, before and after
// it took effect, and resumes.
//
// # Invariants
//
// After every change of the world: never two sites that accept writes; the
// standby starts only while the primary is fenced, and is never restored over
// once it accepts writes; clients are never sent to a site that was not
// verified since it started; epochs of the lease grow and have one holder
// each. At the end: every run is over, the sites are as its outcome says, and
// the loss reported is not below the real one.
//
// # What it does not show
//
// The world keeps the promise of [failover.Plan] that nothing lands later
// than Settle after its call. A cloud that breaks it is not simulated.
package failovertest
