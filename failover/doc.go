// Package failover moves a service from one site to another, and never makes
// two primaries on the way.
//
// # What to use
//
// [NewPlan] returns a [Plan]: plain data, to be printed, approved and stored.
// [Evaluate] is the dry run. [Run] executes a plan with the actions of a
// [Config]; after a crash, on any machine, [Resume] goes on with it,
// [Rollback] takes it back and [Abandon] closes it with a person's word.
// [Load] and [Unfinished] read what has become of runs. [Watch] and
// [DetectorConfig] decide when a site is lost, [Arm] whether a machine may
// decide that alone. [Traffic] switches DNS records, [TrafficSwitch] sites
// behind a name that stays; [FenceAction],
// [PromoteAction] and [ProbeAction] make actions of the roles a provider
// implements. A service in charge asks a [Sentry] before and after every write,
// and so fences itself; [SelfFence] is what the other side makes of that.
//
// # Four operations
//
// [Failover]: the primary is lost or given up; the loss is bounded and
// reported. [Switchover]: planned; the standby catches up to where the
// quiesced primary stopped, compared by position, and nothing is lost.
// [Failback]: a switchover after replication has been reversed. [Test]: the
// standby starts in isolation and is cleaned up, which is proven.
//
// # How it is safe
//
// Journal and [Lease] are objects in a [provider.BlobStore] outside the
// primary; no database is needed. The lease has an epoch that only grows. One
// object says both who orchestrates and which site is in charge, so who has
// lost the one cannot change the other.
//
// Every effect is announced in the journal before it is made, with a
// deadline. A record is one object created with IfAbsent: a process that was
// taken over collides at its next record and stops. The one that takes over
// waits, on its own monotonic clock, until whatever was announced can land no
// more, looks whether the step is done, and goes on. No wall clock decides
// anything.
//
// A plan has one pivot: the first step after which the standby may accept
// writes or gets clients. A failure before it undoes everything, the fence
// last, and only after a look at the standby. From the moment the pivot is
// announced, the run only goes forward; if it cannot, it stops in a named
// state that says what a person must do. The fence is confirmed when it is
// made and looked at again right before the pivot.
//
// Package failovertest runs these very functions in a simulated world, with
// crashes at every request, and checks these sentences.
//
// # What it rests on
//
// Actions return when their ctx ends, and nothing they asked for lands later
// than [Plan].Settle after that. Machines may stop and clocks may be set, but
// monotonic clocks run at the same speed within a tenth. The store keeps the
// contract of [provider.BlobStore]; one that ignores conditions is refused
// ([CheckStore]). A fence that says Confirmed holds.
//
// # What it does not do
//
// It does not replicate data, nor elect a primary among many: there are two
// sites, and a plan says which one shall serve. Clients that cache an address
// beyond its TTL go on knocking at the old site; a fenced site answers none.
//
// # Compatibility
//
// [Plan], [Record] and [LeaseRecord] are stored as JSON with a version.
// Programs refuse versions and fields they do not know.
package failover
