// Package offheap hands out large buffers that the garbage collector does not
// count. It lets the heap grow to twice of what lives, so a buffer that lives
// for as long as there is work costs its size twice: here once.
//
// A buffer that is put back stays mapped, empty, for whoever asks for one of
// that size next: code that goes on reading it by mistake, such as a transport
// that was given up on, reads zeroes or other bytes and does not crash. Where
// memory cannot be mapped, and under the race detector, which does not see
// such memory, buffers come from the heap.
package offheap

import "sync"

// idle are the buffers that were put back, by their size.
var idle = struct {
	sync.Mutex
	bySize map[int][][]byte
	mapped map[*byte]bool // all that were ever made and are not on the heap, by their first byte
	out    int            // handed out, in bytes
}{bySize: map[int][][]byte{}, mapped: map[*byte]bool{}}

// Get returns a buffer of n bytes, n > 0, whatever is in it. It has to be put back: if
// it is not, its memory is lost to the process.
func Get(n int) []byte {
	idle.Lock()
	defer idle.Unlock()
	idle.out += n
	if l := idle.bySize[n]; len(l) > 0 {
		b := l[len(l)-1]
		idle.bySize[n] = l[:len(l)-1]
		return b
	}
	b := mapped(n)
	if b == nil {
		return make([]byte, n)
	}
	idle.mapped[&b[0]] = true
	return b
}

// Put gives a buffer back, in the length that Get has returned.
func Put(b []byte) {
	idle.Lock()
	defer idle.Unlock()
	idle.out -= len(b)
	if idle.mapped[&b[0]] {
		empty(b)
		idle.bySize[len(b)] = append(idle.bySize[len(b)], b)
	}
}

// Out is how many bytes are handed out.
func Out() int {
	idle.Lock()
	defer idle.Unlock()
	return idle.out
}
