package azure_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// commits matches the requests that make a blob.
func commits(r *http.Request) bool {
	comp := r.URL.Query().Get("comp")
	return r.Method == http.MethodPut && (comp == "" || comp == "blocklist")
}

// sends matches the requests that carry content.
func sends(r *http.Request) bool {
	comp := r.URL.Query().Get("comp")
	return r.Method == http.MethodPut && (comp == "" || comp == "block")
}

func gets(r *http.Request) bool { return r.Method == http.MethodGet && !r.URL.Query().Has("comp") }

// A Put whose reply was lost is carried out once, and says so: the SDK makes
// it again and is told that the condition does not hold. An answer of 500 is
// no answer.
func TestPutWithLostReply(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
	failed := func(r *http.Response) error {
		r.StatusCode, r.Body, r.ContentLength = 500, io.NopCloser(strings.NewReader("")), 0
		r.Header = http.Header{}
		return nil
	}
	for i, how := range []func(*http.Response) error{badnet.Lost, failed} {
		for _, size := range []int{10, 600 << 10} {
			var version provider.Version
			for j, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "of the first"}} {
				content := noise(size + j)
				if o.IfMatch != "" {
					o.IfMatch = version
				}
				happened := n.Breaks(1, commits, how)
				info, err := s.Put(t.Context(), fmt.Sprint("x", i, size), provider.Bytes(content), o)
				if happened.Load() != 1 {
					t.Fatalf("%d replies were badnet.Lost, want 1", happened.Load())
				}
				if err != nil {
					t.Fatalf("put of %d bytes with %+v: %v", size, o, err)
				}
				version = info.Version
				b, present, err := provider.ReadAll(t.Context(), s, info.Key, int64(size+j))
				if err != nil || present.Version != version || !bytes.Equal(b, content) {
					t.Errorf("%d bytes of version %q, %v; put said %q", len(b), present.Version, err, version)
				}
			}
		}
	}
}

// When no reply at all comes, the outcome is looked up, and a Put that was
// refused is a conflict all the same.
func TestPutWithAllRepliesLost(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), func(c *azure.Config) { n.through(server)(c); c.Attempts = 2 })
	n.Breaks(1000, commits, badnet.Lost)
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("it is there, and the Put says: %v", err)
	}
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true}); err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("a second Put of the same bytes, of which nothing is known: %v", err)
	}
	n.Clear()
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("put on a taken key: %v", err)
	}
}

// A Put that succeeded without a reply and was replaced at once has not met a
// conflict, and does not know whether it succeeded.
func TestPutReplacedBeforeItKnew(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	container := server.NewContainer(t)
	s, other := open(t, server, container, n.through(server)), open(t, server, container, nil)
	n.Breaks(1, commits, func(*http.Response) error {
		if _, err := other.Put(context.Background(), "x", provider.Bytes([]byte("other")), provider.PutOptions{}); err != nil {
			t.Error(err)
		}
		return badnet.ErrLost
	})
	_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true})
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown") {
		t.Errorf("%v, want an unknown outcome", err)
	}
}

// A Delete whose reply was lost is done; one that meets another blob when it is
// made again does not know whether it was.
func TestDeleteWithLostReply(t *testing.T) {
	t.Parallel()
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	container := server.NewContainer(t)
	s, other := open(t, server, container, n.through(server)), open(t, server, container, nil)
	deletes := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	for key, how := range map[string]func(*http.Response) error{"gone": badnet.Lost, "replaced": func(*http.Response) error {
		if _, err := other.Put(context.Background(), "replaced", provider.Bytes(nil), provider.PutOptions{IfAbsent: true}); err != nil {
			t.Error(err)
		}
		return badnet.ErrLost
	}} {
		info, err := s.Put(t.Context(), key, provider.Bytes([]byte("old")), provider.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		happened := n.Breaks(1, deletes, how)
		err = s.Delete(t.Context(), key, provider.DeleteOptions{Version: info.Version})
		if happened.Load() != 1 || key == "gone" && err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if key == "replaced" && (err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "outcome unknown")) {
			t.Errorf("%s: %v, want an unknown outcome", key, err)
		}
	}
}

// What changes on the way is refused by the service before it is kept.
func TestPutDamagedOnTheWay(t *testing.T) {
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
	for _, size := range []int{1000, 600 << 10} {
		happened := n.Meets(1, sends, func(_ http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			b[len(b)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(b))
		})
		_, err := s.Put(t.Context(), "x", provider.Bytes(noise(size)), provider.PutOptions{})
		if !errors.Is(err, provider.ErrCorrupt) || happened.Load() != 1 {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%d bytes: afterwards: %v", size, err)
		}
	}
}

