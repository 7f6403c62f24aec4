package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/holdfast-go/holdfast/provider"
)

// AttestOptions say how to attest.
type AttestOptions struct {
	// Progress is called now and then from one goroutine: Items are packs
	// looked at, Read their bytes, Bytes those of packs that were found
	// right, Stored those of new indexes.
	Progress func(Progress)
}

// AttestReport tells what [Repository.Attest] has found.
type AttestReport struct {
	Attested Amount    `json:"attested"`         // packs that every writer relies on from now on
	Bad      []Problem `json:"bad,omitempty"`    // packs that are not what they are said to be; nobody else relies on them
	Stored   int64     `json:"stored,omitempty"` // bytes of new indexes
}

// Attest looks at packs of which only writers tell that cannot read: it
// fetches each of them, decrypts every chunk and identifies it anew. Those of
// which all is right are listed in indexes that this process signs, so that
// other writers need not store the same content again, and [Repository.Prune]
// can rewrite them. A pack that is bad stays as it is, and is reported by
// every Attest.
//
// It may run beside everything else. What it has found is stored every few
// packs, so after a crash or an error the next one goes on. It reads all that
// sealed writers have stored since the last time. [ErrSealed] in a process
// that cannot read.
func (r *Repository) Attest(ctx context.Context, o AttestOptions) (AttestReport, error) {
	if err := r.readable(); err != nil {
		return AttestReport{}, fmt.Errorf("attest: %w", err)
	}
	r, err := r.current(ctx)
	if err != nil {
		return AttestReport{}, fmt.Errorf("attest: %w", err)
	}
	a := &attester{r: newRepository(r.c, r.keys), o: o}
	if err := a.run(ctx); err != nil {
		return a.report, fmt.Errorf("attest: %w", err)
	}
	return a.report, nil
}

type attester struct {
	r      *Repository
	o      AttestOptions
	report AttestReport
	looked Amount
	buf    []byte
	good   []packRecord // not stored yet
	ids    *identifier
}

func (a *attester) run(ctx context.Context) error {
	doomed, err := a.r.condemned(ctx, "")
	if errors.Is(err, ErrDamaged) { // to tell of a pack that is about to go harms nobody
		a.r.c.Logger.Warn("what was condemned cannot be read; Prune puts this right", "error", err)
	} else if err != nil {
		return err
	}
	if err := a.r.load(ctx); err != nil {
		return err
	}
	a.ids = a.r.keys.newIdentifier()
	unknown, err := a.unknown(ctx, doomed)
	if err != nil {
		return err
	}
	for _, p := range unknown {
		if err := a.pack(ctx, p); err != nil {
			return errors.Join(err, a.write(ctx))
		}
		if len(a.good) >= packsPerIndex {
			if err := a.write(ctx); err != nil {
				return err
			}
		}
		if a.o.Progress != nil {
			a.o.Progress(Progress{Items: int64(a.looked.Packs), Read: a.looked.Bytes, Bytes: a.report.Attested.Bytes, Stored: a.report.Stored})
		}
	}
	return a.write(ctx)
}

// unknown returns the packs in the store of which only those tell who are not
// trusted.
func (a *attester) unknown(ctx context.Context, doomed map[[32]byte]bool) (out []packSum, err error) {
	for info, err := range a.r.packs(ctx) {
		if err != nil {
			return nil, err
		}
		kind, sum, ok := parsePackKey(info.Key)
		if n, known := a.r.index.packBySum(sum); ok && known && !a.r.index.pack(n).trusted && !doomed[sum] && info.Size <= maxPack {
			out = append(out, packSum{sum, kind, info.Size})
		}
	}
	return out, nil
}

// pack looks at one pack, and at all of it.
func (a *attester) pack(ctx context.Context, p packSum) error {
	key := packKey(p.kind, p.sum)
	rec, err := a.read(ctx, key, p)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, provider.ErrNotFound):
		return nil // deleted since
	case isDamage(err):
		a.report.Bad = append(a.report.Bad, Problem{Key: key, Text: err.Error()})
		a.r.c.Logger.Warn("pack is not what it is said to be", "key", key, "error", err)
		return nil
	case err != nil:
		return err
	}
	rec.by = a.r.keys.self
	if _, ok := provider.As[provider.Locker](a.r.c.Store); ok {
		// By what the store says: the word of its writer does not count.
		info, err := presentIn(ctx, a.r.c.Store, key)
		switch {
		case err == nil:
			rec.locked = lockEnd(info.Retain)
		case errors.Is(err, provider.ErrNotFound):
			return nil
		case !errors.Is(err, errShadowed) && !isDamage(err):
			return fmt.Errorf("stat %s: %w", key, err)
		}
	}
	a.good = append(a.good, rec)
	return nil
}

// read fetches a pack and opens every chunk in it.
func (a *attester) read(ctx context.Context, key string, p packSum) (packRecord, error) {
	if int64(cap(a.buf)) < p.size {
		a.buf = make([]byte, p.size, max(p.size, int64(a.r.c.PackSize)))
	}
	b := a.buf[:p.size]
	if err := readFull(ctx, a.r.c.Store, key, 0, b); err != nil {
		return packRecord{}, err
	}
	a.looked.add(p.size)
	if sha256.Sum256(b) != p.sum {
		return packRecord{}, fmt.Errorf("%s: %w: its bytes are not those of its name", key, ErrDamaged)
	}
	rec, err := a.r.keys.decodePack(p.kind, p.sum, p.size, b, b)
	if err != nil {
		return packRecord{}, fmt.Errorf("%s: %w", key, err)
	}
	secret, err := a.r.secret(rec.enc)
	if err != nil {
		return packRecord{}, fmt.Errorf("%s: %w", key, err)
	}
	aead := newAEAD(derive(secret, rec.salt, rec.kind+" frames"))
	for _, e := range rec.entries {
		if ctx.Err() != nil {
			return packRecord{}, context.Cause(ctx)
		}
		if _, err := openFrame(aead, a.r.zstd, a.ids, rec.kind, e.ref, b[e.off:][:e.stored], a.ids.spare()); err != nil {
			return packRecord{}, fmt.Errorf("%s: %w", key, err)
		}
	}
	rec.salt, rec.enc = slices.Clone(rec.salt), slices.Clone(rec.enc)
	return rec, nil
}

// write says of the packs that were right that they are.
func (a *attester) write(ctx context.Context) error {
	if len(a.good) == 0 {
		return nil
	}
	n, err := a.r.writeIndex(context.WithoutCancel(ctx), "", a.good)
	if err != nil {
		return err
	}
	a.report.Stored += n
	for _, p := range a.good {
		a.report.Attested.add(p.size)
	}
	a.good = nil
	return nil
}
