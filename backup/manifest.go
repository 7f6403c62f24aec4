package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// A manifest is an object header and two sections: "objects", sealed with
// the index key, names the packs that the point needs; "content", sealed
// with a key of the session, is the point itself. The writer's signature
// follows them.

const maxManifest = 256 << 20

// manifestContent is the section "content", in JSON.
type manifestContent struct {
	Point
	Runs []manifestRun `json:"runs"`
}

// A manifestRun is one sorted run of the point's items; a later run
// overrides an earlier one.
type manifestRun struct {
	Page  string `json:"page"` // id of the root page, 64 hex digits
	Plain uint32 `json:"plain"`
	Items int64  `json:"items"`
}

func (k *keys) encodeManifest(p Point, prev []link, roots []node, secret, enc []byte, packs []packSum) ([]byte, error) {
	h, head, err := k.newLinkedHeader(kindPoint, string(p.ID), enc, prev)
	if err != nil {
		return nil, err
	}
	objects := k.appendLogNeeds(encodePackSums(packs), p.Logs)
	j, err := encodeContent(p, roots)
	if err != nil {
		return nil, err
	}
	if tooManyValues(j) {
		return nil, fmt.Errorf("manifest: its externals, warnings and tags have more than %d values", maxValues)
	}
	key := pointKey(p.ID)
	b := appendSection(head, sealSection(nil, k.index, h, head, "objects", key, objects))
	b = appendSection(b, sealSection(nil, secret, h, head, "content", key, j))
	b = k.signObject(kindPoint, key, b)
	if len(b) > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d are possible", len(b), maxManifest)
	}
	return b, nil
}

func encodeContent(p Point, roots []node) ([]byte, error) {
	c := manifestContent{Point: p}
	c.Stored, c.Packs = time.Time{}, Amount{} // known to the store, and to "objects"
	for _, n := range roots {
		c.Runs = append(c.Runs, manifestRun{Page: hex.EncodeToString(n.page.id[:]), Plain: n.page.plain, Items: n.items})
	}
	return json.Marshal(c)
}

// A manifest is a decoded one.
type manifest struct {
	point Point
	roots []node
	packs []packSum
	logs  []logNeed
	by    author
	prev  []link
	sum   [32]byte // of all its bytes
}

// decodeManifest reads the manifest of the point id. secret finds the
// session's secret.
func (k *keys) decodeManifest(id PointID, b []byte, secret func(enc []byte) ([]byte, error)) (manifest, error) {
	key := pointKey(id)
	h, head, rest, by, err := k.verifyObject(kindPoint, key, b)
	if err != nil {
		return manifest{}, err
	}
	objects, rest, err := cutSection(rest)
	if err != nil {
		return manifest{}, err
	}
	sealed, rest, err := cutSection(rest)
	if err != nil {
		return manifest{}, err
	}
	if len(rest) > 0 {
		return manifest{}, fmt.Errorf("%w: %d bytes too many", ErrDamaged, len(rest))
	}
	plain, err := openSection(k.index, h, head, "objects", key, objects)
	if err != nil {
		return manifest{}, err
	}
	if len(h.Prev) > maxLinks {
		return manifest{}, fmt.Errorf("%w: links to %d points", ErrDamaged, len(h.Prev))
	}
	m := manifest{by: by, prev: h.Prev, sum: sha256.Sum256(b)}
	d := &decoder{b: plain}
	m.packs, m.logs = d.packSums(), d.logNeeds()
	if err := d.end(); err != nil {
		return manifest{}, err
	}
	s, err := secret(h.Enc)
	if errors.Is(err, ErrSealed) {
		at, err := id.Time()
		m.point = Point{ID: id, Time: at, Writer: by.name, Packs: amountOf(m.packs), SealedWriter: !by.holder, Sealed: true}
		return m, err
	}
	if err != nil {
		return manifest{}, err
	}
	if plain, err = openSection(s, h, head, "content", key, sealed); err != nil {
		return manifest{}, err
	}
	if m.point, m.roots, err = decodeContent(id, plain); err != nil {
		return manifest{}, err
	}
	if m.point.Writer != by.name {
		return manifest{}, fmt.Errorf("%w: signature is by %q and the point by %.64q", ErrDamaged, by.name, m.point.Writer)
	}
	m.point.Packs, m.point.SealedWriter = amountOf(m.packs), !by.holder
	return m, nil
}

func amountOf(packs []packSum) (a Amount) {
	for _, p := range packs {
		a.add(p.size)
	}
	return a
}

func decodePackSums(plain []byte) ([]packSum, error) {
	d := &decoder{b: plain}
	out := d.packSums()
	return out, d.end()
}

func (d *decoder) packSums() (out []packSum) {
	for n := d.count("packs", 34); n > 0 && d.err == nil; n-- {
		p := packSum{sum: d.sum("pack"), kind: kindOf(d.byte("kind")), size: int64(d.uint("size", maxPack))}
		if p.kind == "" {
			d.fail("kind of a pack is unknown")
		}
		out = append(out, p)
	}
	return out
}

// maxValues bounds how many values the content of a manifest has: a few bytes
// of JSON can make many of memory.
const maxValues = 1 << 20

func tooManyValues(j []byte) bool { return valuesIn(j) > maxValues }

// valuesIn is how many values there are in JSON, at most.
func valuesIn(j []byte) int {
	return bytes.Count(j, []byte(",")) + bytes.Count(j, []byte("{")) + bytes.Count(j, []byte("["))
}

func decodeContent(id PointID, plain []byte) (Point, []node, error) {
	if tooManyValues(plain) {
		return Point{}, nil, fmt.Errorf("%w: content has more than %d values", ErrDamaged, maxValues)
	}
	var c manifestContent
	if err := json.Unmarshal(plain, &c); err != nil {
		return Point{}, nil, fmt.Errorf("%w: content: %v", ErrDamaged, err)
	}
	if c.ID != id {
		return Point{}, nil, fmt.Errorf("%w: manifest of %.60q", ErrDamaged, c.ID)
	}
	var roots []node
	for _, r := range c.Runs {
		n := node{page: ref{plain: r.Plain}, items: r.Items}
		if b, err := hex.DecodeString(r.Page); err != nil || len(b) != 32 || r.Plain > maxData {
			return Point{}, nil, fmt.Errorf("%w: root page %.80q of %d bytes", ErrDamaged, r.Page, r.Plain)
		} else {
			copy(n.page.id[:], b)
		}
		roots = append(roots, n)
	}
	c.Point.Damaged, c.Point.Sealed, c.Point.SealedWriter = "", false, false
	return c.Point, roots, nil
}
