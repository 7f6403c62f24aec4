package gcp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// commits matches the requests that make an object.
func commits(r *http.Request) bool {
	q := r.URL.Query()
	return q.Get("uploadType") == "multipart" || q.Has("upload_id") && !strings.HasSuffix(r.Header.Get("Content-Range"), "/*")
}

// pieces matches the other requests of an upload that brings bytes.
func pieces(r *http.Request) bool { return r.URL.Query().Has("upload_id") && !commits(r) }

func begins(r *http.Request) bool {
	q := r.URL.Query()
	return q.Get("uploadType") == "resumable" && !q.Has("upload_id")
}

// place is a bucket behind the rules and a bad network.
type place struct {
	*badnet.Network
	rules  *rules
	bucket string
}

func newPlace(t *testing.T, versions bool) place {
	server := testenv.FakeGCS(t)
	r := newRules(t, server.Endpoint, versions, true)
	return place{badnet.New(t, r.url, httptest.NewServer), r, server.NewBucket(t, testenv.BucketOptions{Versions: versions})}
}

func (p place) open(t *testing.T, change func(*gcp.Config)) *gcp.Store {
	return open(t, p.URL, p.bucket, func(c *gcp.Config) {
		c.PartSize = 1 << 20
		if change != nil {
			change(c)
		}
	})
}

// A Put whose reply was lost is carried out once, and says so: it is made
// again and is told that the condition does not hold.
func TestPutWithLostReply(t *testing.T) {
	p := newPlace(t, true)
	s := p.open(t, nil)
	for name, how := range map[string]func(*http.Response) error{"reset": badnet.Lost, "503": badnet.Becomes(503, nil), "500": badnet.Becomes(500, nil), "502": badnet.Becomes(502, nil)} {
		for _, size := range []int{10, 3<<20 + 1} {
			var version provider.Version
			for i, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "of the first"}} {
				content := noise(size + i)
				if o.IfMatch != "" {
					o.IfMatch = version
				}
				happened := p.Breaks(1, commits, how)
				info, err := s.Put(t.Context(), fmt.Sprint(name, size), provider.Bytes(content), o)
				if happened.Load() != 1 {
					t.Fatalf("%d replies were badnet.Lost, want 1", happened.Load())
				}
				if err != nil {
					t.Fatalf("%s: put of %d bytes with %+v: %v", name, size, o, err)
				}
				version = info.Version
				b, present, err := provider.ReadAll(t.Context(), s, info.Key, int64(size+i))
				if err != nil || present.Version != version || !bytes.Equal(b, content) {
					t.Errorf("%s: %d bytes of version %q, %v; put said %q", name, len(b), present.Version, err, version)
				}
			}
		}
	}
}

// When no reply at all comes, the outcome is looked up, and a Put that was
// refused is no success.
func TestPutWithAllRepliesLost(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, func(c *gcp.Config) { c.Attempts = 2 })
	for _, size := range []int{4, 2<<20 + 5} {
		key, content := fmt.Sprint(size), provider.Bytes(noise(size))
		happened := p.Breaks(1000, commits, badnet.Lost)
		if _, err := s.Put(t.Context(), key, content, provider.PutOptions{IfAbsent: true}); err != nil {
			t.Errorf("it is there, and the Put says: %v", err)
		}
		if n := happened.Load(); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
		_, err := s.Put(t.Context(), key, content, provider.PutOptions{IfAbsent: true})
		if err == nil || errors.Is(err, provider.ErrConflict) {
			t.Errorf("a second Put of the same bytes, of which nothing is known, says: %v", err)
		}
		p.Clear()
		if _, err := s.Put(t.Context(), key, content, provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("put on a taken key: %v", err)
		}
	}
}

