package provider_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestErrNotFoundIsErrNotExist(t *testing.T) {
	err := fmt.Errorf("open point: %w", &provider.Error{Op: "get", Provider: "local", Key: "points/1", Err: provider.ErrNotFound})
	if !errors.Is(err, provider.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Error("ErrNotFound must match itself and fs.ErrNotExist")
	}
	if errors.Is(fs.ErrNotExist, provider.ErrNotFound) {
		t.Error("a file that is not there is not yet an object that is not there")
	}
	for _, other := range []error{provider.ErrConflict, provider.ErrLocked, provider.ErrCorrupt, provider.ErrRange, provider.ErrInvalidKey} {
		if errors.Is(err, other) || errors.Is(other, fs.ErrNotExist) {
			t.Errorf("ErrNotFound and %q match", other)
		}
	}
}

func TestErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"local: put points/1: condition not met": &provider.Error{Op: "put", Provider: "local", Key: "points/1", Err: provider.ErrConflict},
		"s3: list: permission denied":            &provider.Error{Op: "list", Provider: "s3", Err: fs.ErrPermission},
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
}

// wrapper shows what it wraps; wall does not.
type wrapper struct{ provider.BlobStore }

func (w wrapper) Unwrap() provider.BlobStore { return w.BlobStore }

type wall struct{ provider.BlobStore }

func TestAs(t *testing.T) {
	m := providertest.NewMemory()
	if l, ok := provider.As[provider.Locker](wrapper{wrapper{m}}); !ok || l != provider.Locker(m) {
		t.Error("a power behind two wrappers is not found")
	}
	if _, ok := provider.As[provider.Locker](wall{m}); ok {
		t.Error("a power is found behind what does not unwrap")
	}
	if _, ok := provider.As[provider.Locker](wrapper{}); ok {
		t.Error("a power is found in nothing")
	}
	if got, ok := provider.As[wrapper](wrapper{m}); !ok || got.BlobStore != provider.BlobStore(m) {
		t.Error("the value itself is not found")
	}
}

