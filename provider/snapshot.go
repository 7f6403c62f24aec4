package provider

import (
	"context"
	"iter"
	"time"
)

// A SnapshotRef names a snapshot for as long as it exists. It is plain data,
// kept in manifests and journals.
type SnapshotRef struct {
	Provider string `json:"provider"`          // "local", "ebs", ...
	Account  string `json:"account,omitempty"` // where the provider has them
	Region   string `json:"region"`
	ID       string `json:"id"`
}

// A State says how far a snapshot or a volume has come.
type State string

const (
	Pending State = "pending" // being made; ask again
	Ready   State = "ready"   // complete and usable
	Failed  State = "failed"  // will never be usable; see Reason
)

// Snapshot describes a snapshot.
type Snapshot struct {
	Ref      SnapshotRef
	Volume   string // the volume it was made of
	State    State
	Progress float64   // 0 to 1; 1 if and only if Ready; never falls
	Reason   string    // why it Failed
	Size     int64     // bytes of the volume; 0 if not known
	Created  time.Time // when it was begun, UTC
	Tags     map[string]string
}

// Volume describes a volume that a snapshot is being restored to.
type Volume struct {
	ID       string
	State    State
	Progress float64
	Reason   string
	Tags     map[string]string
}

// A Snapshotter makes and restores point-in-time images of volumes whose
// bytes never pass through the caller. Its calls return at once; making a
// snapshot or a volume goes on behind them and is followed by asking again.
//
// Where the vendor has no client token, an implementation tags what it makes
// with the Token, looks for that tag before it creates, and deletes
// duplicates afterwards.
type Snapshotter interface {
	// Create begins a snapshot of a volume. A second call with the same
	// Token returns the snapshot that the first one began, whatever became
	// of the first reply; with another volume it is [ErrConflict]. Without a
	// Token it is an error. [ErrNotFound] if there is no such volume.
	//
	// The content of a Ready snapshot is that of one moment. Where the vendor
	// freezes the volume, as the block storage of the clouds does, the moment
	// lies between the call and its return. Where the volume is copied, as in
	// provider/local, nothing changed while it was, some time after the call;
	// a volume that does not hold still becomes Failed. The implementation
	// says which it is. A caller to whom the moment matters keeps its writers
	// still from before the call until Create has returned in the first case,
	// until the snapshot is no longer Pending in the second.
	Create(ctx context.Context, volume string, o SnapshotOptions) (Snapshot, error)

	// Get tells the present state of a snapshot. [ErrNotFound].
	Get(ctx context.Context, ref SnapshotRef) (Snapshot, error)

	// Restore begins a new volume with the content of a Ready snapshot. It
	// never touches an existing volume. A second call with the same Token
	// returns the same volume with its present state: this is how it is
	// followed; with another snapshot it is [ErrConflict]. Without a Token it
	// is an error. [ErrNotFound]; [ErrConflict] if the snapshot is not Ready.
	Restore(ctx context.Context, ref SnapshotRef, o RestoreOptions) (Volume, error)

	// Delete removes a snapshot. One that is not there is no error.
	// Volumes restored or being restored from it, and other snapshots, stay
	// usable.
	Delete(ctx context.Context, ref SnapshotRef) error

	// List yields the snapshots that carry all the given tags, in ascending
	// order of ID, by the rules of [BlobStore.List].
	List(ctx context.Context, tags map[string]string) iter.Seq2[Snapshot, error]
}

// SnapshotOptions are the attributes of a new snapshot.
type SnapshotOptions struct {
	Token string            // makes Create idempotent; required
	Tags  map[string]string // kept with the snapshot
}

// RestoreOptions are the attributes of a restored volume.
type RestoreOptions struct {
	Token string // makes Restore idempotent; required
	Zone  string // where the provider has zones
	Tags  map[string]string
}

// A SnapshotCopier can copy a snapshot to another region.
type SnapshotCopier interface {
	// CopySnapshot begins a copy of ref in region; it is idempotent by
	// o.Token as Create is. [ErrNotFound] if ref or the region is not there,
	// [ErrConflict] if ref is not Ready.
	CopySnapshot(ctx context.Context, ref SnapshotRef, region string, o SnapshotOptions) (Snapshot, error)
}

// A GroupSnapshotter can make snapshots of several volumes at one moment, as
// they would be found after a power cut: what a database needs whose files and
// log are on different volumes. Where there is none, its writers are kept still
// while each volume gets a snapshot by Create.
type GroupSnapshotter interface {
	// CreateGroup begins one snapshot of each volume, and returns them in the
	// order of volumes. All show the same moment, which lies between the call
	// and its return.
	//
	// It returns all of them or an error. A second call with the same Token
	// and the same volumes, in any order, returns the same snapshots, whatever
	// became of the first reply; with other volumes it is [ErrConflict]. It
	// never adds to a group what would show another moment: if one of its
	// snapshots has been deleted, the same Token is ErrConflict as long as
	// another of them is there.
	//
	// [ErrNotFound] if one of the volumes is not there. An error that matches
	// [errors.ErrUnsupported] says why these volumes cannot be had at one
	// moment. Without a Token, without volumes, and with one of them twice it
	// is an error. Nothing is made by any of these.
	//
	// Afterwards each snapshot is on its own. It is followed, restored and
	// deleted as one that Create has begun. The group is worth what it is for
	// when all are Ready, and nothing when one is Failed.
	CreateGroup(ctx context.Context, volumes []string, o SnapshotOptions) ([]Snapshot, error)
}

// A SnapshotSharer can let others use a snapshot: another account, for example,
// which the one that was lost cannot reach, and which copies it. Whom it means
// by a name, the implementation says.
type SnapshotSharer interface {
	// Share lets others restore and copy a snapshot, beside those who already
	// may. It lasts until Unshare, or until the snapshot is deleted. Sharing
	// again with the same is no error; sharing with nobody or with everybody
	// is one, and changes nothing. [ErrNotFound].
	Share(ctx context.Context, ref SnapshotRef, with ...string) error

	// Unshare takes back what Share has allowed, and from nobody else. One
	// with whom the snapshot is not shared is no error. What was copied
	// or restored meanwhile stays. [ErrNotFound].
	Unshare(ctx context.Context, ref SnapshotRef, with ...string) error
}
