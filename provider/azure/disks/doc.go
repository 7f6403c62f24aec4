// Package disks makes snapshots of managed disks of Azure: a
// [provider.Snapshotter] and a [provider.SnapshotCopier], for one region.
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
// # Groups and sharing
//
// It is no [provider.GroupSnapshotter] and no [provider.SnapshotSharer]. Azure
// freezes several disks at one moment only as a restore point of the whole virtual
// machine, which is no snapshot: it lives in a collection that goes with the
// machine and is copied and restored by other calls. Keep the writers of the disks
// still until Create has returned for each (fsfreeze, FLUSH TABLES WITH READ LOCK),
// or back the database up by itself. Others use a snapshot when they have a role on
// it, as on any resource of Azure: one of your own with Microsoft.Compute/snapshots/read
// and snapshots/beginGetAccess/action. It is given once, on the resource group, by
// whoever manages access:
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
// Snapshot Contributor has those about snapshots.
//
// # What is not proven
//
// The suite runs on the SDK's fake servers, with what Azure documents behind
// them. Not seen on Azure: that a second request for a name, for another disk, is
// always refused; the codes of refusals under immutability policies; that disks
// stay usable whose snapshot is deleted while they load. With the standard chain
// of credentials the suite runs there on disks of 4 GiB that it makes in a group
// of yours, copies to another region, and removes both:
//
//	HOLDFAST_AZURE_DISK=/subscriptions/S/resourceGroups/G HOLDFAST_AZURE_REGION=westeurope HOLDFAST_AZURE_COPY_REGION=northeurope go test -v -timeout 3h -run TestAzure ./provider/azure/disks
package disks
