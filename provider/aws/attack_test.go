package aws_test

import (
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

// writerPolicy is the policy that users are told to paste.
//
//go:embed writer-policy.json
var writerPolicy string

// readable returns the keys and prefixes that the policy lets a writer get.
func readable(t testing.TB) (keys []string) {
	t.Helper()
	var p struct {
		Statement []struct{ Action, Resource []string }
	}
	if err := json.Unmarshal([]byte(writerPolicy), &p); err != nil {
		t.Fatal(err)
	}
	for _, s := range p.Statement {
		for _, a := range s.Action {
			if strings.Contains(a, "Delete") || strings.Contains(a, "*") || strings.Contains(a, "Bypass") {
				t.Fatalf("the policy allows %s", a)
			}
		}
		if slices.Contains(s.Action, "s3:GetObject") {
			for _, r := range s.Resource {
				keys = append(keys, strings.TrimPrefix(r, "arn:aws:s3:::BUCKET/"))
			}
		}
	}
	return keys
}

// A place is a versioned, locked bucket as its owner and as writers see it.
type place struct {
	owner  provider.BlobStore
	writer func() provider.BlobStore // each with a credential of its own
	denies bool                      // what the policy does not allow
	prunes bool                      // what was deleted is listed as deleted
}

// asWritten is the policy of writers for a bucket in memory. used collects
// which of the grants to get were used.
func asWritten(t testing.TB, used *sync.Map) providertest.Policy {
	grants := readable(t)
	return func(op, key string) bool {
		switch op {
		case "put", "list", "versions":
			return true
		case "get", "stat":
			for _, g := range grants {
				if prefix, ok := strings.CutSuffix(g, "*"); ok && strings.HasPrefix(key, prefix) || key == g {
					used.Store(g, true)
					return true
				}
			}
		}
		return false
	}
}

// Somebody has stolen the host of a writer, with its credential of the store
// and that of the repository, and does his worst to a bucket that keeps and
// locks versions.
func TestAttackInMemory(t *testing.T) {
	bucket := providertest.NewBucket(providertest.BucketOptions{DefaultKeep: 24 * time.Hour})
	var used sync.Map
	policy := asWritten(t, &used)
	attacked(t, place{bucket, func() provider.BlobStore { return bucket.As(policy) }, true, true})
	for _, g := range readable(t) {
		// A sealed writer reads a session only if the reply to its creation
		// was lost, and keys/ only after the recipients have changed.
		if _, ok := used.Load(g); !ok && g != "sessions/*" && g != "keys/*" {
			t.Errorf("the policy lets writers read %s, and they did not", g)
		}
	}
}

func garbage(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

// A victim is the repository in a place, and what its points hold.
type victim struct {
	place
	first, second *age.X25519Identity
	holder        *backup.Repository // open all the time
	points        map[backup.PointID]storetest.Things
}

func (v *victim) config(s provider.BlobStore, id *age.X25519Identity) backup.Config {
	return backup.Config{Store: s, Writer: "holder", Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(v.first.Recipient(), v.second.Recipient()), Identities: backup.AgeIdentities(id)}}
}

func (v *victim) open(t testing.TB, s provider.BlobStore, id *age.X25519Identity) *backup.Repository {
	t.Helper()
	r, err := backup.Open(t.Context(), v.config(s, id))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (v *victim) backup(t testing.TB, r *backup.Repository, f storetest.Things) backup.Point {
	t.Helper()
	p, err := r.Backup(t.Context(), "w", f, backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		t.Fatal(err)
	}
	v.points[p.ID] = maps.Clone(f)
	return p
}

// whole checks that all points restore byte for byte.
func (v *victim) whole(t testing.TB, when string, r *backup.Repository) {
	t.Helper()
	for id, want := range v.points {
		got := storetest.Things{}
		if err := r.Restore(t.Context(), id, got, backup.Destination{}, backup.RestoreOptions{}); err != nil {
			t.Errorf("%s: restore %s: %v", when, id, err)
		} else if !maps.Equal(got, want) {
			t.Errorf("%s: restore %s: not what was backed up", when, id)
		}
	}
}

// checked lets another identity read all data, and checks that it finds
// nothing wrong with any of the points.
func (v *victim) checked(t testing.TB, when string) {
	t.Helper()
	rep, err := v.open(t, v.owner, v.second).Check(t.Context(), backup.CheckOptions{ReadData: true})
	if err != nil {
		t.Fatalf("%s: check: %v", when, err)
	}
	bad := map[backup.PointID]string{}
	for _, d := range rep.Damaged {
		bad[d.ID] = d.Reason
	}
	for _, p := range rep.Problems {
		for _, id := range p.Points {
			bad[id] = p.Key + " " + p.Text
		}
	}
	for _, o := range rep.Omitted {
		bad[o.ID] = o.Text
	}
	for id := range v.points {
		if why, ok := bad[id]; ok {
			t.Errorf("%s: check says of %s: %s", when, id, why)
		}
	}
	if rep.Whole < len(v.points) || rep.ReadPacks == 0 {
		t.Errorf("%s: check: %d points whole, %d packs read", when, rep.Whole, rep.ReadPacks)
	}
}

func attacked(t *testing.T, at place) {
	v := &victim{place: at, points: map[backup.PointID]storetest.Things{}}
	var err error
	for _, id := range []**age.X25519Identity{&v.first, &v.second} {
		if *id, err = age.GenerateX25519Identity(); err != nil {
			t.Fatal(err)
		}
	}
	if v.holder, err = backup.Init(t.Context(), v.config(at.owner, v.first)); err != nil {
		t.Fatal(err)
	}
	cache := t.TempDir() // with which a sealed writer can compare with its own points
	sealed := func(name string, s provider.BlobStore) (backup.Credential, *backup.Repository) {
		c, err := v.holder.Seal(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := backup.Open(t.Context(), backup.Config{Store: s, Credential: c, Cache: cache})
		if err != nil {
			t.Fatal(err)
		}
		return c, r
	}
	storeA, storeB := at.writer(), at.writer()
	credA, a := sealed("a", storeA)
	credB, b := sealed("b", storeB)
	common := garbage(150_000)
	contents := map[*backup.Repository]storetest.Things{
		v.holder: {"common": common, "h": garbage(300_000), "text": strings.Repeat("text ", 10_000)},
		a:        {"common": common, "a": garbage(100_000)},
		b:        {"common": common, "b": garbage(300_000), "small": "b"},
	}
	for _, r := range []*backup.Repository{v.holder, a, b} {
		v.backup(t, r, contents[r])
		contents[r]["more"] = garbage(1000)
		if p := v.backup(t, r, contents[r]); p.Stats.BytesNew != 1000 {
			t.Errorf("the second point of %s has %d new bytes; its own packs were not relied on", p.Writer, p.Stats.BytesNew)
		} else if p.Parent == "" {
			t.Errorf("the second point of %s was compared with none", p.Writer)
		}
	}
	v.whole(t, "before", v.open(t, at.owner, v.first))

	attack(t, v, storeA, credA, a)

	v.whole(t, "open since before", v.holder)
	v.whole(t, "opened", v.open(t, at.owner, v.first))
	contents[b]["next"] = garbage(50_000)
	next := v.backup(t, b, contents[b])
	if v.points[next.Parent] == nil { // its true manifest is below another
		t.Errorf("after the attack a sealed writer has compared with %q", next.Parent)
	}
	again, err := backup.Open(t.Context(), backup.Config{Store: storeB, Credential: credB, Cache: cache})
	if err != nil {
		t.Fatal(err)
	}
	contents[b]["next"] = garbage(50_000)
	if p := v.backup(t, again, contents[b]); p.Parent != next.ID {
		t.Errorf("its next process has compared with %q, want %q", p.Parent, next.ID)
	}
	contents[v.holder]["next"] = garbage(50_000)
	v.backup(t, v.open(t, at.owner, v.first), contents[v.holder])
	v.whole(t, "next points", v.open(t, at.owner, v.first))
	v.checked(t, "attacked")

	flood := 0
	for p, err := range v.open(t, at.owner, v.second).Points(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if v.points[p.ID] == nil && p.Damaged == "" {
			if flood++; p.Writer != "a" {
				t.Errorf("%s is of the attacker and listed as of %q", p.ID, p.Writer)
			}
		}
	}
	if flood < floods() {
		t.Errorf("%d points of the attacker are listed, want %d", flood, floods())
	}

	if at.prunes {
		if _, err := v.open(t, at.owner, v.first).Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); err != nil {
			t.Errorf("prune: %v", err)
		}
		v.whole(t, "pruned", v.open(t, at.owner, v.first))
	}

	// A plan that a holder has not signed, or a point that nobody can read,
	// stops prunes. They delete nothing, and nothing else stops.
	condemn(t, v, storeA, credA)
	if _, err := v.open(t, at.owner, v.first).Prune(t.Context(), backup.PruneOptions{MinGarbage: 0.01}); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("prune with a forged plan: %v", err)
	}
	v.whole(t, "condemned", v.open(t, at.owner, v.first))
	contents[b]["late"] = garbage(50_000)
	v.backup(t, b, contents[b])

	rep, err := v.open(t, at.owner, v.first).Attest(t.Context(), backup.AttestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(rep.Bad) == 0 || rep.Attested.Packs == 0 {
		t.Errorf("attest: %d packs bad, %d good", len(rep.Bad), rep.Attested.Packs)
	}
	v.whole(t, "attested", v.open(t, at.owner, v.first))
	v.checked(t, "attested")

	to := providertest.NewMemory()
	res, err := replicate.Copy(t.Context(), replicate.Config{Source: v.open(t, at.owner, v.first), From: at.owner, To: to})
	if len(res.Failed) != 1 || err == nil || !strings.Contains(err.Error(), "signature") {
		t.Errorf("replicated: %d arrived, %d failed: %v; want only the forged point to fail", len(res.Arrived), len(res.Failed), err)
	}
	v.whole(t, "replicated", v.open(t, to, v.second))
}

func floods() int {
	if os.Getenv("HOLDFAST_LONG") == "1" {
		return 100
	}
	return 10
}

// attack is what A's credentials are good for, in the hands of somebody who
// knows the format and has a copy of all that is in the bucket.
func attack(t *testing.T, v *victim, s provider.BlobStore, c backup.Credential, a *backup.Repository) {
	t.Helper()
	ctx := t.Context()
	f := newForger(t, c)
	put := func(key string, b []byte) {
		t.Helper()
		if _, err := s.Put(ctx, key, provider.Bytes(b), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	keys, packs := f.everything(t, v.owner)
	session := "20261123t084735.123z-9f86d081884c7d65"

	// Garbage under the ids of all true chunks, and lies about true packs.
	var lies []forgedPack
	for _, p := range packs {
		kind := map[byte]string{'d': "data", 'm': "meta"}[p.kind]
		key, b, forged := f.pack(kind, p.session, p.enc, p.chunks)
		put(key, b)
		lies = append(lies, forged)
		for _, twist := range []func(*forgedPack){
			func(p *forgedPack) { p.chunks = nil },
			func(p *forgedPack) {
				p.chunks = slices.Clone(p.chunks)
				for i := range p.chunks {
					p.chunks[i].off = p.chunks[0].off
				}
			},
			func(p *forgedPack) { p.salt = make([]byte, 32) },
			func(p *forgedPack) { p.enc = make([]byte, len(p.enc)) },
			func(p *forgedPack) { p.session = session },
			func(p *forgedPack) { p.size++ },
		} {
			lie := p
			twist(&lie)
			key, b := f.indexOf(session, lie)
			put(key, b)
		}
	}
	key, b := f.indexOf(session, lies...)
	put(key, b)
	_, maintenance := f.indexOf("", lies...)
	put(key, maintenance)

	// What makes holders overlook something, if it is believed.
	for id := range v.points {
		key := "forgotten/" + string(id)
		put(key, f.object("forgotten", key, []byte(`{"sum":"","at":"2026-11-23T08:47:35Z"}`)))
	}
	put("verified/"+session, f.object("verified", "verified/"+session, nil))
	put("sessions/"+session+".copy.end", f.object("end", "sessions/"+session+".copy.end", []byte("{}")))
	for _, gen := range []string{"2", "9"} {
		put("keys/"+strings.Repeat("0", 15)+gen, []byte(garbage(3000)))
	}
	put("points/20361123t084735.123z-9f86d081884c7d65", f.object("tombstone", "points/20361123t084735.123z-9f86d081884c7d65", []byte("{}")))

	// On top of every key: noise, and what is validly signed.
	for _, key := range keys {
		put(key, []byte(garbage(500)))
		kind := map[string]string{"points": "tombstone", "sessions": "session", "index": "index"}[key[:max(0, strings.IndexByte(key, '/'))]]
		if kind != "" {
			put(key, f.object(kind, key, []byte("{}")))
		}
		put(key, nil)
		if !v.denies {
			continue
		}
		if err := s.Delete(ctx, key, provider.DeleteOptions{}); !errors.Is(err, fs.ErrPermission) {
			t.Fatalf("delete %s: %v", key, err)
		}
		if strings.HasPrefix(key, "data/") || strings.HasPrefix(key, "meta/") {
			if _, _, err := s.Get(ctx, key, provider.GetOptions{}); !errors.Is(err, fs.ErrPermission) {
				t.Fatalf("get %s: %v", key, err)
			}
		}
	}

	for i := range floods() {
		if _, err := a.Backup(ctx, "w", storetest.Things{"flood": fmt.Sprint(i)}, backup.BackupOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// everything returns all keys, and what is in all packs that are whole.
func (f *forger) everything(t *testing.T, s provider.BlobStore) (keys []string, packs []forgedPack) {
	t.Helper()
	for info, err := range s.List(t.Context(), "", provider.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
		if kind, _, _ := strings.Cut(info.Key, "/"); info.Size > 0 && (kind == "data" || kind == "meta") {
			b, _, err := provider.ReadAll(t.Context(), s, info.Key, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			packs = append(packs, f.packOf(t, kind, b))
		}
	}
	return keys, packs
}

// condemn stores what makes a prune delete all packs, if it is believed, and
// a point in another's name.
func condemn(t *testing.T, v *victim, s provider.BlobStore, c backup.Credential) {
	t.Helper()
	f := newForger(t, c)
	_, packs := f.everything(t, v.owner)
	sums := appendUvarint(nil, uint64(len(packs)))
	for _, p := range packs {
		sums = append(append(sums, p.sum[:]...), p.kind)
		sums = appendUvarint(sums, p.size)
	}
	other, key := *f, "points/20361123t084735.123z-9f86d081884c7d66"
	other.name = "b" // in its header; the certificate is A's
	if _, err := s.Put(t.Context(), key, provider.Bytes(other.object("point", key, nil)), provider.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	gen := "condemned/20361123t084735.123z-9f86d081884c7d65"
	for suffix, o := range map[string]struct {
		kind  string
		plain []byte
	}{"": {"condemned", sums}, ".awaited": {"awaited", []byte{0}}, ".verdict": {"verdict", sums}} {
		if _, err := s.Put(t.Context(), gen+suffix, provider.Bytes(f.object(o.kind, gen+suffix, o.plain)), provider.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func appendUvarint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
