package remote_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A bucket answers queries about sorted keys as a service does.
type bucket struct {
	keys   []string
	page   int  // entries in one
	retold bool // tells the part again that After is in
	wait   time.Duration

	requests, under, most atomic.Int32
	fail                  func(n int32) error // the n-th request
}

func (b *bucket) fetch(ctx context.Context, q remote.Query) (remote.Page, error) {
	n := b.requests.Add(1)
	for under := b.under.Add(1); ; {
		if m := b.most.Load(); under <= m || b.most.CompareAndSwap(m, under) {
			break
		}
	}
	defer b.under.Add(-1)
	if b.fail != nil {
		if err := b.fail(n); err != nil {
			return remote.Page{}, err
		}
	}
	select {
	case <-time.After(b.wait):
	case <-ctx.Done():
	}
	if err := ctx.Err(); err != nil {
		return remote.Page{}, err
	}
	var p remote.Page
	skip := q.After // what is not greater is not told
	if q.Next != "" {
		skip = q.Next[1:]
	}
	last := ""
	for _, key := range b.keys {
		if key <= skip || !strings.HasPrefix(key, q.Prefix) {
			continue
		}
		e := remote.Entry{Info: provider.Info{Key: key}}
		if i := strings.IndexByte(key[len(q.Prefix):], '/'); q.Grouped && i >= 0 {
			e = remote.Entry{Info: provider.Info{Key: key[:len(q.Prefix)+i+1]}, Group: true}
			if e.Key == last || !b.retold && q.Next == "" && strings.HasPrefix(q.After, e.Key) {
				last = e.Key
				p.Next = tokenOf(p, key)
				continue
			}
			last = e.Key
		}
		if len(p.Entries) == b.page {
			return p, nil
		}
		p.Entries = append(p.Entries, e)
		p.Next = "n" + key
	}
	p.Next = ""
	return p, nil
}

// tokenOf moves on to a key that the page tells nothing of.
func tokenOf(p remote.Page, key string) string {
	if len(p.Entries) == 0 {
		return ""
	}
	return "n" + key
}

