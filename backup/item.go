package backup

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
)

// An Item is one entry of a point: a file, a table, an object of an API. A
// target names and describes its items in its own words; to the repository
// an item is a path, a description and content.
type Item struct {
	// Path names the item within its point: not empty, at most 8 KiB, no
	// zero byte. Slashes part it into segments; nothing else in it has a
	// meaning here. It need not be UTF-8.
	Path string

	// Size of the content in bytes. [Session.Add] counts it itself.
	Size int64

	// Meta describes the item in the target's words; at most 256 KiB, JSON
	// by convention.
	Meta json.RawMessage

	// BlockSize cuts the content into chunks of that many bytes instead of
	// where the content suggests. It suits files that are changed in place
	// in pages, as databases do: a power of two, 4 KiB to 1 MiB. Zero cuts
	// by content.
	BlockSize int

	content content
}

// content says where the bytes of an item are: a list of chunks, or if that
// would be long, of chunks that hold such lists, and so on.
type content struct {
	depth int // 0: refs are the content itself
	refs  []ref
}

const (
	maxPath  = 8 << 10
	maxMeta  = 256 << 10
	maxDepth = 6

	inlineRefs = 64   // at most so many refs within an item
	listRefs   = 1024 // at most so many refs within a list page
)

// ComparePaths orders paths as the items of a point are ordered: by the
// bytes of their segments from the left, so that "a", "a/x" and "a-b" stand
// in this order and everything below a directory follows it at once.
func ComparePaths(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if x, y := a[i], b[i]; x != y {
			switch {
			case x == '/':
				return -1
			case y == '/':
				return 1
			case x < y:
				return -1
			}
			return 1
		}
	}
	return len(a) - len(b)
}

func (it Item) valid() error {
	switch {
	case it.Path == "" || len(it.Path) > maxPath || strings.IndexByte(it.Path, 0) >= 0:
		return fmt.Errorf("item path %.80q: want 1 to %d bytes without a zero", it.Path, maxPath)
	case len(it.Meta) > maxMeta:
		return fmt.Errorf("item %q: %d bytes of Meta, at most %d are possible", it.Path, len(it.Meta), maxMeta)
	case it.BlockSize != 0 && (it.BlockSize < 4<<10 || it.BlockSize > maxBlock || it.BlockSize&(it.BlockSize-1) != 0):
		return fmt.Errorf("item %q: BlockSize %d, want a power of two from 4 KiB to 1 MiB", it.Path, it.BlockSize)
	}
	return nil
}

// Pages are chunks of metadata. The first byte says what is in one.
const (
	pageItems = 1 // the items of a point, in order
	pageNodes = 2 // pages, each with the last path in it
	pageRefs  = 3 // chunks of content, or further pages of this kind
)

func appendItem(b []byte, it Item) []byte {
	b = appendBytes(b, it.Path)
	b = appendBytes(b, it.Meta)
	b = binary.AppendUvarint(b, uint64(it.Size))
	b = binary.AppendUvarint(b, uint64(it.BlockSize))
	b = append(b, byte(it.content.depth))
	return appendRefs(b, it.content.refs)
}

func appendRefs(b []byte, refs []ref) []byte {
	b = binary.AppendUvarint(b, uint64(len(refs)))
	for _, r := range refs {
		b = append(b, r.id[:]...)
		b = binary.AppendUvarint(b, uint64(r.plain))
	}
	return b
}

func (d *decoder) ref() ref {
	r := ref{id: d.sum("chunk id"), plain: uint32(d.uint("chunk length", maxData))}
	if r.plain == 0 {
		d.fail("chunk %s is empty", r.id)
	}
	return r
}

// refs reads a list of chunks. It is put behind what room holds, which is
// returned, too: so the lists of many items take memory once.
func (d *decoder) refs(limit int, room []ref) (refs, rest []ref) {
	n := d.count("chunks", 33)
	if n > limit {
		d.fail("%d chunks where %d are possible", n, limit)
	}
	if d.err != nil || n == 0 {
		return nil, room
	}
	if cap(room)-len(room) < n {
		room = make([]ref, 0, min(max(n, 2*cap(room)), max(n, listRefs)))
	}
	start := len(room)
	for range n {
		room = append(room, d.ref())
	}
	return room[start:len(room):len(room)], room
}

