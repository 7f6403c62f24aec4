// Package backup keeps recovery points in a [provider.BlobStore]: encrypted,
// deduplicated, write-once.
//
// A [Repository] lives in a store. A [Target] knows how to read one kind of
// thing (a directory tree, a database, a namespace) and how to put it back;
// the repository does everything between: it cuts content into chunks, drops
// those it already has, compresses, encrypts, packs, uploads, and commits a
// [Point] by writing its manifest last.
//
//	repo, err := backup.Init(ctx, backup.Config{Store: store, Keyring: keys})
//	point, err := repo.Backup(ctx, "web", target, backup.BackupOptions{})
//	err = repo.Restore(ctx, point.ID, target, backup.Destination{Location: "/srv/restored"}, backup.RestoreOptions{})
//
// # What it guarantees
//
// A point exists if and only if its manifest does, and the manifest is
// written after everything it needs is durable. Nothing is ever overwritten
// and nothing on the way of a backup is deleted, so a credential that can
// only create objects suffices to back up. Every point is complete by
// itself, whatever its [Mode]; forgetting one never harms another. Any
// number of writers may work at once, without locks.
//
// All content, all names within a target and all metadata are encrypted with
// AES-256-GCM under keys that only the holder of an [Identity] can unwrap.
// A damaged object harms only the points that need it; [Repository.Check]
// names them. Indexes and the format object can be rebuilt from the rest by
// [Repository.Repair].
//
// [Repository.AddRecipients] and [Repository.Rotate] change who that is, and
// encrypt nothing anew. A repository is shredded by destroying every key that
// unwraps it, in a key management service for instance: the wrapped copies in
// its objects, its replicas and its locked versions open nothing then. What is
// to be shredded alone has a repository of its own.
//
// A restore over existing data can be undone, see [RestoreOptions] and
// [Repository.Undo], by way of a point of what was there before.
//
// A process that only backs up needs no key that reads: [Repository.Seal]
// makes a [Credential] for it. Everything that a reader or a prune acts on is
// signed by its writer. So whoever steals a credential can read nothing, pass
// for nobody else and make no prune delete what is needed; and no other writer
// relies on what he stored, until [Repository.Attest] has looked at it.
//
// # What it does not do
//
// [Repository.Forget] removes a point; the space of chunks that no point
// needs any more is freed by [Repository.Prune], which nothing here calls by
// itself. Whoever reads the store sees the number, sizes and times of objects,
// and in their headers [Config].Writer (the host's name, unless set) and whom
// the key is wrapped to.
//
// FORMAT.md beside this file describes every byte that is stored.
package backup

import (
	"context"
	"encoding/json"
	"errors"
)

// Errors of this package. Errors of the store are those of package provider.
var (
	// ErrExists: Init found a repository where it should make one.
	ErrExists = errors.New("repository already exists")

	// ErrNoRepository: Open found none.
	ErrNoRepository = errors.New("no repository here")

	// ErrNoIdentity: none of the identities given can unwrap the
	// repository's key. The error text lists whose it is wrapped to.
	ErrNoIdentity = errors.New("no identity matches")

	// ErrDamaged: stored bytes are missing or are not what was written. The
	// text names the object.
	ErrDamaged = errors.New("repository is damaged")

	// ErrFormat: the repository was written by a version this one cannot
	// read.
	ErrFormat = errors.New("unknown repository format")

	// ErrFenced: maintenance has declared this backup dead while it was
	// running. Nothing was committed; run it again.
	ErrFenced = errors.New("session was fenced")
)

// A Target reads and writes one kind of thing. One value of a Target may be
// used for many backups and restores, also at once.
type Target interface {
	// Kind is a short lower-case word, [a-z0-9-]: "files", "postgres".
	Kind() string

	// Backup adds items to s. What it adds becomes a point when Backup
	// returns nil, and nothing remains visible when it returns an error.
	// Parts that cannot be read are reported by [Session.Warn] and left out;
	// the point is then partial, and says so.
	Backup(ctx context.Context, s *Session) error

	// Restore puts what v shows to d. It must treat the view as hostile: no
	// path, link or name in it may lead outside d. It verifies nothing of
	// the content itself; the readers of a View deliver only bytes that
	// were verified.
	Restore(ctx context.Context, v *View, d Destination) error
}

// Destination says where to restore to. It is plain data: plans and journals
// print it, keep it and have it approved, so it never holds a secret.
type Destination struct {
	Location string            `json:"location"`          // in the target's words: a directory, a DSN without password, a namespace
	Options  map[string]string `json:"options,omitempty"` // as the target documents them; unknown ones are an error
}

// Mode says what a backup reads. Whatever it is, the point it makes is
// complete and depends on no other.
type Mode string

const (
	// Full reads everything. It is the zero value's meaning, too.
	Full Mode = "full"
	// Incremental skips reading what is unchanged since the newest point of
	// the same name and kind. Without one it is Full. A process that cannot
	// read compares with points of its own, which [Config].Cache remembers.
	Incremental Mode = "incremental"
	// Differential skips reading what is unchanged since the newest Full
	// point of the same name and kind. Without one it is Full.
	Differential Mode = "differential"
)

// An External is a part of a point that never enters the repository, such as
// a volume snapshot kept by a cloud.
type External struct {
	Kind    string            `json:"kind"`              // what can restore it: "csi", "ebs" ...
	Ref     string            `json:"ref"`               // its name at the origin
	Handles map[string]string `json:"handles,omitempty"` // by region: what to call it there
	Size    int64             `json:"size,omitempty"`    // bytes, if known
	Meta    json.RawMessage   `json:"meta,omitempty"`    // in the words of its kind
}

// A Warning is a part of a target that is missing from a point, or that was
// inconsistent while it was read.
type Warning struct {
	Path string `json:"path"`
	Text string `json:"text"`
}
