package gcp_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/auth"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// token is a credential as any source of tokens gives it.
type token string

func (t token) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: string(t), Type: "Bearer"}, nil
}

// wire is a service over TLS that notes what it is asked.
type wire struct {
	*httptest.Server
	ca []byte

	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func newWire(t *testing.T, next http.Handler) *wire {
	w := &wire{}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.requests, w.bodies = append(w.requests, r.Clone(context.Background())), append(w.bodies, string(b))
		w.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(b))
		next.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.Close)
	w.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Certificate().Raw})
	return w
}

// Every request carries what the Config says of it: the token, who pays, and
// the key of the customer; uploads the key of KMS and the storage class. The
// certificate is one that the system does not know.
func TestWhatIsSent(t *testing.T) {
	p := newPlace(t, false)
	w := newWire(t, p.rules)
	key := bytes.Repeat([]byte{7}, 32)
	sum := sha256.Sum256(key)
	config := gcp.Config{Bucket: p.bucket, Endpoint: w.URL, CA: w.ca, UserProject: "payer", StorageClass: "NEARLINE", CustomerKey: key,
		Credentials: auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: token("t0ken")}), PartSize: 256 << 10}
	s, err := gcp.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{5, 600 << 10} {
		if _, err := s.Put(t.Context(), "x", provider.Bytes(noise(size)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if b, _, err := provider.ReadAll(t.Context(), s, "x", 1<<20); err != nil || !bytes.Equal(b, noise(size)) {
			t.Errorf("%d bytes, %v", len(b), err)
		}
	}
	for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	uploads := 0
	for i, r := range w.requests {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("%s %s: authorization %q", r.Method, r.URL, r.Header.Get("Authorization"))
		}
		if q.Get("userProject") != "payer" && !q.Has("upload_id") {
			t.Errorf("%s %s: paid by %q", r.Method, r.URL, q.Get("userProject"))
		}
		upload := q.Has("uploadType") && !q.Has("upload_id")
		if upload {
			uploads++
			if !strings.Contains(w.bodies[i], `"storageClass":"NEARLINE"`) {
				t.Errorf("%s: %.300s", r.URL, w.bodies[i])
			}
		}
		h := r.Header
		if (upload || strings.HasSuffix(r.URL.Path, "/o/x") && r.Method == http.MethodGet) &&
			(h.Get("X-Goog-Encryption-Algorithm") != "AES256" || h.Get("X-Goog-Encryption-Key") != base64.StdEncoding.EncodeToString(key) ||
				h.Get("X-Goog-Encryption-Key-Sha256") != base64.StdEncoding.EncodeToString(sum[:])) {
			t.Errorf("%s %s: no key of the customer", r.Method, r.URL)
		}
	}
	if uploads != 2 {
		t.Errorf("%d uploads", uploads)
	}

	w.requests = nil
	config.CustomerKey, config.KMSKey = nil, "projects/p/locations/l/keyRings/r/cryptoKeys/k"
	if s, err = gcp.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := w.requests[0].URL.Query().Get("kmsKeyName"); got != config.KMSKey {
		t.Errorf("key of KMS is %q", got)
	}

	config.CA = nil
	config.Attempts = 1
	if s, err = gcp.Open(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	_, err = s.Stat(t.Context(), "x")
	if err == nil || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "t0ken") {
		t.Errorf("with a certificate that nobody knows: %v", err)
	}
}

// An emulator that some variable names is not asked.
func TestEmulatorVariable(t *testing.T) {
	p := newPlace(t, false)
	t.Setenv("STORAGE_EMULATOR_HOST", "127.0.0.1:1")
	s := p.open(t, nil)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Error(err)
	}
	if r, _, err := s.Get(t.Context(), "x", provider.GetOptions{}); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
}

