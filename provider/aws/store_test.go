package aws_test

import (
	"context"
	"io"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
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

	// What the server itself does against the contract: the table in the
	// package comment.
	differs   map[string]string
	sometimes []string
	rest      map[string]func(provider.BlobStore) provider.BlobStore
}

const (
	beside   = "takes a key beside its path prefix (a beside a/b) and then lists only the shorter one"
	noLocks  = "a bucket without object lock takes no retention"
	noDelete = "it ignores the If-Match of a delete, so every Version is declined"
	noCold   = "it has no class from which objects must be brought back; asked of moto, TestWarm"
	noRace   = "a delete does not exclude a put with the same If-Match; do not use Delete with a Version"
	undead   = "a key that was deleted counts as one that has an object: IfAbsent fails there, and IfMatch of what was deleted succeeds"
	untold   = "it does not tell the retention with what it delivers: Get has no Info.Retain, Stat has"
	undated  = "lists deletions apart, by the second: Versions cannot tell what came first"
)

func differences(all ...map[string]string) map[string]string {
	merged := map[string]string{}
	for _, m := range all {
		maps.Copy(merged, m)
	}
	return merged
}

var (
	ofMinIO     = map[string]string{"blob/keys-beside": beside, "blob/list-beside": beside, "blob/delete-version*": noDelete, "blob/warm*": noCold}
	ofVersityGW = map[string]string{"blob/delete-version-race": noRace, "blob/warm*": noCold}
	ofVersions  = map[string]string{"blob/put-if-absent": undead, "blob/put-if-match": undead, "blob/versions-deleted": undated}
	withoutLock = map[string]string{"blob/retain*": noLocks, "blob/lock*": noLocks}
	silent      = map[string]string{"blob/retain": untold, "blob/lock": untold, "blob/lock-extend": untold, "blob/lock-shorten": untold}
	races       = []string{"blob/delete-version-race"}
)

var kinds = []kind{
	{"minio-plain", testenv.MinIO, testenv.BucketOptions{}, differences(ofMinIO, withoutLock), nil, nil},
	{"minio-versioned", testenv.MinIO, testenv.BucketOptions{Versions: true}, differences(ofMinIO, withoutLock), nil, nil},
	{"minio-locked", testenv.MinIO, testenv.BucketOptions{Locks: true}, ofMinIO, nil, nil},
	{"versitygw-plain", testenv.VersityGW, testenv.BucketOptions{}, differences(ofVersityGW, withoutLock), races, nil},
	{"versitygw-versioned", testenv.VersityGW, testenv.BucketOptions{Versions: true}, differences(ofVersityGW, ofVersions, withoutLock), races, nil},
	{"versitygw-locked", testenv.VersityGW, testenv.BucketOptions{Locks: true}, differences(ofVersityGW, ofVersions, silent), races, makeUp},
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
			storetest.Conforms(t, storetest.Subject{Name: k.name, RetainFor: 3 * time.Second, Quick: true,
				Differs: k.differs, Sometimes: k.sometimes, Rest: k.rest,
				Open: func(t testing.TB) provider.BlobStore { return open(t, server, bucket, server.Credential, nil) }})
		})
	}
}

// makeUp asks for the retention of what is delivered, so that the rest of the
// clauses that are silent is examined.
var makeUp = func() map[string]func(provider.BlobStore) provider.BlobStore {
	all := map[string]func(provider.BlobStore) provider.BlobStore{}
	for id := range silent {
		all[id] = func(s provider.BlobStore) provider.BlobStore { return told{s.(*aws.Store)} }
	}
	return all
}()

// told asks for the retention of what it gets, which versitygw tells only of
// an object it describes.
type told struct{ *aws.Store }

func (s told) Unwrap() provider.BlobStore { return s.Store }

func (s told) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	r, info, err := s.Store.Get(ctx, key, o)
	if err == nil && o.Version == "" {
		if now, err := s.Stat(ctx, key); err == nil && now.Version == info.Version {
			info.Retain = now.Retain
		}
	}
	return r, info, err
}
