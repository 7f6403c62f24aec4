package objects_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/objects"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func openS3(t testing.TB, s *testenv.S3) provider.BlobStore {
	t.Helper()
	store, err := aws.Open(t.Context(), aws.Config{Bucket: s.NewBucket(t, testenv.BucketOptions{}), Endpoint: s.Endpoint, Region: s.Region, PathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.Credential.AccessKey, s.Credential.SecretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// clouds open a new bucket on a real server of each kind.
var clouds = []struct {
	name string
	open func(testing.TB) provider.BlobStore
}{
	{"minio", func(t testing.TB) provider.BlobStore { return openS3(t, testenv.MinIO(t)) }},
	{"azurite", func(t testing.TB) provider.BlobStore {
		s := testenv.Azurite(t)
		store, err := azure.Open(t.Context(), azure.Config{Container: s.NewContainer(t), Account: s.Account, Endpoint: s.Endpoint, AccountKey: s.Key})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}},
	{"versitygw", func(t testing.TB) provider.BlobStore { return openS3(t, testenv.VersityGW(t)) }},
	{"fake-gcs-server", func(t testing.TB) provider.BlobStore {
		s := testenv.FakeGCS(t)
		store, err := gcp.Open(t.Context(), gcp.Config{Bucket: s.NewBucket(t, testenv.BucketOptions{}), Endpoint: s.Endpoint, Anonymous: true})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}},
}

// The objects of each cloud's server are backed up, and restored to the next
// kind, with their metadata; a second backup reads nothing, and a third what
// has changed. 300 objects, 10,000 with HOLDFAST_LONG=1.
func TestClouds(t *testing.T) {
	n := 300
	if os.Getenv("HOLDFAST_LONG") != "" {
		n = 10_000
	}
	for i, from := range clouds {
		to := clouds[(i+1)%len(clouds)]
		t.Run(from.name+" to "+to.name, func(t *testing.T) {
			source, out := from.open(t), to.open(t)
			object := func(i, round int) (key, body string, meta map[string]string) {
				return fmt.Sprintf("in/%d/%d-%d.txt", i%7, i%31, i), strings.Repeat(fmt.Sprintf("object %d of round %d\n", i, round), i%50), map[string]string{"number": fmt.Sprint(i), "round": fmt.Sprint(round)}
			}
			var filling sync.WaitGroup
			for w := range 8 {
				filling.Go(func() {
					for i := w; i < n; i += 8 {
						k, b, m := object(i, 0)
						put(t, source, k, b, m)
					}
				})
			}
			filling.Wait()
			put(t, source, "in/large", noise(9<<20, 1), map[string]string{"large": "yes"})
			repo := repository(t, providertest.NewMemory())
			target1 := target(t, objects.Config{Store: source, Prefix: "in/"})
			first := whole(t, repo, target1, backup.Incremental)
			if first.Stats.Items != int64(n+1) {
				t.Errorf("%d objects in the point, want %d", first.Stats.Items, n+1)
			}
			if p := whole(t, repo, target1, backup.Incremental); p.Stats.BytesRead != 0 || p.Stats.Items != int64(n+1) {
				t.Errorf("the second backup read %d bytes, of %d objects", p.Stats.BytesRead, p.Stats.Items)
			}
			var changed int64
			for i := range n / 100 {
				k, b, m := object(i*100+49, 1)
				put(t, source, k, b, m)
				changed += int64(len(b))
			}
			third := whole(t, repo, target1, backup.Incremental)
			if third.Stats.BytesRead != changed {
				t.Errorf("the third backup read %d bytes, want the %d that changed", third.Stats.BytesRead, changed)
			}
			restore(t, repo, third, target(t, objects.Config{Store: out}), "to/", "verify=true")
			if mustState(t, out, "to/") != mustState(t, source, "in/") {
				t.Error("what was restored differs")
			}
			withTags(t, source, out)
		})
	}
}

// withTags: between stores that have tags, they go along.
func withTags(t *testing.T, source, out provider.BlobStore) {
	from, ok := source.(tagged)
	if !ok {
		return
	}
	put(t, source, "tagged/x", "content", nil)
	put(t, source, "tagged/y", "content", nil)
	setTags(t, from, "tagged/x", "team=a b", "keep=7")
	repo := repository(t, providertest.NewMemory())
	p := whole(t, repo, target(t, objects.Config{Store: source, Prefix: "tagged/", Tags: true}), backup.Incremental)
	restore(t, repo, p, target(t, objects.Config{Store: out}), "tagged/")
	if mustState(t, out, "tagged/") != mustState(t, source, "tagged/") {
		t.Error("what was restored with its tags differs")
	}
	to, ok := out.(tagged)
	if !ok {
		return
	}
	if got, want := allTags(t, to, "tagged/"), allTags(t, from, "tagged/"); got != want || !strings.Contains(got, "keep:7") {
		t.Errorf("restored\n%s\nwant\n%s", got, want)
	}
}
