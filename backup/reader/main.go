// Reader gets the content out of a repository of Holdfast with nothing of
// Holdfast: it uses the standard library, zstd and Snappy, and what FORMAT.md says.
// It needs the directory of the objects, one file for each under its key (as
// any tool that copies a bucket leaves them) or a directory store, and the
// root key, which the holder of an identity unwraps with a stock tool:
//
//	reader keys DIR OUT              writes the wrapped root keys to files OUT/...
//	age -d -i key.txt OUT/1-0-age > root
//	reader points DIR < root         lists the points
//	reader restore DIR POINT OUT < root
//	reader log DIR NAME BRANCH FROM TO < root > bytes
//
// It reads all packs to find out what is in them, so it needs no index. It
// looks at hashes and seals, and not at signatures: those tell which of the
// writers has written something, and all of them had the keys.
package main

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) < 3 {
		log.Fatal("usage: reader keys DIR OUT | points DIR < root | restore DIR POINT OUT < root | log DIR NAME BRANCH FROM TO < root")
	}
	r := newRepository()
	err := r.scan(os.Args[2])
	switch args := os.Args[3:]; {
	case err != nil:
	case os.Args[1] == "keys" && len(args) == 1:
		err = r.wrapped(args[0])
	case os.Args[1] == "points" && len(args) == 0:
		err = cmp.Or(r.unlock(os.Stdin), r.list())
	case os.Args[1] == "restore" && len(args) == 2:
		if err = r.unlock(os.Stdin); err == nil {
			err = r.restore(args[0], args[1])
		}
	case os.Args[1] == "log" && len(args) == 4:
		if err = r.unlock(os.Stdin); err == nil {
			err = r.log(os.Stdout, args[0], args[1], args[2], args[3])
		}
	default:
		err = errors.New("wrong arguments; run reader without any for help")
	}
	if err != nil {
		log.Fatal("reader: ", err)
	}
}

type repository struct {
	files   map[string]file // by key
	writer  []byte
	index   []byte
	private []hpke.PrivateKey // of each generation of keys
	chunks  map[[32]byte][]place
	secrets map[string][]byte
	zstd    *zstd.Decoder
}

func newRepository() *repository {
	return &repository{files: map[string]file{}, chunks: map[[32]byte][]place{}, secrets: map[string][]byte{}}
}

// A file holds an object from offset at on.
type file struct {
	path string
	at   int64
}

type place struct {
	pack                string
	key                 []byte // of its frames
	off, stored, length uint64
}

// header is the JSON in front of every object.
type header struct {
	V       int    `json:"v"`
	Kind    string `json:"kind"`
	Salt    []byte `json:"salt"`
	Enc     []byte `json:"enc"`
	Gen     int    `json:"gen"`
	Format  []byte `json:"format"`
	KeysCpy []byte `json:"keys"`
}

type stanza struct {
	Type, Recipient string
	Body            []byte
}

// keysObject is the first line of the format object and of those below keys/.
type keysObject struct {
	Format  string   `json:"format"`
	V       int      `json:"v"`
	Gen     int      `json:"gen"`
	ID      string   `json:"id"`
	Stanzas []stanza `json:"stanzas"`
	Old     []byte   `json:"old"`
}

// scan finds the objects.
func (r *repository) scan(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		key, at := filepath.ToSlash(rel), int64(0)
		// A directory store of Holdfast puts a description in front.
		var front [16]byte
		if n, _ := io.ReadFull(f, front[:]); n == 16 && string(front[:8]) == "HFobject" {
			var d struct{ Key string }
			at = 16 + int64(binary.BigEndian.Uint32(front[8:]))
			if err := json.NewDecoder(io.LimitReader(f, at-16)).Decode(&d); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			key = d.Key
		}
		r.files[key] = file{p, at}
		return nil
	})
}

