package gcp_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/badnet"
)

func rewrites(r *http.Request) bool { return strings.Contains(r.URL.EscapedPath(), "/rewriteTo/") }

// A copy whose reply was lost is found by its name, whatever its condition, and
// one that was refused is a conflict.
func TestCopyWithLostReply(t *testing.T) {
	p := newPlace(t, true)
	s := p.open(t, nil)
	source, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var last provider.Info
	for _, o := range []provider.PutOptions{{IfAbsent: true}, {IfMatch: "of the last"}, {}} {
		if o.IfMatch != "" {
			o.IfMatch = last.Version
		}
		happened := p.Breaks(1, rewrites, badnet.Lost)
		if last, err = s.CopyFrom(t.Context(), "y", s, source, o); err != nil || happened.Load() != 1 {
			t.Fatalf("copy with %+v: %v; %d replies were lost", o, err, happened.Load())
		}
		b, info, err := provider.ReadAll(t.Context(), s, "y", 100)
		if err != nil || string(b) != "content" || info.Version != last.Version || info.SHA256 != source.SHA256 {
			t.Errorf("copy with %+v: %q, %+v, %v; the copy said %q", o, b, info, err, last.Version)
		}
	}
	p.Clear()
	if _, err := s.CopyFrom(t.Context(), "y", s, source, provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("on a key with an object: %v", err)
	}
}

// What takes the service more than one request is asked for until it is done,
// with the token of the one before.
func TestCopyGoesOn(t *testing.T) {
	p := newPlace(t, false)
	s := p.open(t, nil)
	source, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tokens := ""
	p.Meets(2, rewrites, func(w http.ResponseWriter, r *http.Request) {
		tokens += r.URL.Query().Get("rewriteToken") + ";"
		if !r.URL.Query().Has("rewriteToken") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusOK)
			w.Write([]byte(`{"kind":"storage#rewriteResponse","totalBytesRewritten":"3","objectSize":"7","done":false,"rewriteToken":"further"}`))
		}
	})
	if _, err := s.CopyFrom(t.Context(), "y", s, source, provider.PutOptions{}); err != nil || tokens != ";further;" {
		t.Errorf("%v, tokens %q", err, tokens)
	}
}
