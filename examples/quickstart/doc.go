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
//	-postgres DIR  tell the story on PostgreSQL, whose programs are in DIR ("auto" finds them): a base
//	            backup and WAL in both repositories, a standby restored from them, a failover, and a
//	            failback that loses nothing, proven by LSN. As root, with -postgres-user NAME.
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
//	plan.go            the dr.Config and its dr.Parts: what to protect, how often, where to
//	stages_backup.go   the Planner says what is due and does it; retention with its reasons
//	roles.go           stop, start and ask a service: what only you know about yours
//	gate.go            a service that fences itself: every write asks a failover.Sentry
//	watch.go           health checks
//	stage_failover.go  a failover: its plan, its actions, its conditions
//	stage_failback.go  a failback that loses nothing
//	stages_postgres.go the same with PostgreSQL's own streaming: standby, switchover, rejoining
//	operations.go      run an operation, or go on with it after a crash
//
// The rest is scenery: sites.go and process.go run stores, DNS and services as
// processes, service.go is the service, client.go a client that follows its
// name, stagelog.go remembers how far the story came, intervals.go proves that
// no two sites were ever writable at one instant.
//
// The Planner does the backups here, and could do the failover, too (see
// dr.Planner.Failover and Serve). The story calls package failover itself: to
// show each part; because a resumed run waits out the timeout of the step it
// finds begun, which here is seconds and in a Planner the minutes that real
// data need; and because it restores to a new directory each time, where a
// Planner has one place for each target.
package main
