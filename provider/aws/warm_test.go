package aws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// glacier opens a bucket of moto, which has cold classes, from which objects
// come back as soon as it was asked for. cool moves an object there.
func glacier(t *testing.T, bucket string) (s *store.Store, cool func(context.Context, string) error) {
	t.Helper()
	moto := testenv.StartMoto(t)
	transition := `{"model_name": "s3::keyrestore", "transition": {"progression": "immediate"}}`
	resp, err := http.Post(moto.Endpoint+"/moto-api/state-manager/set-transition", "application/json", strings.NewReader(transition))
	if err != nil || resp.StatusCode/100 != 2 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	who := credentials.NewStaticCredentialsProvider("any", "any", "")
	client := s3.New(s3.Options{BaseEndpoint: &moto.Endpoint, Region: "us-east-1", UsePathStyle: true, Credentials: who})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	if s, err = store.Open(t.Context(), store.Config{Bucket: bucket, Endpoint: moto.Endpoint, Region: "us-east-1", PathStyle: true, Credentials: who}); err != nil {
		t.Fatal(err)
	}
	return s, func(ctx context.Context, key string) error {
		_, err := client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &bucket, Key: &key, CopySource: aws.String(bucket + "/" + key), StorageClass: types.StorageClassGlacier})
		return err
	}
}

var warmClauses = []string{"blob/warm", "blob/warm-again", "blob/warm-readable", "blob/warm-missing", "blob/warm-ended"}

func TestWarm(t *testing.T) {
	s, cool := glacier(t, "warm")
	providertest.TestBlobStore(t, func(*testing.T) provider.BlobStore { return s }, providertest.CheckOptions{Cool: cool, Only: warmClauses})
}

