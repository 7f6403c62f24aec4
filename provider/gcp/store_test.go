package gcp_test

import (
	"os"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open returns a store for a bucket behind a test endpoint.
func open(t testing.TB, endpoint, bucket string, change func(*gcp.Config)) *gcp.Store {
	t.Helper()
	config := gcp.Config{Bucket: bucket, Endpoint: endpoint, Anonymous: true}
	if change != nil {
		change(&config)
	}
	store, err := gcp.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// The whole contract on every kind of bucket, behind the rules, and what
// fake-gcs-server shows alone.
func TestBlobStore(t *testing.T) {
	const noLocks = "a bucket without object retention takes none"
	const noCold = "objects of each class of Cloud Storage can be read at once"
	plain := map[string]string{"blob/retain*": noLocks, "blob/lock*": noLocks, "blob/warm*": noCold}
	alone := map[string]string{"blob/retain*": "it locks nothing", "blob/lock*": "it locks nothing", "blob/warm*": noCold,
		"blob/delete-version-race": "it ignores the precondition of a delete, so a put that comes between is lost",
		"blob/copy-conditions":     "it ignores the preconditions of a copy", "blob/copy-race": "it ignores the preconditions of a copy"}
	for _, k := range []struct {
		name                          string
		alone, versions, locks, quick bool
		differs                       map[string]string
		sometimes                     []string
	}{
		{"fake-gcs-server", true, true, false, true, alone, []string{"blob/delete-version-race", "blob/copy-race"}},
		{"rules-plain", false, false, false, false, plain, nil},
		{"rules-versioned", false, true, false, true, plain, nil},
		{"rules-locked", false, false, true, true, map[string]string{"blob/warm*": noCold}, nil},
		{"rules-locked-versioned", false, true, true, true, map[string]string{"blob/warm*": noCold}, nil},
	} {
		t.Run(k.name, func(t *testing.T) {
			server := testenv.FakeGCS(t)
			t.Parallel()
			bucket, endpoint := server.NewBucket(t, testenv.BucketOptions{Versions: k.versions}), server.Endpoint
			if !k.alone {
				endpoint = newRules(t, endpoint, k.versions, k.locks).url
			}
			storetest.Conforms(t, storetest.Subject{Name: k.name, RetainFor: 3 * time.Second, Quick: k.quick, Differs: k.differs, Sometimes: k.sometimes,
				Open: func(t testing.TB) provider.BlobStore {
					return open(t, endpoint, bucket, func(c *gcp.Config) {
						if !k.alone {
							c.PartSize = 256 << 10
						}
					})
				}})
		})
	}
}

// The whole contract on the service itself: on the bucket that
// HOLDFAST_GCS_BUCKET names, with the credentials of the environment.
func TestRealBucket(t *testing.T) {
	bucket := os.Getenv("HOLDFAST_GCS_BUCKET")
	if bucket == "" {
		t.Skip("HOLDFAST_GCS_BUCKET names no bucket")
	}
	another := func() (provider.BlobStore, error) {
		return gcp.Open(t.Context(), gcp.Config{Bucket: bucket, PartSize: 1 << 20})
	}
	first, err := another()
	if err != nil {
		t.Fatal(err)
	}
	providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return first },
		providertest.CheckOptions{RetainFor: 30 * time.Second, Second: another})
}
