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
	heap.Push(&s.heap, p)
	for s.cost > s.budget && len(s.heap) > 1 {
		if err := s.pop(); err != nil {
			return err
		}
	}
	return nil
}

// pop writes the least item.
func (s *sorter) pop() error {
	p := heap.Pop(&s.heap).(*pending)
	s.cost -= p.cost
	if len(s.heap) > 0 {
		if next := s.heap[0]; next.run == p.run && next.item.Path == p.item.Path {
			return nil // the same path was added again: that one counts
		}
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
	for len(s.heap) > 0 {
		if err := s.pop(); err != nil {
			return nil, err
		}
	}
	if err := s.endRun(); err != nil {
		return nil, err
	}
	return s.roots, nil
}

type pendingHeap []*pending

func (h pendingHeap) Len() int      { return len(h) }
func (h pendingHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h pendingHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.run != b.run {
		return a.run < b.run
	}
	if c := ComparePaths(a.item.Path, b.item.Path); c != 0 {
		return c < 0
	}
	return a.seq < b.seq
}
func (h *pendingHeap) Push(x any) { *h = append(*h, x.(*pending)) }
func (h *pendingHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}
