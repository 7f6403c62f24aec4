package azure_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
)

const inBlocks = 1_000_000 // bytes, of which a block has a quarter

// In blocks: the condition and the SHA-256 are judged before anything is
// visible, and the SHA-256 is kept although it was not known beforehand.
func TestBlocks(t *testing.T) {
	server := testenv.Azurite(t)
	ctx := t.Context()
	n := newNetwork(t, server, httptest.NewServer)
	s := open(t, server, server.NewContainer(t), n.through(server))
	content := noise(inBlocks)
	sum := sha256.Sum256(content)
	blocks := n.Meets(1000, func(r *http.Request) bool { return r.URL.Query().Get("comp") == "block" }, func(http.ResponseWriter, *http.Request) {})
	put, err := s.Put(ctx, "d/x", provider.Bytes(content), provider.PutOptions{IfAbsent: true, Meta: map[string]string{"0-a": "b  c"}})
	if err != nil {
		t.Fatal(err)
	}
	if blocks.Load() != 4 {
		t.Errorf("%d blocks were sent, want 4", blocks.Load())
	}
	b, info, err := provider.ReadAll(ctx, s, "d/x", int64(len(content)))
	if err != nil || !bytes.Equal(b, content) || info.Version != put.Version || info.SHA256 != sum || put.SHA256 != sum || info.Meta["0-a"] != "b  c" {
		t.Errorf("%d bytes, %+v, %v", len(b), info, err)
	}
	for _, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "another"}, {IfMatch: "*"}, {IfAbsent: true, IfMatch: put.Version}} {
		if _, err := s.Put(ctx, "d/x", provider.Bytes(content), o); !errors.Is(err, provider.ErrConflict) {
			t.Errorf("%+v on a taken key: %v", o, err)
		}
	}
	if _, err := s.Put(ctx, "d/y", provider.Bytes(content), provider.PutOptions{SHA256: [32]byte{1}}); !errors.Is(err, provider.ErrCorrupt) {
		t.Errorf("another SHA-256: %v", err)
	}
	if _, err := s.Put(ctx, "d/y", provider.Bytes(content), provider.PutOptions{IfMatch: put.Version}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("IfMatch on a key without an object: %v", err)
	}
	short := io.NewSectionReader(bytes.NewReader(content), 0, inBlocks+1)
	if _, err := s.Put(ctx, "d/y", short, provider.PutOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that ends early: %v", err)
	}
	if _, err := s.Stat(ctx, "d/y"); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("after the refused puts: %v", err)
	}
	for info, err := range s.List(ctx, "d/y", provider.ListOptions{}) {
		t.Errorf("blocks that were not committed are listed: %+v, %v", info, err)
	}
	if _, err := s.Put(ctx, "d/y", provider.Bytes(content), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("over blocks that were left: %v", err)
	}
}

// Racing puts of one key take each other's blocks away. Each without a
// condition succeeds all the same, with one only one does, and what is there
// is what one of them sent.
func TestRacingBlocks(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	start, err := open(t, server, container, nil).Put(t.Context(), "match", provider.Bytes(nil), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for key, o := range map[string]provider.PutOptions{"any": {}, "absent": {IfAbsent: true}, "match": {IfMatch: start.Version}} {
		const racers = 4
		var infos [racers]provider.Info
		var errs [racers]error
		var g sync.WaitGroup
		for i := range racers {
			s := open(t, server, container, func(c *azure.Config) { c.PartSize = 256 << 10 })
			g.Go(func() { infos[i], errs[i] = s.Put(t.Context(), key, provider.Bytes(noise(inBlocks+i)), o) })
		}
		g.Wait()
		b, present, err := provider.ReadAll(t.Context(), open(t, server, container, nil), key, 2*inBlocks)
		if err != nil {
			t.Fatal(err)
		}
		won := 0
		for i, err := range errs {
			switch {
			case err == nil:
				won++
				if infos[i].Version == present.Version && !bytes.Equal(b, noise(inBlocks+i)) {
					t.Errorf("%s: the object is not what the put of its version sent", key)
				}
			case !errors.Is(err, provider.ErrConflict):
				t.Errorf("%s: %v", key, err)
			}
		}
		if want := map[string]int{"any": racers, "absent": 1, "match": 1}[key]; won != want {
			t.Errorf("%s: %d of %d succeeded, want %d: %v", key, won, racers, want, errs)
		}
	}
}

// The blocks that another Put took away are sent again under other names, some
// times; a condition that no longer holds is a conflict. Azurite leaves blocks
// where they are, so the answer of the service comes from the network.
func TestBlocksTakenAway(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	n := newNetwork(t, server, httptest.NewServer)
	s, other := open(t, server, container, n.through(server)), open(t, server, container, nil)
	take := func(key string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.Header().Set("x-ms-error-code", "InvalidBlockList")
			defer w.WriteHeader(http.StatusBadRequest)
			if _, err := other.Put(t.Context(), key, provider.Bytes([]byte("taken")), provider.PutOptions{}); err != nil {
				t.Error(err)
			}
		}
	}
	for times, want := range map[int32]error{1: nil, 4: nil, 5: errors.ErrUnsupported} {
		key := fmt.Sprint("any", times)
		happened := n.Meets(times, lists, take(key))
		_, err := s.Put(t.Context(), key, provider.Bytes(noise(inBlocks)), provider.PutOptions{})
		if (err == nil) != (want == nil) || happened.Load() != times {
			t.Errorf("taken away %d times: %v", happened.Load(), err)
		}
	}
	n.Meets(1, lists, take("absent"))
	if _, err := s.Put(t.Context(), "absent", provider.Bytes(noise(inBlocks)), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("IfAbsent: %v", err)
	}
	// Taken away by a Put that is gone again: the condition holds.
	n.Meets(1, lists, func(w http.ResponseWriter, r *http.Request) {
		take("gone")(w, r)
		if err := other.Delete(t.Context(), "gone", provider.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.Put(t.Context(), "gone", provider.Bytes(noise(inBlocks)), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Errorf("IfAbsent, and absent again: %v", err)
	}
}

// Blocks of another program, with names of another length, are in the way: the
// error says so.
func TestBlocksOfAnother(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	blob := server.Client(t, container).NewBlockBlobClient("x")
	if _, err := blob.StageBlock(t.Context(), "AAAA", streaming.NopCloser(bytes.NewReader([]byte("x"))), nil); err != nil {
		t.Fatal(err)
	}
	s := open(t, server, container, func(c *azure.Config) { c.PartSize = 256 << 10 })
	_, err := s.Put(t.Context(), "x", provider.Bytes(noise(inBlocks)), provider.PutOptions{})
	if err == nil || !strings.Contains(err.Error(), "another program has left blocks") {
		t.Errorf("%v", err)
	}
}
