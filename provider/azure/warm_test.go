package azure_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
)

// archives moves a blob to the Archive tier of Azurite, from which it comes
// back at once.
func archives(t *testing.T, server *testenv.Azure, container string) func(context.Context, string) error {
	t.Helper()
	who, err := azblob.NewSharedKeyCredential(server.Account, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azblob.NewClientWithSharedKeyCredential(server.Endpoint, who, nil)
	if err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, key string) error {
		_, err := client.ServiceClient().NewContainerClient(container).NewBlobClient(key).SetTier(ctx, blob.AccessTierArchive, nil)
		return err
	}
}

// What the service documents about blobs that are coming back, which Azurite
// has not.
func TestWarmRequests(t *testing.T) {
	const archive, pending = "x-ms-access-tier: Archive", "x-ms-archive-status: rehydrate-pending-to-hot"
	for name, c := range map[string]struct {
		head   []string // headers of the blob
		o      provider.WarmOptions
		answer string // code to what is asked of it
		asked  []string
		want   provider.State
	}{
		"hot":                   {[]string{"x-ms-access-tier: Hot"}, provider.WarmOptions{}, "", nil, provider.Ready},
		"cold":                  {[]string{"x-ms-access-tier: Cold"}, provider.WarmOptions{}, "", nil, provider.Ready},
		"no tiers":              {nil, provider.WarmOptions{}, "", nil, provider.Ready},
		"archive":               {[]string{archive}, provider.WarmOptions{}, "", []string{"Hot Standard"}, provider.Pending},
		"urgent":                {[]string{archive}, provider.WarmOptions{Urgent: true}, "", []string{"Hot High"}, provider.Pending},
		"on its way":            {[]string{archive, pending}, provider.WarmOptions{}, "", nil, provider.Pending},
		"on its way, made fast": {[]string{archive, pending, "x-ms-rehydrate-priority: Standard"}, provider.WarmOptions{Urgent: true}, "", []string{"Hot High"}, provider.Pending},
		"fast on its way":       {[]string{archive, pending, "x-ms-rehydrate-priority: High"}, provider.WarmOptions{Urgent: true}, "", nil, provider.Pending},
		"asked by another":      {[]string{archive}, provider.WarmOptions{}, "BlobBeingRehydrated", []string{"Hot Standard"}, provider.Pending},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, h := range c.head {
					k, v, _ := strings.Cut(h, ": ")
					w.Header().Set(k, v)
				}
				switch {
				case r.Method == http.MethodHead:
				case r.Method != http.MethodPut || r.URL.Query().Get("comp") != "tier":
					t.Errorf("%s %s", r.Method, r.URL)
				default:
					asked = append(asked, r.Header.Get("x-ms-access-tier")+" "+r.Header.Get("x-ms-rehydrate-priority"))
					if c.answer != "" {
						w.Header().Set("x-ms-error-code", c.answer)
						w.WriteHeader(http.StatusConflict)
						return
					}
					w.WriteHeader(http.StatusAccepted)
				}
			}))
			defer server.Close()
			s, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: server.URL + "/account", SAS: "sig=x", Attempts: 1})
			if err != nil {
				t.Fatal(err)
			}
			if state, err := s.Warm(t.Context(), "k", c.o); state != c.want || err != nil {
				t.Errorf("got %q, %v, want %q", state, err, c.want)
			}
			if fmt.Sprint(asked) != fmt.Sprint(c.asked) {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
}
