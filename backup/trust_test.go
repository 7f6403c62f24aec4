package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// things is a target in memory.
type things map[string]string

func (t things) Kind() string { return "things" }

func (t things) Backup(ctx context.Context, s *Session) error {
	for _, p := range slices.SortedFunc(maps.Keys(t), ComparePaths) {
		if err := s.Add(ctx, Item{Path: p}, strings.NewReader(t[p])); err != nil {
			return err
		}
	}
	return nil
}

func (t things) Restore(ctx context.Context, v *View, d Destination) error {
	for it, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		r, err := v.Open(ctx, it)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		r.Close()
		if err != nil {
			return err
		}
		t[it.Path] = string(b)
	}
	return nil
}

func noise(seed byte, n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return string(b)
}

func (t things) backup(tb testing.TB, r *Repository) Point {
	tb.Helper()
	p, err := r.Backup(tb.Context(), "w", t, BackupOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// in checks that a new process of a holder restores exactly t.
func (t things) in(tb testing.TB, s provider.BlobStore, id PointID) {
	tb.Helper()
	got := things{}
	if err := openTest(tb, s).Restore(tb.Context(), id, got, Destination{}, RestoreOptions{}); err != nil {
		tb.Errorf("restore %s: %v", id, err)
	} else if !maps.Equal(got, t) {
		tb.Errorf("restored %d things, not the %d that were backed up", len(got), len(t))
	}
}

func openTest(tb testing.TB, s provider.BlobStore) *Repository {
	tb.Helper()
	r, err := Open(tb.Context(), testConfig(s))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func sealTest(tb testing.TB, holder *Repository, name string) *Repository {
	tb.Helper()
	c, err := holder.Seal(tb.Context(), name)
	if err != nil {
		tb.Fatal(err)
	}
	r, err := Open(tb.Context(), Config{Store: holder.c.Store, Credential: c})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func keysUnder(tb testing.TB, s provider.BlobStore, prefix string) (out []string) {
	tb.Helper()
	for info, err := range s.List(tb.Context(), prefix, provider.ListOptions{}) {
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, info.Key)
	}
	return out
}

// records returns what an index, or all of a store, says.
func records(tb testing.TB, r *Repository, keys ...string) (out []packRecord) {
	tb.Helper()
	for _, key := range keys {
		recs, err := r.readIndex(tb.Context(), key)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, recs...)
	}
	return out
}

// lie stores an index that says recs, signed by thief.
func lie(tb testing.TB, thief *Repository, recs ...packRecord) {
	tb.Helper()
	b, err := thief.keys.encodeIndex(string(newPointID(time.Now())), recs)
	if err != nil {
		tb.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if err := thief.create(tb.Context(), indexKey(sum), sum, b); err != nil {
		tb.Fatal(err)
	}
}

// poison stores a pack of garbage whose directory and index name true chunks.
func poison(tb testing.TB, thief *Repository, kind string, refs []ref) {
	tb.Helper()
	secret, enc, err := thief.keys.newSession()
	if err != nil {
		tb.Fatal(err)
	}
	pb, err := newPackBuilder(thief.keys, secret, enc, string(newPointID(time.Now())), kind, make([]byte, 0, 16<<20))
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range refs {
		in := make([]byte, 1+r.plain) // zeroes: uncompressed, other content
		pb.aead.Seal(pb.reserve(r, len(in)+sealOverhead)[:0], nil, in, r.id[:])
		pb.sealing.Done()
	}
	rec := pb.finish(thief.keys)
	if err := thief.create(tb.Context(), packKey(kind, rec.sum), rec.sum, pb.buf); err != nil {
		tb.Fatal(err)
	}
	lie(tb, thief, rec)
}

func refsOf(recs []packRecord, kind string) (out []ref) {
	for _, rec := range recs {
		for _, e := range rec.entries {
			if rec.kind == kind {
				out = append(out, e.ref)
			}
		}
	}
	return out
}

func prune(tb testing.TB, s provider.BlobStore) PruneReport {
	tb.Helper()
	rep, err := openTest(tb, s).Prune(tb.Context(), PruneOptions{MinGarbage: 0.01})
	if err != nil {
		tb.Fatal(err)
	}
	return rep
}

// Garbage of a sealed writer under the ids of true chunks, stored before
// anybody has the content and again afterwards, enters no other writer's
// point, and breaks none; neither now nor after prunes.
func TestPoisonedChunksHarmNobodyElse(t *testing.T) {
	content := things{"a": noise(1, 300_000), "b": noise(2, 90_000), "c": "small"}
	elsewhere := testRepo(t, providertest.NewMemory())

	store := providertest.NewMemory()
	holder := testRepo(t, store)
	elsewhere.keys.dataID, elsewhere.keys.metaID, elsewhere.keys.cut = holder.keys.dataID, holder.keys.metaID, holder.keys.cut
	elsewhere = newRepository(elsewhere.c, elsewhere.keys)
	content.backup(t, elsewhere) // to learn the ids, as who knows the content can
	known := records(t, elsewhere, keysUnder(t, elsewhere.c.Store, indexPrefix)...)

	thief := sealTest(t, holder, "thief")
	for _, kind := range []string{kindData, kindMeta} {
		poison(t, thief, kind, refsOf(known, kind))
	}
	p := content.backup(t, openTest(t, store))
	if want := int64(len(content["a"]) + len(content["b"]) + len(content["c"])); p.Stats.BytesNew != want {
		t.Errorf("a holder stored %d bytes, want all %d: what a sealed writer has stored is not to be relied on", p.Stats.BytesNew, want)
	}
	content.in(t, store, p.ID)
	other := sealTest(t, holder, "other")
	p2 := content.backup(t, other)
	content.in(t, store, p2.ID)
	mine := records(t, holder, keysUnder(t, store, indexPrefix)...)
	for _, kind := range []string{kindData, kindMeta} {
		poison(t, thief, kind, refsOf(mine, kind))
	}
	lost := things{"x": noise(3, 100_000)}.backup(t, openTest(t, store)) // something for the prune
	if err := holder.Forget(t.Context(), lost.ID); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		prune(t, store)
		content.in(t, store, p.ID)
		content.in(t, store, p2.ID)
	}
	again := content.backup(t, openTest(t, store))
	if again.Stats.BytesNew != 0 {
		t.Errorf("%d bytes are stored again", again.Stats.BytesNew)
	}
	content.in(t, store, again.ID)
}

// An index may tell anything of a true pack of another writer: its chunks
// stay readable, also where the index of its own writer is lost, and no prune
// deletes the pack.
func TestLiesAboutAPackOfAnotherWriter(t *testing.T) {
	content := things{"a": noise(1, 300_000), "b": strings.Repeat("text ", 9_000)}
	for what, twist := range map[string]func(r *packRecord){
		"directory": func(r *packRecord) {
			r.entries = slices.Clone(r.entries)
			for i := range r.entries {
				r.entries[i].off, r.entries[i].stored = r.entries[0].off, 50
			}
		},
		"no directory": func(r *packRecord) { r.entries = nil },
		"no directory of content": func(r *packRecord) { // the rest is true, so nothing leads a prune to ask
			if r.kind == kindData {
				r.entries = nil
			}
		},
		"salt":        func(r *packRecord) { r.salt = make([]byte, 32) },
		"session key": func(r *packRecord) { r.enc = bytes.Repeat([]byte{1}, len(r.enc)) },
		"session":     func(r *packRecord) { r.session = "" },
		"size":        func(r *packRecord) { r.size++ },
		"kind": func(r *packRecord) {
			r.kind = map[string]string{kindData: kindMeta, kindMeta: kindData}[r.kind]
		},
	} {
		for _, lost := range []string{"kept", "lost"} {
			t.Run(what+", true index "+lost, func(t *testing.T) {
				store := providertest.NewMemory()
				holder := testRepo(t, store)
				writer, thief := sealTest(t, holder, "web1"), sealTest(t, holder, "thief")
				p := content.backup(t, writer)
				indexes := keysUnder(t, store, indexPrefix)
				for _, rec := range records(t, holder, indexes...) {
					twist(&rec)
					lie(t, thief, rec)
				}
				if lost == "lost" {
					for _, key := range indexes {
						if err := store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
							t.Fatal(err)
						}
					}
				}
				content.in(t, store, p.ID)
				rep, err := openTest(t, store).Prune(t.Context(), PruneOptions{})
				if err != nil || rep.Deleted.Packs > 0 {
					t.Errorf("prune: %+v, %v", rep, err)
				}
				content.in(t, store, p.ID)
				if _, err := holder.Attest(t.Context(), AttestOptions{}); err != nil {
					t.Fatal(err)
				}
				content.in(t, store, p.ID)
			})
		}
	}
}

// Whoever stole a credential signs plans, verdicts and indexes of maintenance:
// a prune deletes nothing because of them.
func TestForgedMaintenanceDeletesNothing(t *testing.T) {
	content := things{"a": noise(1, 300_000), "b": "text"}
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	p := content.backup(t, holder)
	packs := append(keysUnder(t, store, kindData), keysUnder(t, store, kindMeta)...)
	thief := sealTest(t, holder, "thief")
	var sums []packSum
	for _, rec := range records(t, holder, keysUnder(t, store, indexPrefix)...) {
		sums = append(sums, packSum{rec.sum, rec.kind, rec.size})
	}
	gen := generation{id: newPointID(time.Now())}
	for _, o := range []struct {
		kind, key string
		plain     []byte
	}{{kindPlan, gen.plan(), encodePackSums(sums)}, {kindAwaited, gen.awaited(), encodeSessions(nil)}, {kindVerdict, gen.verdict(), encodePackSums(sums)}} {
		b, err := thief.keys.sealObject(o.kind, "", o.key, o.plain)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Put(t.Context(), o.key, provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		// As with every verdict that cannot be read, a prune stops and says so.
		if _, err := openTest(t, store).Prune(t.Context(), PruneOptions{}); err != nil && !(errors.Is(err, ErrDamaged) && strings.Contains(err.Error(), "signature")) {
			t.Errorf("after the %s: %v", o.kind, err)
		}
		if got := append(keysUnder(t, store, kindData), keysUnder(t, store, kindMeta)...); !slices.Equal(got, packs) {
			t.Fatalf("after the %s there are %d packs, were %d", o.kind, len(got), len(packs))
		}
	}
	for _, key := range []string{gen.plan(), gen.awaited(), gen.verdict()} {
		if err := store.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := thief.keys.encodeIndex("", nil) // one of maintenance
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	if err := thief.create(t.Context(), indexKey(sum), sum, b); err != nil {
		t.Fatal(err)
	}
	prune(t, store)
	if got := append(keysUnder(t, store, kindData), keysUnder(t, store, kindMeta)...); !slices.Equal(got, packs) {
		t.Errorf("after the index there are %d packs, were %d", len(got), len(packs))
	}
	content.in(t, store, p.ID)
}

// With a credential and all objects of the store, nothing can be opened that
// a session has sealed: no root and no private key is in it or follows from
// what is.
func TestCredentialOpensNoContent(t *testing.T) {
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	p := things{"a": "secret"}.backup(t, holder)
	sealed := sealTest(t, holder, "web1")
	p2 := things{"a": "secret too"}.backup(t, sealed)
	k := newRepository(sealed.c, sealed.keys).keys
	if k.private != nil || k.authority != nil || k.signSecret != nil {
		t.Fatal("a sealed process holds keys of a holder")
	}
	secrets := [][]byte{k.writer, k.signing.Seed(), k.dataID, k.metaID, k.cut, k.index, k.logName, k.logSum, k.format.Public, k.format.Authority, sealed.c.Credential.Text()}
	for _, s := range secrets {
		if len(s) != 32 {
			continue
		}
		other, err := keysFromRoot(s)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(other.private.PublicKey().Bytes(), holder.keys.public.Bytes()) || bytes.Equal(other.writer, k.writer) {
			t.Error("a secret of the credential is the root")
		}
		if private, err := kem().DeriveKeyPair(s); err == nil && bytes.Equal(private.PublicKey().Bytes(), k.format.Public) {
			t.Error("a secret of the credential is the seed of the private key")
		}
	}
	text := sealed.c.Credential.Text()
	for what, s := range map[string][]byte{"root": holder.keys.format.Stanzas[0].Body, "authority": holder.keys.authority.Seed(), "signing secret": holder.keys.signSecret} {
		var t2 credentialText
		if err := json.Unmarshal(text, &t2); err != nil {
			t.Fatal(err)
		}
		for _, part := range [][]byte{t2.Writer, t2.Seed, t2.Cert.Body, t2.Cert.Sig} {
			if bytes.Contains(part, s) {
				t.Errorf("the %s is in the credential", what)
			}
		}
	}
	for _, id := range []PointID{p.ID, p2.ID} {
		b, _, err := provider.ReadAll(t.Context(), store, pointKey(id), maxManifest)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range secrets {
			if _, err := k.decodeManifest(id, b, func([]byte) ([]byte, error) { return s, nil }); !errors.Is(err, errSealed) {
				t.Errorf("%s with secret %d: %v, want that it does not decrypt", id, i, err)
			}
		}
		if _, err := k.decodeManifest(id, b, k.openSession); err != nil {
			t.Errorf("%s: %v, want a sealed point", id, err)
		}
	}
}

// After Attest every writer relies on what a sealed one has stored. It says
// which packs are bad, goes on where another stopped, and does nothing twice.
func TestAttest(t *testing.T) {
	content := things{"a": noise(1, 300_000), "b": noise(2, 200_000)}
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	writer := sealTest(t, holder, "web1")
	p := content.backup(t, writer)
	indexes := keysUnder(t, store, indexPrefix)
	good := len(append(keysUnder(t, store, kindData), keysUnder(t, store, kindMeta)...))
	poison(t, sealTest(t, holder, "thief"), kindData, refsOf(records(t, holder, indexes...), kindData))

	attestCrashing(t, store)
	rep, err := openTest(t, store).Attest(t.Context(), AttestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Attested.Packs != good || len(rep.Bad) != 1 || !strings.HasPrefix(rep.Bad[0].Key, kindData) || rep.Stored == 0 {
		t.Errorf("attested: %+v, want %d packs and one bad", rep, good)
	}
	count := len(keysUnder(t, store, indexPrefix))
	if rep, err = openTest(t, store).Attest(t.Context(), AttestOptions{}); err != nil || rep.Attested.Packs != 0 || rep.Stored != 0 || len(rep.Bad) != 1 {
		t.Errorf("again: %+v, %v", rep, err)
	}
	if got := len(keysUnder(t, store, indexPrefix)); got != count {
		t.Errorf("%d indexes, were %d", got, count)
	}
	for _, r := range []*Repository{openTest(t, store), sealTest(t, holder, "other")} {
		q := content.backup(t, r)
		if q.Stats.BytesNew != 0 {
			t.Errorf("%s stored %d bytes that were attested", r.c.Writer, q.Stats.BytesNew)
		}
		content.in(t, store, q.ID)
	}
	content.in(t, store, p.ID)
	if _, err := writer.Attest(t.Context(), AttestOptions{}); !errors.Is(err, ErrSealed) {
		t.Errorf("a sealed writer attests: %v", err)
	}
}

// What a prune writes anew of the indexes of a sealed writer counts as little
// as before for others, and as much for that writer.
func TestRewrittenIndexKeepsItsOrigin(t *testing.T) {
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	c, err := holder.Seal(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}
	open := func() *Repository {
		r, err := Open(t.Context(), Config{Store: store, Credential: c})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := things{}
	for i := range smallIndexes {
		all[string(rune('a'+i))] = noise(byte(i), 70_000)
		all.backup(t, open())
	}
	prune(t, store)
	if n := len(keysUnder(t, store, indexPrefix)); n != 1 {
		t.Fatalf("%d indexes, want one", n)
	}
	for _, rec := range records(t, holder, keysUnder(t, store, indexPrefix)...) {
		if rec.by.holder || rec.by != open().keys.self {
			t.Errorf("a record by %+v", rec.by)
		}
	}
	if p := all.backup(t, sealTest(t, holder, "web1")); p.Stats.BytesNew != int64(len(all))*70_000 {
		t.Errorf("another writer of that name stored %d bytes, want all", p.Stats.BytesNew)
	}
	if p := all.backup(t, open()); p.Stats.BytesNew != 0 {
		t.Errorf("its writer stored %d bytes again", p.Stats.BytesNew)
	}
	if p := all.backup(t, openTest(t, store)); p.Stats.BytesNew == 0 {
		t.Error("a holder relies on packs that nobody has attested")
	}
}

// attestCrashing kills Attest before and after every request of it, on copies
// of a store, and expects the next one to complete what it began.
func attestCrashing(t *testing.T, store provider.BlobStore) {
	t.Helper()
	for n := 1; ; n++ {
		done := false
		for _, script := range []providertest.Script{providertest.CrashBefore(n), providertest.CrashAfter(n)} {
			s := providertest.NewMemory()
			for _, key := range keysUnder(t, store, "") {
				b, _, err := provider.ReadAll(t.Context(), store, key, 1<<30)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Put(t.Context(), key, provider.Bytes(b), provider.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			r := openTest(t, s)
			r.c.Store = providertest.NewFaulty(s, script)
			_, err := r.Attest(t.Context(), AttestOptions{})
			done = err == nil
			if err != nil && !errors.Is(err, providertest.ErrCrashed) {
				t.Fatalf("killed at request %d: %v", n, err)
			}
			if _, err := openTest(t, s).Attest(t.Context(), AttestOptions{}); err != nil {
				t.Fatalf("after a crash at request %d: %v", n, err)
			}
			rep, err := openTest(t, s).Attest(t.Context(), AttestOptions{})
			if err != nil || rep.Attested.Packs != 0 || len(rep.Bad) != 1 {
				t.Fatalf("after a crash at request %d there was something left: %+v, %v", n, rep, err)
			}
		}
		if done {
			return
		}
	}
}

// A pack of garbage in which, by its own account, everything is needed looks
// better to a prune than a true one in which half is not. It is not preferred.
func TestPruneKeepsTheTrustedCopy(t *testing.T) {
	store := providertest.NewMemory()
	holder := testRepo(t, store)
	content := things{"a": noise(1, 50_000), "b": noise(2, 50_000)}
	more := maps.Clone(content)
	more["x"] = noise(3, 60_000)
	first, kept := more.backup(t, holder), content.backup(t, holder)
	ids, err := ChunksOf(t.Context(), openTest(t, store), kept.ID)
	if err != nil {
		t.Fatal(err)
	}
	recs := records(t, holder, keysUnder(t, store, indexPrefix)...)
	thief := sealTest(t, holder, "thief")
	for _, kind := range []string{kindData, kindMeta} {
		poison(t, thief, kind, slices.DeleteFunc(refsOf(recs, kind), func(r ref) bool { return !slices.Contains(ids, [32]byte(r.id)) }))
	}
	if err := holder.Forget(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	for _, share := range []float64{1, 0.01, 0.01} {
		if _, err := openTest(t, store).Prune(t.Context(), PruneOptions{MinGarbage: share}); err != nil {
			t.Fatal(err)
		}
		content.in(t, store, kept.ID)
	}
}
