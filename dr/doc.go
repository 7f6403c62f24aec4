// Package dr composes backup, replication, retention and failover from one
// [Config].
//
// Read a configuration with [Load], judge it with [Config.Validate], and hand
// it to [New] together with [Parts]: the stores, targets and clouds that the
// configuration names only by kind. The [Planner] then offers four things.
// Check asks the world whether the configuration can work there. Plan says
// what is due, why, and which objectives it predicts to miss; it changes
// nothing. Run executes exactly such a plan. Serve does all of it until it is
// cancelled.
//
// This package imports no cloud. What it does not do: decide for you that a
// site is lost, unless [Failover] says so and the safeguards for that exist.
package dr
