package gcp_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
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

// unenforced are the clauses that fake-gcs-server alone cannot show: it deletes
// whatever the precondition says, and locks nothing. The rules enforce both.
func unenforced(id string) bool {
	return strings.HasPrefix(id, "blob/retain") || strings.HasPrefix(id, "blob/lock") || strings.HasPrefix(id, "blob/delete-version")
}

// heavy are the clauses that move megabytes or a thousand objects, asked of one
// kind of bucket only without HOLDFAST_LONG.
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

// The whole contract on every kind of bucket, behind the rules, and what
// fake-gcs-server shows alone.
func TestBlobStore(t *testing.T) {
	for _, k := range []struct {
		name                   string
		alone, versions, locks bool
		skip                   func(id string) bool
	}{
		{"fake-gcs-server alone", true, true, false, unenforced},
		{"plain", false, false, false, nil},
		{"versioned", false, true, false, nil},
		{"locked", false, false, true, nil},
		{"locked and versioned", false, true, true, nil},
	} {
		t.Run(k.name, func(t *testing.T) {
			server := testenv.FakeGCS(t)
			t.Parallel()
			bucket, endpoint := server.NewBucket(t, testenv.BucketOptions{Versions: k.versions}), server.Endpoint
			if !k.alone {
				endpoint = newRules(t, endpoint, k.versions, k.locks).url
			}
			holds := slices.DeleteFunc(clauses(), func(id string) bool {
				return k.skip != nil && k.skip(id) || k.name != "plain" && os.Getenv("HOLDFAST_LONG") == "" && slices.Contains(heavy, id)
			})
			pieces := func(c *gcp.Config) {
				if !k.alone {
					c.PartSize = 256 << 10
				}
			}
			another := func() (provider.BlobStore, error) { return open(t, endpoint, bucket, pieces), nil }
			providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return open(t, endpoint, bucket, pieces) },
				providertest.CheckOptions{RetainFor: 3 * time.Second, Second: another, Only: holds})
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
