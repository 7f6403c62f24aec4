package local_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func openStore(t *testing.T, c local.Config) *local.BlobStore {
	t.Helper()
	s, err := local.NewBlobStore(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestBlobStore(t *testing.T) {
	dir := t.TempDir()
	providertest.TestBlobStore(t,
		func(t *testing.T) provider.BlobStore { return openStore(t, local.Config{Dir: dir, Create: true}) },
		providertest.CheckOptions{
			Second: func() (provider.BlobStore, error) { return openStore(t, local.Config{Dir: dir}), nil },
		})
}
