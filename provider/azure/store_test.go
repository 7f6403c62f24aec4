package azure_test

import (
	"cmp"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
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

// The whole contract on Azurite, but for retention and versions, which it
// declines. Bodies of more than the smallest block go up in blocks.
func TestBlobStore(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	storetest.Conforms(t, storetest.Subject{Name: "azurite", RetainFor: 3 * time.Second, Quick: true, Cool: archives(t, server, container),
		Differs: map[string]string{"blob/retain*": "it has no immutability policies", "blob/lock*": "it has no immutability policies",
			"blob/tags-empty": "it refuses a tag with an empty value"},
		Open: func(t testing.TB) provider.BlobStore {
			return open(t, server, container, func(c *azure.Config) { c.PartSize = 256 << 10 })
		}})
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
	var holds []string
	for _, cl := range storetest.Clauses() {
		if cl.ID != "blob/versions-deleted" {
			holds = append(holds, cl.ID)
		}
	}
	providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return first },
		providertest.CheckOptions{RetainFor: time.Minute, Second: another, Only: holds})
}
