// Package local keeps the contracts of package provider on one machine, with
// nothing but its file system and its network: a [BlobStore] in a directory, a
// [Snapshotter] over directories, and a [DNS] provider with the [DNSServer] it
// edits. It is what tests, examples, a single host and a removable disk use.
//
// A store in a directory is durable: a Put that returned nil outlives a crash
// of the process and of the machine, as far as the disk keeps what it was told
// to flush. Its conditions and locks hold between the processes of the
// machine. It does not protect against whoever may write to the directory with
// other programs, and it is no second site: what burns with the machine, burns.
//
// The layout of a store is private to this package; a later version reads the
// stores of an earlier one, or refuses them by name.
package local

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// Config says where a [BlobStore] is.
type Config struct {
	// Dir is the directory of the store; required.
	Dir string

	// Create makes a new, empty store if Dir is missing or an empty
	// directory. A store that is already there is opened as it is. Leave it
	// false where a store is known to exist: a file system that is not
	// mounted is then an error, and not a new store without the backups.
	Create bool
}

// What is in the directory of a store.
const (
	marker    = "holdfast-store" // says that this is a store; made last
	dataDir   = "data"           // the objects, see blob_names.go
	stageDir  = "staged"         // one directory per open store that writes
	lockDir   = "locks"          // one file per shard of the keys
	setupLock = "setup-lock"
)

// BlobStore is a [provider.BlobStore] and a [provider.Locker] in a directory.
// Any number of processes on one machine may use one directory at the same
// time.
//
// It takes every valid key, on file systems that ignore case or forbid
// characters too. Conditional puts, deletes and locks hold between processes;
// over a network file system that is only as true as its flock.
//
// Each object is one file with its SHA-256 in front. A reader that starts at
// the first byte and reads to the last one checks it, and fails with
// [provider.ErrCorrupt] in place of the last bytes; a reader of a part of an
// object cannot, and one that was opened Unverified does not. An object whose description is damaged fails Get and Stat
// with ErrCorrupt, and List yields it without a Version. Where the retention
// of an object is damaged, Get delivers it all the same, with a zero Retain;
// every other call fails with ErrCorrupt, and nothing of it can be changed.
//
// Retention binds those who use this package, whatever their process and
// however often it is restarted. It does not bind those who may write to the
// directory with other programs, and it trusts the clock of the machine.
//
// Directories of keys stay after their last object has been deleted.
type BlobStore struct {
	dir    string
	root   *os.Root
	shards [256]chan struct{} // held by the goroutine that holds the shard's file

	mu      sync.Mutex
	known   map[string]struct{} // directories whose names are durable
	stage   string              // this store's directory for staging; "" before the first Put
	unstage func() error        // gives back the lock that keeps stage alive

	syncDir func(dir string) error
	step    func(string) // called by tests after each step of a change
}

var (
	_ provider.BlobStore = (*BlobStore)(nil)
	_ provider.Locker    = (*BlobStore)(nil)
)

// NewBlobStore opens the store in c.Dir. Close it when done. A directory that
// is missing, or holds no store, is an error unless c.Create is set.
func NewBlobStore(c Config) (*BlobStore, error) {
	s, err := openBlobStore(c)
	if err != nil {
		return nil, &provider.Error{Op: "open", Provider: "local", Key: c.Dir, Err: err}
	}
	return s, nil
}

// String names the store, to people, by its directory.
func (s *BlobStore) String() string { return "directory " + s.dir }

