package replicate_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

func TestLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := providertest.NewMemory(), providertest.NewMemory()
		lag := func() replicate.Backlog {
			t.Helper()
			f := providertest.NewFaulty(to, nil)
			b, err := replicate.Lag(t.Context(), source{from}, f)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range f.Calls() {
				if c.Op != "list" {
					t.Errorf("Lag asked for %s %s", c.Op, c.Key)
				}
			}
			return b
		}
		if got := lag(); got != (replicate.Backlog{}) || got.Age(time.Now()) != 0 {
			t.Errorf("empty source: %+v", got)
		}

		generate(t, from, 3)
		first := time.Now()
		total := copyAll(t, configOf(from, providertest.NewMemory()))
		if got := lag(); got.Points != 3 || got.Objects != total.Objects || got.Bytes != total.Bytes || !got.Newest.IsZero() || !got.Oldest.Equal(first) {
			t.Errorf("nothing copied: %+v, a copy takes %d objects, %d bytes", got, total.Objects, total.Bytes)
		}

		time.Sleep(time.Hour)
		copyAll(t, configOf(from, to))
		if got := lag(); got.Points != 0 || got.Objects != 0 || got.Bytes != 0 || !got.Oldest.IsZero() || !got.Newest.Equal(first) || got.NewestKey != "points/002" {
			t.Errorf("all copied: %+v", got)
		}

		body := []byte(`{"objects":[{"Key":"packs/x","Size":10}]}`)
		put(t, from, "points/800", body)
		second := time.Now()
		time.Sleep(time.Hour)
		put(t, from, "points/801", body)
		got := lag()
		if got.Points != 2 || got.Objects != 3 || got.Bytes != int64(2*len(body)+10) || !got.Oldest.Equal(second) || !got.Newest.Equal(first) {
			t.Errorf("two to go, which share an object: %+v", got)
		}
		if age := got.Age(time.Now().Add(time.Minute)); age != time.Hour+time.Minute {
			t.Errorf("age %v", age)
		}

		put(t, from, "points/802", []byte("{"))
		got, err := replicate.Lag(t.Context(), source{from}, to)
		if err == nil || !strings.Contains(err.Error(), "points/802") || got.Points != 3 || got.Objects != 4 {
			t.Errorf("an unreadable manifest: %+v, %v", got, err)
		}
	})
}

func TestLagWhenAStoreFails(t *testing.T) {
	from, to := providertest.NewMemory(), providertest.NewMemory()
	generate(t, from, 3)
	gone := func(providertest.Call) providertest.Fault { return providertest.Fault{Before: errUnreachable} }
	for name, s := range map[string][2]provider.BlobStore{
		"source":      {providertest.NewFaulty(from, gone), to},
		"destination": {from, providertest.NewFaulty(to, gone)},
	} {
		if b, err := replicate.Lag(t.Context(), source{s[0]}, s[1]); err == nil {
			t.Errorf("the %s does not answer, and there is no lag: %+v", name, b)
		}
	}
}
