package replicate

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// inventory remembers what one listing of a store has shown, in little memory:
// keys are hashed, and of the content's hash only as much is kept as tells a
// mistake. One listing replaces a request for every object.
type inventory map[keyID]fact

type keyID [16]byte

type fact struct {
	size int64
	sum  [8]byte // beginning of the SHA-256 of the content; zero if not known
}

// standing says how an object stands at the destination.
type standing int

const (
	absent standing = iota
	same            // as far as the listing tells
	other
)

func idOf(key string) keyID {
	sum := sha256.Sum256([]byte(key))
	return keyID(sum[:16])
}

func factOf(i provider.Info) fact { return fact{i.Size, [8]byte(i.SHA256[:8])} }

// add lists every object under prefix.
func (inv inventory) add(ctx context.Context, s provider.BlobStore, prefix string) error {
	for info, err := range s.List(ctx, prefix, provider.ListOptions{}) {
		if err != nil {
			return fmt.Errorf("list the destination: %w", err)
		}
		inv[idOf(info.Key)] = factOf(info)
	}
	return nil
}

// standing compares what the source promises with what the listing showed.
func (inv inventory) standing(want provider.Info) standing {
	have, ok := inv[idOf(want.Key)]
	promised := factOf(want)
	switch {
	case !ok:
		return absent
	case have.size != promised.size,
		have.sum != promised.sum && have.sum != [8]byte{} && promised.sum != [8]byte{}:
		return other
	}
	return same
}

// situation is what a run begins with.
type situation struct {
	inventory
	arrived []provider.Info // manifests at the destination, newest first
	missing []provider.Info // manifests not there, or not the same, newest first
}

// look asks the source for its points and the destination which of them have
// arrived. Of the destination it lists no more than manifests need.
func look(ctx context.Context, source Source, to provider.BlobStore) (situation, error) {
	s := situation{inventory: inventory{}}
	var all []provider.Info
	for m, err := range source.Manifests(ctx) {
		if err != nil {
			return s, fmt.Errorf("list the points of the source: %w", err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return s, nil
	}
	if err := s.add(ctx, to, commonPrefix(all)); err != nil {
		return s, err
	}
	for i := len(all) - 1; i >= 0; i-- {
		if s.standing(all[i]) == same {
			s.arrived = append(s.arrived, all[i])
		} else {
			s.missing = append(s.missing, all[i])
		}
	}
	return s, nil
}

// commonPrefix returns what all keys begin with.
func commonPrefix(infos []provider.Info) string {
	prefix := infos[0].Key
	for _, i := range infos[1:] {
		for !strings.HasPrefix(i.Key, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return prefix
}

// volume counts objects.
type volume struct{ objects, bytes int64 }

// outstanding counts what the missing points lack, each object once. The
// destination must have been listed. An error in the objects of one point does
// not keep the others from being counted; report is told of it.
func (s situation) outstanding(ctx context.Context, source Source, report func(manifest string, err error)) volume {
	var v volume
	counted := map[keyID]struct{}{}
	count := func(o provider.Info) {
		id := idOf(o.Key)
		if _, twice := counted[id]; !twice && s.standing(o) != same {
			counted[id] = struct{}{}
			v.objects++
			v.bytes += o.Size
		}
	}
	for _, m := range s.missing {
		count(m)
		for o, err := range source.Objects(ctx, m.Key) {
			if err != nil {
				report(m.Key, err)
				break
			}
			count(o)
		}
	}
	return v
}
