package gcp_test

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A million objects are listed with flat memory. fake-gcs-server goes through
// all that it has for every page and every Put, and has no disk to put them on,
// so that there the number is 3,000; the million is listed by a handler that answers as the
// service does, with pages of a thousand.
//
//	HOLDFAST_LONG=1 go test -run TestMillionKeys -v -timeout 30m ./provider/gcp
func TestMillionKeys(t *testing.T) {
	t.Run("fake-gcs-server", func(t *testing.T) {
		if os.Getenv("HOLDFAST_LONG") == "" {
			t.Skip("with HOLDFAST_LONG=1")
		}
		const n = 3_000
		server := testenv.FakeGCS(t)
		store := open(t, server.Endpoint, server.NewBucket(t, testenv.BucketOptions{}), nil)
		storetest.Fill(t, store, n)
		storetest.Lists(t, store, n, 40<<20)
	})
	t.Run("pages", func(t *testing.T) {
		n := storetest.Many()
		at := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			from, _ := strconv.Atoi(r.URL.Query().Get("pageToken"))
			to := min(from+1000, n)
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"kind":"storage#objects"`)
			if to < n {
				fmt.Fprintf(w, `,"nextPageToken":"%d"`, to)
			}
			fmt.Fprint(w, `,"items":[`)
			for i := from; i < to; i++ {
				if i > from {
					fmt.Fprint(w, ",")
				}
				fmt.Fprintf(w, `{"name":%q,"size":"0","generation":"%d","timeCreated":"2026-01-02T03:04:05Z"}`, storetest.ManyKey(i), i+1)
			}
			fmt.Fprint(w, "]}")
		}))
		storetest.Lists(t, open(t, at, "bucket", nil), n, 40<<20)
	})
}
