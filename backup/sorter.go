package backup

import "container/heap"

// A pending is an item whose chunks are perhaps still being identified.
type pending struct {
	item  Item
	slots []*slot // the tail of its chunks
	list  listWriter
	run   int
	seq   int64
	cost  int
}

// settle waits for all but the last keep chunks and moves them to the list.
func (p *pending) settle(keep int) error {
	n := len(p.slots) - keep
	for _, s := range p.slots[:max(n, 0)] {
		<-s.done
		if err := p.list.add(0, s.ref); err != nil {
			return err
		}
	}
	if n > 0 {
		p.slots = append(p.slots[:0], p.slots[n:]...)
	}
	return nil
}

// A sorter puts items into order with bounded memory. Targets that walk in
// order, or nearly so, get one sorted run; a target that delivers in any
// order gets several, which a View merges. (It is replacement selection:
// what is smaller than the last item written waits for the next run.)
type sorter struct {
	write  metaWriter
	line   []*pending // those that came in order, each after the one before: most
	next   int        // the first in line that is not written
	heap   pendingHeap
	cost   int
	seq    int64
	run    int
	any    bool // last is valid
	last   string
	tree   *treeWriter
	roots  []node
	wrote  func(Item)
	budget int
}

const sorterBudget = 4 << 20 // bytes of items held, roughly

func (s *sorter) add(p *pending) error {
	p.run, p.seq = s.run, s.seq
	s.seq++
	if s.any && ComparePaths(p.item.Path, s.last) <= 0 {
		p.run++
	}
	p.cost = len(p.item.Path) + len(p.item.Meta) + 40*(len(p.slots)+len(p.item.content.refs)) + 200
	s.cost += p.cost
	if s.next == len(s.line) || s.line[len(s.line)-1].before(p) {
		s.join(p)
	} else {
		heap.Push(&s.heap, p)
	}
	for s.cost > s.budget && s.held() > 1 {
		if err := s.pop(); err != nil {
			return err
		}
	}
	return nil
}

// join puts an item at the end of the line.
func (s *sorter) join(p *pending) {
	if len(s.line) == cap(s.line) && s.next > len(s.line)/2 {
		n := copy(s.line, s.line[s.next:])
		clear(s.line[n:])
		s.line, s.next = s.line[:n], 0
	}
	s.line = append(s.line, p)
}

// held is how many items wait.
func (s *sorter) held() int { return len(s.line) - s.next + len(s.heap) }

// least is the one of them to be written first; nil if there is none.
func (s *sorter) least() *pending {
	switch {
	case s.next == len(s.line) && len(s.heap) == 0:
		return nil
	case s.next == len(s.line) || len(s.heap) > 0 && s.heap[0].before(s.line[s.next]):
		return s.heap[0]
	}
	return s.line[s.next]
}

// take removes the least item.
func (s *sorter) take() *pending {
	p := s.least()
	if len(s.heap) > 0 && s.heap[0] == p {
		heap.Pop(&s.heap)
		return p
	}
	s.line[s.next] = nil
	s.next++
	return p
}

// pop writes the least item.
func (s *sorter) pop() error {
	p := s.take()
	s.cost -= p.cost
	if next := s.least(); next != nil && next.run == p.run && next.item.Path == p.item.Path {
		return nil // the same path was added again: that one counts
	}
	if p.run > s.run {
		if err := s.endRun(); err != nil {
			return err
		}
		s.run = p.run
	}
	if err := p.settle(0); err != nil {
		return err
	}
	if len(p.list.levels) > 0 {
		c, err := p.list.finish()
		if err != nil {
			return err
		}
		p.item.content = c
	}
	if s.tree == nil {
		s.tree = &treeWriter{write: s.write}
	}
	s.any, s.last = true, p.item.Path
	s.wrote(p.item)
	return s.tree.add(p.item)
}

func (s *sorter) endRun() error {
	if s.tree == nil {
		return nil
	}
	root, err := s.tree.finish()
	s.tree, s.any = nil, false
	s.roots = append(s.roots, root)
	return err
}

// finish writes all that is left and returns the roots of the runs, in which
// a later one overrides an earlier.
func (s *sorter) finish() ([]node, error) {
	for s.held() > 0 {
		if err := s.pop(); err != nil {
			return nil, err
		}
	}
	if err := s.endRun(); err != nil {
		return nil, err
	}
	return s.roots, nil
}

// before reports whether p is to be written before q.
func (p *pending) before(q *pending) bool {
	if p.run != q.run {
		return p.run < q.run
	}
	if c := ComparePaths(p.item.Path, q.item.Path); c != 0 {
		return c < 0
	}
	return p.seq < q.seq
}

type pendingHeap []*pending

func (h pendingHeap) Len() int           { return len(h) }
func (h pendingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h pendingHeap) Less(i, j int) bool { return h[i].before(h[j]) }
func (h *pendingHeap) Push(x any)        { *h = append(*h, x.(*pending)) }
func (h *pendingHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
