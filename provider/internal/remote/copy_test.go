package remote

import (
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-go/holdfast/provider"
)

// A copy goes on with the next version of a source only if any will do, and
// not for ever; no other error is made again.
func TestCopy(t *testing.T) {
	other := errors.New("other")
	for _, c := range []struct {
		version provider.Version
		moved   int // times
		then    error
		calls   int
		want    error
	}{{"", 0, nil, 1, nil}, {"", 2, nil, 3, nil}, {"", 9, nil, 3, provider.ErrNotFound}, {"v", 1, nil, 1, provider.ErrNotFound}, {"v", 0, nil, 1, nil}, {"", 1, other, 2, other}, {"", 0, other, 1, other}} {
		calls := 0
		info, err := Copy(provider.Info{Key: "k", Version: c.version}, func() (provider.Info, error) {
			if calls++; calls <= c.moved {
				return provider.Info{}, fmt.Errorf("part 1: %w", ErrMoved)
			}
			return provider.Info{Key: "copy"}, c.then
		})
		if calls != c.calls || !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || err == nil && info.Key != "copy" {
			t.Errorf("%+v: %d calls, %+v, %v", c, calls, info, err)
		}
	}
}

func TestCheckCopy(t *testing.T) {
	none, one, two := [32]byte{}, [32]byte{1}, [32]byte{2}
	for _, c := range []struct {
		want, kept [32]byte
		err        error
	}{{none, none, nil}, {none, one, nil}, {one, one, nil}, {one, none, errors.ErrUnsupported}, {one, two, provider.ErrCorrupt}} {
		if err := CheckCopy(c.want, c.kept); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%x of %x: %v, want %v", c.want[0], c.kept[0], err, c.err)
		}
	}
}