// A repository whose packs were moved to a cold class: what cannot be read says
// so and is not called damaged, and after WarmAll the point is restored.
func TestRepositoryInColdClass(t *testing.T) {
	t.Parallel() // WarmAll waits before it asks again
	s, cool := glacier(t, "cold-repository")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	c := backup.Config{Store: s, Writer: "w", Keyring: backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}}
	r, err := backup.Init(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Backup(t.Context(), "w", storetest.Things{"a": "alpha", "b": "beta"}, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"data/", "meta/"} {
		for info, err := range s.List(t.Context(), kind, provider.ListOptions{}) {
			if err == nil {
				err = cool(t.Context(), info.Key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if r, err = backup.Open(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := r.Restore(t.Context(), p.ID, storetest.Things{}, backup.Destination{}, backup.RestoreOptions{}); !errors.Is(err, provider.ErrCold) || errors.Is(err, backup.ErrDamaged) {
		t.Errorf("restore gives %v, want ErrCold", err)
	}
	if rep, err := r.Check(t.Context(), backup.CheckOptions{ReadData: true}); !errors.Is(err, provider.ErrCold) || len(rep.Damaged) > 0 {
		t.Errorf("check gives %v and finds %v damaged, want ErrCold", err, rep.Damaged)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var last provider.WarmProgress
	if err := provider.WarmAll(ctx, s, r.Objects(ctx, "points/"+string(p.ID)), provider.WarmOptions{Urgent: true}, func(p provider.WarmProgress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if !last.Looked || last.Ready != last.Objects || last.Objects < 4 {
		t.Errorf("progress ends at %+v", last)
	}
	got := storetest.Things{}
	if err := r.Restore(t.Context(), p.ID, got, backup.Destination{}, backup.RestoreOptions{}); err != nil || got["a"] != "alpha" || got["b"] != "beta" {
		t.Errorf("after WarmAll: %v, %v", got, err)
	}
}

// What S3 documents about classes and tiers that moto has not.
func TestWarmRequests(t *testing.T) {
	const deep, intelligent = "x-amz-storage-class: DEEP_ARCHIVE", "x-amz-storage-class: INTELLIGENT_TIERING"
	for name, c := range map[string]struct {
		head    []string // headers of the object
		o       provider.WarmOptions
		answers []string // to what is asked of it, by code
		asked   []string // Days and tier of each
		want    provider.State
	}{
		"standard class":                  {nil, provider.WarmOptions{}, nil, nil, provider.Ready},
		"instant retrieval":               {[]string{"x-amz-storage-class: GLACIER_IR"}, provider.WarmOptions{}, nil, nil, provider.Ready},
		"glacier":                         {[]string{"x-amz-storage-class: GLACIER"}, provider.WarmOptions{Days: 3}, []string{""}, []string{"3 Standard"}, provider.Pending},
		"glacier, urgent":                 {[]string{"x-amz-storage-class: GLACIER"}, provider.WarmOptions{Urgent: true}, []string{""}, []string{"7 Expedited"}, provider.Pending},
		"no capacity":                     {[]string{"x-amz-storage-class: GLACIER"}, provider.WarmOptions{Urgent: true}, []string{"GlacierExpeditedRetrievalNotAvailable", ""}, []string{"7 Expedited", "7 Standard"}, provider.Pending},
		"deep archive, urgent":            {[]string{deep}, provider.WarmOptions{Urgent: true}, []string{""}, []string{"7 Standard"}, provider.Pending},
		"on its way":                      {[]string{deep, `x-amz-restore: ongoing-request="true"`}, provider.WarmOptions{}, nil, nil, provider.Pending},
		"copied":                          {[]string{deep, `x-amz-restore: ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`}, provider.WarmOptions{}, nil, nil, provider.Ready},
		"asked by another":                {[]string{deep}, provider.WarmOptions{}, []string{"RestoreAlreadyInProgress"}, []string{"7 Standard"}, provider.Pending},
		"intelligent, at hand":            {[]string{intelligent}, provider.WarmOptions{}, nil, nil, provider.Ready},
		"intelligent, archived":           {[]string{intelligent, "x-amz-archive-status: ARCHIVE_ACCESS"}, provider.WarmOptions{Urgent: true}, []string{""}, []string{" Expedited"}, provider.Pending},
		"intelligent, deep":               {[]string{intelligent, "x-amz-archive-status: DEEP_ARCHIVE_ACCESS"}, provider.WarmOptions{Urgent: true}, []string{""}, []string{" Standard"}, provider.Pending},
		"intelligent, archived once more": {[]string{intelligent, "x-amz-archive-status: ARCHIVE_ACCESS", `x-amz-restore: ongoing-request="false"`}, provider.WarmOptions{}, []string{""}, []string{" Standard"}, provider.Pending},
		"back meanwhile":                  {[]string{intelligent, "x-amz-archive-status: ARCHIVE_ACCESS"}, provider.WarmOptions{}, []string{"ObjectAlreadyInActiveTierError"}, []string{" Standard"}, provider.Ready},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("ETag", `"e"`)
				for _, h := range c.head {
					k, v, _ := strings.Cut(h, ": ")
					w.Header().Set(k, v)
				}
				w.Header().Set("x-amz-version-id", "v1")
				if r.Method == http.MethodHead {
					return
				}
				if q := r.URL.Query(); r.Method != http.MethodPost || !q.Has("restore") || q.Get("versionId") != "v1" {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				b, _ := io.ReadAll(r.Body)
				asked = append(asked, element(b, "Days")+" "+element(b, "Tier"))
				switch code := c.answers[len(asked)-1]; code {
				case "":
					w.WriteHeader(http.StatusAccepted)
				default:
					w.WriteHeader(http.StatusConflict)
					fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
				}
			}))
			defer server.Close()
			s, err := store.Open(t.Context(), store.Config{Bucket: "b", Endpoint: server.URL, Region: "us-east-1", PathStyle: true, Attempts: 1, Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
			if err != nil {
				t.Fatal(err)
			}
			state, err := s.Warm(t.Context(), "k", c.o)
			if state != c.want || err != nil {
				t.Errorf("got %q, %v, want %q", state, err, c.want)
			}
			if fmt.Sprint(asked) != fmt.Sprint(c.asked) {
				t.Errorf("asked %q, want %q", asked, c.asked)
			}
		})
	}
}

// element returns the text of an element of XML.
func element(b []byte, name string) string {
	_, b, _ = bytes.Cut(b, []byte("<"+name+">"))
	b, _, _ = bytes.Cut(b, []byte("<"))
	return string(b)
}
