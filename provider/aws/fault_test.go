package aws_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

func staticCredentials(c testenv.Credential) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey, "")
}

var bothServers = []func(testing.TB) *testenv.S3{testenv.MinIO, testenv.VersityGW}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// commits matches the requests that make an object.
func commits(r *http.Request) bool {
	q := r.URL.Query()
	return r.Method == http.MethodPut && !q.Has("uploadId") || r.Method == http.MethodPost && q.Has("uploadId")
}

// A Put whose reply was lost is carried out once, and says so: the SDK makes
// it again and is told that the condition does not hold.
func TestPutWithLostReply(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		n := badnet.New(t, server.Endpoint, httptest.NewServer)
		bucket := server.NewBucket(t, testenv.BucketOptions{Versions: true})
		s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.PartSize = n.URL, 5<<20 })
		for _, size := range []int{10, 6 << 20} {
			var version provider.Version
			for i, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "of the first"}} {
				content := noise(size + i)
				if o.IfMatch != "" {
					o.IfMatch = version
				}
				happened := n.Breaks(1, commits, badnet.Lost)
				info, err := s.Put(t.Context(), "x"+string(rune('0'+size%10)), provider.Bytes(content), o)
				if happened.Load() != 1 {
					t.Fatalf("%d replies were lost, want 1", happened.Load())
				}
				if err != nil {
					t.Fatalf("%s: put of %d bytes with %+v: %v", server.Name, size, o, err)
				}
				version = info.Version
				b, present, err := provider.ReadAll(t.Context(), s, info.Key, int64(size+i))
				if err != nil || present.Version != version || !bytes.Equal(b, content) {
					t.Errorf("%s: %d bytes of version %q, %v; put said %q", server.Name, len(b), present.Version, err, version)
				}
			}
		}
	}
}

// When no reply at all comes, the outcome is looked up, and a Put that was
// refused is a conflict all the same.
func TestPutWithAllRepliesLost(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.Attempts = n.URL, 2 })
	n.Breaks(1000, commits, badnet.Lost)
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("it is there, and the Put says: %v", err)
	}
	_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true})
	if err == nil {
		t.Error("a second Put of the same bytes says that it succeeded")
	}
	n.Clear()
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("put on a taken key: %v", err)
	}
}

func gets(r *http.Request) bool { return r.Method == http.MethodGet }

// A connection that breaks goes on where it broke; damage is found.
func TestGetOverBadNetwork(t *testing.T) {
	server := testenv.VersityGW(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	content := noise(1 << 20)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, o := range []provider.GetOptions{{}, {Offset: 1000}, {Offset: 5, Length: 500_000}} {
		happened := n.Breaks(3, gets, badnet.Cut)
		r, _, err := s.Get(t.Context(), "x", o)
		if err != nil {
			t.Fatal(err)
		}
		want := content[o.Offset:]
		if o.Length > 0 {
			want = want[:o.Length]
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil || !bytes.Equal(b, want) || happened.Load() != 3 {
			t.Errorf("%+v: %d bytes of %d, %v, over %d broken connections", o, len(b), len(want), err, happened.Load())
		}
	}

	// Replaced while it is read: the reader must not go on with other bytes.
	n.Breaks(1, gets, badnet.Cut)
	r, _, err := s.Get(t.Context(), "x", provider.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "x", provider.Bytes(noise(1<<20+1)), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	r.Close()
	if err == nil || !bytes.Equal(b, content[:len(b)]) {
		t.Errorf("%d bytes of a replaced object, %v", len(b), err)
	}

	for _, unverified := range []bool{false, true} {
		n.Breaks(1, gets, func(r *http.Response) error {
			b, err := io.ReadAll(r.Body)
			b[len(b)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(b))
			return err
		})
		if r, _, err = s.Get(t.Context(), "x", provider.GetOptions{Unverified: unverified}); err != nil {
			t.Fatal(err)
		}
		_, err := io.Copy(io.Discard, r)
		r.Close()
		if errors.Is(err, provider.ErrCorrupt) == unverified {
			t.Errorf("a flipped bit, unverified %v: %v", unverified, err)
		}
	}
}

// openUploads counts the multipart uploads that are not finished.
func openUploads(t *testing.T, s *testenv.S3, bucket string) int {
	t.Helper()
	out, err := s.Client().ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

// In parts: the condition and the SHA-256 are judged before anything is
// visible, and what fails leaves no parts behind.
func TestMultipart(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		ctx := t.Context()
		bucket := server.NewBucket(t, testenv.BucketOptions{Locks: true})
		s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.PartSize = 5 << 20 })
		content := noise(11 << 20)
		until := time.Now().Add(time.Minute)
		o := provider.PutOptions{IfAbsent: true, SHA256: sha256.Sum256(content), Meta: map[string]string{"a": "b  c"},
			Retain: provider.Retention{Mode: provider.Governance, Until: until}}
		put, err := s.Put(ctx, "d/x", provider.Bytes(content), o)
		if err != nil {
			t.Fatalf("%s: %v", server.Name, err)
		}
		b, info, err := provider.ReadAll(ctx, s, "d/x", int64(len(content)))
		if err != nil || !bytes.Equal(b, content) || info.Version != put.Version || info.SHA256 != o.SHA256 || info.Meta["a"] != "b  c" {
			t.Errorf("%s: %d bytes, %+v, %v", server.Name, len(b), info, err)
		}
		if info, err := s.Stat(ctx, "d/x"); err != nil || info.Retain.Mode != provider.Governance || info.Retain.Until.Before(until) {
			t.Errorf("%s: retention %+v, %v", server.Name, info.Retain, err)
		}
		if _, err := s.Put(ctx, "d/x", provider.Bytes(content), o); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: on a taken key: %v", server.Name, err)
		}
		if _, err := s.Put(ctx, "d/x", provider.Bytes(content), provider.PutOptions{IfMatch: "another"}); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: IfMatch of another version: %v", server.Name, err)
		}
		o.SHA256[0] ^= 1
		if _, err := s.Put(ctx, "d/y", provider.Bytes(content), o); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: another SHA-256: %v", server.Name, err)
		}
		if _, err := s.Stat(ctx, "d/y"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: after the refused put: %v", server.Name, err)
		}
		short := io.NewSectionReader(bytes.NewReader(content), 0, 12<<20)
		if _, err := s.Put(ctx, "d/z", short, provider.PutOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: a body that ends early: %v", server.Name, err)
		}
		if n := openUploads(t, server, bucket); n != 0 {
			t.Errorf("%s: %d uploads are left open", server.Name, n)
		}
	}
}