// upload stores an object as another program would.
func upload(t *testing.T, endpoint, bucket, query string, b []byte) {
	t.Helper()
	resp, err := http.Post(endpoint+"/upload/storage/v1/b/"+bucket+"/o?uploadType=media&"+query, "text/plain", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
}

// What another program stored under a Content-Encoding is read as it is
// stored, in whole and in ranges.
func TestCompressedObject(t *testing.T) {
	server := testenv.FakeGCS(t)
	bucket := server.NewBucket(t, testenv.BucketOptions{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, strings.Repeat("text ", 1000))
	z.Close()
	upload(t, server.Endpoint, bucket, "name=x&contentEncoding=gzip", packed.Bytes())
	s := open(t, server.Endpoint, bucket, nil)
	b, info, err := provider.ReadAll(t.Context(), s, "x", 1<<20)
	if err != nil || !bytes.Equal(b, packed.Bytes()) || info.Size != int64(packed.Len()) {
		t.Errorf("%d bytes of %d, %+v, %v", len(b), packed.Len(), info, err)
	}
	r, _, err := s.Get(t.Context(), "x", provider.GetOptions{Offset: 5, Length: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, packed.Bytes()[5:12]) {
		t.Errorf("range: %x, %v", b, err)
	}
}

// The SHA-256 of what another program stored is not known. Its CRC-32C is.
func TestForeignObject(t *testing.T) {
	p := newPlace(t, false)
	upload(t, p.rules.target, p.bucket, "name=x", noise(1000))
	s := p.open(t, nil)
	b, info, err := provider.ReadAll(t.Context(), s, "x", 1000)
	if err != nil || !bytes.Equal(b, noise(1000)) || info.SHA256 != [32]byte{} || info.Meta != nil {
		t.Errorf("%d bytes, %+v, %v", len(b), info, err)
	}
	p.Breaks(1, media, flip)
	if _, _, err := provider.ReadAll(t.Context(), s, "x", 1000); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("a flipped bit: %v", err)
	}
}

// Whoever asks for it gets what is there, whatever its sum says.
func TestUnverified(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(noise(1000)), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for unverified, want := range map[bool]error{false: provider.ErrCorrupt, true: nil} {
		p.Breaks(1, media, flip)
		r, _, err := s.Get(t.Context(), "x", provider.GetOptions{Unverified: unverified})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); !errors.Is(err, want) || unverified && (len(b) != 1000 || bytes.Equal(b, noise(1000))) {
			t.Errorf("unverified: %t: %d bytes, %v", unverified, len(b), err)
		}
		r.Close()
	}
}

// What consoles make of "directories" has names that Put refuses, and is left out.
func TestListOfOthers(t *testing.T) {
	p := newPlace(t, true)
	upload(t, p.rules.target, p.bucket, "name=a%2F", nil)
	upload(t, p.rules.target, p.bucket, "name=a%2Fx", nil)
	s := p.open(t, nil)
	var got []string
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		got = append(got, info.Key, fmt.Sprint(err))
	}
	for v, err := range s.Versions(t.Context(), "", provider.ListOptions{}) {
		got = append(got, v.Key, fmt.Sprint(err))
	}
	if want := []string{"a/x", "<nil>", "a/x", "<nil>"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// A service that lists in another order than that of bytes is an error.
func TestListOutOfOrder(t *testing.T) {
	s := open(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"kind":"storage#objects","items":[{"name":"b","generation":"1"},{"name":"a","generation":"2"}]}`)
	})), "bucket", nil)
	var listErr, versionsErr error
	for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		listErr = err
	}
	for _, err := range s.Versions(t.Context(), "", provider.ListOptions{}) {
		versionsErr = err
	}
	if listErr == nil || versionsErr == nil {
		t.Errorf("list: %v, versions: %v", listErr, versionsErr)
	}
}

// Under a hold, which has no end, nothing is deleted.
func TestHold(t *testing.T) {
	p := newPlace(t, true)
	s := p.open(t, nil)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, hold := range []string{"temporaryHold", "eventBasedHold"} {
		looks := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o/x") }
		p.Breaks(1, looks, func(r *http.Response) error {
			b, err := io.ReadAll(r.Body)
			b = set(b, hold, true)
			r.ContentLength, r.Body = int64(len(b)), io.NopCloser(bytes.NewReader(b))
			r.Header.Del("Content-Length")
			return err
		})
		if err := s.Delete(t.Context(), "x", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
			t.Errorf("%s: %v", hold, err)
		}
	}
}

// Between the look at a retention and its change another extends it: it does
// not become shorter again, although it may be overridden.
func TestLockExtendedMeanwhile(t *testing.T) {
	p := newPlace(t, false)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	ctx, until := t.Context(), time.Now().Add(time.Hour)
	governed := provider.Retention{Mode: provider.Governance, Until: until}
	if _, err := s.Put(ctx, "x", provider.Bytes(nil), provider.PutOptions{Retain: governed}); err != nil {
		t.Fatal(err)
	}
	longer := provider.Retention{Mode: provider.Governance, Until: until.Add(time.Hour)}
	looks := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o/x") }
	p.Breaks(1, looks, func(*http.Response) error { return other.Lock(ctx, "x", longer) })
	shorter := provider.Retention{Mode: provider.Compliance, Until: until.Add(time.Minute)}
	if err := s.Lock(ctx, "x", shorter); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("lock: %v", err)
	}
	if info, err := s.Stat(ctx, "x"); err != nil || info.Retain.Until.Before(longer.Until) {
		t.Errorf("%v, %v", info.Retain, err)
	}
}

// A lost reply to a lock is a lock.
func TestLockWithLostReply(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	happened := p.Breaks(1, func(r *http.Request) bool { return r.Method == http.MethodPatch }, badnet.Lost)
	r := provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(time.Minute)}
	if err := s.Lock(t.Context(), "x", r); err != nil || happened.Load() != 1 {
		t.Errorf("%v after %d lost replies", err, happened.Load())
	}
	if info, err := s.Stat(t.Context(), "x"); err != nil || info.Retain.Mode != r.Mode || info.Retain.Until.Before(r.Until) {
		t.Errorf("%+v, %v", info.Retain, err)
	}
}

// A bucket that takes no retentions is told of none.
func TestRetainWithoutLocks(t *testing.T) {
	server := testenv.FakeGCS(t)
	r := newRules(t, server.Endpoint, false, false)
	s := open(t, r.url, server.NewBucket(t, testenv.BucketOptions{}), nil)
	o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: someday}}
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), o); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("put: %v", err)
	}
	if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the refused put: %v", err)
	}
}

// A prefix need not end with a whole character.
func TestListHalfACharacter(t *testing.T) {
	server := testenv.FakeGCS(t)
	s := open(t, server.Endpoint, server.NewBucket(t, testenv.BucketOptions{}), nil)
	for _, key := range []string{"a", "é", "è", "日"} {
		if _, err := s.Put(t.Context(), key, provider.Bytes(nil), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ prefix, after, want string }{{"\xc3", "", "è é"}, {"", "\xc3\xa9", "日"}, {"", "\xc3", "è é 日"}, {"\xff", "", ""}} {
		var got []string
		for info, err := range s.List(t.Context(), c.prefix, provider.ListOptions{StartAfter: c.after}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Key)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q after %q: %q", c.prefix, c.after, got)
		}
	}
}

var someday = time.Now().Add(time.Hour)
