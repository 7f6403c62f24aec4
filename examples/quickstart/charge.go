package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/holdfast-go/holdfast/failover"
	"github.com/holdfast-go/holdfast/provider"
)

// A charge says which site is in charge of a service: the record at the
// witness that services ask before they accept a write. Site is empty while
// nobody is. Every change raises Epoch, and a service only ever serves under
// the epoch it was started with, so no old process can come back.
type charge struct {
	Site  string `json:"site"`
	Epoch uint64 `json:"epoch"`
	Lease uint64 `json:"lease"` // epoch of the failover lease under which it was made so; 0 at the beginning
}

func (c charge) String() string {
	if c.Site == "" {
		return fmt.Sprintf("nobody is in charge since epoch %d", c.Epoch)
	}
	return fmt.Sprintf("%s is in charge, epoch %d", c.Site, c.Epoch)
}

// chargeOf is the key of the record of a service. A test failover uses one of
// its own, which no production service asks for.
func chargeOf(service string) string { return "charge/" + service }

const maxCharge = 4 << 10

func readCharge(ctx context.Context, witness provider.BlobStore, key string) (charge, error) {
	c, _, err := readChargeVersion(ctx, witness, key)
	return c, err
}

func readChargeVersion(ctx context.Context, witness provider.BlobStore, key string) (c charge, v provider.Version, err error) {
	b, info, err := provider.ReadAll(ctx, witness, key, maxCharge)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return charge{}, "", fmt.Errorf("read %s: %w", key, err)
	}
	return c, info.Version, nil
}

// passCharge puts site in charge, with the next epoch, if allow permits it
// after seeing who is. If site is in charge already (a crash, or a reply that
// was lost) the record is left as it is. Whoever acts under an older lease than
// the record was made under is refused.
func passCharge(ctx context.Context, witness provider.BlobStore, key, site string, lease uint64, allow func(charge) error) (charge, error) {
	for {
		old, version, err := readChargeVersion(ctx, witness, key)
		if errors.Is(err, provider.ErrNotFound) {
			old, version, err = charge{}, "", nil
		}
		if err != nil {
			return charge{}, err
		}
		if old.Site == site && version != "" {
			return old, nil
		}
		if lease < old.Lease {
			return charge{}, fmt.Errorf("%v, by lease epoch %d; this is lease epoch %d: %w", old, old.Lease, lease, failover.ErrNoEffect)
		}
		if err := allow(old); err != nil {
			return charge{}, err
		}
		next := charge{Site: site, Epoch: old.Epoch + 1, Lease: lease}
		b, err := json.Marshal(next)
		if err != nil {
			return charge{}, err
		}
		_, err = witness.Put(ctx, key, provider.Bytes(b), provider.PutOptions{IfAbsent: version == "", IfMatch: version})
		if err == nil {
			return next, nil
		}
		// Somebody was quicker, or the reply was lost: what the record says
		// now decides. Only a store that cannot be asked ends this.
		if !errors.Is(err, provider.ErrConflict) {
			if c, readErr := readCharge(ctx, witness, key); readErr != nil || c != next {
				return charge{}, errors.Join(fmt.Errorf("write %s: %w", key, err), readErr)
			}
			return next, nil
		}
	}
}

// anyone allows passCharge from whoever is in charge.
func anyone(charge) error { return nil }