// After a lost reply another wrote: what became of the first is not known, and
// must not be said to have changed nothing.
func TestPutReplacedAfterLostReply(t *testing.T) {
	p := newPlace(t, false)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	p.Breaks(1, commits, func(*http.Response) error {
		if _, err := other.Put(t.Context(), "x", provider.Bytes([]byte("other")), provider.PutOptions{}); err != nil {
			t.Error(err)
		}
		return badnet.ErrLost
	})
	_, err := s.Put(t.Context(), "x", provider.Bytes([]byte("mine")), provider.PutOptions{IfAbsent: true})
	if err == nil || errors.Is(err, provider.ErrConflict) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("put that was replaced: %v", err)
	}

	// What another wrote is locked, too.
	p.Breaks(1, commits, func(*http.Response) error {
		o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Minute)}}
		if _, err := other.Put(t.Context(), "y", provider.Bytes([]byte("other")), o); err != nil {
			t.Error(err)
		}
		return badnet.ErrLost
	})
	_, err = s.Put(t.Context(), "y", provider.Bytes([]byte("mine")), provider.PutOptions{})
	if err == nil || errors.Is(err, provider.ErrLocked) || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("put that was replaced and locked: %v", err)
	}
}

// Whatever breaks before the last piece of an upload is sent again alone.
func TestUploadOverBadNetwork(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	content := noise(5<<20 + 77)
	for name, c := range map[string]struct {
		match func(*http.Request) bool
		times int32
		how   func(*http.Response) error
	}{
		"begin lost":         {begins, 2, badnet.Lost},
		"pieces lost":        {pieces, 4, badnet.Lost},
		"pieces refused":     {pieces, 4, badnet.Becomes(503, nil)},
		"slow down":          {pieces, 2, badnet.Becomes(429, nil)},
		"the last one lost":  {commits, 2, badnet.Lost},
		"all of them, often": {func(r *http.Request) bool { return begins(r) || pieces(r) || commits(r) }, 4, badnet.Becomes(500, nil)},
	} {
		happened := p.Breaks(c.times, c.match, c.how)
		info, err := s.Put(t.Context(), name, provider.Bytes(content), provider.PutOptions{IfAbsent: true})
		if err != nil || happened.Load() != c.times {
			t.Errorf("%s: %v after %d faults", name, err, happened.Load())
			continue
		}
		p.Clear()
		b, got, err := provider.ReadAll(t.Context(), s, name, int64(len(content)))
		if err != nil || !bytes.Equal(b, content) || got.Version != info.Version || got.SHA256 != sha256.Sum256(content) {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	happened := p.Breaks(1000, pieces, badnet.Becomes(503, nil))
	if _, err := s.Put(t.Context(), "never", provider.Bytes(content), provider.PutOptions{}); err == nil || happened.Load() != 5 {
		t.Errorf("no piece was taken in %d attempts, want 5: %v", happened.Load(), err)
	}
	var n atomic.Int32
	happened = p.Breaks(1000, func(r *http.Request) bool { return pieces(r) && n.Add(1)%4 != 0 }, badnet.Becomes(503, nil))
	if _, err := s.Put(t.Context(), "each", provider.Bytes(content), provider.PutOptions{}); err != nil || happened.Load() < 10 {
		t.Errorf("each piece was taken at its fourth attempt, %d failed: %v", happened.Load(), err)
	}
	happened = p.Breaks(1000, commits, badnet.Becomes(403, nil))
	if _, err := s.Put(t.Context(), "denied", provider.Bytes(nil), provider.PutOptions{}); err == nil || happened.Load() != 1 {
		t.Errorf("what will not pass was tried %d times: %v", happened.Load(), err)
	}
	p.Clear()
	if _, err := s.Stat(t.Context(), "never"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the failed put: %v", err)
	}
}

// A service that asks to wait is obeyed.
func TestRetryAfter(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	for _, code := range []int{429, 503} {
		happened := p.Breaks(1, commits, badnet.Becomes(code, http.Header{"Retry-After": {"1"}}))
		began := time.Now()
		if _, err := s.Put(t.Context(), fmt.Sprint(code), provider.Bytes(nil), provider.PutOptions{}); err != nil || happened.Load() != 1 {
			t.Errorf("%d: %v", code, err)
		}
		if waited := time.Since(began); waited < time.Second {
			t.Errorf("%d: made again after %v, and the service asked for a second", code, waited)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p.Breaks(1000, func(*http.Request) bool { return true }, badnet.Becomes(429, http.Header{"Retry-After": {"50"}}))
	began := time.Now()
	if _, err := s.Stat(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 20*time.Second {
		t.Errorf("with an ended ctx: %v after %v", err, time.Since(began))
	}
}

// Requests are made so often and no more.
func TestAttempts(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, func(c *gcp.Config) { c.Attempts = 3 })
	all := func(*http.Request) bool { return true }
	for name, call := range map[string]func() error{
		"put": func() error {
			_, err := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{})
			return err
		},
		"stat":   func() error { _, err := s.Stat(t.Context(), "x"); return err },
		"delete": func() error { return s.Delete(t.Context(), "x", provider.DeleteOptions{}) },
		"list": func() error {
			for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
				return err
			}
			return nil
		},
	} {
		happened := p.Breaks(1000, all, badnet.Becomes(429, nil))
		if err := call(); err == nil || happened.Load() != 3 {
			t.Errorf("%s: %v after %d attempts, want 3", name, err, happened.Load())
		}
	}
}

// A lost reply to a delete is a delete; one after which another wrote is not
// said to have changed nothing.
func TestDeleteWithLostReply(t *testing.T) {
	p := newPlace(t, false)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	deletes := func(r *http.Request) bool { return r.Method == http.MethodDelete }
	put := func(s *gcp.Store) provider.Info {
		t.Helper()
		info, err := s.Put(t.Context(), "x", provider.Bytes([]byte("x")), provider.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	for _, conditional := range []bool{false, true} {
		var o provider.DeleteOptions
		if info := put(s); conditional {
			o.Version = info.Version
		}
		p.Breaks(1, deletes, badnet.Lost)
		if err := s.Delete(t.Context(), "x", o); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
		if _, err := other.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%+v: it is still there: %v", o, err)
		}
	}
	info := put(s)
	p.Breaks(1, deletes, func(*http.Response) error { put(other); return badnet.ErrLost })
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{Version: info.Version}); err == nil || errors.Is(err, provider.ErrConflict) {
		t.Errorf("deleted, and written by another: %v", err)
	}
	if _, err := other.Stat(t.Context(), "x"); err != nil {
		t.Errorf("what another wrote: %v", err)
	}
}

// Between the look at an object and its removal another writes and locks: what
// he wrote stays.
func TestDeleteOfWhatWasLookedAt(t *testing.T) {
	p := newPlace(t, false)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	ctx := t.Context()
	if _, err := s.Put(ctx, "x", provider.Bytes([]byte("x")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	looks := func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/o/x") }
	p.Breaks(1, looks, func(*http.Response) error {
		_, err := other.Put(ctx, "x", provider.Bytes([]byte("y")), provider.PutOptions{Retain: provider.Retention{Mode: provider.Governance, Until: time.Now().Add(time.Hour)}})
		return err
	})
	if err := s.Delete(ctx, "x", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if b, _, err := provider.ReadAll(ctx, other, "x", 10); err != nil || string(b) != "y" {
		t.Errorf("%q, %v", b, err)
	}
}

func media(r *http.Request) bool { return r.URL.Query().Get("alt") == "media" }

// A connection that breaks goes on where it broke; damage is found.
func TestGetOverBadNetwork(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	content := noise(1 << 20)
	if _, err := s.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, how := range []func(*http.Response) error{badnet.Cut, badnet.Becomes(503, nil)} {
		for _, o := range []provider.GetOptions{{}, {Offset: 1000}, {Offset: 5, Length: 500_000}} {
			happened := p.Breaks(3, media, how)
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
	}

	// Replaced while it is read: the reader must not go on with other bytes.
	p.Breaks(1, media, badnet.Cut)
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
		p.Breaks(1, media, flip)
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

func flip(r *http.Response) error {
	b, err := io.ReadAll(r.Body)
	b[len(b)/2] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(b))
	return err
}

// Replaced between the two requests of a Get: it delivers one of the two.
func TestGetOfWhatIsReplaced(t *testing.T) {
	p := newPlace(t, false)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	put := func(n int) {
		t.Helper()
		if _, err := other.Put(t.Context(), "x", provider.Bytes(noise(n)), provider.PutOptions{Meta: map[string]string{"n": fmt.Sprint(n)}}); err != nil {
			t.Error(err)
		}
	}
	n := 1000
	put(n)
	for _, match := range []func(*http.Request) bool{media, func(r *http.Request) bool { return !media(r) }} {
		happened := p.Breaks(3, match, func(r *http.Response) error { n++; put(n); return nil })
		b, info, err := provider.ReadAll(t.Context(), s, "x", 1<<20)
		if err != nil || fmt.Sprint(len(b)) != info.Meta["n"] || !bytes.Equal(b, noise(len(b))) {
			t.Errorf("%d bytes, %+v, %v", len(b), info, err)
		}
		if happened.Load() == 0 {
			t.Error("it was not replaced")
		}
	}
	p.Breaks(1, media, func(r *http.Response) error { return other.Delete(t.Context(), "x", provider.DeleteOptions{}) })
	if _, _, err := provider.ReadAll(t.Context(), s, "x", 1<<20); err != nil && !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("deleted meanwhile: %v", err)
	}
}

// The answer with the bytes is about one version, the other about its successor:
// they are not taken for one.
func TestGetOfTwoVersions(t *testing.T) {
	p := newPlace(t, false)
	other := open(t, p.rules.url, p.bucket, nil)
	for _, n := range []int{10, 20} {
		replaced := make(chan struct{})
		var asked, looked atomic.Int32
		between := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case media(r) && asked.Add(1) == 1:
				rec := httptest.NewRecorder()
				p.rules.ServeHTTP(rec, r)
				if _, err := other.Put(t.Context(), "x", provider.Bytes(noise(n+1)), provider.PutOptions{}); err != nil {
					t.Error(err)
				}
				close(replaced)
				maps.Copy(w.Header(), rec.Header())
				w.WriteHeader(rec.Code)
				w.Write(rec.Body.Bytes())
				return
			case !media(r) && looked.Add(1) == 1:
				<-replaced
			}
			p.rules.ServeHTTP(w, r)
		})
		if _, err := other.Put(t.Context(), "x", provider.Bytes(noise(n)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		b, info, err := provider.ReadAll(t.Context(), open(t, serve(t, between), p.bucket, nil), "x", 1<<20)
		if err != nil || !bytes.Equal(b, noise(n+1)) || info.Size != int64(n+1) || asked.Load() != 2 {
			t.Errorf("%d bytes, %+v, %v", len(b), info, err)
		}
	}
}

// changing is a body that is other bytes when it is read for the second time.
type changing struct {
	*bytes.Reader
	second []byte
	read   int64
}

func (c *changing) ReadAt(b []byte, off int64) (int, error) {
	from := c.Reader
	if c.read >= c.Size() {
		from = bytes.NewReader(c.second)
	}
	n, err := from.ReadAt(b, off)
	c.read += int64(n)
	return n, err
}

// What a body was summed as is not what it is any more, in one request and in
// pieces.
func TestBodyChangedSinceSummed(t *testing.T) {
	p := newPlace(t, true)
	s := p.open(t, nil)
	for _, size := range []int{10, 3 << 20} {
		content := noise(size)
		body := provider.SummedBytes(content, sha256.Sum256(content))
		if known := body.(provider.Summed); known.CRC32C() != crc32.Checksum(content, crc32.MakeTable(crc32.Castagnoli)) {
			t.Fatal("the sum is of something else")
		}
		content[size-1] ^= 1
		key := fmt.Sprint("changed/", size)
		if _, err := s.Put(t.Context(), key, body, provider.PutOptions{}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d: %v", size, err)
		}
		if _, err := s.Stat(t.Context(), key); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%d: something was stored: %v", size, err)
		}
	}
}

// In pieces: the condition and the sums are judged before anything is visible.
func TestPieces(t *testing.T) {
	p := newPlace(t, true)
	ctx, s := t.Context(), p.open(t, nil)
	for _, size := range []int{1 << 20, 1<<20 + 1, 2 << 20, 3<<20 - 1, 3 << 20} {
		content := noise(size)
		until := time.Now().Add(time.Minute)
		key := fmt.Sprint("d/", size)
		o := provider.PutOptions{IfAbsent: true, SHA256: sha256.Sum256(content), Meta: map[string]string{"a": "b  c"},
			Retain: provider.Retention{Mode: provider.Governance, Until: until}}
		put, err := s.Put(ctx, key, provider.SummedBytes(content, o.SHA256), o)
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		b, info, err := provider.ReadAll(ctx, s, key, int64(len(content)))
		if err != nil || !bytes.Equal(b, content) || info.Version != put.Version || info.SHA256 != o.SHA256 || info.Meta["a"] != "b  c" ||
			info.Retain.Mode != provider.Governance || info.Retain.Until.Before(until) {
			t.Errorf("%d: %d bytes, %+v, %v", size, len(b), info, err)
		}
		if _, err := s.Put(ctx, key, provider.Bytes(content), o); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%d: on a taken key: %v", size, err)
		}
		if _, err := s.Put(ctx, key, provider.Bytes(content), provider.PutOptions{IfMatch: "1"}); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%d: IfMatch of another version: %v", size, err)
		}
	}
	content := noise(3<<20 + 5)
	other := bytes.Clone(content)
	other[len(other)-1] ^= 1
	long := int64(len(content))
	ended, cancel := context.WithCancel(ctx)
	for name, c := range map[string]struct {
		body provider.Body
		sum  [32]byte
		ctx  context.Context
		want error
	}{
		"another SHA-256":        {provider.Bytes(content), [32]byte{1}, ctx, provider.ErrCorrupt},
		"changes":                {&changing{Reader: bytes.NewReader(content), second: other}, [32]byte{}, ctx, provider.ErrCorrupt},
		"changes after a sum":    {provider.SummedBytes(other, sha256.Sum256(content)), sha256.Sum256(other), ctx, provider.ErrCorrupt},
		"ends early":             {io.NewSectionReader(bytes.NewReader(content), 0, long+1), [32]byte{}, ctx, io.ErrUnexpectedEOF},
		"ends early when sent":   {&changing{Reader: bytes.NewReader(content), second: content[:long-1]}, [32]byte{}, ctx, io.ErrUnexpectedEOF},
		"is cancelled when sent": {&cancelling{bytes.NewReader(content), 2*long - 10, cancel}, [32]byte{}, ended, context.Canceled},
	} {
		if _, err := s.Put(c.ctx, "d/y", c.body, provider.PutOptions{SHA256: c.sum}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Stat(ctx, "d/y"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%s: after the refused put: %v", name, err)
		}
	}
}

type cancelling struct {
	*bytes.Reader
	left   int64
	cancel func()
}

func (c *cancelling) ReadAt(b []byte, off int64) (int, error) {
	if c.left -= int64(len(b)); c.left < 0 {
		c.cancel()
	}
	return c.Reader.ReadAt(b, off)
}

// What is changed on the way to the service is refused by it.
func TestDamageOnTheWay(t *testing.T) {
	p := newPlace(t, false)
	damage := http.NewServeMux()
	damage.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if i := bytes.Index(b, []byte("its end")); i >= 0 {
			b[i] ^= 1
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		p.rules.ServeHTTP(w, r)
	})
	s := open(t, serve(t, damage), p.bucket, func(c *gcp.Config) { c.PartSize = 1 << 20 })
	for _, size := range []int{100, 2 << 20} {
		content := append(bytes.Repeat([]byte{1}, size), "its end"...)
		if _, err := s.Put(t.Context(), "x", provider.Bytes(content), provider.PutOptions{}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if _, err := s.Stat(t.Context(), "x"); !errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// What the service says that it has stored is something else, or nothing: that is
// no success, although the object of this Put is there.
func TestSomethingElseStored(t *testing.T) {
	p := newPlace(t, false)
	for name, change := range map[string]func(map[string]any){
		"crc32c":     func(answer map[string]any) { answer["crc32c"] = "AAAAAA==" },
		"generation": func(answer map[string]any) { answer["generation"] = "0" },
	} {
		liar := http.NewServeMux()
		liar.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				p.rules.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			p.rules.ServeHTTP(rec, r)
			var answer map[string]any
			if err := json.Unmarshal(rec.Body.Bytes(), &answer); err != nil {
				t.Error(err)
			}
			change(answer)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(rec.Code)
			json.NewEncoder(w).Encode(answer)
		})
		s := open(t, serve(t, liar), p.bucket, nil)
		if _, err := s.Put(t.Context(), name, provider.Bytes([]byte("content")), provider.PutOptions{}); !errors.Is(err, provider.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A bucket that is not there is not an object that is not there: a caller
// would take it for an empty store.
func TestNoSuchBucket(t *testing.T) {
	s := open(t, testenv.FakeGCS(t).Endpoint, "no-such-bucket", nil)
	_, _, getErr := s.Get(t.Context(), "x", provider.GetOptions{})
	_, statErr := s.Stat(t.Context(), "x")
	var listErr error
	for _, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		listErr = err
	}
	_, putErr := s.Put(t.Context(), "x", provider.Bytes(nil), provider.PutOptions{})
	for what, err := range map[string]error{"get": getErr, "stat": statErr, "list": listErr, "put": putErr, "delete": s.Delete(t.Context(), "x", provider.DeleteOptions{})} {
		if err == nil || errors.Is(err, provider.ErrNotFound) || what != "put" && !strings.Contains(err.Error(), "bucket doesn't exist") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func serve(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// That nobody can say whether there is a bucket is no reason to believe that
// there is one.
func TestNoSuchBucketOverBadNetwork(t *testing.T) {
	n := badnet.New(t, testenv.FakeGCS(t).Endpoint, httptest.NewServer)
	s := open(t, n.URL, "no-such-bucket", func(c *gcp.Config) { c.Attempts = 1 })
	lists := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/o") }
	n.Meets(1, lists, badnet.Answers(http.StatusInternalServerError, nil, ""))
	for range 2 {
		if _, err := s.Stat(t.Context(), "x"); err == nil || errors.Is(err, provider.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
}

// The address of an upload lets anybody go on with it.
func TestErrorsKeepAddressesOfUploads(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, func(c *gcp.Config) { c.Attempts = 2 })
	address := ""
	p.Breaks(1<<30, func(r *http.Request) bool {
		if id := r.URL.Query().Get("upload_id"); id != "" {
			address = id
		}
		return address != ""
	}, badnet.Lost)
	_, err := s.Put(t.Context(), "x", provider.Bytes(noise(3<<20)), provider.PutOptions{})
	if err == nil || address == "" || strings.Contains(err.Error(), address) {
		t.Errorf("%v has %q in it", err, address)
	}
}

// The longest range there is ends with the object.
func TestLongestRange(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1, 3} {
		for _, length := range []int64{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - 3} {
			r, _, err := s.Get(t.Context(), "x", provider.GetOptions{Offset: off, Length: length})
			if err != nil {
				t.Errorf("%d, %d: %v", off, length, err)
				continue
			}
			b, err := io.ReadAll(r)
			r.Close()
			if err != nil || string(b) != "content"[off:] {
				t.Errorf("%d, %d: %q, %v", off, length, b, err)
			}
		}
	}
}

// Whether a retention is in force the clock of the service says. Here it is two
// days behind ours.
func TestRetentionByTheClockOfTheService(t *testing.T) {
	p := newPlace(t, true)
	s, other := p.open(t, nil), open(t, p.rules.url, p.bucket, nil)
	until := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	o := provider.PutOptions{Retain: provider.Retention{Mode: provider.Compliance, Until: until}}
	if _, err := other.Put(t.Context(), "x", provider.Bytes([]byte("x")), o); err != nil {
		t.Fatal(err)
	}
	const behind = 48 * time.Hour
	changed := p.Breaks(1<<30, badnet.All, func(r *http.Response) error {
		b, err := io.ReadAll(r.Body)
		b = bytes.ReplaceAll(b, []byte(until.Format(time.RFC3339)), []byte(until.Add(-behind).Format(time.RFC3339)))
		r.Body = io.NopCloser(bytes.NewReader(b))
		r.Header.Set("Date", time.Now().Add(-behind).UTC().Format(http.TimeFormat))
		return err
	})
	if err := s.Delete(t.Context(), "x", provider.DeleteOptions{}); !errors.Is(err, provider.ErrLocked) {
		t.Errorf("delete: %v", err)
	}
	if info, err := s.Stat(t.Context(), "x"); err != nil || !info.Retain.Until.Equal(until.Add(-behind)) || changed.Load() == 0 {
		t.Errorf("what is under retention: %+v, %v", info, err)
	}
}
