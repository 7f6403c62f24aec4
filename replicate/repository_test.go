package replicate_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

var _ replicate.Source = (*backup.Repository)(nil)

// files is a target of a few files in memory.
type files map[string]string

func (files) Kind() string { return "test" }

func (f files) Backup(ctx context.Context, s *backup.Session) error {
	for _, p := range slices.SortedFunc(maps.Keys(f), backup.ComparePaths) {
		if err := s.Add(ctx, backup.Item{Path: p}, strings.NewReader(f[p])); err != nil {
			return err
		}
	}
	return nil
}

func (f files) Restore(ctx context.Context, v *backup.View, _ backup.Destination) error {
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
		f[it.Path] = string(b)
	}
	return nil
}

// repository is a real one, with points whose content is known.
type repository struct {
	*backup.Repository
	identity *age.X25519Identity
	store    *providertest.Memory
	points   []backup.PointID // oldest first
	content  map[backup.PointID]files
}

func newRepository(t *testing.T, points int) repository {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	r := repository{identity: id, store: providertest.NewMemory(), content: map[backup.PointID]files{}}
	if r.Repository, err = backup.Init(t.Context(), r.config(r.store)); err != nil {
		t.Fatal(err)
	}
	rnd := rand.NewChaCha8([32]byte{1})
	now := files{}
	for n := range points {
		b := make([]byte, 20_000)
		rnd.Read(b)
		now[fmt.Sprintf("file%d", n)] = string(b)
		p, err := r.Backup(t.Context(), "web", now, backup.BackupOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.points = append(r.points, p.ID)
		r.content[p.ID] = maps.Clone(now)
	}
	return r
}

func (r repository) config(s provider.BlobStore) backup.Config {
	return backup.Config{Store: s, Writer: "test", Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(r.identity.Recipient()), Identities: backup.AgeIdentities(r.identity),
	}}
}

func (r repository) copyTo(s provider.BlobStore) replicate.Config {
	return replicate.Config{Source: r, From: r.store, To: s}
}

// restores opens the repository that a destination has become and restores
// every point it shows. It returns how many there are.
func (r repository) restores(t *testing.T, s provider.BlobStore) int {
	t.Helper()
	if len(keys(t, s, "points/")) == 0 {
		return 0
	}
	at, err := backup.Open(t.Context(), r.config(s))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for p, err := range at.Points(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if p.Damaged != "" {
			t.Fatalf("%s arrived damaged: %s", p.ID, p.Damaged)
		}
		got := files{}
		if err := at.Restore(t.Context(), p.ID, got, backup.Destination{}, backup.RestoreOptions{}); err != nil {
			t.Fatalf("%s has arrived and does not restore: %v", p.ID, err)
		}
		if !maps.Equal(got, r.content[p.ID]) {
			t.Fatalf("%s restores to something else", p.ID)
		}
		n++
	}
	return n
}

func TestRepositoryRestoresAtTheDestination(t *testing.T) {
	r := newRepository(t, 4)
	to := providertest.NewMemory()
	res := copyAll(t, r.copyTo(to))
	if n := r.restores(t, to); n != 4 || len(res.Arrived) != 4 {
		t.Errorf("%d points restore, %d arrived", n, len(res.Arrived))
	}
	at, err := backup.Open(t.Context(), r.config(to))
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := at.Check(t.Context(), backup.CheckOptions{ReadData: true}); err != nil || !rep.OK() {
		t.Errorf("check at the destination: %+v, %v", rep, err)
	}
	for name, source := range map[string]replicate.VerifyConfig{
		"against the source": {Source: r, From: r.store, To: to},
		"against itself":     {Source: at, From: to, To: to},
	} {
		if rep := verify(t, source); rep.Points != 4 || rep.Err() != nil {
			t.Errorf("verify %s: %+v", name, rep)
		}
	}

	p, err := r.Backup(t.Context(), "web", r.content[r.points[3]], backup.BackupOptions{Mode: backup.Incremental})
	if err != nil {
		t.Fatal(err)
	}
	r.content[p.ID] = r.content[r.points[3]]
	if b, err := replicate.Lag(t.Context(), r, to); err != nil || b.Points != 1 || b.Age(b.Oldest) != 0 || !b.Oldest.Equal(p.Stored) {
		t.Errorf("lag %+v, %v, want the one point stored at %v", b, err, p.Stored)
	}
	copyAll(t, r.copyTo(to))
	if n := r.restores(t, to); n != 5 {
		t.Errorf("%d points restore", n)
	}
}

// Whenever the copy dies, what shows at the destination restores.
func TestRepositoryCrashAtEveryRequest(t *testing.T) {
	r := newRepository(t, 3)
	quiet := providertest.NewFaulty(providertest.NewMemory(), nil)
	copyAll(t, r.copyTo(quiet))
	for n := 1; n <= len(quiet.Calls()); n++ {
		for _, crash := range []func(int) providertest.Script{providertest.CrashBefore, providertest.CrashAfter} {
			to := providertest.NewMemory()
			if _, err := replicate.Copy(t.Context(), r.copyTo(providertest.NewFaulty(to, crash(n)))); err == nil && len(keys(t, to, "points/")) != 3 {
				t.Fatalf("request %d: no error, and not all has arrived", n)
			}
			r.restores(t, to)
			copyAll(t, r.copyTo(to))
			if got := r.restores(t, to); got != 3 {
				t.Fatalf("request %d: %d points restore after the second run", n, got)
			}
		}
	}
}

// However many manifests are damaged, the points behind them are copied.
func TestRepositoryDamagedManifests(t *testing.T) {
	r := newRepository(t, 7)
	manifests := keys(t, r.store, "points/")
	for _, m := range manifests[2:] {
		put(t, r.store, m, changed(read(t, r.store, m)))
	}
	to := providertest.NewMemory()
	res, err := replicate.Copy(t.Context(), r.copyTo(to))
	if len(res.Arrived) != 2 || len(res.Failed) != 5 {
		t.Errorf("%d arrived, %d failed, want 2 and 5", len(res.Arrived), len(res.Failed))
	}
	for _, m := range manifests[2:] {
		if err == nil || !strings.Contains(err.Error(), m) {
			t.Errorf("%v does not name %s", err, m)
		}
	}
	if n := r.restores(t, to); n != 2 {
		t.Errorf("%d points restore", n)
	}
}

func TestRepositoryDamagedPack(t *testing.T) {
	r := newRepository(t, 6)
	var pack string // needed by all points from some on
	for o, err := range r.Objects(t.Context(), keys(t, r.store, "points/")[3]) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(o.Key, "data/") && !slices.Contains(keysOf(t, r, keys(t, r.store, "points/")[2]), o.Key) {
			pack = o.Key
		}
	}
	to := providertest.NewMemory()
	c := r.copyTo(to)
	c.From = rotten{r.store, pack, 100}
	res, err := replicate.Copy(t.Context(), c)
	if !errors.Is(err, replicate.ErrDamaged) || !strings.Contains(err.Error(), pack) {
		t.Errorf("%v does not name %s", err, pack)
	}
	if n := r.restores(t, to); n != 3 || len(res.Arrived) != 3 {
		t.Errorf("%d points restore, %d arrived, want the 3 without the pack", n, len(res.Arrived))
	}
}

func keysOf(t *testing.T, s replicate.Source, manifest string) []string {
	t.Helper()
	var found []string
	for o, err := range s.Objects(t.Context(), manifest) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, o.Key)
	}
	return found
}
