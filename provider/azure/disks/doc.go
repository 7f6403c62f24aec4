// Package disks makes snapshots of managed disks of Azure: a
// [provider.Snapshotter], a [provider.SnapshotCopier] and a
// [provider.GroupSnapshotter], for one region.
//
//	disks, err := disks.Open(ctx, disks.Config{Subscription: "S", ResourceGroup: "backups", Region: "westeurope"})
//	snap, err := disks.Create(ctx, "/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/disks/data", provider.SnapshotOptions{Token: token})
//	copied, err := disks.CopySnapshot(ctx, snap.Ref, "northeurope", provider.SnapshotOptions{Token: token})
//
// # Snapshots and tokens
//
// Snapshots are incremental: each is complete by itself, and only what changed
// is paid for. A disk is frozen at one moment between a Create and its return,
// for which it waits some seconds; what a file system or a database had not yet
// written then is not in it.
//
// The name of what is made is a hash of the Token. A request that is made again,
// by whomever, is therefore about the same resource, and one for another disk is
// refused by the service. Nothing else is needed where replies are lost. Volumes
// and snapshots are named by their resource IDs. The tag "holdfast:volume" says
// of which disk a snapshot, or the one it is a copy of, was made; tags of this
// prefix are not shown and cannot be given. A value has up to 256 characters, so
// that the resource ID of a disk has, too.
//
// # Copies and encryption
//
// A copy to another region goes on behind CopySnapshot (CopyStart): it is
// Pending, and Progress is what Azure says, until all of it is there. Its source
// must not be deleted before. Copies and restored disks are encrypted with the
// disk encryption set that Config.EncryptionSets has for their region, or else
// with keys of the platform; a snapshot is encrypted as its disk is.
//
// # Groups
//
// Azure freezes several disks at one moment only as a crash-consistent restore
// point of the virtual machine that they are attached to. CreateGroup makes one,
// without the machine's other disks, in a collection of its own; a disk of the
// type Standard_LRS of each part of it; and a snapshot of each of these. Then it
// deletes what is not a snapshot. The snapshots are as any other, and Created is
// the moment. Each is complete by itself and shares nothing with those that were
// made before, so that all of it is paid for. Such a call takes some minutes; a
// call with the same Token goes on where one was interrupted, with the moment of
// that, also when the machine is gone by then. It clears away what is left, and so
// does Delete of any of the snapshots.
//
// What Azure documents as not frozen together is [errors.ErrUnsupported]: disks
// of no machine, of several, or of an instance of a uniform scale set; Ultra
// Disks and Premium SSD v2; shared, ephemeral and write-accelerated disks, and
// those that the host caches for writing, as it does with a system disk unless
// told otherwise; confidential machines; and machines with more than one data
// disk of a size of generation 6 (but for AMD's) or later, which freeze one disk
// after the other. Then keep the writers still until Create has returned for each
// (fsfreeze, FLUSH TABLES WITH READ LOCK), or back the database up by itself.
// What Azure refuses beyond that, machines without premium storage for example,
// comes as its error.
//
// A machine takes three restore points an hour, and one at a time. While it has
// any, it cannot be moved to another group. A restore point is encrypted with
// keys of the platform, for the minutes that it lives. A disk that is encrypted
// with a disk encryption set is refused if Config.EncryptionSets has none for the
// region. Under a lock against deletion on the group CreateGroup ends with
// ErrLocked when the snapshots are there.
//
// # Sharing
//
// It is no [provider.SnapshotSharer]. Others use a snapshot when they have a role
// on it, as on any resource of Azure: one of your own with
// Microsoft.Compute/snapshots/read and snapshots/beginGetAccess/action. It is
// given once, on the resource group, by whoever manages access:
//
//	az role assignment create --assignee PRINCIPAL --role ROLE --scope /subscriptions/S/resourceGroups/backups
//
// # Deleting
//
// Delete waits until the snapshot is gone. One under a lock of the Resource
// Manager, or an immutability policy that has not expired, is ErrLocked.
//
// # What the credential must be allowed
//
// Microsoft.Compute/disks/read and disks/beginGetAccess/action on the disks;
// Microsoft.Compute/snapshots/{read,write,delete} and disks/{read,write} on the
// group; Microsoft.Compute/diskEncryptionSets/read on the sets. The role Disk
// Snapshot Contributor has those about snapshots. For groups also
// Microsoft.Compute/virtualMachines/read on the machine, and on the group
// Microsoft.Compute/disks/{delete,beginGetAccess/action},
// restorePointCollections/{read,write,delete} and
// restorePointCollections/restorePoints/{read,write}, and
// restorePoints/diskRestorePoints/{read,beginGetAccess/action} below that.
//
// # What is not proven
//
// The suite runs on the SDK's fake servers, with what Azure documents behind
// them. Not seen on Azure: that a second request for a name, for another disk, is
// always refused; the codes of refusals under immutability policies; that disks
// stay usable whose snapshot is deleted while they load, and snapshots whose disk
// or restore point is; which rights a disk of a restore point needs. With the
// standard chain of credentials the suite runs there on disks of 4 GiB that it
// makes in a group of yours, copies to another region, and removes both:
//
//	HOLDFAST_AZURE_DISK=/subscriptions/S/resourceGroups/G HOLDFAST_AZURE_REGION=westeurope HOLDFAST_AZURE_COPY_REGION=northeurope go test -v -timeout 3h -run TestAzure ./provider/azure/disks
//
// With HOLDFAST_AZURE_MACHINE=/subscriptions/S/resourceGroups/G/providers/Microsoft.Compute/virtualMachines/M
// it makes groups, too, of disks that it attaches to that machine, which must be
// in the region and take four more. Three an hour are all that Azure makes, and
// the clauses of groups need six: run one at a time, with -run TestAzure/snapshot/group-token and
// so on. That the moment is one, only a machine that writes to its disks can show,
// and the suite has none.
package disks
