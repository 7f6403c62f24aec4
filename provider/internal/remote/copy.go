package remote

import (
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/provider"
)

// ErrMoved: what is at the source's key is not the version to copy. It is of
// another kind than a conflict at the destination, which must not be in its
// chain.
var ErrMoved = errors.New("not that version")

const movedOn = 3 // how often the present version may change before Copy gives up

// Copy makes a copy. Where any version of the source will do, one that is
// replaced meanwhile is begun again with the next; else ErrMoved is
// [provider.ErrNotFound].
func Copy(source provider.Info, once func() (provider.Info, error)) (provider.Info, error) {
	for attempt := 1; ; attempt++ {
		info, err := once()
		if !errors.Is(err, ErrMoved) {
			return info, err
		}
		if source.Version != "" || attempt == movedOn {
			return provider.Info{}, fmt.Errorf("source %q: %w: %w", source.Key, provider.ErrNotFound, err)
		}
	}
}

// CheckCopy compares the SHA-256 that a copy was asked to have with the one
// that is kept of its source; either may be zero, which is not known.
func CheckCopy(want, kept [32]byte) error {
	switch {
	case want == [32]byte{} || want == kept:
		return nil
	case kept == [32]byte{}:
		return fmt.Errorf("the SHA-256 of the source is not known: %w", errors.ErrUnsupported)
	}
	return fmt.Errorf("the source has another SHA-256: %w", provider.ErrCorrupt)
}
