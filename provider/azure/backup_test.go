package azure_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A repository lives in a container, over a network that loses one reply in
// thirty.
func TestRepository(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	var replies atomic.Int32
	loses := func(*http.Response) error {
		if replies.Add(1)%30 == 0 {
			return badnet.ErrLost
		}
		return nil
	}
	n.Breaks(1<<30, badnet.All, loses)
	storetest.Repository(t, open(t, server, server.NewContainer(t), n.through(server)), backup.Lock{})
	if replies.Load() < 90 {
		t.Errorf("only %d requests were made", replies.Load())
	}
}

// A lease and a journal live in a container.
func TestFailover(t *testing.T) {
	server := testenv.Azurite(t)
	t.Parallel()
	container := server.NewContainer(t)
	storetest.Failover(t, func() provider.BlobStore { return open(t, server, container, nil) })
}

// openAt opens the container that a Config in JSON names.
func openAt(t testing.TB, at string) provider.BlobStore {
	var c azure.Config
	if err := json.Unmarshal([]byte(at), &c); err != nil {
		t.Fatal(err)
	}
	store, err := azure.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestRacer(t *testing.T) { storetest.Racer(t, openAt) }

func TestRace(t *testing.T) {
	server := testenv.Azurite(t)
	at, err := json.Marshal(azure.Config{Container: server.NewContainer(t), Account: server.Account, Endpoint: server.Endpoint, AccountKey: server.Key})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Race(t, storetest.Place{At: string(at), Open: openAt})
}

// A server that ignores If-Match or If-None-Match is no home for a lease. The
// signature of a SAS covers no headers.
func TestRefused(t *testing.T) {
	server := testenv.Azurite(t)
	t.Parallel()
	header := map[string]string{storetest.IfAbsent: "If-None-Match", storetest.IfMatch: "If-Match"}
	storetest.Refused(t, func(t *testing.T, conditions ...string) (provider.BlobStore, string) {
		n := newNetwork(t, server, httptest.NewServer)
		n.Meets(1<<30, badnet.All, func(_ http.ResponseWriter, r *http.Request) {
			for _, c := range conditions {
				r.Header.Del(header[c])
			}
		})
		container := server.NewContainer(t)
		may := sas.ContainerPermissions{Read: true, List: true, Create: true, Write: true, Delete: true}
		store := open(t, server, container, func(c *azure.Config) {
			c.Account, c.AccountKey, c.SAS, c.Endpoint = "", "", server.SAS(t, container, may), n.URL+"/"+server.Account
		})
		return store, "container " + container + " of Blob Storage at " + strings.TrimPrefix(n.URL, "http://")
	})
}
