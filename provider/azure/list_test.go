package azure_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A million blobs are listed with flat memory. Azurite keeps its index in
// memory and takes some hundred blobs a second, so that there the number is
// 10,000; the million is listed by a handler that answers as the service does,
// with pages of five thousand, of which the SDK holds one and its XML.
//
//	HOLDFAST_LONG=1 go test -run TestMillionKeys -v -timeout 30m ./provider/azure
func TestMillionKeys(t *testing.T) {
	t.Run("azurite", func(t *testing.T) {
		if os.Getenv("HOLDFAST_LONG") == "" {
			t.Skip("with HOLDFAST_LONG=1")
		}
		const n = 10_000
		server := testenv.Azurite(t)
		store := open(t, server, server.NewContainer(t), nil)
		storetest.Fill(t, store, n)
		storetest.Lists(t, store, n, 40<<20)
	})
	t.Run("pages", func(t *testing.T) {
		n := storetest.Many()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Get("restype") == "account" {
				w.Header().Set("x-ms-is-hns-enabled", "false")
				return
			}
			from, _ := strconv.Atoi(q.Get("marker"))
			to := min(from+5000, n)
			w.Header().Set("Content-Type", "application/xml")
			fmt.Fprint(w, `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>`)
			for i := from; i < to; i++ {
				fmt.Fprintf(w, `<Blob><Name>%s</Name><Properties><Creation-Time>Fri, 02 Jan 2026 03:04:05 GMT</Creation-Time>`+
					`<Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified><Etag>0x8D%d</Etag><Content-Length>0</Content-Length>`+
					`<Content-Type>application/octet-stream</Content-Type><BlobType>BlockBlob</BlobType><AccessTier>Hot</AccessTier>`+
					`<AccessTierInferred>true</AccessTierInferred><LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>`+
					`<ServerEncrypted>true</ServerEncrypted></Properties></Blob>`, storetest.ManyKey(i), i)
			}
			fmt.Fprint(w, `</Blobs><NextMarker>`)
			if to < n {
				fmt.Fprint(w, to)
			}
			fmt.Fprint(w, `</NextMarker></EnumerationResults>`)
		}))
		t.Cleanup(server.Close)
		store, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: server.URL + "/account", SAS: "sig=x"})
		if err != nil {
			t.Fatal(err)
		}
		storetest.Lists(t, store, n, 40<<20)
	})
}
