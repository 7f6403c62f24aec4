package postgres

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// scripted is a target that does what it is told.
type scripted func(ctx context.Context, s *backup.Session) error

func (scripted) Kind() string                                                    { return "postgres" }
func (f scripted) Backup(ctx context.Context, s *backup.Session) error           { return f(ctx, s) }
func (scripted) Restore(context.Context, *backup.View, backup.Destination) error { return nil }

func memoryRepository(t *testing.T) (*backup.Repository, backup.Config) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c := backup.Config{Store: providertest.NewMemory(), Keyring: backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}}
	repo, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return repo, c
}

// An edit is a file before and after, and what a server sends of it.
type edit struct {
	old     []byte
	changes changes
	blocks  []byte
	want    []byte
}

// newEdit makes one by the rules of pg_combinebackup: a block is what follows,
// or if it is below the limit what the old file has, in whole blocks, or zeroes.
func newEdit(rng *rand.Rand) (e edit) {
	fill := func(b []byte) []byte {
		for i := 0; i+8 <= len(b); i += 8 {
			copy(b[i:], []byte{byte(rng.Uint32()), byte(rng.Uint32()), 1, 2, 3, 4, 5, 6})
		}
		return b
	}
	e.old = fill(make([]byte, rng.IntN(24)*8192))
	if rng.IntN(4) == 0 {
		e.old = append(e.old, fill(make([]byte, 1+rng.IntN(8191)))...) // which was being written
	}
	e.changes.kept = uint32(rng.IntN(24))
	if rng.IntN(3) == 0 {
		e.changes.kept = uint32(len(e.old) / 8192)
	}
	for n := range uint32(30) {
		if rng.IntN([]int{2, 8, 40}[rng.IntN(3)]) == 0 {
			e.changes.blocks = append(e.changes.blocks, n)
		}
	}
	e.blocks = fill(make([]byte, 8192*len(e.changes.blocks)))
	e.want = make([]byte, 8192*int(e.changes.length()))
	for n := range int(e.changes.kept) {
		if 8192*(n+1) <= len(e.old) {
			copy(e.want[8192*n:], e.old[8192*n:8192*(n+1)])
		}
	}
	for i, n := range e.changes.blocks {
		copy(e.want[8192*int(n):], e.blocks[8192*i:8192*(i+1)])
	}
	return e
}

// synthesized adds a file of a session that is made by an edit.
func (e edit) synthesized(ctx context.Context, s *backup.Session, path string, blocks io.Reader) (digest, error) {
	prev, err := s.Parent().Lookup(ctx, path)
	if err != nil {
		return "", err
	}
	it := backup.Item{Path: path, BlockSize: relationBlock, Meta: meta{Type: typeFile, Sum: unknown(sumCRC32C).String()}.encode()}
	y := &synthesis{v: s.Parent(), prev: prev, crc: fileCRC(crc32.Checksum(e.old, castagnoli)), changes: e.changes, blocks: blocks, block: 8192, ahead: 3}
	if err := s.Assemble(ctx, it, y.pieces(ctx, it.Meta)); err != nil {
		return "", err
	}
	return y.crc.digest(), nil
}

func edits(n int, seed uint64) (all map[string]edit) {
	rng := rand.New(rand.NewPCG(seed, 7))
	all = map[string]edit{}
	for i := range n {
		all[string([]byte{'a' + byte(i/26/26), 'a' + byte(i/26%26), 'a' + byte(i%26)})] = newEdit(rng)
	}
	return all
}

func (e edit) first(ctx context.Context, s *backup.Session, path string) error {
	return s.Add(ctx, backup.Item{Path: path, BlockSize: relationBlock}, bytes.NewReader(e.old))
}

