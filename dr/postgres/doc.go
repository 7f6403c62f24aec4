// Package postgres lets a [dr.Planner] protect and prove PostgreSQL: clusters,
// workloads of type "postgres", by package backup/postgres, and databases, of
// type "postgres-dump", by package backup/postgres/logical.
//
//	var parts dr.Parts
//	postgres.Add(&parts, postgres.Config{Bin: "/usr/lib/postgresql/MAJOR/bin"})
//
// # Clusters
//
//	targets:
//	  - name: db
//	    type: postgres
//	    source: host=db1 user=backup passfile=/etc/holdfast/pgpass
//	    restore_to: /var/lib/postgresql/17/main
//	    every: 5m
//	    options:
//	      watermark: shop
//	      owner: "105:113"
//	      query:orders@shop: SELECT max(placed) > now() - interval '1 day' FROM orders
//
// Source is a connection string, as libpq takes it, and restore_to a directory.
// No password is in it, and secrets are not used: it belongs in a passfile, a
// service file or PGPASSWORD. Options:
//
//	standby_conn     how to connect to the cluster at the standby, once it is in
//	                 charge; without it nothing is backed up there.
//	watermark        a database in which every backup leaves a row that drills
//	                 look for.
//	checkpoint       fast or spread.
//	workers          how many files a restore writes at once.
//	owner            UID:GID of what is restored; root needs it.
//	overwrite        true lets a failover restore over what is at restore_to.
//	tablespace:NAME  where a tablespace goes in a failover. Anywhere else, and
//	                 without it, it goes below a directory beside what is
//	                 restored, with ".spaces" behind its name.
//	user             a superuser of the cluster, for drills; default postgres.
//	amcheck, rows    how drills check; see ProofConfig of backup/postgres.
//	query:NAME@DB    SQL that yields true, in a database, if a drill has restored
//	                 what it should; without @DB in the database postgres.
//
// A drill restores to the end of the WAL at the standby, starts the cluster
// where nobody gets to it, checks it, and removes it again. Its record has the
// moment of the last transaction, or of the backup if none came since, and so
// the RPO, what was checked, and how fast it was.
//
// A plan of the Planner shows the moments that can be restored to from each
// site, and predicts the RTO, with the WAL to replay, by what drills have
// measured. [PlanRestore] plans the restore to one of these moments.
//
// # WAL
//
// Points alone give an RPO of minutes. A receiver of WAL, which runs beside
// [dr.Planner.Serve], brings it down to about a second, and to none at all as a
// synchronous standby: see [Receiver]. The Planner's forecast does not know of it, and
// reckons with the points; drills measure what there really is. [Archived] is a
// probe that asks the receiver.
//
// # Dumps
//
//   - name: shop
//     type: postgres-dump
//     source: host=db1 user=backup
//     restore_to: host=db2 user=postgres
//     options: {databases: "shop, billing", from: shop}
//
// Options:
//
//	databases    names with commas between; without it all.
//	from         which of them a failover or a drill restores, if there are more.
//	database, overwrite, old, roles, settings, jobs
//	             of a failover, as package logical describes them.
//	query:NAME   SQL that yields true in the database that a drill restored.
//
// A drill restores into a database of its own at [Config].DrillServer, with all
// objects that role's own, and drops it afterwards. There is no moment of a last change.
//
// An option that is not named here is an error, of [dr.Planner.Check] and of
// all that opens the workload.
package postgres
