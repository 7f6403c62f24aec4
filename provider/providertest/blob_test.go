package providertest_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMemory(t *testing.T) {
	providertest.TestBlobStore(t, func(t *testing.T) provider.BlobStore { return providertest.NewMemory() }, providertest.CheckOptions{})
}
