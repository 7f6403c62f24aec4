package backup

import (
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// TestR11HashesCount: neither another manifest in the place of one, nor the
// record of another, is taken for it.
func TestR11HashesCount(t *testing.T) {
	ctx, store := t.Context(), providertest.NewMemory()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := Init(ctx, Config{Store: store, Keyring: Keyring{Recipients: AgeRecipients(key.Recipient()), Identities: AgeIdentities(key)}})
	if err != nil {
		t.Fatal(err)
	}
	id := things{"a": "1"}.backup(t, r).ID
	b, _, err := provider.ReadAll(ctx, store, pointKey(id), maxManifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.recordForgotten(ctx, id); err != nil {
		t.Fatal(err)
	}
	right, wrong := linkTo(id, b), linkTo(id, []byte("another manifest"))
	for name, c := range map[string]struct {
		want link
		have map[PointID][]byte
		n    int
	}{
		"there":              {right, map[PointID][]byte{id: right.Sum}, 0},
		"replaced":           {right, map[PointID][]byte{id: wrong.Sum}, 1},
		"unreadable":         {right, map[PointID][]byte{id: nil}, 0}, // reported as damaged
		"forgotten":          {right, nil, 0},
		"another forgotten":  {wrong, nil, 1},
		"none but forgotten": {link{ID: "20261123t000000.000z-0123456789abcdee", Sum: right.Sum}, nil, 1},
	} {
		got, err := r.omitted(ctx, []link{c.want, c.want}, c.have)
		if err != nil || len(got) != c.n {
			t.Errorf("%s: %v, %v; want %d omissions", name, got, err, c.n)
		}
	}
}
