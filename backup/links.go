package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// Every manifest names its writer's previous ones, and whoever forgets a
// point writes a signed record before. So a point that somebody made vanish
// is missed, as long as a later one of the same writer is there. What hides
// the latest points is shown by a checkpoint, see checkpoint.go.

// A link names a manifest, by the hash of its bytes.
type link struct {
	ID  PointID `json:"id"`
	Sum []byte  `json:"sum"`
}

const maxLinks = 16 // that a manifest has

func linkTo(id PointID, manifest []byte) link {
	sum := sha256.Sum256(manifest)
	return link{id, sum[:]}
}

// heads are the points of this writer that no other names yet.
type heads struct {
	mu    sync.Mutex
	known bool
	links []link
}

// take returns the heads, for a manifest that is about to be written and
// will name them, and leaves none. They must be given back, or replaced by a
// link to that manifest.
func (r *Repository) takeHeads(ctx context.Context) ([]link, error) {
	r.heads.mu.Lock()
	defer r.heads.mu.Unlock()
	if !r.heads.known {
		last, err := r.lastOwn(ctx)
		if err != nil {
			return nil, err
		}
		r.heads.known, r.heads.links = true, last
	}
	taken := r.heads.links[:min(len(r.heads.links), maxLinks)]
	r.heads.links = slices.Clone(r.heads.links[len(taken):])
	return taken, nil
}

func (r *Repository) giveHeads(links ...link) {
	r.heads.mu.Lock()
	defer r.heads.mu.Unlock()
	r.heads.links = append(r.heads.links, links...)
}

// lastOwn looks for the latest point that this writer has signed. Of points
// by others it reads the headers only.
func (r *Repository) lastOwn(ctx context.Context) ([]link, error) {
	var infos []provider.Info
	for info, err := range r.Manifests(ctx) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	slices.Reverse(infos)
	if len(infos) > 0 { // most often it is the latest of all
		if found, err := r.ownManifest(ctx, infos[0]); err == nil && len(found) > 0 {
			return found, nil
		}
	}
	type result struct {
		found []link
		err   error
	}
	for res := range inOrder(ctx, slices.Values(infos), func(info provider.Info) result {
		found, err := r.ownManifest(ctx, info)
		return result{found, err}
	}) {
		switch {
		case errors.Is(res.err, fs.ErrPermission):
			r.c.Logger.Warn("points cannot be read, so this one is not linked to the one before", "error", res.err)
			return nil, nil
		case res.err != nil && !isDamage(res.err):
			return nil, fmt.Errorf("find the previous point of %s: %w", r.keys.self.name, res.err)
		case len(res.found) > 0:
			return res.found, nil
		}
	}
	return nil, ctx.Err()
}

// ownManifest returns the link to a manifest if this writer has signed it.
func (r *Repository) ownManifest(ctx context.Context, info provider.Info) ([]link, error) {
	b := r.cache.get(cachedManifest(info))
	if b == nil {
		h, _, err := readHeader(ctx, r.c.Store, info)
		if err != nil || h.Writer != r.keys.self.name {
			return nil, err
		}
		if b, _, err = provider.ReadAll(ctx, r.c.Store, info.Key, maxManifest); err != nil {
			return nil, err
		}
	}
	_, _, _, by, err := r.keys.verifyObject(kindPoint, info.Key, b)
	if err != nil || by.key != r.keys.self.key && !(by.holder && r.keys.self.holder) { // a holder's key changes with the generation
		return nil, err
	}
	id, _ := pointIDOf(info.Key)
	return []link{linkTo(id, b)}, nil
}

// Records of what was forgotten.

const forgottenPrefix = "forgotten/"

func forgottenKey(id PointID) string { return forgottenPrefix + string(id) }

// forgotten is the content of such a record, in JSON.
type forgotten struct {
	Sum  []byte    `json:"sum,omitempty"` // of the manifest; none if it was damaged
	At   time.Time `json:"at"`
	Prev []link    `json:"prev,omitempty"` // that it named, as nobody else does
}

