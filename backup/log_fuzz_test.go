package backup

import (
	"runtime"
	"testing"

	"github.com/holdfast-go/holdfast/provider/providertest"
)

func testLog(t testing.TB) *Log {
	k, _ := testKeys(t)
	c, err := Config{Store: providertest.NewMemory(), Writer: "fuzz", Keyring: Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	l, err := newRepository(c, k).Log("fuzz")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// bounded checks how much memory something takes.
func bounded(t *testing.T, most uint64, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > most {
		t.Errorf("took %d bytes of memory, want at most %d", took, most)
	}
}

// Intervals of any content: what a writer with the keys can do to a reader.
func FuzzInterval(f *testing.F) {
	v := interval{name: "x", span: span{1, 5, 9}, parts: []part{{7, [32]byte{1}}, {9, [32]byte{2}}}, frames: []uint32{40}}
	f.Add(v.encode())
	f.Add(interval{span: span{1, 0, ^uint64(0)}}.encode())
	f.Add(interval{span: span{1, 9, 5}}.encode())
	f.Add(interval{span: span{0, 0, 1}}.encode())
	f.Add(origin{name: "x", branch: 2, parent: 1, at: 9}.encode())
	f.Add((&keys{}).appendLogNeeds(nil, []LogPosition{{"x", 1, 2, 3}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, 1<<20+uint64(len(b))*16, func() {
			v, err := decodeInterval(b)
			known(t, err)
			if err == nil {
				at := v.span.from
				for _, p := range v.parts {
					if p.to < at || p.to > v.span.to {
						t.Errorf("part to %d in %v", p.to, v.span)
					}
					at = p.to
				}
				if v.span.valid() != nil || len(v.frames) > MaxSegment/maxData || len(v.parts) > 0 && at != v.span.to {
					t.Errorf("%+v", v)
				}
				again, err := decodeInterval(v.encode())
				if err != nil || again.span != v.span || !again.first.Equal(v.first) {
					t.Errorf("%+v became %+v, %v", v, again, err)
				}
			}
			o, err := decodeOrigin(b)
			known(t, err)
			if err == nil && (o.branch == 0 || o.parent == 0) {
				t.Errorf("%+v", o)
			}
			d := &decoder{b: b}
			d.logNeeds()
			known(t, d.end())
		})
	})
}

// Segments of any bytes, and of any interval and frames under the right keys
// and with a good signature.
func FuzzSegment(f *testing.F) {
	l := testLog(f)
	s := span{1, 100, 110}
	good, err := l.seal(interval{name: "fuzz", span: s, sum: l.r.keys.logContent(make([]byte, 10))}, make([]byte, 10))
	if err != nil {
		f.Fatal(err)
	}
	if _, data, err := l.open(s, good); err != nil || len(data) != 10 {
		f.Fatal(err)
	}
	f.Add(good, []byte{}, []byte{})
	f.Add([]byte{}, interval{name: "fuzz", span: s, frames: []uint32{0}}.encode(), []byte("frames"))
	f.Add([]byte{}, interval{name: "fuzz", span: s, frames: []uint32{maxFrame}}.encode(), []byte{})
	f.Add([]byte{}, interval{name: "else", span: s, frames: []uint32{6}}.encode(), []byte("frames"))
	f.Add([]byte{}, interval{name: "fuzz", span: span{1, 100, 111}, frames: []uint32{6}}.encode(), []byte("frames"))
	f.Fuzz(func(t *testing.T, whole, plain, frames []byte) {
		open := func(b []byte) {
			_, data, err := l.open(s, b)
			known(t, err)
			if err == nil && string(data) != string(make([]byte, 10)) {
				t.Errorf("%d bytes", len(data))
			}
			_, _, err = l.decodeSegment(s, b, int64(len(b)))
			known(t, err)
			_, _, err = l.openBranch(b, l.startKey(1))
			known(t, err)
		}
		bounded(t, 2<<20+16*uint64(len(whole)+len(plain)+len(frames)), func() {
			open(whole)
			k, key := l.r.keys, l.key(s)
			h, head, err := k.newHeader(kindSegment, "", l.enc)
			if err != nil {
				t.Fatal(err)
			}
			b := appendSection(head, sealSection(nil, k.index, h, head, "interval", key, plain))
			open(k.signObject(kindSegment, key, append(b, frames...)))
		})
	})
}

// Frames of any content under the right key never make more than they may.
func FuzzSegmentFrame(f *testing.F) {
	l := testLog(f)
	f.Add([]byte{compressionNone, 'x'}, 1)
	f.Add([]byte{9, 'x'}, 1)
	f.Add(append([]byte{compressionZstd}, newEncoder(1).EncodeAll(make([]byte, 64<<20), nil)...), 1000)
	f.Fuzz(func(t *testing.T, plain []byte, want int) {
		if len(plain) == 0 || want < 0 || want > maxData {
			return
		}
		bounded(t, 8<<20, func() {
			data, err := l.unpack(make([]byte, 3, 3+maxData), plain, want)
			known(t, err)
			if err == nil && len(data) != 3+want {
				t.Errorf("%d bytes, want %d", len(data), want)
			}
		})
	})
}

func FuzzSegmentKey(f *testing.F) {
	l := testLog(f)
	f.Add("00000001/0000000000000005-0000000000000009")
	f.Add("00000001/+000000000000005-0000000000000009")
	f.Add("0000000A/0000000000000005-0000000000000009")
	f.Fuzz(func(t *testing.T, name string) {
		if s, ok := l.parse(l.prefix + name); ok && l.key(s) != l.prefix+name {
			t.Errorf("%q is read as %v", name, s)
		}
	})
}
