package aws_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	store "github.com/holdfast-go/holdfast/provider/aws"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func copied(t *testing.T, s provider.BlobStore, key string, want []byte) provider.Info {
	t.Helper()
	b, info, err := provider.ReadAll(t.Context(), s, key, int64(len(want)))
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%s: %d bytes, %v; want the %d of the source", key, len(b), err, len(want))
	}
	return info
}

// A copy whose reply was lost is made once, and says so: without a condition
// because it is made again, with one because its name says that it is the one.
func TestCopyWithLostReply(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		n := badnet.New(t, server.Endpoint, httptest.NewServer)
		from := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
		to := open(t, server, server.NewBucket(t, testenv.BucketOptions{Versions: true}), server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
		content := noise(10_000)
		source, err := from.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{Meta: map[string]string{"a": "b"}})
		if err != nil {
			t.Fatal(err)
		}
		var version provider.Version
		for _, o := range []provider.PutOptions{{}, {Meta: map[string]string{"c": "d"}}, {IfMatch: "of the last"}} {
			if o.IfMatch != "" {
				o.IfMatch = version
			}
			happened := n.Breaks(1, commits, badnet.Lost)
			info, err := to.CopyFrom(t.Context(), "y", from, source, o)
			if err != nil || happened.Load() != 1 {
				t.Fatalf("%s: copy with %+v: %v; %d replies were lost", server.Name, o, err, happened.Load())
			}
			if got := copied(t, to, "y", content); got.Version != info.Version || got.SHA256 != sha256.Sum256(content) {
				t.Errorf("%s: copy says version %q, get %q", server.Name, info.Version, got.Version)
			}
			version = info.Version
		}
		n.Breaks(1, commits, badnet.Lost)
		if _, err := to.CopyFrom(t.Context(), "new", from, source, provider.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("%s: with IfAbsent: %v", server.Name, err)
		}
		n.Breaks(1, commits, badnet.Lost)
		if _, err := to.CopyFrom(t.Context(), "new", from, source, provider.PutOptions{IfAbsent: true}); err == nil {
			t.Errorf("%s: a second copy with IfAbsent says that it succeeded", server.Name)
		}
	}
}

// When each reply is lost the outcome is unknown or, with a name, looked up;
// it is never a conflict nor a missing source.
func TestCopyWithAllRepliesLost(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	s := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *store.Config) { c.Endpoint, c.Attempts = n.URL, 2 })
	source, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.Breaks(1000, commits, badnet.Lost)
	if _, err := s.CopyFrom(t.Context(), "named", s, source, provider.PutOptions{Meta: map[string]string{}}); err != nil {
		t.Errorf("it is there, and the copy says: %v", err)
	}
	_, err = s.CopyFrom(t.Context(), "plain", s, source, provider.PutOptions{})
	if err == nil || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("nobody knows what happened, and the copy says: %v", err)
	}
}

// What is large is copied in parts beside each other, each of the version that
// was asked for; a source that is replaced on the way leaves nothing behind.
func TestCopyInParts(t *testing.T) {
	for _, start := range bothServers {
		server := start(t)
		n := badnet.New(t, server.Endpoint, httptest.NewServer)
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.Concurrency = n.URL, 2 })
		s.CopyInPartsOf(5 << 20)
		content := noise(4*5<<20 + 1) // one byte more than one request copies
		source, err := s.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{SHA256: sha256.Sum256(content)})
		if err == nil {
			err = s.SetTags(t.Context(), "x", "", map[string]string{"team": "a b"})
		}
		if err != nil {
			t.Fatal(err)
		}
		parts := n.Breaks(1<<30, func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source-Range") != "" }, func(*http.Response) error { return nil })
		info, err := s.CopyFrom(t.Context(), "y", s, source, provider.PutOptions{})
		if err != nil || parts.Load() != 5 {
			t.Fatalf("%s: %v, in %d parts, want 5", server.Name, err, parts.Load())
		}
		if got := copied(t, s, "y", content); got.Version != info.Version || got.SHA256 != source.SHA256 || info.Size != source.Size {
			t.Errorf("%s: copy says %+v, get %+v", server.Name, info, got)
		}
		if tags, err := s.Tags(t.Context(), "y", ""); err != nil || tags["team"] != "a b" {
			t.Errorf("%s: the copy has the tags %q, %v", server.Name, tags, err)
		}

		var once atomic.Bool
		n.Breaks(1<<30, func(r *http.Request) bool { return r.URL.Query().Has("uploads") }, func(*http.Response) error {
			if once.CompareAndSwap(false, true) { // the upload has begun, no part has been copied
				direct := open(t, server, bucket, server.Credential, nil)
				_, err := direct.Put(context.Background(), "x", provider.Bytes(noise(1001)), provider.PutOptions{})
				return err
			}
			return nil
		})
		_, err = s.CopyFrom(t.Context(), "z", s, source, provider.PutOptions{})
		if !errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: the source was replaced, and the copy says: %v", server.Name, err)
		}
		if _, err := s.Stat(t.Context(), "z"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: a copy of what was replaced: %v", server.Name, err)
		}
		uploads, err := server.Client().ListMultipartUploads(t.Context(), uploadsOf(bucket, "z"))
		if err != nil || len(uploads.Uploads) > 0 {
			t.Errorf("%s: %v, %d uploads are left", server.Name, err, len(uploads.Uploads))
		}
	}
}

