package storetest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// careless is a store that looks first and writes then, or is wrong in
// another way.
type careless struct {
	provider.BlobStore
	how string
}

func (s careless) Put(ctx context.Context, key string, b provider.Body, o provider.PutOptions) (provider.Info, error) {
	switch s.how {
	case "looks before it writes":
		info, err := s.Stat(ctx, key)
		if o.IfAbsent && err == nil || o.IfMatch != "" && (err != nil || info.Version != o.IfMatch) {
			return provider.Info{}, provider.ErrConflict
		}
		runtime.Gosched()
		time.Sleep(time.Millisecond)
		o.IfAbsent, o.IfMatch = false, ""
	case "refuses all":
		return provider.Info{}, provider.ErrConflict
	case "fails otherwise", "loses the winner's":
		info, err := s.BlobStore.Put(ctx, key, b, o)
		if s.how == "fails otherwise" && errors.Is(err, provider.ErrConflict) {
			err = errors.New("busy")
		}
		if s.how != "fails otherwise" && err == nil {
			info, err = s.BlobStore.Put(ctx, key, strings.NewReader("another's"), provider.PutOptions{})
		}
		return info, err
	}
	return s.BlobStore.Put(ctx, key, b, o)
}

// Who judges a race must be able to find fault.
func TestRaceFindsFault(t *testing.T) {
	for how, want := range map[string]string{
		"": "", "looks before it writes": "have won", "refuses all": "0 have won", "fails otherwise": "lost by another error", "loses the winner's": "the store holds",
	} {
		store := careless{providertest.NewMemory(), how}
		err := rally(t.Context(), store, 2, func(c contest) ([]win, error) { return c.run(t.Context(), store, 0, racersHere) })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a store that %s: %v", how, err)
		}
	}
}

func TestCountFindsFault(t *testing.T) {
	for how, want := range map[string]string{"": "", "looks before it writes": "was written"} {
		store := careless{providertest.NewMemory(), how}
		err := counted(t.Context(), store, 16, contest{Count: 4}, func(c contest) ([]win, error) { return c.count(t.Context(), store, 4) })
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a store that %s: %v", how, err)
		}
	}
}
