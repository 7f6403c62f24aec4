package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// An assembler is a target that knows what has changed: of "big", in blocks,
// some have, and the rest is the parent's.
type assembler struct {
	tree
	do func(ctx context.Context, s *backup.Session, prev backup.Item) error
}

func (a *assembler) Backup(ctx context.Context, s *backup.Session) error {
	if s.Parent() == nil {
		return a.tree.Backup(ctx, s)
	}
	prev, err := s.Parent().Lookup(ctx, "big")
	if err != nil {
		return err
	}
	return a.do(ctx, s, prev)
}

const blocks = 3000 // more than one page lists

func newAssembler(seed uint64) *assembler {
	return &assembler{tree: tree{files: map[string]file{"big": {content: random(seed, blocks*4096-1000), block: 4096}, "other": {content: "other"}}}}
}

// edited yields the content with some blocks replaced, and says what it has become.
func edited(ctx context.Context, s *backup.Session, prev backup.Item, content string, rng *rand.Rand) (seq iter.Seq2[backup.Piece, error], want *string, fresh *int64) {
	want, fresh = new(string), new(int64)
	return func(yield func(backup.Piece, error) bool) {
		var b strings.Builder
		buf := make([]byte, 4096) // the same each time: it is copied
		for c, err := range s.Parent().Chunks(ctx, prev) {
			p := backup.Piece{Kept: c}
			old := content[c.Offset : c.Offset+int64(c.Size)]
			if err == nil && rng.IntN(100) == 0 {
				p = backup.Piece{Bytes: append(buf[:0], random(rng.Uint64(), c.Size)...)}
				old = string(p.Bytes)
				*fresh += int64(c.Size)
			}
			b.WriteString(old)
			if !yield(p, err) {
				return
			}
		}
		*want = b.String()
	}, want, fresh
}