// One request for an object of a listing: nothing is asked before.
func TestCopyRequests(t *testing.T) {
	server := testenv.VersityGW(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	s := open(t, server, server.NewBucket(t, testenv.BucketOptions{}), server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
	meta := map[string]string{"a": "b"}
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{Meta: meta}); err != nil {
		t.Fatal(err)
	}
	for info, err := range s.List(t.Context(), "x", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		requests := n.Breaks(1<<30, func(*http.Request) bool { return true }, func(*http.Response) error { return nil })
		if _, err := s.CopyFrom(t.Context(), "y", s, info, provider.PutOptions{}); err != nil || requests.Load() != 1 {
			t.Errorf("%v, %d requests, want 1", err, requests.Load())
		}
	}
	if info := copied(t, s, "y", []byte("content")); !maps.Equal(info.Meta, meta) {
		t.Errorf("%q, want %q", info.Meta, meta)
	}
	// Onto itself, which changes the metadata alone.
	if _, err := s.CopyFrom(t.Context(), "y", s, provider.Info{Key: "y"}, provider.PutOptions{Meta: map[string]string{"c": "d"}}); err != nil {
		t.Error(err)
	}
	if info := copied(t, s, "y", []byte("content")); info.Meta["c"] != "d" || len(info.Meta) != 1 {
		t.Errorf("onto itself: %q", info.Meta)
	}
}

// What the service cannot or may not copy, it says, and leaves nothing.
func TestCopyRefused(t *testing.T) {
	server, other := testenv.MinIO(t), testenv.VersityGW(t)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	from := open(t, server, bucket, server.Credential, nil)
	source, err := from.Put(t.Context(), "data/x", provider.Bytes([]byte("content")), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := open(t, other, other.NewBucket(t, testenv.BucketOptions{}), other.Credential, nil)
	if _, err := elsewhere.CopyFrom(t.Context(), "y", from, source, provider.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("from another service: %v", err)
	}
	blind := open(t, server, bucket, server.CreateOnly(t, bucket, "data/"), nil)
	for _, o := range []provider.PutOptions{{}, {IfAbsent: true}} {
		if _, err := blind.CopyFrom(t.Context(), "y", from, source, o); !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("by a credential that may not read, %+v: %v", o, err)
		}
	}
	if _, err := from.CopyFrom(t.Context(), "y", providertest.NewMemory(), source, provider.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("from memory: %v", err)
	}
	for _, key := range []string{"", "a//b", strings.Repeat("k", 2000)} {
		if _, err := from.CopyFrom(t.Context(), key, from, source, provider.PutOptions{}); !errors.Is(err, provider.ErrInvalidKey) {
			t.Errorf("to %.10q: %v", key, err)
		}
	}
	if _, err := from.Stat(t.Context(), "y"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("something was copied: %v", err)
	}
}

// No copy is made without the tags of its source, unless the store keeps none.
func TestCopyTags(t *testing.T) {
	server := testenv.MinIO(t)
	n := badnet.New(t, server.Endpoint, httptest.NewServer)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint, c.Attempts = n.URL, 2 })
	tags := map[string]string{"team": "a+b c", "keep": "7"}
	sources := map[string]provider.Info{}
	for name, content := range map[string]string{"x": "content", "empty": ""} {
		info, err := s.Put(t.Context(), name, provider.Bytes([]byte(content)), provider.PutOptions{})
		if err == nil {
			err = s.SetTags(t.Context(), name, "", tags)
		}
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = info
	}
	asks := func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Query().Has("tagging") }
	for name, source := range sources {
		for _, c := range []struct {
			status int
			code   string
			want   error
		}{{403, "AccessDenied", fs.ErrPermission}, {404, "NoSuchKey", provider.ErrNotFound}, {501, "NotImplemented", nil}} {
			n.Meets(1, asks, badnet.Answers(c.status, http.Header{"Content-Type": {"application/xml"}}, "<Error><Code>"+c.code+"</Code><Message>m</Message></Error>"))
			_, err := s.CopyFrom(t.Context(), name+c.code, s, source, provider.PutOptions{IfAbsent: true})
			if !errors.Is(err, c.want) || errors.Is(err, provider.ErrConflict) {
				t.Errorf("%s, %s: %v, want %v", name, c.code, err, c.want)
			}
			n.Clear()
			if _, err := s.Stat(t.Context(), name+c.code); errors.Is(err, provider.ErrNotFound) != (c.want != nil) {
				t.Errorf("%s, %s: then there is %v", name, c.code, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		n.Meets(1, asks, func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})
		if _, err := s.CopyFrom(ctx, name+"cancelled", s, source, provider.PutOptions{IfAbsent: true}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
		n.Clear()
		if _, err := s.Stat(t.Context(), name+"cancelled"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s, cancelled: then there is %v", name, err)
		}
	}
	for key, c := range map[string]struct {
		o     provider.PutOptions
		which func(*http.Request) bool
	}{"one request": {provider.PutOptions{}, commits}, "in parts": {provider.PutOptions{IfAbsent: true}, commits}, "tags": {provider.PutOptions{IfAbsent: true}, asks}} {
		happened := n.Breaks(1, c.which, badnet.Lost)
		_, err := s.CopyFrom(t.Context(), key, s, sources["x"], c.o)
		if got, terr := s.Tags(t.Context(), key, ""); err != nil || terr != nil || !maps.Equal(got, tags) || happened.Load() != 1 {
			t.Errorf("the reply of %q lost: %v; it has the tags %q, %v", key, err, got, terr)
		}
		n.Clear()
	}
}

// A third server. It adds the tags of a copy to those of what it replaces, so
// that it is not held to the whole clause.
func TestCopyTagsOnMoto(t *testing.T) {
	s, _ := glacier(t, "copytags")
	tags := map[string]string{"team": "a+b c", "keep": "7"}
	source, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{})
	if err == nil {
		err = s.SetTags(t.Context(), "x", "", tags)
	}
	if err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]provider.PutOptions{"in one request": {}, "in parts": {IfAbsent: true}, "with Meta": {Meta: map[string]string{"a": "b"}}} {
		_, err := s.CopyFrom(t.Context(), what, s, source, o)
		if got, terr := s.Tags(t.Context(), what, ""); err != nil || terr != nil || !maps.Equal(got, tags) {
			t.Errorf("%s: %v; it has the tags %q, %v", what, err, got, terr)
		}
	}
}

