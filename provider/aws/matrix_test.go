package aws_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// Every call meets every fault.
func TestFaults(t *testing.T) {
	server := testenv.MinIO(t)
	t.Parallel()
	bucket := server.NewBucket(t, testenv.BucketOptions{Locks: true})
	more := []badnet.Fault{
		{Name: "clock skew", Do: skewed(server)},
		{Name: "expired credentials", Do: func(n *badnet.Network) *atomic.Int32 {
			const expired = `<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>`
			return n.Meets(1<<30, func(r *http.Request) bool { return strings.Contains(r.Header.Get("Authorization"), "Credential=old/") },
				badnet.Answers(http.StatusBadRequest, nil, expired))
		}},
	}
	badnet.Matrix(t, badnet.Place{Target: server.Endpoint, Large: 5<<20 + 1, Locks: true, More: more, Open: func(t testing.TB, n *badnet.Network) provider.BlobStore {
		return open(t, server, bucket, server.Credential, func(c *store.Config) {
			c.PartSize = 5 << 20
			if n != nil {
				c.Endpoint = n.URL
				if n.For == "expired credentials" {
					c.Credentials = renewed(server.Credential)
				}
			}
		})
	}})
}

// renewed are temporary credentials, of which the first have expired by the
// clock of the service alone.
func renewed(c testenv.Credential) aws.CredentialsProvider {
	var asked atomic.Int32
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		out := aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey}
		if asked.Add(1) == 1 {
			out.AccessKeyID, out.SessionToken, out.CanExpire, out.Expires = "old", "token", true, time.Now().Add(time.Hour)
		}
		return out, nil
	})
}

// skewed is a server whose clock is an hour ahead of the store's: it refuses
// what is not signed for its own time. What is signed so goes on to the real
// server, signed for the time of that.
func skewed(server *testenv.S3) func(*badnet.Network) *atomic.Int32 {
	const ahead, limit = time.Hour, 15 * time.Minute
	const refusal = `<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and the server's time is too large.</Message></Error>`
	return func(n *badnet.Network) *atomic.Int32 {
		n.Breaks(1<<30, badnet.All, func(r *http.Response) error {
			r.Header.Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			return nil
		})
		var refused atomic.Int32
		n.Meets(1<<30, badnet.All, func(w http.ResponseWriter, r *http.Request) {
			signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
			if err != nil || time.Until(signed.Add(-ahead)).Abs() > limit {
				refused.Add(1)
				badnet.Answers(http.StatusForbidden, http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}, refusal)(w, r)
				return
			}
			r.Header.Del("Authorization")
			r.Header.Del("X-Amz-Security-Token")
			signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
			err = signer.SignHTTP(r.Context(), aws.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey}, r,
				r.Header.Get("X-Amz-Content-Sha256"), "s3", server.Region, time.Now())
			if err != nil {
				panic(err)
			}
		})
		return &refused
	}
}
