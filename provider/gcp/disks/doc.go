// Package disks makes snapshots of Persistent Disks and Hyperdisks of Google's
// Compute Engine: a [provider.Snapshotter], [provider.SnapshotCopier],
// [provider.GroupSnapshotter] and [provider.SnapshotSharer], for one storage
// location of one project.
//
//	snaps, err := disks.Open(ctx, disks.Config{Project: "p", Location: "europe-west3", Zone: "europe-west3-a"})
//	snap, err := snaps.Create(ctx, "zones/europe-west3-a/disks/data", provider.SnapshotOptions{Token: token})
//
// # Volumes
//
// A volume is "zones/ZONE/disks/NAME" or "regions/REGION/disks/NAME", in
// Config.Project. Restored ones are zonal.
//
// # Snapshots and tokens
//
// The name of what is made is a hash of the Token, and Compute Engine gives a
// name once: that makes a Create, a Restore and a CopySnapshot idempotent,
// whatever becomes of replies. Each request also has a request ID, by which
// the service knows that it is made again. For Restore the zone is part of it:
// one Token in two zones makes two volumes, so that a zone that is down stops
// no Restore in another.
//
// Create waits, seconds as a rule, until Compute Engine calls the snapshot
// UPLOADING: until then the disk is being frozen. The moment of the snapshot lies
// between the call and its return; what a file system or a database had not yet
// written then is not in it. Compute Engine tells no progress of an upload: it
// is 0 until the snapshot is Ready.
//
// Tags do not fit into labels, which take lower case letters and digits only.
// They are kept as JSON in the description, of 2,048 bytes together, which nobody
// can change; each has a label of hashes beside it by which List finds it. Who
// changes or removes those labels hides the snapshot from List.
//
// # Locations
//
// A snapshot belongs to the project and is stored in a location, a region or a
// multi-region ("eu"). From each of them it can be restored in any zone, and Get,
// Restore and Delete take a reference to any of them; List yields those of
// Config.Location. To outlive a region, store in another one.
//
// Compute Engine has no copy of a snapshot to another location. CopySnapshot
// restores it to a disk in Config.Zone, which it waits for, makes a snapshot of
// that in the other location, and deletes the disk when that is Ready: when Get
// or CopySnapshot sees it so. Disk and snapshot have the same name, "holdfast-"
// and a hash.
//
// # Groups
//
// Compute Engine freezes at one moment the disks of one zone that have one resource
// policy of consistency, as an instant snapshot group:
//
//	gcloud compute resource-policies create disk-consistency-group POLICY --region=REGION
//	gcloud compute disks add-resource-policies DISK --zone=ZONE --resource-policies=POLICY
//
// CreateGroup makes that group, whose moment lies between the call and its return,
// and of the instant snapshot of each volume an ordinary one, since instant ones
// are lost with their disk and their zone. What else has the policy is frozen,
// too, and no snapshot is made of it. Disks without a policy in common, of several
// zones, and of the types that have no instant snapshots (Hyperdisk Throughput and
// ML) are errors.ErrUnsupported, which says which disk has what; so are regional
// disks, which are another API. Keep their writers still until Create has returned
// for each, or back the database up by itself.
//
// The instant group is deleted when no snapshot is being made of it any more, and
// all have been begun: when Get, CreateGroup or Delete sees that. Its name is
// "holdfast-" and a hash of the Token; the snapshots have that name, a hyphen and a
// number, and the label "holdfast-group" with it, and "holdfast-whole" when all have
// been begun. Nothing is added to a group with that label, or whose instant
// group is gone: if one is missing then, it is ErrConflict.
//
// A caller that dies before that leaves the instant group, and what it has made of
// it: the same Token goes on with that moment. If nobody calls again, List shows
// the snapshots by their tags, and deleting the last of them deletes the instant
// group. If there are none yet, nobody deletes it: it costs what changes on its
// disks, keeps them from being moved, and a disk has 32 instant snapshots at most.
// These are those that are there, and how one goes away:
//
//	gcloud compute instant-snapshot-groups list --filter="name~^holdfast-"
//	gcloud compute instant-snapshot-groups delete NAME --zone=ZONE
//
// An instant group that is lost with its zone before its snapshots are Ready makes
// them Failed; before they have been begun, the Token is ErrConflict until those
// that have been are deleted.
//
// # Sharing
//
// Share gives Config.ShareRole on a snapshot to principals, by compare-and-swap of
// its IAM policy, and leaves the rest of the policy as it is. Whoever has the role
// names the snapshot as the source of a disk in a project of his own.
//
// # Encryption
//
// Snapshots and copies are encrypted with the key of Cloud KMS that Config.Keys
// has for their location, volumes with Config.DiskKey. Without one a snapshot has
// the key of its disk, and a disk one of Google's. Disks under customer-supplied
// keys are refused by the service.
//
// # What the credential must be allowed
//
//   - create: compute.disks.createSnapshot, compute.snapshots.create,
//     compute.snapshots.setLabels, compute.snapshots.get, compute.globalOperations.get
//   - restore: compute.snapshots.get, compute.snapshots.useReadOnly,
//     compute.disks.create, compute.disks.setLabels, compute.disks.get,
//     compute.zoneOperations.get
//   - copy: both, compute.regions.get and compute.disks.delete
//   - groups: as for create, and compute.snapshots.list, compute.disks.get,
//     compute.resourcePolicies.get, .use and .useReadOnly, compute.zoneOperations.get,
//     compute.instantSnapshotGroups.create, .get and .delete,
//     compute.instantSnapshots.list and .useReadOnly; Get and Delete of one of a
//     group need compute.instantSnapshotGroups.get and .delete to clear up
//   - share: compute.snapshots.get, .getIamPolicy, .setIamPolicy
//   - list: compute.snapshots.list; delete: compute.snapshots.delete
//
// # What is not proven
//
// There is no emulator. The suite runs on a server in the tests that does what
// Google documents, and that checks each request and each answer against the
// discovery document of compute/v1. Not seen on Google: that a snapshot which is
// UPLOADING no longer changes with its disk, that a disk which loads from a
// deleted snapshot stays usable, when the disk of a copy can be deleted, the limit
// of six snapshots of a disk in an hour; of groups, that an instant group which is
// READY has all its disks, whether its snapshots need it until they are READY (it
// is kept until then), how a second freeze of a disk within 30 seconds is refused
// (the error is passed on; call again), which permissions Google asks for (those
// above are Google's own agent's for SAP, which does the same). With credentials,
// the suite runs there on disks of 10 GB that it makes in the zone you name, with
// policies that it makes in its region, copies to the location you name, and
// removes them all:
//
//	HOLDFAST_GCP_DISK=europe-west3-a HOLDFAST_GCP_LOCATION=europe-west1 go test ./provider/gcp/disks -run TestGCP -v -timeout 3h
package disks
