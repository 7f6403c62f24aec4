package azure_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

// stages matches the requests by which the service reads a source.
func stages(r *http.Request) bool { return r.Header.Get("x-ms-copy-source") != "" }

func lists(r *http.Request) bool { return r.URL.Query().Get("comp") == "blocklist" }

func source(t *testing.T, s provider.BlobStore, key string, content []byte) provider.Info {
	t.Helper()
	info, err := s.Put(t.Context(), key, provider.Bytes(content), provider.PutOptions{Meta: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func copied(t *testing.T, s provider.BlobStore, key string, want []byte) provider.Info {
	t.Helper()
	b, info, err := provider.ReadAll(t.Context(), s, key, int64(len(want)))
	if err != nil || !bytes.Equal(b, want) {
		t.Errorf("%s: %d bytes, %v; want the %d of the source", key, len(b), err, len(want))
	}
	return info
}

func notCopied(t *testing.T, s provider.BlobStore, key string) {
	t.Helper()
	if info, err := s.Stat(context.WithoutCancel(t.Context()), key); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("%s is there: %+v, %v", key, info, err)
	}
}

// A copy whose reply was lost, of the block or of the list, is carried out
// once, and says so.
func TestCopyWithLostReply(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	twice := func(c *azure.Config) { n.through(server)(c); c.Attempts = 2 }
	from, to := open(t, server, server.NewContainer(t), twice), open(t, server, server.NewContainer(t), twice)
	content := noise(10_000)
	info := source(t, from, "x", content)
	var version provider.Version
	for _, c := range []struct {
		o     provider.PutOptions
		which func(*http.Request) bool
	}{{provider.PutOptions{IfAbsent: true}, lists}, {provider.PutOptions{IfMatch: "of the last"}, lists}, {provider.PutOptions{}, lists}, {provider.PutOptions{}, stages}} {
		if c.o.IfMatch != "" {
			c.o.IfMatch = version
		}
		happened := n.Breaks(1, c.which, badnet.Lost)
		got, err := to.CopyFrom(t.Context(), "y", from, info, c.o)
		if err != nil || happened.Load() != 1 {
			t.Fatalf("copy with %+v: %v; %d replies were lost", c.o, err, happened.Load())
		}
		if there := copied(t, to, "y", content); there.Version != got.Version || there.SHA256 != sha256.Sum256(content) || there.Meta["a"] != "b" {
			t.Errorf("copy says version %q, get %+v", got.Version, there)
		}
		version = got.Version
	}
	n.Clear()
	if _, err := to.CopyFrom(t.Context(), "y", from, info, provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("on a taken key: %v", err)
	}
	n.Breaks(1000, lists, badnet.Lost)
	if _, err := to.CopyFrom(t.Context(), "all", from, info, provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("all replies lost, it is there, and the copy says: %v", err)
	}
	if _, err := to.CopyFrom(t.Context(), "all", from, info, provider.PutOptions{IfAbsent: true}); err == nil || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a second one, of which nothing is known: %v", err)
	}
}

// A copy that ends early, because the service fails or the caller leaves,
// leaves what was there, and nothing where there was nothing.
func TestCopyFails(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), func(c *azure.Config) { n.through(server)(c); c.Attempts = 2 })
	info := source(t, s, "x", noise(100))
	source(t, s, "taken", noise(50))
	for name, which := range map[string]func(*http.Request) bool{"block": stages, "list": lists} {
		n.Meets(1000, which, badnet.Answers(http.StatusInternalServerError, nil, ""))
		for _, key := range []string{"new", "taken"} {
			if _, err := s.CopyFrom(t.Context(), key, s, info, provider.PutOptions{}); err == nil || errors.Is(err, provider.ErrConflict) || errors.Is(err, provider.ErrNotFound) {
				t.Errorf("%s, to %s: %v", name, key, err)
			}
		}
		n.Clear()
		ctx, cancel := context.WithCancel(t.Context())
		n.Meets(1, which, func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // or the server does not see that the caller leaves
			cancel()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})
		if _, err := s.CopyFrom(ctx, "new", s, info, provider.PutOptions{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s, cancelled: %v", name, err)
		}
		n.Clear()
	}
	notCopied(t, s, "new")
	copied(t, s, "taken", noise(50))
}

