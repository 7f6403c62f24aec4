package azure_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

func freshModel(versions bool) *model {
	return &model{versions: versions, blobs: map[string][]*modelVersion{}, staged: map[string]map[string][]byte{}}
}

// The whole contract on the model, retention and versions included. Deletions
// before the last version leave no trace.
func TestBlobStoreOfModel(t *testing.T) {
	for name, versions := range map[string]bool{"model-plain": false, "model-versioned": true} {
		t.Run(name, func(t *testing.T) {
			c := newModel(t, freshModel(versions))
			const cold = "asked of Azurite"
			const unprotected = "a container without support for immutability policies of versions takes none"
			differs := map[string]string{"blob/retain*": unprotected, "blob/lock*": unprotected, "blob/warm*": cold}
			if versions {
				differs = map[string]string{"blob/versions-deleted": "the service keeps no record of a deletion but the last", "blob/warm*": cold}
			}
			storetest.Conforms(t, storetest.Subject{Name: name, RetainFor: 2 * time.Second, Quick: true, Differs: differs,
				Open: func(t testing.TB) provider.BlobStore {
					s, err := azure.Open(t.Context(), *c)
					if err != nil {
						t.Fatal(err)
					}
					return s
				}})
		})
	}
}

// What was replaced and deleted is read by the Version that its Put returned,
// whole and in parts, and is listed with the deletion behind it.
func TestEarlierVersions(t *testing.T) {
	m := freshModel(true)
	m.page = 5
	s := openModel(t, m)
	ctx := t.Context()
	var put []provider.Version
	for i := range 12 { // more than a page
		info, err := s.Put(ctx, "k", provider.Bytes(fmt.Appendf(nil, "content %2d", i)), provider.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		put = append(put, info.Version)
		if _, err := s.Put(ctx, "k2", provider.Bytes(nil), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, "k", provider.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stat(ctx, "k"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("stat of what was deleted: %v", err)
	}
	n := 0
	for v, err := range s.Versions(ctx, "k", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if v.Key != "k" {
			break
		}
		if n == len(put) {
			if !v.Deleted || v.Version != "" || v.Size != 0 || v.Modified.IsZero() {
				t.Errorf("behind the last version: %+v", v)
			}
		} else if v.Deleted || v.Version != put[n] {
			t.Errorf("version %d: %+v, want %q", n, v, put[n])
		}
		n++
	}
	if n != len(put)+1 {
		t.Errorf("%d versions and deletions", n)
	}
	for i, v := range put {
		want := fmt.Sprintf("content %2d", i)
		for off := range int64(len(want)) {
			r, info, err := s.Get(ctx, "k", provider.GetOptions{Version: v, Offset: off, Length: 5})
			if err != nil {
				t.Fatalf("%d from %d: %v", i, off, err)
			}
			var b bytes.Buffer
			_, err = b.ReadFrom(r)
			r.Close()
			if err != nil || b.String() != want[off:min(off+5, int64(len(want)))] || info.Version != v {
				t.Errorf("%d from %d: %q, %+v, %v", i, off, b.String(), info, err)
			}
		}
	}
	for _, v := range []provider.Version{"0xFFFF", "*", "a\nb", `"`} {
		if _, _, err := s.Get(ctx, "k", provider.GetOptions{Version: v}); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("version %q, which never was: %v", v, err)
		}
	}
}

// A namespace of directories is refused: when the account says so, and when
// the order shows it to who may not ask.
func TestHierarchicalNamespace(t *testing.T) {
	m := freshModel(false)
	m.hns = true
	s := openModel(t, m)
	ctx := t.Context()
	if _, err := s.Put(ctx, "a", provider.Bytes(nil), provider.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) || len(m.blobs) != 0 {
		t.Errorf("put: %v, %d blobs", err, len(m.blobs))
	}
	for _, err := range s.List(ctx, "", provider.ListOptions{}) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("list: %v", err)
		}
	}
	m.denied = map[string]bool{"properties": true}
	for _, key := range []string{"a", "b"} {
		if _, err := s.Put(ctx, key, provider.Bytes(nil), provider.PutOptions{}); err != nil {
			t.Errorf("put by who may not ask: %v", err)
		}
	}
	var last error
	for _, err := range s.List(ctx, "", provider.ListOptions{}) {
		last = err
	}
	if !errors.Is(last, errors.ErrUnsupported) {
		t.Errorf("list in another order: %v", last)
	}
}

