package aws_test

import (
	"context"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// open returns a store for a bucket of a test server.
func open(t testing.TB, s *testenv.S3, bucket string, c testenv.Credential, change func(*aws.Config)) *aws.Store {
	t.Helper()
	config := aws.Config{
		Bucket: bucket, Endpoint: s.Endpoint, Region: s.Region, PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, ""),
	}
	if change != nil {
		change(&config)
	}
	store, err := aws.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// A kind is a server and what its bucket does with versions.
type kind struct {
	name   string
	start  func(testing.TB) *testenv.S3
	bucket testenv.BucketOptions

	// The clauses that the server itself breaks: the table in the package
	// comment. A clause that holds all of a sudden fails the test, too.
	breaks []string

	// Races that it sometimes gets right.
	races []string

	silent bool // does not tell the retention of an object it delivers
}

var races = []string{"blob/delete-version-race"}

var kinds = []kind{
	{"minio plain", testenv.MinIO, testenv.BucketOptions{}, []string{"blob/keys-beside", "blob/list-beside"}, nil, false},
	{"minio versioned", testenv.MinIO, testenv.BucketOptions{Versions: true}, []string{"blob/keys-beside", "blob/list-beside"}, nil, false},
	{"minio locked", testenv.MinIO, testenv.BucketOptions{Locks: true}, []string{"blob/keys-beside", "blob/list-beside"}, nil, false},
	{"versitygw plain", testenv.VersityGW, testenv.BucketOptions{}, nil, races, true},
	{"versitygw versioned", testenv.VersityGW, testenv.BucketOptions{Versions: true}, []string{"blob/put-if-absent", "blob/put-if-match", "blob/versions-deleted"}, races, true},
	{"versitygw locked", testenv.VersityGW, testenv.BucketOptions{Locks: true}, []string{"blob/put-if-absent", "blob/put-if-match", "blob/versions-deleted"}, races, true},
}

// heavy are the clauses that move megabytes or a thousand objects, asked with
// HOLDFAST_LONG only, as all of them are of the versioned buckets: locked ones
// have versions, too.
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

// The whole contract on every kind of bucket of every server.
func TestBlobStore(t *testing.T) {
	long := os.Getenv("HOLDFAST_LONG") != ""
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			if !long && k.bucket.Versions {
				t.Skip("with HOLDFAST_LONG=1; the locked bucket has versions, too")
			}
			server := k.start(t)
			t.Parallel()
			bucket := server.NewBucket(t, k.bucket)
			another := func() (provider.BlobStore, error) {
				s := open(t, server, bucket, server.Credential, nil)
				if k.silent {
					return told{s}, nil
				}
				return s, nil
			}
			holds := slices.DeleteFunc(clauses(), func(id string) bool {
				return slices.Contains(k.breaks, id) || slices.Contains(k.races, id) || !long && slices.Contains(heavy, id)
			})
			first, _ := another()
			providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return first },
				providertest.CheckOptions{RetainFor: 3 * time.Second, Second: another, Only: holds})
			if len(k.breaks) == 0 {
				return
			}
			report := providertest.CheckBlobStore(t.Context(), first, providertest.CheckOptions{Only: k.breaks})
			if failed := report.Failed(); len(failed) != len(k.breaks) {
				t.Errorf("%s is said to break %q, and breaks %q: correct the table", k.name, k.breaks, failed)
			}
		})
	}
}

// told asks for the retention of what it gets, which versitygw tells only of
// an object it describes.
type told struct{ *aws.Store }

func (s told) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.Store.Get(ctx, key, o)
	if err == nil && o.Version == "" {
		if now, err := s.Stat(ctx, key); err == nil && now.Version == info.Version {
			info.Retain = now.Retain
		}
	}
	return r, info, err
}