// A copy whose reply was lost, and whose source is gone when it is made again,
// does not say that there was nothing to copy.
func TestCopyOfWhatIsGoneAfterLostReply(t *testing.T) {
	t.Parallel()
	for _, start := range bothServers {
		server := start(t)
		n := badnet.New(t, server.Endpoint, httptest.NewServer)
		bucket := server.NewBucket(t, testenv.BucketOptions{})
		s := open(t, server, bucket, server.Credential, func(c *store.Config) { c.Endpoint = n.URL })
		other := open(t, server, bucket, server.Credential, nil)
		for _, o := range []provider.PutOptions{{}, {Meta: map[string]string{"a": "b"}}} {
			source, err := other.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := other.Put(t.Context(), "y", provider.Bytes([]byte("what was there")), provider.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			copies := func(r *http.Request) bool { return r.Header.Get("X-Amz-Copy-Source") != "" }
			n.Breaks(1, copies, func(*http.Response) error {
				if err := other.Delete(t.Context(), "x", provider.DeleteOptions{}); err != nil {
					t.Error(err)
				}
				return badnet.ErrLost
			})
			_, err = s.CopyFrom(t.Context(), "y", s, source, o)
			if b, _, readErr := provider.ReadAll(t.Context(), other, "y", 100); readErr != nil || string(b) != "content" {
				t.Fatalf("%s: %q, %v", server.Name, b, readErr)
			}
			if errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || o.Meta != nil && err != nil {
				t.Errorf("%s: it was copied, and the copy with %+v says: %v", server.Name, o, err)
			}
		}
	}
}