// No copy is made without the tags of its source; where there are none, nobody
// is asked for them.
func TestCopyTags(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), func(c *azure.Config) { n.through(server)(c); c.Attempts = 2 })
	info := source(t, s, "x", noise(100))
	plain := source(t, s, "plain", noise(100))
	tags := map[string]string{"team": "a+b c", "keep": "7"}
	if err := s.SetTags(t.Context(), "x", "", tags); err != nil {
		t.Fatal(err)
	}
	asks := func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Query().Get("comp") == "tags" }
	asked := n.Breaks(1<<30, asks, func(*http.Response) error { return nil })
	if _, err := s.CopyFrom(t.Context(), "untagged", s, plain, provider.PutOptions{}); err != nil || asked.Load() > 0 {
		t.Errorf("without tags: %v, asked %d times", err, asked.Load())
	}
	n.Clear()
	for name, c := range map[string]struct {
		which  func(*http.Request) bool
		status int
		code   string
		want   error
	}{
		"may not read them": {asks, 403, "AuthorizationPermissionMismatch", fs.ErrPermission}, "may not set them": {lists, 403, "AuthorizationPermissionMismatch", fs.ErrPermission},
		"deleted": {asks, 404, "BlobNotFound", provider.ErrNotFound},
	} {
		n.Meets(1, c.which, badnet.Answers(c.status, http.Header{"x-ms-error-code": {c.code}}, ""))
		if _, err := s.CopyFrom(t.Context(), "new", s, info, provider.PutOptions{IfAbsent: true}); !errors.Is(err, c.want) || errors.Is(err, provider.ErrConflict) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		n.Clear()
		notCopied(t, s, "new")
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.Meets(1, asks, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	if _, err := s.CopyFrom(ctx, "new", s, info, provider.PutOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	n.Clear()
	notCopied(t, s, "new")
	for name, which := range map[string]func(*http.Request) bool{"tags": asks, "list": lists} {
		happened := n.Breaks(1, which, badnet.Lost)
		_, err := s.CopyFrom(t.Context(), name, s, info, provider.PutOptions{IfAbsent: true})
		if got, terr := s.Tags(t.Context(), name, ""); err != nil || terr != nil || !maps.Equal(got, tags) || happened.Load() != 1 {
			t.Errorf("the reply to %s lost: %v; it has the tags %q, %v", name, err, got, terr)
		}
		n.Clear()
	}
}

// What is large is copied in blocks, each of the version that was asked for; a
// source that is replaced on the way leaves nothing behind, and is copied as it
// is now if any version is wanted.
func TestCopyInBlocks(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	container := server.NewContainer(t)
	s := open(t, server, container, func(c *azure.Config) { n.through(server)(c); c.Concurrency = 1 })
	direct := open(t, server, container, nil)
	s.CopyInPartsOf(100_000)
	content, other := noise(350_000), noise(250_001)
	info := source(t, s, "x", content)
	blocks := n.Breaks(1<<30, stages, func(*http.Response) error { return nil })
	if _, err := s.CopyFrom(t.Context(), "y", s, info, provider.PutOptions{}); err != nil || blocks.Load() != 4 {
		t.Fatalf("%v, in %d blocks, want 4", err, blocks.Load())
	}
	if there := copied(t, s, "y", content); there.SHA256 != info.SHA256 {
		t.Errorf("SHA-256 %x", there.SHA256)
	}
	replaced := func(content []byte) {
		var once atomic.Bool
		n.Breaks(1<<30, stages, func(*http.Response) error {
			if once.CompareAndSwap(false, true) { // after the first block
				_, err := direct.Put(context.Background(), "x", provider.Bytes(content), provider.PutOptions{})
				return err
			}
			return nil
		})
	}
	replaced(other)
	if _, err := s.CopyFrom(t.Context(), "z", s, info, provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) {
		t.Errorf("the source was replaced, and the copy says: %v", err)
	}
	notCopied(t, s, "z")
	replaced(content)
	if _, err := s.CopyFrom(t.Context(), "z", s, provider.Info{Key: "x"}, provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("the source was replaced, any version will do, and the copy says: %v", err)
	}
	copied(t, s, "z", content)
	// Onto itself, which changes the metadata alone.
	n.Clear()
	if _, err := s.CopyFrom(t.Context(), "y", s, provider.Info{Key: "y"}, provider.PutOptions{Meta: map[string]string{"c": "d"}}); err != nil {
		t.Error(err)
	}
	if there := copied(t, s, "y", content); !maps.Equal(there.Meta, map[string]string{"c": "d"}) {
		t.Errorf("onto itself: %q", there.Meta)
	}
}

// The service reads the source by the credential of its store: by a signature
// that is made of the account key and can read no more than that blob, by its
// signature, never by the key itself.
func TestCopyAuthorization(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	container, other := server.NewContainer(t), server.NewContainer(t)
	content := noise(1000)
	info := source(t, open(t, server, container, nil), "d/x", content)
	n := newNetwork(t, server, httptest.NewServer)
	var seen []*url.URL
	n.Meets(1<<30, stages, func(_ http.ResponseWriter, r *http.Request) {
		u, err := url.Parse(r.Header.Get("x-ms-copy-source"))
		if err != nil {
			t.Error(err)
		}
		seen = append(seen, u)
	})
	to := open(t, server, other, n.through(server))
	with := func(change func(*azure.Config)) *azure.Store {
		return open(t, server, container, func(c *azure.Config) { n.through(server)(c); change(c) })
	}
	key := with(func(*azure.Config) {})
	text := with(func(c *azure.Config) {
		*c = azure.Config{Container: container, ConnectionString: "AccountName=" + server.Account + ";AccountKey=" + server.Key + ";BlobEndpoint=" + c.Endpoint}
	})
	signature := with(func(c *azure.Config) {
		c.AccountKey, c.SAS = "", server.SAS(t, container, sas.ContainerPermissions{Read: true})
	})
	for name, from := range map[string]*azure.Store{"key": key, "connection string": text, "signature": signature} {
		seen = nil
		if _, err := to.CopyFrom(t.Context(), "y", from, info, provider.PutOptions{}); err != nil || len(seen) != 1 {
			t.Fatalf("%s: %v, %d requests", name, err, len(seen))
		}
		copied(t, to, "y", content)
		if q := seen[0].Query(); name != "signature" && (q.Get("sp") != "r" || q.Get("sr") != "b" || !q.Has("se")) || strings.Contains(seen[0].String(), server.Key) {
			t.Errorf("%s: read by %v", name, q)
		}
	}
	blind := with(func(c *azure.Config) {
		c.AccountKey, c.SAS = "", server.SAS(t, container, sas.ContainerPermissions{List: true})
	})
	if _, err := to.CopyFrom(t.Context(), "z", blind, info, provider.PutOptions{}); !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("by a credential that may not read: %v", err)
	}
	notCopied(t, to, "z")
}

// From one account to another the source is read by a signature of its own
// account, made of the key or given; the key of the destination opens nothing
// there. Conditions and lost replies are as within an account.
func TestCopyBetweenAccounts(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	there := server.Other
	n := newNetwork(t, server, httptest.NewServer)
	from := there.NewContainer(t)
	to := open(t, server, server.NewContainer(t), func(c *azure.Config) { n.through(server)(c); c.Attempts = 2 })
	to.CopyInPartsOf(100_000)
	content := noise(250_001)
	reached := n.through(there) // by the address that the destination has, or Azurite takes it for another service
	owner := open(t, there, from, reached)
	info := source(t, owner, "d/ä b", content)
	tags := map[string]string{"team": "a b"}
	if err := owner.SetTags(t.Context(), info.Key, "", tags); err != nil {
		t.Fatal(err)
	}
	signed := func(may sas.ContainerPermissions) *azure.Store {
		return open(t, there, from, func(c *azure.Config) { reached(c); c.AccountKey, c.SAS = "", there.SAS(t, from, may) })
	}
	for name, s := range map[string]*azure.Store{"key": owner, "signature": signed(sas.ContainerPermissions{Read: true, Tag: true})} {
		for fault, which := range map[string]func(*http.Request) bool{"none": func(*http.Request) bool { return false }, "block": stages, "list": lists} {
			if name == "signature" && fault != "none" {
				continue
			}
			n.Breaks(1, which, badnet.Lost)
			key := name + "-" + fault
			if _, err := to.CopyFrom(t.Context(), key, s, info, provider.PutOptions{IfAbsent: true}); err != nil {
				t.Errorf("%s: %v", key, err)
			}
			n.Clear()
			got, err := to.Tags(t.Context(), key, "")
			if now := copied(t, to, key, content); err != nil || now.SHA256 != info.SHA256 || now.Meta["a"] != "b" || !maps.Equal(got, tags) {
				t.Errorf("%s: %+v, tags %q, %v", key, now, got, err)
			}
			if _, err := to.CopyFrom(t.Context(), key, s, info, provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
				t.Errorf("%s, on a taken key: %v", key, err)
			}
		}
	}
	for name, s := range map[string]*azure.Store{
		"may list alone":        signed(sas.ContainerPermissions{List: true}),
		"may not read the tags": signed(sas.ContainerPermissions{Read: true}),
	} {
		if _, err := to.CopyFrom(t.Context(), "no", s, info, provider.PutOptions{}); !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The key of this account is no key of that one.
	wrong, err := azure.Open(t.Context(), azure.Config{Container: from, Account: there.Account, Endpoint: n.URL + "/" + there.Account, AccountKey: server.Key, Attempts: 1})
	if err == nil {
		_, err = to.CopyFrom(t.Context(), "no", wrong, info, provider.PutOptions{})
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("by the key of another account: %v", err)
	}
	source(t, owner, info.Key, noise(9))
	if _, err := to.CopyFrom(t.Context(), "no", owner, info, provider.PutOptions{}); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("of what was replaced: %v", err)
	}
	notCopied(t, to, "no")
}

// What the service cannot or may not copy, it says, and leaves nothing.
func TestCopyRefused(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	s := open(t, server, container, nil)
	info := source(t, s, "x", noise(100))
	elsewhere := open(t, server, container, newNetwork(t, server, httptest.NewServer).through(server)) // which Azurite takes for another
	if _, err := s.CopyFrom(t.Context(), "y", elsewhere, info, provider.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("from a server that it does not reach: %v", err)
	}
	if err := archives(t, server, container)(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CopyFrom(t.Context(), "y", s, info, provider.PutOptions{}); !errors.Is(err, provider.ErrCold) {
		t.Errorf("from the Archive tier: %v", err)
	}
	long := strings.TrimSuffix(strings.Repeat("é/", 250), "/") // of which a URL has nine bytes for three
	info = source(t, s, long, noise(100))
	if _, err := s.CopyFrom(t.Context(), "y", s, info, provider.PutOptions{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("from a URL that is too long: %v", err)
	}
	for _, key := range []string{"", "a//b", "a."} {
		if _, err := s.CopyFrom(t.Context(), key, s, info, provider.PutOptions{}); !errors.Is(err, provider.ErrInvalidKey) {
			t.Errorf("to %q: %v", key, err)
		}
	}
	notCopied(t, s, "y")
}

// What Azurite does not show: sources that are read with a token, behind a
// firewall, and of an earlier version.
func TestCopyRequests(t *testing.T) {
	t.Parallel()
	m := freshModel(true)
	server := httptest.NewTLSServer(m)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	credential := &tokens{}
	s, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Endpoint: server.URL + "/account", CA: ca, Credential: credential, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	keyed, err := azure.Open(t.Context(), azure.Config{Container: "ccc", Account: "account", Endpoint: server.URL + "/account", CA: ca, AccountKey: "a2V5", CustomerKey: noise(32), Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	old := source(t, s, "x", []byte("old"))
	source(t, s, "x", []byte("newer"))
	asked := func() *http.Request {
		m.mu.Lock()
		defer m.mu.Unlock()
		for i := len(m.asked) - 1; ; i-- {
			if stages(m.asked[i]) {
				return m.asked[i]
			}
		}
	}
	if _, err := s.CopyFrom(t.Context(), "y", s, old, provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	copied(t, s, "y", []byte("old"))
	if r := asked(); !strings.HasPrefix(r.Header.Get("x-ms-copy-source-authorization"), "Bearer token") || strings.Contains(r.Header.Get("x-ms-copy-source"), "sig=") {
		t.Errorf("with a token the source was read by %q of %s", r.Header.Get("x-ms-copy-source-authorization"), r.Header.Get("x-ms-copy-source"))
	}
	if _, err := s.CopyFrom(t.Context(), "z", keyed, old, provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	copied(t, s, "z", []byte("old"))
	r := asked()
	u, err := url.Parse(r.Header.Get("x-ms-copy-source"))
	if q := u.Query(); err != nil || q.Get("sr") != "c" || q.Get("sp") != "r" || q.Get("spr") != "https" || !q.Has("versionid") {
		t.Errorf("of an earlier version with a key: %v, %v", q, err)
	}
	if r.Header.Get("x-ms-source-encryption-key") != b64(noise(32)) || r.Header.Get("x-ms-encryption-key") != "" {
		t.Errorf("the key of the source is not that of the source: %q", r.Header)
	}
	m.firewalled = true
	if _, err := s.CopyFrom(t.Context(), "no", s, old, provider.PutOptions{}); !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrNotFound) {
		t.Errorf("behind a firewall: %v", err)
	}
	notCopied(t, s, "no")
}
