// Quickstart shows, on one machine and in under a minute, what Holdfast is
// for: it builds two sites and a witness, protects a running service, kills
// the primary site, lets the standby take over by itself, counts what was
// lost, and brings the service home again without losing anything.
//
//	go run ./examples/quickstart
//
// Nothing in it is simulated. Every store, service and DNS server is a
// process of its own, the primary really dies (SIGKILL, its store moved away),
// and the exit status is 0 only if every check held.
//
//	-data DIR   protect your own directory instead (it is only read)
//	-dir DIR    keep the state in DIR
//	-keep       keep it when all went well, too
//	-resume     continue a run whose orchestrator died
//
// # How to read it
//
// Begin with story.go: the stages in their order. Then, in the order in which
// a program of yours would need them:
//
//	sites.go      stores, keys and DNS: what a site is made of
//	plan.go       the dr.Config: what to protect, how often, where to
//	roles.go      probes, fence and promotion: what only you know about your service
//	stages_*.go   each stage of the story: the calls into Holdfast
//	service.go    a service that can be fenced: it serves writes only while
//	              the witness confirms that its site is in charge
//
// The rest is scenery: process.go runs the processes, stagelog.go remembers
// how far the story came, client.go is a client that follows the name,
// intervals.go proves that no two sites were ever writable at one instant.
package main
