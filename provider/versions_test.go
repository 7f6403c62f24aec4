package provider_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// Versions of a store that keeps none are its objects, also when only a
// wrapper finds that out.
func TestVersionsOfAnyStore(t *testing.T) {
	ctx := t.Context()
	m := providertest.NewMemory()
	for _, key := range []string{"a/1", "a/2", "b"} {
		if _, err := m.Put(ctx, key, provider.Bytes([]byte(key)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]provider.BlobStore{"none": m, "a wrapper": providertest.NewFaulty(m, nil)} {
		var got []string
		for v, err := range provider.Versions(ctx, s, "a/", provider.ListOptions{StartAfter: "a/1"}) {
			if err != nil || v.Deleted {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
			got = append(got, v.Key)
		}
		if fmt.Sprint(got) != "[a/2]" {
			t.Errorf("%s: versions of %q", name, got)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range provider.Versions(ended, m, "", provider.ListOptions{}) {
		if err == nil {
			t.Error("an ended ctx yields objects")
		}
	}
}