// An itemDecoder reads the items of a page. They share its memory.
type itemDecoder struct {
	decoder
	text string // all that is decoded, for the paths
	room []ref
}

func (d *itemDecoder) path() string {
	n := len(d.bytes("path", maxPath))
	end := len(d.text) - len(d.b)
	if d.err != nil {
		return ""
	}
	return d.text[end-n : end]
}

func (d *itemDecoder) item() Item {
	it := Item{Path: d.path()}
	if m := d.bytes("meta", maxMeta); len(m) > 0 {
		it.Meta = m
	}
	it.Size = int64(d.uint("size", 1<<62))
	it.BlockSize = int(d.uint("block size", maxBlock))
	it.content.depth = int(d.byte("depth"))
	it.content.refs, d.room = d.refs(inlineRefs, d.room)
	if d.err != nil {
		return Item{}
	}
	if err := it.valid(); err != nil {
		d.fail("%v", err)
	}
	if it.content.depth > maxDepth {
		d.fail("content of %q is %d deep", it.Path, it.content.depth)
	}
	if it.content.depth == 0 {
		var sum int64
		for _, r := range it.content.refs {
			sum += int64(r.plain)
		}
		if sum != it.Size {
			d.fail("content of %q has %d bytes, not %d", it.Path, sum, it.Size)
		}
	}
	return it
}

// A node is one entry of a page of nodes.
type node struct {
	last  string // the last path within
	page  ref
	items int64
}

func appendNode(b []byte, n node) []byte {
	b = appendBytes(b, n.last)
	b = append(b, n.page.id[:]...)
	b = binary.AppendUvarint(b, uint64(n.page.plain))
	return binary.AppendUvarint(b, uint64(n.items))
}

func (d *decoder) node() node {
	return node{last: string(d.bytes("path", maxPath)), page: d.ref(), items: int64(d.uint("number of items", 1<<62))}
}

// A page is a decoded page of a point's tree: items or nodes. Descriptions
// are parts of what was decoded, which must not be changed any more.
type page struct {
	items []Item
	nodes []node
}

func decodePage(b []byte) (page, error) {
	d := &itemDecoder{decoder: decoder{b: b}}
	if len(b) == 0 {
		d.fail("page is empty")
	}
	var p page
	switch kind := d.byte("page kind"); kind {
	case pageItems:
		n := d.count("items", 5)
		d.text = string(b)
		p.items = make([]Item, 0, min(n, len(b)/64)) // more of them only if they are small
		for ; n > 0 && d.err == nil; n-- {
			p.items = append(p.items, d.item())
		}
	case pageNodes:
		for n := d.count("nodes", 35); n > 0 && d.err == nil; n-- {
			p.nodes = append(p.nodes, d.node())
		}
	default:
		d.fail("page of kind %d in a tree", kind)
	}
	if len(p.nodes) == 0 && d.err == nil && b[0] == pageNodes {
		d.fail("page of nodes without any")
	}
	for i := 1; i < len(p.items) && d.err == nil; i++ {
		if ComparePaths(p.items[i-1].Path, p.items[i].Path) >= 0 {
			d.fail("item %q after %q", p.items[i].Path, p.items[i-1].Path)
		}
	}
	if err := d.end(); err != nil {
		return page{}, err
	}
	return p, nil
}

func decodeRefPage(b []byte) ([]ref, error) {
	d := &decoder{b: b}
	if kind := d.byte("page kind"); kind != pageRefs {
		d.fail("page of kind %d in a list of chunks", kind)
	}
	refs, _ := d.refs(listRefs, nil)
	if len(refs) == 0 {
		d.fail("list of chunks without any")
	}
	return refs, d.end()
}
