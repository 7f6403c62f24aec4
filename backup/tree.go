package backup

import "encoding/binary"

// A metaWriter stores a page as a chunk and returns where.
type metaWriter func(page []byte) (ref, error)

// A treeWriter makes the tree of a run of items that come in order. Pages
// end where a hash of the last path says so, not after a fixed number of
// items: a tree in which little has changed shares nearly all its pages with
// the one before.
type treeWriter struct {
	write  metaWriter
	items  pageBuilder
	levels []pageBuilder // of nodes, from the bottom
}

// A pageBuilder collects the records of one page.
type pageBuilder struct {
	body  []byte
	count int
	items int64
	last  string
}

const (
	minPage = 16 << 10
	maxPage = 256 << 10
)

// added notes that a record was appended to the body.
func (p *pageBuilder) added(last string, items int64) {
	p.count++
	p.items += items
	p.last = last
}

// full reports whether the page ends here. On average it grows by about 512
// records beyond its least size.
func (p *pageBuilder) full() bool {
	if len(p.body) < minPage {
		return false
	}
	if len(p.body) >= maxPage {
		return true
	}
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(p.last) {
		h = (h ^ uint64(p.last[i])) * 1099511628211
	}
	return h>>32%512 == 0
}

// flush stores the page and empties p.
func (p *pageBuilder) flush(kind byte, write metaWriter) (node, error) {
	b := append(binary.AppendUvarint([]byte{kind}, uint64(p.count)), p.body...)
	r, err := write(b)
	n := node{last: p.last, page: r, items: p.items}
	*p = pageBuilder{body: p.body[:0]}
	return n, err
}

func (t *treeWriter) add(it Item) error {
	t.items.body = appendItem(t.items.body, it)
	t.items.added(it.Path, 1)
	if !t.items.full() {
		return nil
	}
	n, err := t.items.flush(pageItems, t.write)
	if err != nil {
		return err
	}
	return t.push(0, n)
}

// push adds a node to a level. Pages of nodes hold at least two, so that
// every level is smaller than the one below.
func (t *treeWriter) push(level int, n node) error {
	if level == len(t.levels) {
		t.levels = append(t.levels, pageBuilder{})
	}
	p := &t.levels[level]
	p.body = appendNode(p.body, n)
	p.added(n.last, n.items)
	if p.count < 2 || !p.full() {
		return nil
	}
	up, err := p.flush(pageNodes, t.write)
	if err != nil {
		return err
	}
	return t.push(level+1, up)
}

// finish stores what is left and returns the root.
func (t *treeWriter) finish() (node, error) {
	if t.items.count > 0 || len(t.levels) == 0 {
		n, err := t.items.flush(pageItems, t.write)
		if err != nil {
			return node{}, err
		}
		if len(t.levels) == 0 {
			return n, nil
		}
		if err := t.push(0, n); err != nil {
			return node{}, err
		}
	}
	for level := 0; ; level++ {
		p := &t.levels[level]
		if p.count == 0 {
			continue // its last page has just gone up
		}
		top, err := p.flush(pageNodes, t.write)
		if err != nil {
			return node{}, err
		}
		if level == len(t.levels)-1 {
			return top, nil
		}
		if err := t.push(level+1, top); err != nil {
			return node{}, err
		}
	}
}

// A listWriter makes the list of an item's chunks and moves it out to pages
// when it grows long.
type listWriter struct {
	write  metaWriter
	levels [][]ref
}

func (l *listWriter) add(level int, r ref) error {
	if level == len(l.levels) {
		l.levels = append(l.levels, nil)
	}
	l.levels[level] = append(l.levels[level], r)
	n := len(l.levels[level])
	if n < listRefs && (n <= inlineRefs || r.id[0] != 0) {
		return nil
	}
	return l.flush(level)
}

func (l *listWriter) flush(level int) error {
	refs := l.levels[level]
	p, err := l.write(appendRefs([]byte{pageRefs}, refs))
	if err != nil {
		return err
	}
	l.levels[level] = refs[:0]
	return l.add(level+1, p)
}

// finish returns the content of the item.
func (l *listWriter) finish() (content, error) {
	if len(l.levels) == 0 {
		return content{}, nil
	}
	for level := 0; ; level++ {
		if level == len(l.levels)-1 && len(l.levels[level]) <= inlineRefs {
			return content{depth: level, refs: l.levels[level]}, nil
		}
		if len(l.levels[level]) == 0 {
			continue
		}
		if err := l.flush(level); err != nil {
			return content{}, err
		}
	}
}