// What protects a blob without being a Retention is respected and named; a
// refusal about something else is no condition that does not hold.
func TestOtherRefusals(t *testing.T) {
	m := freshModel(true)
	s := openModel(t, m)
	ctx := t.Context()
	if _, err := s.Put(ctx, "held", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	v := m.blobs["held"][0]
	v.held = true
	if err := s.Delete(ctx, "held", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) || !v.current {
		t.Errorf("delete under a legal hold: %v", err)
	}
	v.archived = true
	if _, _, err := s.Get(ctx, "held", provider.GetOptions{}); err == nil || errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "Archive tier") {
		t.Errorf("get of an archived blob: %v", err)
	}
	m.versions = false // as a policy of the container does
	for what, o := range map[string]provider.PutOptions{"put": {}, "IfMatch": {IfMatch: provider.Version(strings.Trim(v.etag, `"`))}} {
		if _, err := s.Put(ctx, "held", provider.Bytes(nil), o); !errors.Is(err, provider.ErrLocked) || errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s over a blob under a policy: %v", what, err)
		}
	}
	for code, status := range map[string]int{"LeaseIdMissing": 412, "SnapshotsPresent": 409, "BlobImmutableDueToPolicy": 409} {
		answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				w.Header().Set("ETag", `"0x1"`)
				return
			}
			w.Header().Set("x-ms-error-code", code)
			w.WriteHeader(status)
		}))
		s, err := azure.Open(ctx, azure.Config{Container: "ccc", Endpoint: answers.URL, SAS: "sig=x"})
		if err != nil {
			t.Fatal(err)
		}
		_, putErr := s.Put(ctx, "x", provider.Bytes(nil), provider.PutOptions{})
		_, matchErr := s.Put(ctx, "x", provider.Bytes(nil), provider.PutOptions{IfMatch: "0x1"})
		for _, err := range []error{putErr, matchErr, s.Delete(ctx, "x", provider.DeleteOptions{Version: "0x1"})} {
			if err == nil || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrLocked) != (code == "BlobImmutableDueToPolicy") || !strings.Contains(err.Error(), code) {
				t.Errorf("%s: %v", code, err)
			}
		}
		// On a taken key it may well be the policy that the service names first.
		if _, err := s.Put(ctx, "x", provider.Bytes(nil), provider.PutOptions{IfAbsent: true}); errors.Is(err, provider.ErrConflict) != (code == "BlobImmutableDueToPolicy") {
			t.Errorf("%s: IfAbsent: %v", code, err)
		}
		answers.Close()
	}
}

// Where the service names another reason first, or the blob is gone, a look shows
// whether a condition did not hold.
func TestRefusalsBehindWhichIsACondition(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
		there  bool
		o      provider.PutOptions
		want   bool
	}{
		{"BlobNotFound", 404, false, provider.PutOptions{IfMatch: "0x1"}, true},
		{"BlobImmutableDueToPolicy", 409, true, provider.PutOptions{IfMatch: "0x1"}, false},
		{"BlobImmutableDueToPolicy", 409, true, provider.PutOptions{IfMatch: "0x2"}, true},
		{"BlobImmutableDueToPolicy", 409, false, provider.PutOptions{IfMatch: "0x1"}, true},
		{"BlobImmutableDueToPolicy", 409, true, provider.PutOptions{IfAbsent: true}, true},
		{"BlobImmutableDueToPolicy", 409, false, provider.PutOptions{IfAbsent: true}, false},
	} {
		answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method == http.MethodPut:
				w.Header().Set("x-ms-error-code", c.code)
				w.WriteHeader(c.status)
			case r.Method == http.MethodHead && !c.there:
				w.Header().Set("x-ms-error-code", "BlobNotFound")
				w.WriteHeader(http.StatusNotFound)
			default:
				w.Header().Set("ETag", `"0x1"`)
			}
		}))
		s, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: answers.URL, SAS: "sig=x"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), c.o); err == nil || errors.Is(err, provider.ErrConflict) != c.want {
			t.Errorf("%s, there: %t, %+v: %v", c.code, c.there, c.o, err)
		}
		answers.Close()
	}
}