// What has not changed is neither read nor stored, and the point is complete by
// itself.
func TestAssemble(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	rng := rand.New(rand.NewPCG(1, 2))
	a := newAssembler(1)
	first := mustBackup(t, r, "w", a, backup.Full)
	var fresh *int64
	var want *string
	a.do = func(ctx context.Context, s *backup.Session, prev backup.Item) error {
		var seq iter.Seq2[backup.Piece, error]
		seq, want, fresh = edited(ctx, s, prev, a.files["big"].content, rng)
		it := backup.Item{Path: "big", Meta: json.RawMessage("0000"), BlockSize: 4096}
		err := s.Assemble(ctx, it, func(yield func(backup.Piece, error) bool) {
			seq(yield)
			copy(it.Meta, "1234") // known at the end
		})
		return errors.Join(err, s.Add(ctx, backup.Item{Path: "other"}, strings.NewReader("other")))
	}
	for n := range 3 {
		p := mustBackup(t, r, "w", a, backup.Incremental)
		if *fresh == 0 || p.Stats.BytesRead != *fresh+5 || p.Stats.BytesNew != *fresh || p.Stats.Bytes != blocks*4096-1000+5 || p.Mode != backup.Incremental {
			t.Errorf("%d: %d bytes are new; %+v", n, *fresh, p.Stats)
		}
		a.files["big"] = file{content: *want}
		mustHold(t, r, p.ID, a.files)
		v, err := r.View(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if it, err := v.Lookup(t.Context(), "big"); err != nil || string(it.Meta) != "1234" || it.Size != blocks*4096-1000 {
			t.Errorf("%+v, %v", it, err)
		}
		if err := r.Forget(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		mustPrune(t, r, backup.PruneOptions{})
		mustHold(t, reopen(t, store), p.ID, a.files)
		first = p
	}
}

// An item that could not be put together is not added; what its parts must
// be is said.
func TestAssembleRefuses(t *testing.T) {
	r := newRepo(t, providertest.NewMemory())
	a := newAssembler(1)
	mustBackup(t, r, "w", a, backup.Full)
	odd := errors.New("odd")
	a.do = func(ctx context.Context, s *backup.Session, prev backup.Item) error {
		it := backup.Item{Path: "big", BlockSize: 4096}
		of := func(pieces ...backup.Piece) iter.Seq2[backup.Piece, error] {
			return func(yield func(backup.Piece, error) bool) {
				for _, p := range pieces {
					if !yield(p, nil) {
						return
					}
				}
			}
		}
		some := backup.Piece{Bytes: []byte("some")}
		if err := s.Assemble(ctx, it, func(yield func(backup.Piece, error) bool) { _ = yield(some, nil) && yield(backup.Piece{}, odd) }); err != odd {
			t.Errorf("an error of pieces: %v", err)
		}
		if err := s.Assemble(ctx, it, of(some, backup.Piece{})); err == nil || !strings.Contains(err.Error(), "neither bytes nor a chunk") {
			t.Errorf("no piece: %v", err)
		}
		if err := s.Assemble(ctx, it, of(backup.Piece{Bytes: make([]byte, 1<<20+1)})); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("a large piece: %v", err)
		}
		if err := s.Assemble(ctx, backup.Item{}, of(some)); err == nil {
			t.Error("an item without a path")
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if err := s.Assemble(canceled, it, of(some)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
		return s.Assemble(ctx, backup.Item{Path: "none"}, of())
	}
	p := mustBackup(t, r, "w", a, backup.Incremental)
	mustHold(t, r, p.ID, map[string]file{"none": {}})

	none := &targetFunc{func(ctx context.Context, s *backup.Session) error {
		err := s.Assemble(ctx, backup.Item{Path: "big"}, func(func(backup.Piece, error) bool) {})
		if err == nil || !strings.Contains(err.Error(), "no parent") {
			t.Errorf("without a parent: %v", err)
		}
		return nil
	}}
	mustBackup(t, r, "other", none, backup.Full)
}

type targetFunc struct {
	backup func(ctx context.Context, s *backup.Session) error
}

func (f *targetFunc) Kind() string                                                  { return "tree" }
func (f *targetFunc) Backup(ctx context.Context, s *backup.Session) error           { return f.backup(ctx, s) }
func (*targetFunc) Restore(context.Context, *backup.View, backup.Destination) error { return nil }

// A chunk that is gone is said to be, and the target starts over: the point has
// nothing of what was added before, is a full one, and heals the repository.
func TestStartOver(t *testing.T) {
	store := providertest.NewMemory()
	r := newRepo(t, store)
	a := newAssembler(1)
	mustBackup(t, r, "w", a, backup.Full)
	for _, key := range keysOf(t, store, "data/") {
		if err := store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	r = reopen(t, store)
	over := 0
	a.do = func(ctx context.Context, s *backup.Session, prev backup.Item) error {
		over++
		if err := s.Add(ctx, backup.Item{Path: "gone/by/then"}, strings.NewReader(random(3, 100))); err != nil {
			return err
		}
		if err := s.External(backup.External{Kind: "k", Ref: "r"}); err != nil {
			return err
		}
		s.Warn("x", errors.New("odd"))
		if err := s.NeedLog(backup.LogPosition{Log: "l", Branch: 1, From: 1, Consistent: 2}); err != nil {
			return err
		}
		seq, _, _ := edited(ctx, s, prev, a.files["big"].content, rand.New(rand.NewPCG(1, 2)))
		if err := s.Assemble(ctx, backup.Item{Path: "big", BlockSize: 4096}, seq); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("a lost chunk is kept: %v", err)
		}
		s.StartOver()
		if s.Parent() != nil || s.Mode() != backup.Full {
			t.Errorf("mode %s, parent %v", s.Mode(), s.Parent())
		}
		return a.tree.Backup(ctx, s)
	}
	p := mustBackup(t, r, "w", a, backup.Incremental)
	if over != 1 || p.Mode != backup.Full || p.Parent != "" || p.Partial() || len(p.Warnings)+len(p.Externals)+len(p.Logs) > 0 || p.Stats.Items != 2 || p.Stats.Bytes != blocks*4096-1000+5 {
		t.Errorf("%+v", p)
	}
	mustHold(t, reopen(t, store), p.ID, a.files)
	// What comes next builds on it, also a differential.
	a.do = func(ctx context.Context, s *backup.Session, prev backup.Item) error {
		if s.Parent().Point().ID != p.ID {
			t.Errorf("the parent is %s", s.Parent().Point().ID)
		}
		return a.tree.Backup(ctx, s)
	}
	mustBackup(t, r, "w", a, backup.Differential)
}
