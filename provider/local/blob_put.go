package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
	"github.com/holdfast-go/holdfast/provider"
)

// Put implements [provider.BlobStore]. It takes effect, and its conditions
// are judged, at the rename that it makes while it holds the lock of the key.
//
// The order, in which each step is durable before the next begins:
//
//  1. description and content in a staged file, which nobody reads
//  2. the directories of the key
//  3. the retention, which names the new version and is void until step 4
//  4. the rename of the staged file to its place
//
// and then nil is returned. A crash before 4 leaves what was there before, a
// crash after it the new object; the staged file of a process that died is
// removed by the next one that writes. Readers may see the new object in the
// moment between its rename and the sync that makes it last; a Put that fails
// with [provider.ErrConflict] because of it fails only after that sync.
func (s *BlobStore) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	info, err := s.put(ctx, key, body, o)
	if err != nil {
		return provider.Info{}, s.failure("put", key, err)
	}
	return info, nil
}

func (s *BlobStore) put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	if err := errors.Join(s.begin(ctx, key), checkMeta(o.Meta), checkRetention(o.Retain)); err != nil {
		return provider.Info{}, err
	}
	if err := s.checkMarker(); err != nil {
		return provider.Info{}, err
	}
	object := objectPath(key)
	if err := s.mayPut(object, key, o); err != nil { // before reading a large body in vain
		return provider.Info{}, s.settle(ctx, object, key, o, err)
	}
	d := description{Key: key, Size: body.Size(), Version: provider.Version(rand.Text()), Meta: o.Meta}
	staged, err := s.stageFile(ctx, func(f *os.File) error { return writeObject(ctx, f, &d, body, o.SHA256) })
	if err != nil {
		return provider.Info{}, err
	}
	s.step("staged")
	if err := s.publish(ctx, staged, object, d, o); err != nil {
		return provider.Info{}, errors.Join(err, removeIfThere(s.root, staged))
	}
	return d.info(o.Retain, time.Now())
}

func (s *BlobStore) publish(ctx context.Context, staged, object string, d description, o provider.PutOptions) error {
	if err := s.makeDirs(path.Dir(object)); err != nil {
		return err
	}
	s.step("directories")
	return s.exclusively(ctx, d.Key, func() error {
		was, err := s.look(object, d.Key)
		if err == nil {
			err = was.mayBecome(o)
		}
		if err != nil {
			return s.settled(object, o, err)
		}
		if !o.Retain.IsZero() {
			r := retention{Version: d.Version, Mode: o.Retain.Mode, Until: o.Retain.Until.UTC()}
			if err := s.writeRetention(ctx, object, r); err != nil {
				return err
			}
			s.step("retention")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := durable.Rename(s.root, staged, object); err != nil {
			s.forgetDirs()
			return err
		}
		s.step("renamed")
		if err := s.syncDir(path.Dir(object)); err != nil {
			if !was.exists {
				// Whoever looks must not take it for one that lasts.
				err = errors.Join(err, removeIfThere(s.root, object))
			}
			return fmt.Errorf("the object may not outlive a power failure: %w", err)
		}
		s.step("synced")
		return nil
	})
}

// mayPut judges the conditions against what is there.
func (s *BlobStore) mayPut(object, key string, o provider.PutOptions) error {
	was, err := s.look(object, key)
	if err != nil {
		return err
	}
	return was.mayBecome(o)
}

func (p present) mayBecome(o provider.PutOptions) error {
	switch {
	case o.IfAbsent && p.exists, o.IfMatch != "" && o.IfMatch != p.version:
		return provider.ErrConflict
	case p.exists && inForce(p.retain, time.Now()):
		return provider.ErrLocked
	}
	return nil
}

// settle judges again, and for good, a Put that was refused without the lock.
func (s *BlobStore) settle(ctx context.Context, object, key string, o provider.PutOptions, refused error) error {
	if !o.IfAbsent || !errors.Is(refused, provider.ErrConflict) {
		return refused
	}
	return s.exclusively(ctx, key, func() error { return s.settled(object, o, refused) })
}

// settled makes a conflict with an object true for good before it is told.
// Who finds that the object is already there relies on it; the process that
// renamed it may have died before the sync, or be about to do it.
func (s *BlobStore) settled(object string, o provider.PutOptions, refused error) error {
	if !o.IfAbsent || !errors.Is(refused, provider.ErrConflict) {
		return refused
	}
	if err := s.syncDir(path.Dir(object)); err != nil {
		return fmt.Errorf("there is an object that may not outlive a power failure: %w", err)
	}
	return refused
}

// writeObject writes description and content, and completes d by what is
// known only afterwards.
func writeObject(ctx context.Context, f *os.File, d *description, body provider.Body, want [32]byte) error {
	if d.Size < 0 {
		return fmt.Errorf("body has a size of %d", d.Size)
	}
	d.SHA256 = strings.Repeat("0", 64)
	d.Modified = time.Now().UTC().Format(fixedTime)
	head, err := encodeFrame(objectMagic, d)
	if err != nil {
		return err
	}
	sum, err := writeSummed(ctx, f, head, body, d.Size)
	if err != nil {
		return err
	}
	if want != [32]byte{} && want != sum {
		return fmt.Errorf("%w: body has SHA-256 %x, announced was %x", provider.ErrCorrupt, sum, want)
	}
	d.SHA256 = hex.EncodeToString(sum[:])
	d.Modified = time.Now().UTC().Format(fixedTime)
	d.contentAt = int64(len(head))
	full, err := encodeFrame(objectMagic, d)
	if err != nil {
		return err
	}
	if len(full) != len(head) {
		return fmt.Errorf("description has %d bytes, was planned with %d", len(full), len(head))
	}
	_, err = f.WriteAt(full, 0)
	return err
}

// writeSummed writes head and body, and returns the SHA-256 of the body.
func writeSummed(ctx context.Context, f *os.File, head []byte, body provider.Body, size int64) (sum [32]byte, err error) {
	known, ok := body.(provider.Summed)
	if !ok {
		h := sha256.New()
		err = writeContent(ctx, f, head, body, size, h)
		return [32]byte(h.Sum(nil)), err
	}
	c := crc32.New(castagnoli)
	if err := writeContent(ctx, f, head, body, size, c); err != nil {
		return sum, err
	}
	if c.Sum32() != known.CRC32C() {
		return sum, fmt.Errorf("%w: body has CRC-32C %08x, it had %08x when its SHA-256 was computed", provider.ErrCorrupt, c.Sum32(), known.CRC32C())
	}
	return known.SHA256(), nil
}

func bytesWriter(b []byte) func(*os.File) error {
	return func(f *os.File) error {
		_, err := f.Write(b)
		return err
	}
}

// makeDirs makes a directory below dataDir with its parents. One that is
// there is still synced into its parent, once: the process that made it may
// have died before it did so.
func (s *BlobStore) makeDirs(dir string) error {
	if dir == dataDir {
		return nil
	}
	s.mu.Lock()
	_, ok := s.known[dir]
	s.mu.Unlock()
	if ok {
		return nil
	}
	parent := path.Dir(dir)
	if err := s.makeDirs(parent); err != nil {
		return err
	}
	if err := s.root.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		s.forgetDirs()
		return err
	}
	if err := s.syncDir(parent); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= 4096 {
		clear(s.known)
	}
	s.known[dir] = struct{}{}
	return nil
}