// Another has made the retention stronger between the look and the request, which
// is refused in words of no meaning; of another version that says nothing.
func TestLockStrengthenedMeanwhile(t *testing.T) {
	soon, later := time.Now().Add(time.Hour).UTC(), time.Now().Add(3*time.Hour).UTC()
	for version, locked := range map[string]bool{"v1": true, "v2": false} {
		looks := 0
		answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			switch {
			case r.Method == http.MethodPut:
				h.Set("x-ms-error-code", "SomethingElse")
				w.WriteHeader(http.StatusConflict)
				return
			case r.URL.Query().Get("restype") == "container":
				h.Set("x-ms-immutable-storage-with-versioning-enabled", "true")
				return
			}
			h.Set("ETag", `"0x1"`)
			if looks++; looks == 1 {
				h.Set("x-ms-version-id", "v1")
				h.Set("x-ms-immutability-policy-mode", "unlocked")
				h.Set("x-ms-immutability-policy-until-date", soon.Format(http.TimeFormat))
				return
			}
			h.Set("x-ms-version-id", version)
			h.Set("x-ms-immutability-policy-mode", "locked")
			h.Set("x-ms-immutability-policy-until-date", later.Format(http.TimeFormat))
		}))
		s, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: answers.URL, SAS: "sig=x"})
		if err != nil {
			t.Fatal(err)
		}
		err = s.Lock(t.Context(), "x", provider.Retention{Mode: provider.Governance, Until: soon.Add(time.Hour)})
		if err == nil || errors.Is(err, provider.ErrLocked) != locked {
			t.Errorf("seen afterwards is %s: %v", version, err)
		}
		answers.Close()
	}
}

