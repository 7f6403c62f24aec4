package azure_test

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open returns a store for a container of a test server.
func open(t testing.TB, s *testenv.Azure, container string, change func(*azure.Config)) *azure.Store {
	t.Helper()
	config := azure.Config{Container: container, Account: s.Account, Endpoint: s.Endpoint, AccountKey: s.Key}
	if change != nil {
		change(&config)
	}
	store, err := azure.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// heavy are the clauses that move megabytes or a thousand objects, asked with
// HOLDFAST_LONG only.
var heavy = []string{
	"blob/get-parallel", "blob/get-open-reader", "blob/list-pages", "blob/list-meanwhile", "blob/list-break", "blob/list-info",
	"blob/body-unseen", "blob/body-fails", "blob/body-short", "blob/body-changes", "blob/body-cancelled", "blob/versions-error",
}

func clauses() (all []string) {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // all are skipped, and named
	for _, r := range providertest.CheckBlobStore(ended, providertest.NewMemory(), providertest.CheckOptions{}).Results {
		all = append(all, r.ID)
	}
	return all
}

// The whole contract on Azurite, but for retention, which it declines. Bodies
// of more than the smallest block go up in blocks.
func TestBlobStore(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	another := func() (provider.BlobStore, error) {
		return open(t, server, container, func(c *azure.Config) { c.PartSize = 256 << 10 }), nil
	}
	holds := slices.DeleteFunc(clauses(), func(id string) bool {
		return os.Getenv("HOLDFAST_LONG") == "" && slices.Contains(heavy, id)
	})
	providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { s, _ := another(); return s },
		providertest.CheckOptions{RetainFor: 3 * time.Second, Second: another, Only: holds})
}

// The whole contract on a container of a real account, with the standard chain
// of credentials unless another is given:
//
//	HOLDFAST_AZURE_CONTAINER_URL=https://ACCOUNT.blob.core.windows.net/CONTAINER \
//	    [HOLDFAST_AZURE_KEY=... | HOLDFAST_AZURE_SAS=...] go test -v -run TestRealContainer ./provider/azure
//
// Where the account keeps versions, the clause about deleted ones cannot hold:
// the service keeps no record of deletions. Where the container takes
// immutability policies, some blobs stay a minute longer.
func TestRealContainer(t *testing.T) {
	url := os.Getenv("HOLDFAST_AZURE_CONTAINER_URL")
	if url == "" {
		t.Skip("no HOLDFAST_AZURE_CONTAINER_URL")
	}
	i := strings.LastIndexByte(strings.TrimSuffix(url, "/"), '/')
	config := azure.Config{Endpoint: url[:i], Container: strings.Trim(url[i:], "/"), PartSize: 256 << 10,
		AccountKey: os.Getenv("HOLDFAST_AZURE_KEY"), SAS: os.Getenv("HOLDFAST_AZURE_SAS")}
	if config.AccountKey != "" {
		host := strings.TrimPrefix(strings.TrimPrefix(config.Endpoint, "https://"), "http://")
		config.Account, _, _ = strings.Cut(host, ".")
		config.Account = cmp.Or(os.Getenv("HOLDFAST_AZURE_ACCOUNT"), config.Account)
	}
	another := func() (provider.BlobStore, error) { return azure.Open(context.Background(), config) }
	first, err := another()
	if err != nil {
		t.Fatal(err)
	}
	holds := slices.DeleteFunc(clauses(), func(id string) bool { return id == "blob/versions-deleted" })
	providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return first },
		providertest.CheckOptions{RetainFor: time.Minute, Second: another, Only: holds})
}
