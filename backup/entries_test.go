package backup

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// entrySets are sorted and searched; ids are even, or as bad as a forger can
// make them.
func entrySets() map[string][]indexEntry {
	rnd := rand.New(rand.NewPCG(1, 2))
	sets := map[string][]indexEntry{"none": nil}
	for _, n := range []int{1, 2, 63, 64, 65, 1000, 20_000} {
		var even, same, low, high []indexEntry
		for i := range n {
			e := indexEntry{pack: uint32(rnd.IntN(4)), off: uint32(i)}
			for j := range e.id {
				e.id[j] = byte(rnd.Uint32())
			}
			even = append(even, e)
			e.id = chunkID{7}
			same = append(same, e)
			e.id = chunkID{30: byte(i >> 8), 31: byte(i)}
			low = append(low, e)
			e.id = chunkID(bytes.Repeat([]byte{0xff}, 32))
			e.id[31], e.id[30] = byte(i), byte(i>>8)
			high = append(high, e)
		}
		sets[fmt.Sprint("even ", n)] = even
		sets[fmt.Sprint("same ", n)] = same
		sets[fmt.Sprint("low ", n)] = low
		sets[fmt.Sprint("high ", n)] = high
		sets[fmt.Sprint("mixed ", n)] = slices.Concat(even, low, same, high)
	}
	return sets
}

func TestSortEntries(t *testing.T) {
	for name, s := range entrySets() {
		want := slices.Clone(s)
		slices.SortStableFunc(want, compareEntries)
		sortEntries(s)
		if !slices.EqualFunc(s, want, func(a, b indexEntry) bool { return compareEntries(a, b) == 0 }) {
			t.Errorf("%s: not sorted as it should be", name)
		}
		seen := map[uint32]int{} // by off, which is unique within each part
		for _, e := range s {
			seen[e.off]++
		}
		for _, e := range want {
			seen[e.off]--
		}
		for off, n := range seen {
			if n != 0 {
				t.Errorf("%s: entry %d is there %d times too often", name, off, n)
				break
			}
		}
	}
}

func TestSearchEntries(t *testing.T) {
	for name, s := range entrySets() {
		sortEntries(s)
		ids := []chunkID{{}, {7}, chunkID(bytes.Repeat([]byte{0xff}, 32)), {0x80}}
		for i := 0; i < len(s); i += max(1, len(s)/200) {
			id := s[i].id
			ids = append(ids, id)
			id[31]++
			ids = append(ids, id)
			id[31] -= 2
			ids = append(ids, id)
		}
		for _, id := range ids {
			want := sort.Search(len(s), func(i int) bool { return bytes.Compare(s[i].id[:], id[:]) >= 0 })
			if got := searchEntries(s, id); got != want {
				t.Fatalf("%s: %x is at %d, want %d", name, id, got, want)
			}
		}
	}
}
