package backup

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Ids of chunks are outputs of HMAC and so spread evenly, unless somebody
// forged them. Sorting and searching profit from the first and stay within
// n log n and log n when there is the second.

// compareEntries orders by id, and those of one id by pack.
func compareEntries(a, b indexEntry) int {
	return cmp.Or(bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.pack, b.pack))
}

func prefix(id *chunkID) uint64 { return binary.BigEndian.Uint64(id[:8]) }

// sortEntries sorts in place: every entry is moved once to the bucket of its
// first bits, of which there is one for about eight entries, and the buckets
// are sorted.
func sortEntries(s []indexEntry) {
	if len(s) < 64 || len(s) > 1<<31 {
		slices.SortFunc(s, compareEntries)
		return
	}
	shift := 64 - (bits.Len(uint(len(s))) - 3)
	ends := make([]uint32, 1<<(64-shift)) // of buckets; first their sizes
	for i := range s {
		ends[prefix(&s[i].id)>>shift]++
	}
	next := make([]uint32, len(ends)) // where the next entry of a bucket goes
	var sum uint32
	for b, n := range ends {
		next[b] = sum
		sum += n
		ends[b] = sum
	}
	for b := range ends {
		for next[b] < ends[b] {
			e := s[next[b]]
			for {
				to := prefix(&e.id) >> shift
				if to == uint64(b) {
					break
				}
				s[next[to]], e = e, s[next[to]]
				next[to]++
			}
			s[next[b]] = e
			next[b]++
		}
	}
	var start uint32
	for _, end := range ends {
		if end-start > 1 {
			slices.SortFunc(s[start:end], compareEntries)
		}
		start = end
	}
}

// searchEntries returns the place of the first entry with an id of at least
// this one, in sorted entries. It begins where the id should be, goes on in
// steps that double, and ends between two of them.
func searchEntries(s []indexEntry, id chunkID) int {
	n := len(s)
	if n == 0 {
		return 0
	}
	less := func(i int) bool { return bytes.Compare(s[i].id[:], id[:]) < 0 }
	guess, _ := bits.Mul64(prefix(&id), uint64(n))
	lo, hi := int(guess), int(guess) // what is below lo is less, what is at hi and above is not
	if less(lo) {
		for step := 4; ; step *= 2 {
			lo = hi + 1
			if hi += step; hi >= n {
				hi = n
				break
			}
			if !less(hi) {
				break
			}
		}
	} else {
		for step := 4; ; step *= 2 {
			hi = lo
			if lo -= step; lo < 0 {
				lo = 0
				break
			}
			if less(lo) {
				lo++
				break
			}
		}
	}
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); less(mid) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
