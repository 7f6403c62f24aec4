package backup

import (
	"cmp"
	"slices"
)

// union sorts spans by branch and position and joins those that touch.
func union(spans []span) []span {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, compareSpans)
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && out[n-1].branch == s.branch && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
		} else if s.from < s.to {
			out = append(out, s)
		}
	}
	return out
}

func compareSpans(a, b span) int {
	return cmp.Or(cmp.Compare(a.branch, b.branch), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
}

// without returns what of s lies in none of the others, which are a union.
func without(s span, others []span) (out []span) {
	i, _ := slices.BinarySearchFunc(others, s, func(o, s span) int { // the first that ends behind the beginning of s
		if o.branch < s.branch || o.branch == s.branch && o.to <= s.from {
			return -1
		}
		return 1
	})
	for ; i < len(others) && others[i].overlaps(s); i++ {
		if s.from < others[i].from {
			out = append(out, span{s.branch, s.from, others[i].from})
		}
		s.from = min(others[i].to, s.to)
	}
	if s.from < s.to {
		out = append(out, s)
	}
	return out
}

// common returns what lies in both of two unions.
func common(a, b []span) (out []span) {
	for len(a) > 0 && len(b) > 0 {
		if a[0].overlaps(b[0]) {
			out = append(out, span{a[0].branch, max(a[0].from, b[0].from), min(a[0].to, b[0].to)})
		}
		if c := cmp.Or(cmp.Compare(a[0].branch, b[0].branch), cmp.Compare(a[0].to, b[0].to)); c <= 0 {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return out
}