func openBlobStore(c Config) (*BlobStore, error) {
	if c.Dir == "" {
		return nil, errors.New("field Dir is empty: name the directory of the store")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	if c.Create {
		if err := makeDir(dir); err != nil {
			return nil, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("no store here (is its file system mounted? Config.Create makes a new store): %w", err)
	}
	s := &BlobStore{dir: dir, root: root, known: map[string]struct{}{}, step: func(string) {}}
	s.syncDir = func(dir string) error { return durable.SyncDir(root, dir) }
	for i := range s.shards {
		s.shards[i] = make(chan struct{}, 1)
	}
	if c.Create {
		err = s.create()
	}
	if err == nil {
		err = s.checkMarker()
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return s, nil
}

// Close removes what was staged and releases the directory. No call may be
// under way or follow.
func (s *BlobStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.stage != "" {
		err = errors.Join(s.unstage(), s.root.RemoveAll(s.stage))
		s.stage = ""
	}
	return errors.Join(err, s.root.Close())
}

// makeDir makes dir and its missing parents, durably.
func makeDir(dir string) error {
	top := filepath.Dir(dir)
	for {
		if _, err := os.Stat(top); err == nil || filepath.Dir(top) == top {
			break
		}
		top = filepath.Dir(top)
	}
	root, err := os.OpenRoot(top)
	if err != nil {
		return err
	}
	defer root.Close()
	rel, err := filepath.Rel(top, dir)
	if err != nil {
		return err
	}
	return durable.MkdirAll(root, filepath.ToSlash(rel))
}

type storeFormat struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

var thisFormat = storeFormat{Format: "holdfast blob store", Version: 1}

// create makes a store in an empty directory. The marker comes last, so that
// a crash leaves a directory that still counts as empty.
func (s *BlobStore) create() error {
	if _, err := s.root.Stat(marker); err == nil {
		return nil
	}
	if err := s.checkEmpty("."); err != nil {
		return err
	}
	unlock, err := durable.Lock(context.Background(), s.root, setupLock)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := s.root.Stat(marker); err == nil {
		return nil // another process was faster
	}
	for _, dir := range []string{dataDir, stageDir, lockDir} {
		if err := durable.MkdirAll(s.root, dir); err != nil {
			return err
		}
		if err := s.checkEmpty(dir); err != nil {
			return err
		}
	}
	b, err := json.Marshal(thisFormat)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.root, marker, append(b, '\n'))
}

// checkEmpty fails if dir holds anything that create does not put there.
func (s *BlobStore) checkEmpty(dir string) error {
	f, err := s.root.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		ours := name == dataDir || name == stageDir || name == lockDir || name == setupLock || strings.HasPrefix(name, marker)
		if dir != "." || !ours {
			return fmt.Errorf("will not make a store in a directory that is in use: it has no %s, but there is %s", marker, filepath.Join(dir, name))
		}
	}
	return nil
}

// checkMarker tells a store from a directory that lost it. Its error never
// matches fs.ErrNotExist: a store that is gone is not an object that is not
// there.
func (s *BlobStore) checkMarker() error {
	b, err := s.root.ReadFile(marker)
	if err != nil {
		return fmt.Errorf("no store in %s (is its file system mounted? was it deleted?): read %s: %v", s.dir, marker, err)
	}
	var f storeFormat
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("no store in %s: %s is damaged: %w", s.dir, marker, err)
	}
	if f != thisFormat {
		return fmt.Errorf("store in %s is a %q of version %d, want a %q of version %d",
			s.dir, f.Format, f.Version, thisFormat.Format, thisFormat.Version)
	}
	return nil
}

// begin is the start of every call.
func (s *BlobStore) begin(ctx context.Context, key string) error {
	if key == "" || len(key) > 1024 || !utf8.ValidString(key) {
		return provider.ErrInvalidKey
	}
	return ctx.Err()
}

// failure gives an error its final form. "Not there" is only believed if the
// store itself is.
func (s *BlobStore) failure(op, key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		if gone := s.checkMarker(); gone != nil {
			err = gone
		}
	}
	return &provider.Error{Op: op, Provider: "local", Key: key, Err: err}
}

// exclusively runs f while no other goroutine or process does so for a key of
// the same shard.
func (s *BlobStore) exclusively(ctx context.Context, key string, f func() error) (err error) {
	shard := sha256.Sum256([]byte(key))[0]
	select {
	case s.shards[shard] <- struct{}{}:
		defer func() { <-s.shards[shard] }()
	case <-ctx.Done():
		return ctx.Err()
	}
	unlock, err := durable.Lock(ctx, s.root, fmt.Sprintf("%s/%02x", lockDir, shard))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	s.step("locked")
	return f()
}
