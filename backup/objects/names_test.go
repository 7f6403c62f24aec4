package objects

import (
	"cmp"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
)

// Any two keys have different paths, in the order of the keys, from which the
// keys are told again.
func TestPaths(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	letters := []rune{0, 1, 2, ' ', '-', '.', '.', '.', '/', '/', '0', 'a', 0x7f, 'ü', '€', '\U0010ffff'}
	word := func() string {
		var b strings.Builder
		for range rnd.IntN(6) {
			b.WriteRune(letters[rnd.IntN(len(letters))])
		}
		return b.String()
	}
	for range 200_000 {
		a, b := word(), word()
		n, m := rnd.IntN(3)-1, rnd.IntN(3)-1
		p, q := pathOf(a, n), pathOf(b, m)
		want := cmp.Or(strings.Compare(a, b), cmp.Compare(n, m))
		if got := backup.ComparePaths(p, q); cmp.Compare(got, 0) != want {
			t.Fatalf("%q %d and %q %d have the paths %q and %q, in the order %d", a, n, b, m, p, q, got)
		}
		if key, number, err := keyOf(p); err != nil || key != a || number != n {
			t.Fatalf("%q %d has the path %q, which is of %q %d: %v", a, n, p, key, number, err)
		}
		if p == "" || strings.ContainsRune(p, 0) {
			t.Fatalf("path %q of %q", p, a)
		}
	}
}

func TestNoPaths(t *testing.T) {
	for _, p := range []string{"", "/escape", "a/b", "../x", "a\xff", "\xff", "a/\x01", "a/\x010", "a/\x0100000000000000000", "a/\x01ffffffffffffffff",
		"a/\x01000000000000000g", "a/\x01000000000000000A", "//\x010000000000000000", "a/\x03", strings.Repeat("x", 2049)} {
		if key, n, err := keyOf(p); err == nil {
			t.Errorf("path %q is of %q %d", p, key, n)
		}
	}
}

func FuzzKeyOf(f *testing.F) {
	f.Add("a.\xffb")
	f.Add("a/\x020/\x010000000000000001")
	f.Fuzz(func(t *testing.T, path string) {
		key, n, err := keyOf(path)
		if err == nil && pathOf(key, n) != path {
			t.Errorf("path %q is of %q %d, whose path is %q", path, key, n, pathOf(key, n))
		}
	})
}
