//go:build unix && !race

package offheap

import "golang.org/x/sys/unix"

const maps = true

// mapped returns new memory, or nil if there is none.
func mapped(n int) []byte {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return b
}

// empty lets the system have the memory until somebody writes to it again.
func empty(b []byte) {
	unix.Madvise(b, unix.MADV_DONTNEED) // else it stays as it is
}
