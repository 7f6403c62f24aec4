package backup

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// testRepo makes a repository whose key is wrapped to nobody.
func testRepo(t testing.TB, s provider.BlobStore) *Repository {
	t.Helper()
	r, err := Init(t.Context(), testConfig(s))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func testConfig(s provider.BlobStore) Config {
	return Config{Store: s, Writer: "test", Keyring: Keyring{Recipients: []Recipient{plainKey{}}, Identities: []Identity{plainKey{}}}}
}

// sealedKeys returns the keys of a writer that cannot read, as far as signing
// goes.
func sealedKeys(k *keys, name string) *keys {
	out := *k
	out.signing = ed25519.NewKeyFromSeed(slices.Repeat([]byte{7}, 32))
	out.cert, out.self = k.certify(name, roleSealed, out.signing.Public().(ed25519.PublicKey))
	return &out
}

const testPoint = PointID("20261123t084735.123z-9f86d081884c7d65")

func testManifest(t *testing.T, k *keys, writer string) []byte {
	t.Helper()
	secret, enc, err := k.newSession()
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.encodeManifest(Point{ID: testPoint, Name: "w", Kind: "k", Writer: writer}, nil, nil, secret, enc, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A writer cannot pass for another: neither in the header, nor in the point,
// nor with a certificate that the authority has not made.
func TestManifestOfAnotherWriterIsRefused(t *testing.T) {
	k, _ := testKeys(t)
	a, b := k.as("a"), k.as("b")
	if m, err := k.decodeManifest(testPoint, testManifest(t, a, "a"), k.openSession); err != nil || m.by != a.self {
		t.Fatalf("its own manifest: %v, by %+v", err, m.by)
	}
	header := *a
	header.self.name = "b"
	stolen := *a
	stolen.cert, stolen.self = b.cert, b.self // without b's key
	forged := *a
	_, other, _ := ed25519.GenerateKey(nil)
	forged.authority = other
	forged.cert, forged.self = forged.certify("b", roleHolder, a.signing.Public().(ed25519.PublicKey))
	elsewhere := *a
	elsewhere.format.ID = strings.Repeat("0", 32)
	elsewhere.cert, elsewhere.self = elsewhere.certify("b", roleHolder, a.signing.Public().(ed25519.PublicKey))
	later := *a
	later.generation = 2
	later.cert, later.self = later.certify("b", roleHolder, a.signing.Public().(ed25519.PublicKey))
	none := *a
	none.cert = nil
	for what, f := range map[string]struct {
		k      *keys
		writer string
	}{
		"a header that names b":            {&header, "b"},
		"a point that names b":             {a, "b"},
		"the certificate of b":             {&stolen, "b"},
		"a certificate by somebody":        {&forged, "b"},
		"a certificate elsewhere":          {&elsewhere, "b"},
		"a certificate of a later time":    {&later, "b"},
		"no certificate":                   {&none, "a"},
		"a holder's key in another's name": {&header, "a"},
	} {
		_, err := k.decodeManifest(testPoint, testManifest(t, f.k, f.writer), k.openSession)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "signature") {
			t.Errorf("%s: %v, want ErrDamaged that speaks of the signature", what, err)
		}
	}
}

// What a prune acts on counts only if a holder has signed it, and a signature
// holds for one object, of one kind, at one key.
func TestSealedWriterDoesNotSignForMaintenance(t *testing.T) {
	k, _ := testKeys(t)
	sealed := sealedKeys(k, "web1")
	for _, kind := range []string{kindPlan, kindAwaited, kindVerdict} {
		key := "condemned/x"
		b, err := sealed.sealObject(kind, "", key, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if err := k.openObject(kind, key, b); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "signature") {
			t.Errorf("%s by a sealed writer: %v, want ErrDamaged", kind, err)
		}
		if b, err = k.sealObject(kind, "", key, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := k.openObject(kind, key, b); err != nil {
			t.Errorf("%s by a holder: %v", kind, err)
		}
		if err := k.openObject(kind, key+"y", b); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s at another key: %v, want ErrDamaged", kind, err)
		}
	}
	for session, want := range map[string]bool{"": false, string(testPoint): true} {
		b, err := sealed.encodeIndex(session, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.decodeIndex(b); (err == nil) != want {
			t.Errorf("index of session %q by a sealed writer: %v, want accepted: %t", session, err, want)
		}
	}
	b, err := sealed.sealObject(kindTombstone, "", "points/x", []byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.openObject(kindTombstone, "points/x", b); err != nil {
		t.Errorf("tombstone by a sealed writer: %v", err)
	}
}

// A signature that was changed, moved or cut off makes a point damaged.
func TestFlippedSignatureIsDamage(t *testing.T) {
	store := providertest.NewMemory()
	r := testRepo(t, store)
	id := newPointID(time.Now())
	secret, enc, err := r.keys.newSession()
	if err != nil {
		t.Fatal(err)
	}
	whole, err := r.keys.encodeManifest(Point{ID: id, Name: "w", Kind: "k", Writer: "test"}, nil, nil, secret, enc, nil)
	if err != nil {
		t.Fatal(err)
	}
	listed := func(b []byte) (out []Point) {
		t.Helper()
		if _, err := store.Put(t.Context(), pointKey(id), provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for p, err := range r.Points(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, p)
		}
		return out
	}
	if got := listed(whole); len(got) != 1 || got[0].Damaged != "" {
		t.Fatalf("the whole manifest: %+v", got)
	}
	for i := range signatureSize {
		b := slices.Clone(whole)
		b[len(b)-1-i] ^= 1 << (i % 8)
		if got := listed(b); len(got) != 1 || !strings.Contains(got[0].Damaged, "signature") {
			t.Errorf("byte %d of the signature flipped: %+v", i, got)
		}
	}
	for what, b := range map[string][]byte{
		"no signature":   whole[:len(whole)-signatureSize],
		"another's":      slices.Concat(whole[:len(whole)-signatureSize], r.keys.signObject(kindPoint, pointKey(testPoint), whole[:len(whole)-signatureSize])[len(whole)-signatureSize:]),
		"of another":     r.keys.signObject(kindIndex, pointKey(id), slices.Clone(whole[:len(whole)-signatureSize])),
		"of other bytes": slices.Concat(whole[:len(whole)-signatureSize-1], []byte{0}, whole[len(whole)-signatureSize:]),
	} {
		if got := listed(b); len(got) != 1 || got[0].Damaged == "" {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// The format object names its authority, and another one is not accepted.
func TestForeignAuthority(t *testing.T) {
	k, b := testKeys(t)
	var f format
	line, _, _ := strings.Cut(string(b), "\n")
	if err := json.Unmarshal([]byte(line), &f); err != nil {
		t.Fatal(err)
	}
	if !ed25519.PublicKey(f.Authority).Equal(k.authorities[1]) {
		t.Errorf("authority in the format object: %x", f.Authority)
	}
	public, _, _ := ed25519.GenerateKey(nil)
	f.Authority = public
	j, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	root := f.Stanzas[0].Body
	forged := string(j) + "\n" + formatMAC(root, j) + "\n"
	_, _, err = openFormat([]byte(forged), func(s []Stanza, ok func([]byte) bool) ([]byte, error) { return slices.Clone(root), nil })
	if !errors.Is(err, ErrDamaged) {
		t.Errorf("a format object with another authority: %v, want ErrDamaged", err)
	}
}
