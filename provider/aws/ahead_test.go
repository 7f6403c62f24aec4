package aws_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// What is listed by parts is what is listed one page after the other, on
// servers that know groups in their own ways.
func TestListAhead(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		n := badnet.New(t, server.Endpoint, httptest.NewServer)
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		plain := open(t, server, bucket, server.Credential, nil)
		ahead := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.ListAhead = n.URL, 4 })
		keys := []string{"a-b", "a.b", "ä/ö ü+%/x", "zz", "z-", "z0"}
		for i := range 1100 { // more than a page, in parts of parts
			keys = append(keys, fmt.Sprintf("a/%d/%04d", i/600, i))
		}
		for i := range 800 {
			keys = append(keys, fmt.Sprintf("z/%02d/%03d", i/80, i), fmt.Sprintf("m-%d/%d", i/300, i))
		}
		var g errgroup.Group
		g.SetLimit(16)
		for _, key := range keys {
			g.Go(func() error {
				_, err := plain.Put(t.Context(), key, provider.Bytes(nil), provider.PutOptions{})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(keys)
		grouped := n.Breaks(1<<30, func(r *http.Request) bool { return r.URL.Query().Get("delimiter") != "" }, func(*http.Response) error { return nil })
		for _, c := range []struct{ prefix, after string }{{}, {prefix: "a/"}, {prefix: "a"}, {after: "a/0/0010"}, {prefix: "z/"}, {after: "m-1/400"}, {prefix: "m", after: "m-0"}, {prefix: "none"}} {
			var got []string
			for info, err := range ahead.List(t.Context(), c.prefix, provider.ListOptions{StartAfter: c.after}) {
				if err != nil {
					t.Fatalf("%s: %+v: %v", server.Name, c, err)
				}
				got = append(got, info.Key)
			}
			want := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return len(k) < len(c.prefix) || k[:len(c.prefix)] != c.prefix || k <= c.after })
			if !slices.Equal(got, want) {
				t.Errorf("%s: %+v: %d keys, want %d", server.Name, c, len(got), len(want))
			}
		}
		if grouped.Load() == 0 {
			t.Errorf("%s: nothing was asked for by its parts", server.Name)
		}
		for range ahead.List(t.Context(), "", provider.ListOptions{}) {
			break
		}
	}
}