// What a killed process left open is found and freed.
func TestAbortUploads(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		s := open(t, server, bucket, server.Credential, nil)
		for _, key := range []string{"d/killed", "killed"} {
			if _, err := server.Client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &bucket, Key: &key}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := s.AbortUploads(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
			t.Errorf("%s: aborted %d young uploads, %v", server.Name, n, err)
		}
		if n, err := s.AbortUploads(t.Context(), time.Now().Add(time.Hour)); n != 2 || err != nil {
			t.Errorf("%s: aborted %d uploads, %v, want 2", server.Name, n, err)
		}
		if n := openUploads(t, server, bucket); n != 0 {
			t.Errorf("%s: %d uploads are left open", server.Name, n)
		}
	}
}

// A bucket that is not there is not an object that is not there: a caller
// would take it for an empty store.
func TestNoSuchBucket(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		s := open(t, server, "no-such-bucket", server.Credential, nil)
		_, _, err := s.Get(t.Context(), "x", provider.GetOptions{})
		if err == nil || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: get: %v", server.Name, err)
		}
		for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
			if err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "NoSuchBucket") {
				t.Errorf("%s: list: %v", server.Name, err)
			}
		}
	}
}

func uploadsOf(bucket, prefix string) *s3.ListMultipartUploadsInput {
	return &s3.ListMultipartUploadsInput{Bucket: &bucket, Prefix: &prefix}
}

// A Delete whose reply was lost finds out that it succeeded. What another has
// put since stays, and nobody says of it that nothing was changed.
func TestDeleteWithLostReply(t *testing.T) {
	t.Parallel()
	server := testenv.VersityGW(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	other := open(t, server, bucket, server.Credential, nil)
	deletes := func(r *http.Request) bool {
		return r.Method == http.MethodDelete && strings.HasSuffix(r.URL.Path, "/x")
	}
	put := func(content string) provider.Info {
		t.Helper()
		info, err := other.Put(t.Context(), "x", provider.Bytes([]byte(content)), provider.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	for _, conditional := range []bool{false, true} {
		var o provider.DeleteOptions
		if info := put("old"); conditional {
			o.Version = info.Version
		}
		happened := n.Breaks(1, deletes, badnet.Lost)
		if err := s.Delete(t.Context(), "x", o); err != nil || happened.Load() != 1 {
			t.Errorf("%+v: %v; %d replies were lost", o, err, happened.Load())
		}
		if _, err := other.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%+v: it is still there: %v", o, err)
		}
	}
	info := put("old")
	n.Breaks(1, deletes, func(*http.Response) error { put("new"); return badnet.ErrLost })
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{Version: info.Version}); err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("deleted, and written by another: %v", err)
	}
	if b, _, err := provider.ReadAll(t.Context(), other, "x", 10); err != nil || string(b) != "new" {
		t.Errorf("what another wrote: %q, %v", b, err)
	}
	info = put("old")
	n.Meets(1, deletes, func(http.ResponseWriter, *http.Request) { put("new") })
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{Version: info.Version}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("replaced before it was deleted: %v", err)
	}
}