// recordForgotten says, signed, that a point is being forgotten.
func (r *Repository) recordForgotten(ctx context.Context, id PointID) error {
	b, _, err := provider.ReadAll(ctx, r.c.Store, pointKey(id), maxManifest)
	if err != nil && !errors.Is(err, provider.ErrCorrupt) {
		return err
	}
	f := forgotten{At: time.Now().UTC().Truncate(time.Second)}
	if m, err := r.keys.decodeManifest(id, b, r.secret); err == nil {
		f.Sum, f.Prev = m.hash(), m.prev
	} else if !isDamage(err) {
		return err
	}
	j, err := json.Marshal(f)
	if err != nil {
		return err
	}
	_, err = r.putSealed(ctx, kindForgotten, forgottenKey(id), j)
	return err
}

// wasForgotten reports whether a record says that a point was forgotten.
func (r *Repository) wasForgotten(ctx context.Context, l link) (bool, error) {
	plain, err := r.readSealed(ctx, kindForgotten, forgottenKey(l.ID))
	if errors.Is(err, provider.ErrNotFound) || errors.Is(err, ErrDamaged) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	f, err := decodeForgotten(plain)
	return err == nil && (f.Sum == nil || bytes.Equal(f.Sum, l.Sum)), nil
}

func decodeForgotten(plain []byte) (f forgotten, err error) {
	if tooManyValues(plain) {
		return f, fmt.Errorf("%w: record has more than %d values", ErrDamaged, maxValues)
	}
	if err := json.Unmarshal(plain, &f); err != nil {
		return f, fmt.Errorf("%w: record: %v", ErrDamaged, err)
	}
	if len(f.Prev) > maxLinks {
		return f, fmt.Errorf("%w: links to %d points", ErrDamaged, len(f.Prev))
	}
	return f, nil
}

// An Omission is a point that ought to be in the repository and is not, or
// not as it was written.
type Omission struct {
	ID   PointID `json:"id"`
	Text string  `json:"text"`
}

func (o Omission) String() string { return string(o.ID) + " " + o.Text }

// omitted compares what ought to be there with what is: the hashes of all
// manifests by point, nil for those that cannot be read.
func (r *Repository) omitted(ctx context.Context, want []link, have map[PointID][]byte) ([]Omission, error) {
	var out []Omission
	seen := map[PointID]bool{}
	for _, l := range want {
		if seen[l.ID] {
			continue
		}
		seen[l.ID] = true
		sum, there := have[l.ID]
		if there {
			if sum != nil && !bytes.Equal(sum, l.Sum) {
				out = append(out, Omission{l.ID, "is not what its writer has written"})
			}
			continue
		}
		if ok, err := r.wasForgotten(ctx, l); err != nil {
			return nil, fmt.Errorf("%s: %w", forgottenKey(l.ID), err)
		} else if !ok {
			out = append(out, Omission{l.ID, "is missing, and nobody who may has said that it was forgotten"})
		}
	}
	slices.SortFunc(out, func(a, b Omission) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return out, nil
}

// named notes a manifest, and those that it names.
func (c *checker) named(m manifest) {
	c.sums[m.point.ID] = m.hash()
	c.linked = append(c.linked, m.prev...)
}

// links looks for points that ought to be there, and for records that cannot
// be read. Those harm no point, but do not excuse an omission any more.
func (c *checker) links(ctx context.Context) (err error) {
	for info, err := range c.r.c.Store.List(ctx, forgottenPrefix, provider.ListOptions{}) {
		if err != nil {
			return err
		}
		plain, err := c.r.readSealed(ctx, kindForgotten, info.Key)
		var f forgotten
		if err == nil {
			f, err = decodeForgotten(plain)
		}
		switch {
		case err == nil:
			c.linked = append(c.linked, f.Prev...)
		case errors.Is(err, provider.ErrNotFound):
		case isDamage(err):
			c.problem(info.Key, err.Error())
		default:
			return err
		}
	}
	if c.o.Replica {
		return nil
	}
	c.report.Omitted, err = c.r.omitted(ctx, c.linked, c.sums)
	return err
}
