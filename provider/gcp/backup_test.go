package gcp_test

import (
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A repository lives in a bucket, over a network that loses one reply in nine.
// In a bucket with versions and retention what is forgotten stays until its
// time has come.
func TestRepository(t *testing.T) {
	for name, lock := range map[string]backup.Lock{"plain": {}, "locked": {Mode: provider.Governance, Keep: 24 * time.Hour}} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t, name == "locked")
			var n atomic.Int32
			loses := func(r *http.Response) error {
				if n.Add(1)%9 == 0 {
					return badnet.ErrLost
				}
				return nil
			}
			p.Breaks(1<<30, badnet.All, loses)
			storetest.Repository(t, p.open(t, nil), lock)
			if n.Load() < 90 {
				t.Errorf("only %d requests were made", n.Load())
			}
		})
	}
}

// A lease and a journal live in a bucket of fake-gcs-server alone.
func TestFailover(t *testing.T) {
	server := testenv.FakeGCS(t)
	t.Parallel()
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	storetest.Failover(t, func() provider.BlobStore { return open(t, server.Endpoint, bucket, nil) })
}

// openAt opens the bucket that a Config in JSON names.
func openAt(t testing.TB, at string) provider.BlobStore {
	var c gcp.Config
	if err := json.Unmarshal([]byte(at), &c); err != nil {
		t.Fatal(err)
	}
	store, err := gcp.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestRacer(t *testing.T) { storetest.Racer(t, openAt) }

// Without the rules, which make one change after the other.
func TestRace(t *testing.T) {
	server := testenv.FakeGCS(t)
	at, err := json.Marshal(gcp.Config{Bucket: server.NewBucket(t, testenv.BucketOptions{}), Endpoint: server.Endpoint, Anonymous: true})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Race(t, storetest.Place{At: string(at), Open: openAt})
}

// A server that ignores ifGenerationMatch is no home for a lease: of 0, by
// which an object is created, of any other, or of both.
func TestRefused(t *testing.T) {
	server := testenv.FakeGCS(t)
	t.Parallel()
	storetest.Refused(t, func(t *testing.T, conditions ...string) (provider.BlobStore, string) {
		target, err := url.Parse(server.Endpoint)
		if err != nil {
			t.Fatal(err)
		}
		at := serve(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // where uploads go on
			q := r.Out.URL.Query()
			what := map[bool]string{true: storetest.IfAbsent, false: storetest.IfMatch}[q.Get("ifGenerationMatch") == "0"]
			if slices.Contains(conditions, what) {
				q.Del("ifGenerationMatch")
				r.Out.URL.RawQuery = q.Encode()
			}
		}})
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		return open(t, at, bucket, nil), "bucket " + bucket + " of Cloud Storage at " + strings.TrimPrefix(at, "http://")
	})
}
