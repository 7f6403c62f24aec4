package backup

import "testing"

// A mark counts whether it is read before or after what it marks, for the
// marked chunk only, and a prune does not choose a marked copy.
func TestMarks(t *testing.T) {
	k, _ := testKeys(t)
	bad, good := chunkID{1}, chunkID{2}
	plain := packRecord{sum: [32]byte{9}, kind: kindData, size: 500, salt: make([]byte, 32), session: "s", enc: []byte("e"), by: k.self,
		entries: []packEntry{{ref{bad, 5}, 10, 50}, {ref{good, 5}, 60, 50}}}
	marked := plain
	marked.bad = []chunkID{bad}
	b, err := k.encodeIndex("", []packRecord{marked})
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := k.decodeIndex(b)
	if err != nil || len(decoded) != 1 || len(decoded[0].bad) != 1 || decoded[0].bad[0] != bad || len(decoded[0].entries) != 2 {
		t.Fatalf("%+v, %v", decoded, err)
	}
	other := plain
	other.sum, other.entries = [32]byte{8}, []packEntry{{ref{bad, 5}, 10, 50}, {ref{chunkID{3}, 5}, 60, 50}}
	for name, records := range map[string][]packRecord{"before": {decoded[0], plain, other}, "after": {plain, decoded[0], other}, "only": {decoded[0], other}} {
		x := newIndex(k.trusts)
		for n, rec := range records[:len(records)-1] {
			x.add(string(rune('a'+n)), []packRecord{rec})
		}
		ok := reusable{packs: []bool{true, true}}
		if _, reuse := x.reuse(bad, ok); reuse {
			t.Errorf("%s: a marked chunk is relied on", name)
		}
		if _, reuse := x.reuse(good, ok); !reuse {
			t.Errorf("%s: a good chunk beside a marked one is not relied on", name)
		}
		if len(x.find(bad)) != 1 {
			t.Errorf("%s: a marked chunk is not found any more", name)
		}
		x.add("z", []packRecord{other})
		places := x.find(bad)
		packs := x.all()
		c := &census{packs: packs, good: []bool{true, true}, live: []int64{100, 1}, total: []int64{100, 100}}
		if e, ok := c.best(places); !ok || e.pack != 1 || places[0].pack != 1 {
			t.Errorf("%s: the marked copy is preferred: %+v", name, places)
		}
	}
}
