package backup

import (
	"context"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// ChunksOf returns every chunk that a point needs.
func ChunksOf(ctx context.Context, r *Repository, id PointID) ([][32]byte, error) {
	m, err := r.manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := r.load(ctx); err != nil {
		return nil, err
	}
	var out [][32]byte
	err = r.newView(m).walk(ctx, func(x ref) error {
		out = append(out, x.id)
		return nil
	})
	return out, err
}

// ChunksIn returns every chunk in a pack.
func ChunksIn(ctx context.Context, r *Repository, pack provider.Info) ([][32]byte, error) {
	rec, err := r.readPack(ctx, pack)
	if err != nil {
		return nil, err
	}
	var out [][32]byte
	for _, e := range rec.entries {
		out = append(out, e.id)
	}
	return out, nil
}

// Fresh returns a repository that has read nothing yet.
func Fresh(r *Repository, c Config) *Repository {
	c, err := c.withDefaults()
	if err != nil {
		panic(err)
	}
	return newRepository(c, r.keys)
}

// Simulated returns a repository of a process of its own, with small packs
// and a clock of its own, that has read nothing yet.
func Simulated(r *Repository, c Config, clock func() time.Time) *Repository {
	c, err := c.withDefaults()
	if err != nil {
		panic(err)
	}
	c.PackSize, c.clock = 16<<10, clock
	return newRepository(c, r.keys)
}

// ReadsWithOldKeys reports whether any of the keys that r was opened with,
// whatever generation they are of, opens the content of a point's manifest.
func ReadsWithOldKeys(ctx context.Context, r *Repository, id PointID) (bool, error) {
	b, _, err := provider.ReadAll(ctx, r.c.Store, pointKey(id), maxManifest)
	if err != nil {
		return false, err
	}
	h, head, rest, err := decodeHeader(b, kindPoint)
	if err != nil {
		return false, err
	}
	_, rest, err = cutSection(rest)
	if err != nil {
		return false, err
	}
	content, _, err := cutSection(rest)
	if err != nil {
		return false, err
	}
	enc, _ := splitEnc(h.Enc)
	for g := range r.keys.privates {
		secret, err := r.keys.openSession(joinEnc(enc, g))
		if err != nil {
			return false, err
		}
		if _, err := openSection(secret, h, head, "content", pointKey(id), content); err == nil {
			return true, nil
		}
	}
	return false, nil
}

// LeaveTime leaves what a prune that was killed while it asked for the
// store's time leaves.
func LeaveTime(ctx context.Context, r *Repository) error {
	_, err := r.putSealed(ctx, kindTime, condemnedPrefix+string(newPointID(time.Now()))+timeSuffix, []byte("{}"))
	return err
}

// Tombstone gives up on a session that nobody has begun.
func Tombstone(ctx context.Context, r *Repository) (PointID, error) {
	r, err := r.current(ctx)
	if err != nil {
		return "", err
	}
	id := newPointID(time.Now())
	_, err = r.giveUp(ctx, id, givenUp)
	return id, err
}

// LockClaims says for each pack until when the indexes that are believed say
// it is locked, in seconds since 1970.
func LockClaims(ctx context.Context, r *Repository) map[string]int64 {
	out := map[string]int64{}
	if err := r.load(ctx); err != nil {
		panic(err)
	}
	for _, p := range r.index.all() {
		if p.trusted {
			out[p.key()] = p.locked
		}
	}
	return out
}
