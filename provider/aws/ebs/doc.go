// Package ebs makes snapshots of EBS volumes of Amazon EC2: a
// [provider.Snapshotter], [provider.GroupSnapshotter], [provider.SnapshotCopier]
// and [provider.SnapshotSharer], for one region.
//
//	volumes, err := ebs.Open(ctx, ebs.Config{Region: "eu-central-1", Zone: "eu-central-1a"})
//	snap, err := volumes.Create(ctx, "vol-0123456789abcdef0", provider.SnapshotOptions{Token: token})
//	copied, err := volumes.CopySnapshot(ctx, snap.Ref, "eu-west-1", provider.SnapshotOptions{Token: token})
//
// # Snapshots and tokens
//
// EBS freezes a volume at one moment between a Create and its return; what a
// file system or a database had not yet written then is not in it.
//
// EC2 has no client token for snapshots and copies. They are tagged
// "holdfast:token" with a hash of the Token, and that tag is looked for before
// one is made. A request whose reply is lost is not made again before the tag
// was looked for. When several were made all the same (EC2 shows what was made
// after a while only), the first one counts, whoever made another deletes it,
// and the one that counts is tagged "holdfast:settled" before it is returned
// to anybody. One that is not settled, beside one that is, has never been
// returned; an hour later it is deleted. Copies also have the tags
// "holdfast:source" and "holdfast:volume", since EC2 does not keep from where
// they are. Tags of this prefix are not shown and cannot be given.
//
// Volumes have a client token, and the tag as well, because EC2 forgets client
// tokens.
//
// # Groups
//
// CreateGroup is one CreateSnapshots of EC2, which takes volumes that are
// attached to one instance; others are an error that says what is attached where.
// All snapshots of one request have the tag "holdfast:group", by which the groups
// of one Token are told apart, and "holdfast:volumes" with a hash of the volumes
// it was made for: one of which EC2 does not show all is not taken for whole. If
// what is attached changes at that very moment, what was made is deleted and made
// again. When one of a group fails, EC2 lets all of them fail.
//
// # Encryption
//
// A snapshot is encrypted as its volume is, and EC2 cannot do otherwise. What
// this package makes out of it is always encrypted, copies and volumes, with
// Config.Keys of that region, or else with the key that the account has chosen
// for EBS there. A snapshot whose key is the account's own "aws/ebs" cannot be
// shared.
//
// # What a reference says
//
// A SnapshotRef has the region and the account that owns the snapshot. One of
// another region is an error that says so, and never ErrNotFound; so is one
// whose snapshot has another owner. A snapshot that another account has shared
// can be got, restored and copied.
//
// Archived snapshots are Pending until they are restored from the archive.
// Those in the Recycle Bin are not found.
//
// # Deleting
//
// A snapshot that an image (AMI) uses is not deleted, and the error names the
// image. One under a snapshot lock is ErrLocked, with the end of the lock.
//
// # What the credential must be allowed
//
//   - create: ec2:CreateSnapshot, ec2:CreateTags, ec2:DescribeSnapshots,
//     ec2:DeleteSnapshot for duplicates (with the condition that
//     ec2:ResourceTag/holdfast:token exists)
//   - create group: the same with ec2:CreateSnapshots, ec2:DescribeVolumes,
//     ec2:DescribeInstances
//   - copy: ec2:CopySnapshot, ec2:DescribeRegions, and the above in the other
//     region; kms:DescribeKey, kms:CreateGrant, kms:Decrypt,
//     kms:GenerateDataKeyWithoutPlaintext, kms:ReEncrypt* on the keys
//   - share: ec2:ModifySnapshotAttribute
//   - restore: ec2:CreateVolume, ec2:CreateTags, ec2:DescribeVolumes
//   - delete: ec2:DeleteSnapshot, ec2:DescribeLockedSnapshots
//
// # What is not proven
//
// The suite runs on moto, whose snapshots are complete at once and without
// content, which knows no client token of a volume, no locks and one account, and
// leaves no volume out of a group; the tests put in front of it what AWS documents.
// Not seen on AWS: how long a
// snapshot is invisible after it was made, the limit of one snapshot of a
// volume in 15 seconds, what an invalid key does to a copy, that volumes stay
// usable whose snapshot is deleted while they load, and that a group is of one
// moment. With credentials, the suite runs there on volumes of 1 GiB that it makes
// in the zone you name, copies to the region you name, and removes both; with
// HOLDFAST_AWS_INSTANCE it attaches some to that instance, for groups:
//
//	HOLDFAST_AWS_VOLUME=eu-central-1a HOLDFAST_AWS_REGION=eu-west-1 go test ./provider/aws/ebs -run TestAWS -v -timeout 3h
package ebs