func TestRetentionIsZero(t *testing.T) {
	if !(provider.Retention{}).IsZero() || (provider.Retention{Mode: provider.Governance}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestFileBody(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	body, err := provider.FileBody(f)
	if err != nil || body.Size() != 7 {
		t.Fatalf("%v, %v", body, err)
	}
	m := providertest.NewMemory()
	for range 2 { // a body can be read again
		if _, err := m.Put(t.Context(), "x", body, provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if b, _, err := provider.ReadAll(t.Context(), m, "x", 7); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	f.Close()
	if _, err := provider.FileBody(f); err == nil {
		t.Error("a closed file is a body")
	}
}

func TestReadAll(t *testing.T) {
	ctx := t.Context()
	m := providertest.NewMemory()
	if _, err := provider.PutOnce(ctx, m, "x", []byte("0123456789"), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, info, err := provider.ReadAll(ctx, m, "x", 10); err != nil || string(b) != "0123456789" || info.Size != 10 {
		t.Errorf("%q, %v, %v", b, info, err)
	}
	if _, _, err := provider.ReadAll(ctx, m, "x", 9); err == nil || !strings.Contains(err.Error(), "x") {
		t.Errorf("an object that is too large: %v", err)
	}
	if _, _, err := provider.ReadAll(ctx, m, "y", 9); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("a missing object: %v", err)
	}
	half := providertest.NewFaulty(m, func(providertest.Call) providertest.Fault {
		return providertest.Fault{After: providertest.ErrInjected}
	})
	if _, _, err := provider.ReadAll(ctx, half, "x", 10); !errors.Is(err, providertest.ErrInjected) {
		t.Errorf("a reader that fails midway: %v", err)
	}
}

func TestPutOnce(t *testing.T) {
	failing := func(f providertest.Fault) providertest.Script {
		return func(c providertest.Call) providertest.Fault {
			if c.Op == "put" {
				return f
			}
			return providertest.Fault{}
		}
	}
	for _, c := range []struct {
		name   string
		there  string // "" for nothing
		script providertest.Script
		want   error
	}{
		{name: "new"},
		{name: "the same bytes are there", there: "mine"},
		{name: "other bytes are there", there: "more", want: provider.ErrConflict},
		{name: "more bytes are there", there: "mine and more", want: provider.ErrConflict},
		{name: "reply lost", script: failing(providertest.Fault{After: providertest.ErrInjected})},
		{name: "not carried out", script: failing(providertest.Fault{Before: providertest.ErrInjected}), want: providertest.ErrInjected},
		{name: "not carried out, the same is there", there: "mine", script: failing(providertest.Fault{Before: providertest.ErrInjected})},
		{name: "not carried out, others are there", there: "more", script: failing(providertest.Fault{Before: providertest.ErrInjected}), want: provider.ErrConflict},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := t.Context()
			m := providertest.NewMemory()
			if c.there != "" {
				if _, err := m.Put(ctx, "x", strings.NewReader(c.there), provider.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			info, err := provider.PutOnce(ctx, providertest.NewFaulty(m, c.script), "x", []byte("mine"), provider.PutOptions{})
			if c.want != nil {
				if !errors.Is(err, c.want) {
					t.Errorf("%v, want %v", err, c.want)
				}
				return
			}
			present, statErr := m.Stat(ctx, "x")
			if err != nil || statErr != nil || info.Version != present.Version {
				t.Errorf("version %q, %v; present is %q, %v", info.Version, err, present.Version, statErr)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := provider.PutOnce(ctx, providertest.NewMemory(), "x", nil, provider.PutOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended ctx: %v", err)
	}
	if _, err := provider.PutOnce(t.Context(), providertest.NewMemory(), "", nil, provider.PutOptions{}); !errors.Is(err, provider.ErrInvalidKey) {
		t.Errorf("with an invalid key: %v", err)
	}
}

// A lease or a journal record is created once, whatever happens to replies.
func ExamplePutOnce() {
	ctx := context.Background()
	bucket := providertest.NewMemory()
	lossy := providertest.NewFaulty(bucket, func(c providertest.Call) providertest.Fault {
		if c.Op == "put" {
			return providertest.Fault{After: errors.New("connection reset")}
		}
		return providertest.Fault{}
	})
	_, err := provider.PutOnce(ctx, lossy, "journal/000001", []byte("fence"), provider.PutOptions{})
	fmt.Println(err)
	_, err = provider.PutOnce(ctx, lossy, "journal/000001", []byte("promote"), provider.PutOptions{})
	fmt.Println(errors.Is(err, provider.ErrConflict))
	// Output:
	// <nil>
	// true
}

// Who has created an object, and meets it again because nothing was heard of
// that, is not told that somebody else was first just because it cannot be
// read now: a journal would take itself for deposed.
func TestPutOnceMeetsItself(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		there string
		fault error
		taken bool // by other bytes, as far as anybody can know
	}{
		"cannot be read now":     {"mine", providertest.ErrInjected, false},
		"in a cold tier":         {"mine", provider.ErrCold, false},
		"throttled":              {"mine", provider.ErrThrottled, false},
		"may not be read":        {"mine", fs.ErrPermission, true},
		"damaged":                {"mine", provider.ErrCorrupt, true},
		"gone since":             {"mine", provider.ErrNotFound, true},
		"of another size anyway": {"mine and more", nil, true},
	} {
		m := providertest.NewMemory()
		if _, err := m.Put(ctx, "x", strings.NewReader(c.there), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		s := providertest.NewFaulty(m, func(call providertest.Call) providertest.Fault {
			if call.Op == "get" {
				return providertest.Fault{Before: c.fault}
			}
			return providertest.Fault{}
		})
		_, err := provider.PutOnce(ctx, s, "x", []byte("mine"), provider.PutOptions{})
		if err == nil || errors.Is(err, provider.ErrConflict) != c.taken || !c.taken && !errors.Is(err, c.fault) {
			t.Errorf("%s: %v", name, err)
		}
	}

	ended, cancel := context.WithCancel(ctx)
	m := providertest.NewMemory()
	if _, err := m.Put(ctx, "x", strings.NewReader("mine"), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s := providertest.NewFaulty(m, func(call providertest.Call) providertest.Fault {
		if call.Op == "get" {
			cancel()
		}
		return providertest.Fault{Before: ended.Err()}
	})
	if _, err := provider.PutOnce(ended, s, "x", []byte("mine"), provider.PutOptions{}); !errors.Is(err, context.Canceled) || errors.Is(err, provider.ErrConflict) {
		t.Errorf("ctx ends before it is read: %v", err)
	}
}