// forgetDirs makes the next Put look again, after somebody removed
// directories by hand.
func (s *BlobStore) forgetDirs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
}

// stageFile writes a file into the directory for staging, durably, and
// returns its name.
func (s *BlobStore) stageFile(ctx context.Context, write func(*os.File) error) (string, error) {
	dir, err := s.openStage(ctx)
	if err != nil {
		return "", err
	}
	name := dir + "/" + rand.Text()
	return name, durable.Stage(s.root, name, write)
}

// openStage makes the store's own directory for staging, and removes those
// that dead processes left. A store that lives holds the lock in its own.
func (s *BlobStore) openStage(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stage != "" {
		return s.stage, nil
	}
	unlock, err := durable.Lock(ctx, s.root, lockDir+"/stage")
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := s.cleanStage(); err != nil {
		return "", fmt.Errorf("remove what a crash left in %s: %w", stageDir, err)
	}
	dir := stageDir + "/" + rand.Text()
	if err := s.root.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	unstage, err := durable.TryLock(s.root, dir+"/lock")
	if err != nil {
		return "", err
	}
	if unstage == nil {
		return "", fmt.Errorf("lock %s/lock: held by another", dir)
	}
	s.stage, s.unstage = dir, unstage
	return dir, nil
}

func (s *BlobStore) cleanStage() error {
	f, err := s.root.Open(stageDir)
	if err != nil {
		return err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue // not ours
		}
		dir := stageDir + "/" + entry.Name()
		unlock, err := durable.TryLock(s.root, dir+"/lock")
		if errors.Is(err, fs.ErrNotExist) {
			continue // closed by its owner just now
		}
		if err != nil {
			return err
		}
		if unlock == nil {
			continue
		}
		if err := errors.Join(unlock(), s.root.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func removeIfThere(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func checkMeta(meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		if k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("meta: key %q is not of [a-z0-9-]", k)
		}
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(v) != v {
			return fmt.Errorf("meta: value of %q is not printable ASCII, or begins or ends with a space", k)
		}
	}
	if total > 2048 {
		return fmt.Errorf("meta: %d bytes, more than 2048", total)
	}
	return nil
}