// What is made of an old file and of changes has the content that
// pg_combinebackup gives it, a sum that is right, and new chunks only where
// something has changed.
func TestSynthesis(t *testing.T) {
	repo, _ := memoryRepository(t)
	all := edits(300, 1)
	point := func(mode backup.Mode, f func(ctx context.Context, s *backup.Session, path string, e edit) error) backup.Point {
		p, err := repo.Backup(t.Context(), "db", scripted(func(ctx context.Context, s *backup.Session) error {
			for path, e := range all {
				if err := f(ctx, s, path, e); err != nil {
					return err
				}
			}
			return nil
		}), backup.BackupOptions{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	point(backup.Full, func(ctx context.Context, s *backup.Session, path string, e edit) error { return e.first(ctx, s, path) })
	sums := map[string]digest{}
	p := point(backup.Incremental, func(ctx context.Context, s *backup.Session, path string, e edit) (err error) {
		sums[path], err = e.synthesized(ctx, s, path, bytes.NewReader(e.blocks))
		return err
	})
	v, err := repo.View(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	kept := int64(0) // bytes of chunks that have not changed
	for path, e := range all {
		it, err := v.Lookup(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		in, err := v.Open(t.Context(), it)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(in)
		in.Close()
		if err != nil || !bytes.Equal(got, e.want) {
			t.Errorf("%s: %d bytes of %d, changes %v: %d bytes are wrong, want %d; %v", path, len(e.old), e.changes.kept, e.changes.blocks, len(got), len(e.want), err)
		}
		want := fileCRC(crc32.Checksum(e.want, castagnoli)).digest()
		if _, sum, err := decodeMeta(it); sum != want || sums[path] != want || err != nil {
			t.Errorf("%s: the sum is %v and %v, want %v; %v", path, sum, sums[path], want, err)
		}
		for c, err := range v.Chunks(t.Context(), it) {
			if err != nil || c.Offset%relationBlock != 0 || int64(c.Size) != min(relationBlock, it.Size-c.Offset) {
				t.Errorf("%s: chunk of %d bytes at %d, %v", path, c.Size, c.Offset, err)
			}
			if end := c.Offset + int64(c.Size); end <= int64(len(e.old)) && bytes.Equal(got[c.Offset:end], e.old[c.Offset:end]) {
				kept += int64(c.Size)
			}
		}
	}
	if kept == 0 || p.Stats.BytesRead != p.Stats.Bytes-kept {
		t.Errorf("%d of %d bytes were read, and %d have not changed", p.Stats.BytesRead, p.Stats.Bytes, kept)
	}
}

// What is missing of what follows, or of the old file, is said; nothing goes on
// behind that.
func TestSynthesisFails(t *testing.T) {
	repo, config := memoryRepository(t)
	all := edits(40, 2)
	odd := errors.New("odd")
	first := scripted(func(ctx context.Context, s *backup.Session) error {
		for path, e := range all {
			if err := e.first(ctx, s, path); err != nil {
				return err
			}
		}
		return s.Add(ctx, backup.Item{Path: "cut"}, strings.NewReader(strings.Repeat("x", 2*relationBlock)))
	})
	if _, err := repo.Backup(t.Context(), "db", first, backup.BackupOptions{}); err != nil {
		t.Fatal(err)
	}
	short, damaged := 0, 0
	broken := scripted(func(ctx context.Context, s *backup.Session) error {
		for path, e := range all {
			if n := len(e.blocks); n > 0 {
				short++
				if _, err := e.synthesized(ctx, s, path, bytes.NewReader(e.blocks[:n-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("short of one byte: %v", err)
				}
				if _, err := e.synthesized(ctx, s, path, io.MultiReader(bytes.NewReader(e.blocks[:n/2]), errReader{odd})); !errors.Is(err, odd) {
					t.Errorf("an error half way: %v", err)
				}
			}
		}
		e := edit{old: make([]byte, 2*relationBlock), changes: changes{kept: 8}}
		if _, err := e.synthesized(ctx, s, "cut", nil); !errors.Is(err, errUnfit) {
			t.Errorf("cut in another way: %v", err)
		}
		return odd
	})
	if _, err := repo.Backup(t.Context(), "db", broken, backup.BackupOptions{Mode: backup.Incremental}); !errors.Is(err, odd) {
		t.Error(err)
	}
	for info, err := range config.Store.List(t.Context(), "data/", provider.ListOptions{}) {
		if err == nil {
			err = config.Store.Delete(t.Context(), info.Key, provider.DeleteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	repo, err := backup.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	lost := scripted(func(ctx context.Context, s *backup.Session) error {
		for path, e := range all {
			_, err := e.synthesized(ctx, s, path, bytes.NewReader(e.blocks))
			switch {
			case errors.Is(err, backup.ErrDamaged):
				damaged++
			case err != nil:
				t.Errorf("damaged: %v", err)
			}
		}
		return odd
	})
	if _, err := repo.Backup(t.Context(), "db", lost, backup.BackupOptions{Mode: backup.Incremental}); !errors.Is(err, odd) {
		t.Error(err)
	}
	if short < 20 || damaged < 20 {
		t.Errorf("%d were short, %d damaged", short, damaged)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