// A service that ignores ranges would give bytes of the wrong place.
func TestRangesIgnored(t *testing.T) {
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"0x1"`)
		io.WriteString(w, "0123456789")
	}))
	defer answers.Close()
	s, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: answers.URL, SAS: "sig=x"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "x", provider.GetOptions{Offset: 3}); err == nil || !strings.Contains(err.Error(), "ignores ranges") {
		t.Errorf("%v", err)
	}
}

// What is stored is not what its SHA-256 says: a reader hears of it, unless it
// asked not to.
func TestUnverified(t *testing.T) {
	m := freshModel(true)
	s := openModel(t, m)
	if _, err := s.Put(t.Context(), "k", provider.Bytes([]byte("content")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	m.blobs["k"][0].body = []byte("CONTENT")
	for unverified, want := range map[bool]error{false: provider.ErrCorrupt, true: nil} {
		r, _, err := s.Get(t.Context(), "k", provider.GetOptions{Unverified: unverified})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); !errors.Is(err, want) || unverified && string(b) != "CONTENT" {
			t.Errorf("unverified: %t: %q, %v", unverified, b, err)
		}
		r.Close()
	}
}

// A prefix may end within a character, which the service does not take; names
// that Put refuses are left out.
func TestListOfOthers(t *testing.T) {
	m := freshModel(false)
	s := openModel(t, m)
	for _, key := range []string{"a\u00e4", "a\u00f6", "b"} {
		if _, err := s.Put(t.Context(), key, provider.Bytes(nil), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	m.blobs["a\u00e4/."] = m.blobs["b"]
	for prefix, want := range map[string]string{"a\xc3": "a\u00e4 a\u00f6", "a\xc3\xa4": "a\u00e4", "a\xc4": "", "": "a\u00e4 a\u00f6 b"} {
		var got []string
		for info, err := range s.List(t.Context(), prefix, provider.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Key)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q, want %q", prefix, got, want)
		}
	}
}

// What goes out for retentions, keys, scopes and tiers, at once and in blocks.
func TestRequests(t *testing.T) {
	m := freshModel(true)
	server := httptest.NewTLSServer(m)
	t.Cleanup(server.Close)
	base := azure.Config{Container: "ccc", Endpoint: server.URL + "/account", SAS: "sig=x", PartSize: 256 << 10, Attempts: 1,
		CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})}
	until := time.Date(2040, 2, 3, 4, 5, 6, 1, time.UTC)
	key := bytes.Repeat([]byte{7}, 32)
	sum := sha256.Sum256(key)
	const rounded = "Fri, 03 Feb 2040 04:05:07 GMT"
	for name, c := range map[string]struct {
		change func(*azure.Config)
		o      provider.PutOptions
		sends  map[string]string // by each request with content
		makes  map[string]string // by the one that makes the blob
		reads  map[string]string
	}{
		"governance": {o: provider.PutOptions{Retain: provider.Retention{Mode: provider.Governance, Until: until}},
			makes: map[string]string{"x-ms-immutability-policy-mode": "Unlocked", "x-ms-immutability-policy-until-date": rounded}},
		"compliance": {o: provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: until}, IfAbsent: true},
			makes: map[string]string{"x-ms-immutability-policy-mode": "Locked", "x-ms-immutability-policy-until-date": rounded, "If-None-Match": "*"}},
		"key": {change: func(c *azure.Config) { c.CustomerKey = key },
			sends: map[string]string{"x-ms-encryption-algorithm": "AES256", "x-ms-encryption-key": b64(key), "x-ms-encryption-key-sha256": b64(sum[:])},
			makes: map[string]string{"x-ms-encryption-key": b64(key)}, reads: map[string]string{"x-ms-encryption-key": b64(key)}},
		"scope": {change: func(c *azure.Config) { c.EncryptionScope = "scope" },
			sends: map[string]string{"x-ms-encryption-scope": "scope"}, makes: map[string]string{"x-ms-encryption-scope": "scope"}},
		"tier": {change: func(c *azure.Config) { c.Tier = "Cool" }, makes: map[string]string{"x-ms-access-tier": "Cool"}},
	} {
		config := base
		if c.change != nil {
			c.change(&config)
		}
		s, err := azure.Open(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{1000, inBlocks} {
			m.asked = nil
			blob := fmt.Sprint(name, size)
			if _, err := s.Put(t.Context(), blob, provider.Bytes(noise(size)), c.o); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if b, _, err := provider.ReadAll(t.Context(), s, blob, inBlocks); err != nil || !bytes.Equal(b, noise(size)) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := s.Stat(t.Context(), blob); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			seen := map[string]int{}
			check := func(r *http.Request, kind string, want map[string]string) {
				seen[kind]++
				for header, value := range want {
					if got := r.Header.Get(header); got != value {
						t.Errorf("%s: %d bytes: %s: %s is %q, want %q", name, size, kind, header, got, value)
					}
				}
			}
			for _, r := range m.asked {
				switch {
				case sends(r) && r.Header.Get("x-ms-content-crc64") == "":
					t.Errorf("%s: content without a checksum", name)
				case sends(r):
					check(r, "sends", c.sends)
				}
				if commits(r) {
					check(r, "makes", c.makes)
				}
				if strings.HasSuffix(r.URL.Path, blob) && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
					check(r, "reads", c.reads)
				}
			}
			if want := map[int]int{1000: 1, inBlocks: 4}[size]; seen["sends"] != want || seen["makes"] != 1 || seen["reads"] != 2 {
				t.Errorf("%s: %d bytes: requests %v", name, size, seen)
			}
		}
	}
}
