package aws_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// servers are those that speak S3.
var servers = map[string]func(testing.TB) *testenv.S3{"minio": testenv.MinIO, "versitygw": testenv.VersityGW}

// A repository lives in a bucket, over a network that loses one reply in nine.
func TestRepository(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			t.Parallel()
			n := badnet.New(t, server.Endpoint, httptest.NewServer)
			var replies atomic.Int32
			loses := func(*http.Response) error {
				if replies.Add(1)%9 == 0 {
					return badnet.ErrLost
				}
				return nil
			}
			n.Breaks(1<<30, badnet.All, loses)
			store := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *aws.Config) { c.Endpoint = n.URL })
			storetest.Repository(t, store, backup.Lock{})
			if replies.Load() < 90 {
				t.Errorf("only %d requests were made", replies.Load())
			}
		})
	}
}

// A lease and a journal live in a bucket.
func TestFailover(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			t.Parallel()
			bucket := server.NewBucket(t, testenv.BucketOptions{})
			storetest.Failover(t, func() provider.BlobStore { return open(t, server, bucket, server.Credential, nil) })
		})
	}
}

// A bucketAt is all that another process must know of a bucket.
type bucketAt struct {
	Endpoint, Region, Bucket string
	testenv.Credential
}

func openAt(t testing.TB, at string) provider.BlobStore {
	var b bucketAt
	if err := json.Unmarshal([]byte(at), &b); err != nil {
		t.Fatal(err)
	}
	s := &testenv.S3{Region: b.Region}
	s.Endpoint = b.Endpoint
	return open(t, s, b.Bucket, b.Credential, nil)
}

func TestRacer(t *testing.T) { storetest.Racer(t, openAt) }

// With HOLDFAST_LONG=1 also in buckets with locks, and so with versions.
func TestRace(t *testing.T) {
	for name, start := range servers {
		for kind, o := range map[string]testenv.BucketOptions{"plain": {}, "locked": {Locks: true}} {
			t.Run(name+" "+kind, func(t *testing.T) {
				if o.Locks && os.Getenv("HOLDFAST_LONG") == "" {
					t.Skip("with HOLDFAST_LONG=1")
				}
				server := start(t)
				at, err := json.Marshal(bucketAt{server.Endpoint, server.Region, server.NewBucket(t, o), server.Credential})
				if err != nil {
					t.Fatal(err)
				}
				storetest.Race(t, storetest.Place{At: string(at), Open: openAt})
			})
		}
	}
}

// ignorant is a server that does not know some headers. Requests without them
// are signed again.
func ignorant(t *testing.T, s *testenv.S3, headers ...string) string {
	target, err := url.Parse(s.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	as := sdk.Credentials{AccessKeyID: s.AccessKey, SecretAccessKey: s.SecretKey}
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		for _, h := range headers {
			r.Out.Header.Del(h)
		}
		r.Out.Header.Del("Authorization")
		err := v4.NewSigner().SignHTTP(r.Out.Context(), as, r.Out, r.Out.Header.Get("X-Amz-Content-Sha256"), "s3", s.Region, time.Now(),
			func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err != nil {
			t.Error(err)
		}
	}})
	t.Cleanup(server.Close)
	return server.URL
}

// A server that ignores If-Match or If-None-Match is no home for a lease.
func TestRefused(t *testing.T) {
	header := map[string]string{storetest.IfAbsent: "If-None-Match", storetest.IfMatch: "If-Match"}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			t.Parallel()
			storetest.Refused(t, func(t *testing.T, conditions ...string) (provider.BlobStore, string) {
				var headers []string
				for _, c := range conditions {
					headers = append(headers, header[c])
				}
				bucket, at := server.NewBucket(t, testenv.BucketOptions{}), ignorant(t, server, headers...)
				return open(t, server, bucket, server.Credential, func(c *aws.Config) { c.Endpoint = at }),
					"bucket " + bucket + " of S3 at " + strings.TrimPrefix(at, "http://")
			})
		})
	}
}
