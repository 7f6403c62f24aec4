package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestRepository(t *testing.T) {
	Repository(t, providertest.NewMemory(), backup.Lock{})
	Repository(t, providertest.NewMemory(), backup.Lock{Mode: provider.Governance, Keep: time.Hour})
}

func TestFailover(t *testing.T) {
	t.Parallel()
	m := providertest.NewMemory()
	Failover(t, func() provider.BlobStore { return m })
}

// deaf is a store that does not know some conditions.
type deaf struct {
	*providertest.Memory
	ignored []string
}

func (s deaf) String() string { return "the deaf store" }

func (s deaf) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	if slices.Contains(s.ignored, IfAbsent) {
		o.IfAbsent = false
	}
	if slices.Contains(s.ignored, IfMatch) {
		o.IfMatch = ""
	}
	return s.Memory.Put(ctx, key, b, o)
}

func TestRefused(t *testing.T) {
	Refused(t, func(t *testing.T, conditions ...string) (provider.BlobStore, string) {
		return provider.Sub(deaf{providertest.NewMemory(), conditions}, "part/"), "the deaf store below part/"
	})
}
