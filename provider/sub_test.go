package provider_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// A part of a store is a store, but for the length of its keys.
func TestSub(t *testing.T) {
	m := providertest.NewMemory()
	neighbours := []string{"shop", "shop.", "shop0", "sho/p"}
	for _, key := range neighbours {
		if _, err := m.Put(t.Context(), key, provider.Bytes([]byte(key)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	report := providertest.CheckBlobStore(t.Context(), provider.Sub(m, "shop/"), providertest.CheckOptions{})
	if failed := report.Failed(); !slices.Equal(failed, []string{"blob/keys-plain"}) {
		t.Errorf("%v", report)
	}
	for _, key := range neighbours {
		if b, _, err := provider.ReadAll(t.Context(), m, key, 100); err != nil || string(b) != key {
			t.Errorf("%s: %q, %v", key, b, err)
		}
	}
}

// A part of a store is named after it.
func TestSubString(t *testing.T) {
	named := struct {
		provider.BlobStore
		fmt.Stringer
	}{providertest.NewMemory(), time.Second}
	if got, want := fmt.Sprint(provider.Sub(provider.Sub(named, "a/"), "b/")), "1s below a/ below b/"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := fmt.Sprint(provider.Sub(providertest.NewMemory(), "a/")), "*providertest.Memory below a/"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