// Whoever waits for another call to have found out what the bucket can do
// waits no longer than his ctx lasts.
func TestWaitsForAnotherAsLongAsItMay(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	s := open(t, server, server.NewBucket(t, testenv.BucketOptions{Locks: true}), server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	asked := n.Meets(1<<30, func(r *http.Request) bool { return r.URL.Query().Has("object-lock") }, badnet.Swallow)
	put := func(ctx context.Context) error {
		_, err := s.Put(ctx, "x", provider.Bytes(nil), provider.PutOptions{Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Minute)}})
		return err
	}
	storetest.WaitsAsLongAsItMay(t, put, func() bool { return asked.Load() > 0 })
}

// A proxy that answers in place of the store does not know what became of the
// request: that is no refusal which changed nothing.
func TestNamelessUnavailable(t *testing.T) {
	t.Parallel()
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	other := open(t, server, bucket, server.Credential, nil)
	n.Breaks(1, commits, func(r *http.Response) error {
		if _, err := other.Put(t.Context(), "x", provider.Bytes([]byte("another's")), provider.PutOptions{}); err != nil {
			t.Error(err)
		}
		return badnet.Becomes(http.StatusServiceUnavailable, nil)(r)
	})
	_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true})
	if err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("carried out, answered by 503, and replaced since: %v", err)
	}
}

// A store that ignores the condition of a read delivers what is there now: the
// reader goes on with it no more than Get takes it for the version asked for.
func TestGetOfIgnoredCondition(t *testing.T) {
	versions := map[bool][]byte{false: noise(1 << 20), true: noise(1<<20 + 1)[:1<<20]}
	var replaced atomic.Bool
	ignorant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("versions") {
			io.WriteString(w, `<ListVersionsResult></ListVersionsResult>`)
			return
		}
		r.Header.Del("If-Match")
		w.Header().Set("ETag", fmt.Sprintf(`"%v"`, replaced.Load()))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(versions[replaced.Load()]))
	}))
	t.Cleanup(ignorant.Close)
	n := badnet.New(t, ignorant.URL, httptest.NewServer)
	s := open(t, &testenv.S3{}, "b", testenv.Credential{AccessKey: "a", SecretKey: "s"}, func(c *store.Config) { c.Endpoint, c.Region = n.URL, "r" })
	n.Breaks(1, gets, badnet.Cut)
	r, info, err := s.Get(t.Context(), "x", provider.GetOptions{Offset: 10})
	if err != nil {
		t.Fatal(err)
	}
	replaced.Store(true)
	b, err := io.ReadAll(r)
	r.Close()
	if err == nil || !bytes.Equal(b, versions[false][10:][:len(b)]) {
		t.Errorf("%d bytes of a replaced object, %v", len(b), err)
	}
	if _, _, err := s.Get(t.Context(), "x", provider.GetOptions{Version: info.Version}); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a version that is not there: %v", err)
	}
}

// Whether a retention is in force the clock of the store says. Here it is two
// days behind ours.
func TestRetentionByTheClockOfTheStore(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{Locks: true})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(time.Hour)}}
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("x")), o); err != nil {
		t.Fatal(err)
	}
	const behind = 48 * time.Hour
	n.Breaks(1<<30, func(r *http.Request) bool { return r.Method == http.MethodHead }, func(r *http.Response) error {
		const field = "X-Amz-Object-Lock-Retain-Until-Date"
		until, err := time.Parse(time.RFC3339, r.Header.Get(field))
		r.Header.Set(field, until.Add(-behind).Format(time.RFC3339))
		r.Header.Set("Date", time.Now().Add(-behind).UTC().Format(http.TimeFormat))
		return err
	})
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	direct := open(t, server, bucket, server.Credential, nil)
	if _, err := direct.Stat(t.Context(), "x"); err != nil {
		t.Errorf("what was under retention: %v", err)
	}
}