func (b *bucket) list(ctx context.Context, ahead int, prefix, after string) (keys []string, err error) {
	for info, err := range (remote.Tree{Ahead: ahead, Fetch: b.fetch}).Entries(ctx, prefix, after) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

// hostile makes keys of few letters, so that they begin alike and sort just
// before and behind a slash.
func hostile(r *rand.Rand, n int) (keys []string) {
	letters := []string{"a", "b", "-", ".", "0", "/", "/", "é", "\U0010ffff", "~", " ", "\x01"}
	for range n {
		var k strings.Builder
		for range 1 + r.IntN(12) {
			k.WriteString(letters[r.IntN(len(letters))])
		}
		keys = append(keys, k.String())
	}
	for dir := range r.IntN(4) { // some parts are large
		for i := range r.IntN(n) {
			keys = append(keys, fmt.Sprintf("a/%d/%d", dir, i), fmt.Sprintf("a-%d/x%d", dir, i))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// What a tree lists is what a store lists one page after the other, whatever
// the keys, the prefix and the size of a page.
func TestTreeIsTheList(t *testing.T) {
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := &bucket{keys: hostile(r, 1+r.IntN(60)), page: 1 + r.IntN(30), retold: r.IntN(2) == 0}
		m := providertest.NewMemory()
		for _, key := range b.keys {
			if _, err := m.Put(t.Context(), key, provider.Bytes(nil), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 8 {
			prefix, after := "", ""
			if k := b.keys[r.IntN(len(b.keys))]; r.IntN(2) == 0 {
				prefix = k[:r.IntN(len(k)+1)]
			}
			if r.IntN(2) == 0 {
				after = b.keys[r.IntN(len(b.keys))]
			}
			var want []string
			for info, err := range m.List(t.Context(), prefix, provider.ListOptions{StartAfter: after}) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, info.Key)
			}
			got, err := b.list(t.Context(), 1+r.IntN(5), prefix, after)
			if err != nil || !slices.Equal(got, want) {
				t.Fatalf("seed %d, pages of %d, %q after %q: %v\n got %q\nwant %q", seed, b.page, prefix, after, err, got, want)
			}
		}
	}
}

func numbered(format string, dirs, files int) (keys []string) {
	for d := range dirs {
		for f := range files {
			keys = append(keys, fmt.Sprintf(format, d, f))
		}
	}
	slices.Sort(keys)
	return keys
}

// Parts are fetched beside each other, as many as was said and no more, and
// what has no parts worth it costs no more requests than one page after the
// other does, but a few.
func TestTreeRequests(t *testing.T) {
	for name, c := range map[string]struct {
		keys             []string
		under, most      int32 // requests at the same time, which hold a page each, and in all
		slowest, fastest time.Duration
	}{
		"parts":              {numbered("x/%03d/%04d", 50, 100), 6, 56, 20 * time.Second, 0},
		"large parts":        {numbered("%d/%05d", 5, 1000), 6, 59, 60 * time.Second, 0},
		"small parts":        {numbered("%05d/%d", 5000, 1), 1, 50, 50 * time.Second, 50 * time.Second},
		"flat":               {numbered("%d%05d", 5, 1000), 1, 51, 51 * time.Second, 50 * time.Second},
		"small beside large": {slices.Concat(numbered("a/%d/%04d", 1, 200), numbered("b%05d/%d", 2000, 1)), 6, 45, 60 * time.Second, 0},
		"small behind large": {slices.Concat(numbered("a/%03d/%04d", 10, 100), numbered("b/%05d/%d", 3000, 1)),
			6, 70, 60 * time.Second, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := &bucket{keys: c.keys, page: 100, wait: time.Second}
			began := time.Now()
			got, err := b.list(t.Context(), 3, "", "")
			if err != nil || !slices.Equal(got, c.keys) {
				t.Errorf("%s: %d of %d keys, %v", name, len(got), len(c.keys), err)
			}
			took := time.Since(began)
			t.Logf("%s: %d requests, %d at a time, %v", name, b.requests.Load(), b.most.Load(), took)
			if b.requests.Load() > c.most || b.most.Load() > c.under || took > c.slowest || took < c.fastest {
				t.Errorf("%s: %d requests, at most %d at a time, in %v", name, b.requests.Load(), b.most.Load(), took)
			}
		})
	}
}

// Breaking off, an error and the end of ctx end everything that is under way;
// synctest fails a test that leaves a goroutine.
func TestTreeEnds(t *testing.T) {
	keys := numbered("x/%03d/%04d", 20, 30)
	broken := errors.New("broken")
	for at := range 80 {
		synctest.Test(t, func(t *testing.T) {
			b := &bucket{keys: keys, page: 10, wait: time.Second}
			n := 0
			for _, err := range (remote.Tree{Ahead: 3, Fetch: b.fetch}).Entries(t.Context(), "", "") {
				if err != nil {
					t.Error(err)
				}
				if n++; n > at*7 {
					break
				}
			}
			if b.under.Load() != 0 {
				t.Errorf("%d requests are under way after the break", b.under.Load())
			}

			b = &bucket{keys: keys, page: 10, wait: time.Second, fail: func(n int32) error {
				if int(n) == at+1 {
					return broken
				}
				return nil
			}}
			got, err := b.list(t.Context(), 3, "", "")
			if !errors.Is(err, broken) && int(b.requests.Load()) > at {
				t.Errorf("request %d fails: %v", at+1, err)
			}
			if !slices.Equal(got, keys[:len(got)]) {
				t.Errorf("request %d fails: %d keys, not the first ones", at+1, len(got))
			}

			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(at)*400*time.Millisecond)
			defer cancel()
			b = &bucket{keys: keys, page: 10, wait: time.Second}
			if got, err := b.list(ctx, 3, "", ""); !errors.Is(err, context.DeadlineExceeded) && len(got) != len(keys) {
				t.Errorf("ctx ends after %d: %d keys, %v", at, len(got), err)
			}
		})
	}
}