// A service that is busy is asked again when it says.
func TestBusy(t *testing.T) {
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
	all := func(*http.Request) bool { return true }
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		busy := func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("x-ms-error-code", "ServerBusy")
			w.Header().Set("x-ms-retry-after-ms", "1")
			w.WriteHeader(status)
		}
		happened := n.Meets(3, all, busy)
		if _, err := s.Put(t.Context(), fmt.Sprint(status), provider.Bytes(noise(10)), provider.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("%d: %v", status, err)
		}
		if happened.Load() != 3 {
			t.Errorf("%d: asked %d times while busy", status, happened.Load())
		}
		// It says that it has done nothing: a refusal after it is a conflict.
		n.Meets(2, commits, busy)
		if _, err := s.Put(t.Context(), fmt.Sprint(status), provider.Bytes(noise(10)), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%d: on a taken key: %v", status, err)
		}
		happened = n.Meets(1000, all, busy)
		if _, err := s.Stat(t.Context(), "x"); err == nil || errors.Is(err, provider.ErrNotFound) || happened.Load() != 5 {
			t.Errorf("%d: always busy: %v after %d attempts", status, err, happened.Load())
		}
		n.Clear()
	}
}

// A server that is silent keeps nobody longer than he wants to wait.
func TestSilentServer(t *testing.T) {
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
	if _, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	n.Meets(1000, gets, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := s.Get(ctx, "x", provider.GetOptions{})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// A connection that breaks goes on where it broke; damage is found.
func TestGetOverBadNetwork(t *testing.T) {
	server := testenv.Azurite(t)
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
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

// A container that is not there is not a blob that is not there: a caller
// would take it for an empty store.
func TestNoSuchContainer(t *testing.T) {
	server := testenv.Azurite(t)
	s := open(t, server, "no-such-container", nil)
	_, _, getErr := s.Get(t.Context(), "x", provider.GetOptions{})
	_, statErr := s.Stat(t.Context(), "x")
	_, putErr := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{IfMatch: "0x1"})
	errs := map[string]error{"get": getErr, "stat": statErr, "put": putErr, "delete": s.Delete(t.Context(), "x", provider.DeleteOptions{})}
	for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		errs["list"] = err
	}
	for op, err := range errs {
		if err == nil || errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "ContainerNotFound") {
			t.Errorf("%s: %v", op, err)
		}
	}
}

// No error tells what opens the store.
func TestErrorsKeepSecrets(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	gone := httptest.NewServer(nil)
	gone.Close()
	const sig = "c2VjcmV0"
	for name, change := range map[string]func(*azure.Config){
		"no server": func(c *azure.Config) {
			c.AccountKey, c.SAS, c.Endpoint, c.Attempts = "", "sv=2024-01-01&sig="+sig, gone.URL+"/account", 1
		},
		"wrong SAS": func(c *azure.Config) {
			c.AccountKey, c.SAS = "", "?sv=2021-12-02&sr=c&sp=r&se=2020-01-01T00:00:00Z&sig="+sig
		},
		"wrong key":    func(c *azure.Config) { c.AccountKey = sig },
		"no server, k": func(c *azure.Config) { c.Endpoint, c.Attempts = gone.URL+"/account", 1 },
	} {
		s := open(t, server, container, change)
		_, putErr := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{})
		_, statErr := s.Stat(t.Context(), "x")
		for _, err := range []error{putErr, statErr} {
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			if text := err.Error(); strings.Contains(text, sig) || strings.Contains(text, server.Key) || strings.Contains(text, "sig=") || strings.Contains(text, "\n") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}

// Whoever waits for another call to have found out what the account is, or what
// the container can do, waits no longer than his ctx lasts.
func TestWaitsForAnotherAsLongAsItMay(t *testing.T) {
	server := testenv.Azurite(t)
	for what, put := range map[string]provider.PutOptions{
		"account": {}, "": {Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Minute)}},
	} {
		n := newNetwork(t, server, httptest.NewServer)
		s := open(t, server, server.NewContainer(t), n.through(server))
		asked := n.Meets(1<<30, func(r *http.Request) bool {
			q := r.URL.Query()
			return r.Method != http.MethodPut && q.Get("restype") == cmp.Or(what, "container") && q.Get("comp") != "list"
		}, badnet.Swallow)
		storetest.WaitsAsLongAsItMay(t, func(ctx context.Context) error {
			_, err := s.Put(ctx, "x", provider.Bytes(nil), put)
			return err
		}, func() bool { return asked.Load() > 0 })
	}
}

// Whether a retention is in force the clock of the service says. Here it is two
// days behind ours.
func TestRetentionByTheClockOfTheService(t *testing.T) {
	config := newModel(t, freshModel(true))
	n := badnet.New(t, config.Endpoint, httptest.NewServer)
	config.Endpoint = n.URL + "/account"
	s, err := azure.Open(t.Context(), *config)
	if err != nil {
		t.Fatal(err)
	}
	o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: time.Now().Add(time.Hour)}}
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("x")), o); err != nil {
		t.Fatal(err)
	}
	const behind = 48 * time.Hour
	n.Breaks(1<<30, func(r *http.Request) bool { return r.Method == http.MethodHead }, func(r *http.Response) error {
		const field = "X-Ms-Immutability-Policy-Until-Date"
		until, err := http.ParseTime(r.Header.Get(field))
		r.Header.Set(field, until.Add(-behind).UTC().Format(http.TimeFormat))
		r.Header.Set("Date", time.Now().Add(-behind).UTC().Format(http.TimeFormat))
		return err
	})
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if _, err := s.Stat(t.Context(), "x"); err != nil {
		t.Errorf("what is under retention: %v", err)
	}
}