func (r *repository) read(key string) ([]byte, error) {
	f, ok := r.files[key]
	if !ok {
		return nil, fmt.Errorf("%s is not there", key)
	}
	b, err := os.ReadFile(f.path)
	if err != nil {
		return nil, err
	}
	return b[f.at:], nil
}

// under returns the keys with a prefix, in order.
func (r *repository) under(prefix string) (keys []string) {
	for k := range r.files {
		if strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}

// keyObjects returns the format object and its successors, each by its
// generation; from the copies in other objects if they are lost.
func (r *repository) keyObjects() map[int][][]byte {
	out := map[int][][]byte{}
	add := func(b []byte) {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		var k keysObject
		if len(rest) == 0 || json.Unmarshal(line, &k) != nil || len(k.Stanzas) == 0 {
			return
		}
		gen := max(k.Gen, 1)
		if !slices.ContainsFunc(out[gen], func(o []byte) bool { return bytes.Equal(o, b) }) {
			out[gen] = append(out[gen], b)
		}
	}
	for _, key := range append(r.under("format"), r.under("keys/")...) {
		if b, err := r.read(key); err == nil {
			add(b)
		}
	}
	for _, key := range append(r.under("points/"), r.under("meta/")...) {
		if b, err := r.read(key); err == nil {
			if h, _, _, err := cut(b); err == nil {
				add(h.Format)
				add(h.KeysCpy)
			}
		}
	}
	return out
}

// wrapped writes what the recipients can unwrap.
func (r *repository) wrapped(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for gen, copies := range r.keyObjects() {
		for _, b := range copies {
			line, _, _ := bytes.Cut(b, []byte("\n"))
			var k keysObject
			if err := json.Unmarshal(line, &k); err != nil {
				return err
			}
			for i, s := range k.Stanzas {
				name := filepath.Join(dir, fmt.Sprintf("%d-%d-%s", gen, i, strings.Map(word, s.Type)))
				fmt.Printf("%s  wrapped to %s\n", name, s.Recipient)
				if err := os.WriteFile(name, s.Body, 0o600); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func word(c rune) rune {
	if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' {
		return c
	}
	return '_'
}

func derive(secret, salt []byte, info string) []byte {
	k, err := hkdf.Key(sha256.New, secret, salt, "holdfast v1 "+info, 32)
	if err != nil {
		log.Fatal(err)
	}
	return k
}

func open(key, sealed, ad []byte) ([]byte, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a, err := cipher.NewGCMWithRandomNonce(b)
	if err != nil {
		return nil, err
	}
	return a.Open(nil, nil, sealed, ad)
}

// unlock takes the root key of any generation, the newest if all is to be
// read, and finds out what is in every pack.
func (r *repository) unlock(from io.Reader) error {
	root, err := io.ReadAll(io.LimitReader(from, 1<<10))
	if err != nil || len(root) != 32 {
		return fmt.Errorf("standard input holds %d bytes, want the root key of 32: %v", len(root), err)
	}
	roots, err := r.roots(root)
	if err != nil {
		return err
	}
	r.writer = derive(roots[0], nil, "writer")
	r.index = derive(r.writer, nil, "index")
	for _, root := range roots {
		private, err := hpke.MLKEM768P256().DeriveKeyPair(derive(root, nil, "key pair"))
		if err != nil {
			return err
		}
		r.private = append(r.private, private)
	}
	if r.zstd, err = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(8<<20)); err != nil {
		return err
	}
	for _, key := range append(r.under("data/"), r.under("meta/")...) {
		if err := r.pack(key); err != nil {
			log.Printf("%s: %v; going on without it", key, err)
		}
	}
	return nil
}

// roots finds the generation that a root key is of, and with it the root
// keys of all generations until then.
func (r *repository) roots(root []byte) ([][]byte, error) {
	for gen, copies := range r.keyObjects() {
		info := "keys"
		if gen == 1 {
			info = "format"
		}
		for _, b := range copies {
			line, rest, _ := bytes.Cut(b, []byte("\n"))
			m := hmac.New(sha256.New, derive(root, nil, info))
			m.Write(line)
			if !bytes.HasPrefix(rest, []byte(hex.EncodeToString(m.Sum(nil)))) {
				continue
			}
			if gen == 1 {
				return [][]byte{root}, nil
			}
			var k keysObject
			if err := json.Unmarshal(line, &k); err != nil {
				return nil, err
			}
			old, err := open(derive(root, nil, fmt.Sprintf("old roots %d", gen)), k.Old, []byte(k.ID))
			if err != nil || len(old) != 32*(gen-1) {
				return nil, fmt.Errorf("earlier root keys, %d bytes: %w", len(old), err)
			}
			return append(slices.Collect(slices.Chunk(old, 32)), root), nil
		}
	}
	return nil, errors.New("this is no root key of the repository")
}

// cut parts an object into its header and the rest.
func cut(b []byte) (h header, head, rest []byte, err error) {
	if len(b) < 12 || string(b[:8]) != "holdfast" {
		return h, nil, nil, errors.New("not an object of Holdfast")
	}
	n := 12 + int(binary.BigEndian.Uint32(b[8:]))
	if n > len(b) {
		return h, nil, nil, errors.New("cut off")
	}
	return h, b[:n], b[n:], json.Unmarshal(b[12:n], &h)
}

// section opens a section of an object.
func section(secret []byte, h header, head []byte, name, key string, sealed []byte) ([]byte, error) {
	sum := sha256.Sum256(head)
	return open(derive(secret, h.Salt, h.Kind+" "+name), sealed, append(sum[:], name+"\x00"+key...))
}

// secret is that of the session an object belongs to.
func (r *repository) secret(h header) ([]byte, error) {
	if s, ok := r.secrets[string(h.Enc)]; ok {
		return s, nil
	}
	gen := max(h.Gen, 1)
	if gen > len(r.private) {
		return nil, fmt.Errorf("it takes the root key of generation %d", gen)
	}
	c, err := hpke.NewRecipient(h.Enc, r.private[gen-1], hpke.HKDFSHA256(), hpke.AES256GCM(), []byte("holdfast v1 session"))
	if err != nil {
		return nil, err
	}
	s, err := c.Export("secret", 32)
	r.secrets[string(h.Enc)] = s
	return s, err
}

// pack notes where the chunks of a pack are.
func (r *repository) pack(key string) error {
	b, err := r.read(key)
	if err != nil {
		return err
	}
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != path.Base(key) {
		return errors.New("damaged: the hash is wrong")
	}
	h, head, rest, err := cut(b)
	if err != nil {
		return err
	}
	if len(rest) < 4 || uint64(binary.BigEndian.Uint32(rest[len(rest)-4:])) > uint64(len(rest)-4) {
		return errors.New("no directory")
	}
	rest, n := rest[:len(rest)-4], int(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	dir, err := section(r.index, h, head, "directory", "", rest[len(rest)-n:])
	if err != nil {
		return err
	}
	secret, err := r.secret(h)
	if err != nil {
		return err
	}
	frames := derive(secret, h.Salt, h.Kind+" frames")
	d := &decoder{b: dir}
	for n := d.uint(); n > 0 && d.err == nil; n-- {
		id := [32]byte(d.take(32))
		r.chunks[id] = append(r.chunks[id], place{key, frames, d.uint(), d.uint(), d.uint()})
	}
	return d.err
}

// chunk returns the bytes with an id.
func (r *repository) chunk(kind string, id [32]byte) ([]byte, error) {
	err := errors.New("in no pack")
	for _, p := range r.chunks[id] {
		var b []byte
		if b, err = r.chunkAt(kind, id, p); err == nil {
			return b, nil
		}
	}
	return nil, fmt.Errorf("chunk %x: %w", id[:8], err)
}

func (r *repository) chunkAt(kind string, id [32]byte, p place) ([]byte, error) {
	f, err := os.Open(r.files[p.pack].path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	frame := make([]byte, min(p.stored, 2<<20))
	if _, err := f.ReadAt(frame, r.files[p.pack].at+int64(p.off)); err != nil {
		return nil, err
	}
	b, err := open(p.key, frame, id[:])
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%s: %v", p.pack, err)
	}
	form, b := b[0], b[1:]
	switch form {
	case 1:
		b, err = r.zstd.DecodeAll(b, nil)
	case 2:
		var n int
		if n, err = snappy.DecodedLen(b); err == nil && n <= 1<<20 {
			b, err = snappy.Decode(nil, b)
		}
	}
	if err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, derive(r.writer, nil, kind+" chunk id"))
	m.Write(b)
	if !bytes.Equal(m.Sum(nil), id[:]) || form > 2 {
		return nil, fmt.Errorf("%s: another chunk than listed", p.pack)
	}
	return b, nil
}

// decoder reads what is neither JSON nor sealed.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.err, d.b = errors.New("cut off"), nil
		return make([]byte, max(0, min(n, 32)))
	}
	out := d.b[:n]
	d.b = d.b[n:]
	return out
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.err, n = errors.New("bad number"), 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes() []byte { return d.take(int(d.uint())) }

func (d *decoder) refs() (ids [][32]byte) {
	for n := d.uint(); n > 0 && d.err == nil; n-- {
		ids = append(ids, [32]byte(d.take(32)))
		d.uint()
	}
	return ids
}

// A point is the content of a manifest.
type point struct {
	ID    string
	Name  string
	Kind  string
	Time  time.Time
	Stats struct{ Items, Bytes int64 }
	Runs  []struct{ Page string }
}

func (r *repository) point(id string) (p point, err error) {
	key := "points/" + id
	b, err := r.read(key)
	if err != nil {
		return p, err
	}
	h, head, rest, err := cut(b)
	if err != nil {
		return p, err
	}
	if h.Kind != "point" {
		return p, fmt.Errorf("%s is a %s", key, h.Kind)
	}
	d := &decoder{b: rest}
	d.take(int(binary.BigEndian.Uint32(d.take(4)))) // the list of objects
	sealed := d.take(int(binary.BigEndian.Uint32(d.take(4))))
	secret, err := r.secret(h)
	if err != nil {
		return p, cmp.Or(d.err, err)
	}
	j, err := section(secret, h, head, "content", key, sealed)
	if err != nil {
		return p, fmt.Errorf("%s: %w", key, err)
	}
	return p, json.Unmarshal(j, &p)
}

func (r *repository) list() error {
	for _, key := range r.under("points/") {
		p, err := r.point(path.Base(key))
		if err != nil {
			log.Print(err)
			continue
		}
		fmt.Printf("%s  %s  %q  %d items, %d bytes\n", p.ID, p.Kind, p.Name, p.Stats.Items, p.Stats.Bytes)
	}
	return nil
}

// An item is one of a point.
type item struct {
	meta  []byte
	size  uint64
	depth byte
	refs  [][32]byte
}

// walk collects the items below a page. Each page is in a tree once.
func (r *repository) walk(id [32]byte, depth int, seen map[[32]byte]bool, into map[string]item) error {
	b, err := r.chunk("meta", id)
	if err != nil || depth > 16 || seen[id] {
		return fmt.Errorf("items: %w", cmp.Or(err, errors.New("too deep, or endless")))
	}
	seen[id] = true
	d := &decoder{b: b}
	kind := d.take(1)[0]
	for n := d.uint(); n > 0 && d.err == nil; n-- {
		name := string(d.bytes())
		if kind == 1 {
			meta := d.bytes()
			size := d.uint()
			d.uint() // block size
			into[name] = item{meta, size, d.take(1)[0], d.refs()}
			continue
		}
		page := [32]byte(d.take(32))
		d.uint() // length
		d.uint() // items
		if err := r.walk(page, depth+1, seen, into); err != nil {
			return err
		}
	}
	return d.err
}

// content writes the chunks of a list.
func (r *repository) content(w io.Writer, depth byte, refs [][32]byte) error {
	for _, id := range refs {
		if depth == 0 {
			b, err := r.chunk("data", id)
			if err != nil {
				return err
			}
			if len(b) == 0 {
				return errors.New("empty chunk")
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			continue
		}
		b, err := r.chunk("meta", id)
		if err != nil {
			return err
		}
		d := &decoder{b: b}
		if depth > 6 || d.take(1)[0] != 3 {
			return errors.New("bad list of chunks")
		}
		refs := d.refs()
		if len(refs) == 0 || d.err != nil { // of such a list could be made that has no end
			return errors.New("empty list of chunks")
		}
		if err := r.content(w, depth-1, refs); err != nil {
			return err
		}
	}
	return nil
}

// room is where so many bytes may be written.
type room struct {
	w    io.Writer
	left uint64
}

func (r *room) Write(b []byte) (int, error) {
	if uint64(len(b)) > r.left {
		return 0, errors.New("it is longer than its size")
	}
	r.left -= uint64(len(b))
	return r.w.Write(b)
}

// restore writes a point below a directory, and never beside it. Items of
// other kinds than "files" become files, each with its description in
// another.
func (r *repository) restore(id, dir string) error {
	p, err := r.point(id)
	if err != nil {
		return err
	}
	items := map[string]item{}
	for _, run := range p.Runs {
		var page [32]byte
		if _, err := hex.Decode(page[:], []byte(run.Page)); err != nil || len(run.Page) != 64 {
			return fmt.Errorf("bad root %q", run.Page)
		}
		if err := r.walk(page, 0, map[[32]byte]bool{}, items); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	names := make([]string, 0, len(items))
	for name := range items {
		names = append(names, name)
	}
	slices.Sort(names)
	// Links last, when there is what they are names of.
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(rank(items[a]), rank(items[b])) })
	failed := 0
	for _, name := range names {
		if err := r.item(root, p.Kind, name, items[name]); err != nil {
			log.Printf("%q: %v", name, err)
			failed++
		}
	}
	for _, name := range slices.Backward(names) { // directories last: they may be read-only, and times change
		if err := finish(root, p.Kind, name, items[name]); err != nil {
			log.Printf("%q: %v", name, err)
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d items are not as they were", failed, len(names))
	}
	fmt.Printf("%d items restored\n", len(names))
	return nil
}

func rank(it item) int {
	if bytes.Contains(it.meta, []byte(`"t":"link"`)) {
		return 1
	}
	return 0
}

// description is that of an item of kind "files".
type description struct {
	Type string    `json:"t"`
	Mode uint32    `json:"m"`
	Time time.Time `json:"mt"`
	Link []byte    `json:"l"`
}

func (r *repository) item(root *os.Root, kind, name string, it item) error {
	var d description
	if kind == "files" {
		if err := json.Unmarshal(it.meta, &d); err != nil {
			return err
		}
	} else {
		d = description{Type: "file", Mode: 0o600}
		if err := errors.Join(root.MkdirAll(path.Dir(name), 0o700), root.WriteFile(name+".meta", it.meta, 0o600)); err != nil {
			return err
		}
	}
	switch d.Type {
	case "dir":
		return root.MkdirAll(name, 0o700)
	case "symlink":
		return root.Symlink(string(d.Link), name)
	case "link":
		return root.Link(string(d.Link), name)
	case "file":
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		w := &room{f, it.size}
		err = r.content(w, it.depth, it.refs)
		if err == nil && w.left > 0 {
			err = fmt.Errorf("it ends %d bytes early", w.left)
		}
		return errors.Join(err, f.Sync(), f.Close())
	}
	return fmt.Errorf("a %q is not restored", d.Type)
}

// finish sets modes and times.
func finish(root *os.Root, kind, name string, it item) error {
	var d description
	if kind != "files" || json.Unmarshal(it.meta, &d) != nil || d.Type != "file" && d.Type != "dir" {
		return nil
	}
	return errors.Join(root.Chmod(name, fs.FileMode(d.Mode&0o777)), root.Chtimes(name, time.Time{}, d.Time))
}

// log writes the positions of a branch from one up to another, all in
// decimal digits.
func (r *repository) log(w io.Writer, name string, numbers ...string) error {
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(numbers[i], 10, 64); err != nil {
			return err
		}
	}
	m := hmac.New(sha256.New, derive(r.writer, nil, "log name"))
	m.Write([]byte(name))
	return r.stretch(w, fmt.Sprintf("logs/%x/", m.Sum(nil)[:16]), n[0], n[1], n[2])
}

// stretch writes what lies before the beginning of a branch from its parent,
// and the rest from the segments of the branch.
func (r *repository) stretch(w io.Writer, prefix string, branch, from, to uint64) error {
	prefix, parents := fmt.Sprintf("%s%08x/", prefix, branch), prefix
	if b, err := r.read(prefix + "start"); err == nil {
		h, head, rest, err := cut(b)
		if err != nil {
			return err
		}
		d := &decoder{b: rest}
		plain, err := section(r.index, h, head, "branch", prefix+"start", d.take(int(binary.BigEndian.Uint32(d.take(4)))))
		if err != nil {
			return err
		}
		d = &decoder{b: plain}
		d.bytes() // name
		d.uint()  // branch
		if parent, at := d.uint(), d.uint(); parent != 0 && from < at {
			if err := r.stretch(w, parents, parent, from, min(at, to)); err != nil {
				return err
			}
			from = at
		}
	}
	for _, key := range r.under(prefix) { // ascending: of those that overlap, what is new is taken
		var first, end uint64
		if n, _ := fmt.Sscanf(path.Base(key), "%016x-%016x", &first, &end); n != 2 || first > from || end <= from || from >= to {
			continue
		}
		b, err := r.segment(key)
		if err != nil || uint64(len(b)) != end-first {
			log.Printf("%s: %d bytes, %v; going on without it", key, len(b), err)
			continue
		}
		until := min(end, to)
		if _, err := w.Write(b[from-first : until-first]); err != nil {
			return err
		}
		from = until
	}
	if from < to {
		return fmt.Errorf("%s: nothing is there at position %d", prefix, from)
	}
	return nil
}

// segment returns the content of one.
func (r *repository) segment(key string) ([]byte, error) {
	b, err := r.read(key)
	if err != nil {
		return nil, err
	}
	h, head, rest, err := cut(b)
	if err != nil {
		return nil, err
	}
	secret, err := r.secret(h)
	if err != nil {
		return nil, err
	}
	frames := &decoder{b: rest}
	plain, err := section(r.index, h, head, "interval", key, frames.take(int(binary.BigEndian.Uint32(frames.take(4)))))
	if err != nil {
		return nil, err
	}
	d := &decoder{b: plain}
	d.bytes() // name
	for range 5 {
		d.uint() // branch, bounds, times
	}
	d.take(32)
	for n := d.uint(); n > 0 && d.err == nil; n-- {
		d.uint()
		d.take(32)
	}
	var out []byte
	for i, n := uint64(0), d.uint(); i < n && d.err == nil && frames.err == nil; i++ {
		frame, err := open(derive(secret, h.Salt, "segment frames"), frames.take(int(d.uint())), append(binary.BigEndian.AppendUint64(nil, i), key...))
		if err != nil || len(frame) == 0 {
			return nil, fmt.Errorf("frame %d: %v", i, err)
		}
		part := frame[1:]
		if frame[0] == 1 {
			if part, err = r.zstd.DecodeAll(part, nil); err != nil {
				return nil, err
			}
		}
		out = append(out, part...)
	}
	return out, cmp.Or(d.err, frames.err)
}
