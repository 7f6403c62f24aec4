package postgres_test

import (
	"fmt"
	"os"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// versions are those of the servers that tests run against.
var versions = []int{15, 17, 18}

func newTarget(t testing.TB, c postgres.Config) *postgres.Target {
	t.Helper()
	target, err := postgres.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func newRepository(t testing.TB) (*backup.Repository, *providertest.Memory) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	store := providertest.NewMemory()
	repo, err := backup.Init(t.Context(), backup.Config{Store: store,
		Keyring: backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}})
	if err != nil {
		t.Fatal(err)
	}
	return repo, store
}

func backUp(t testing.TB, repo *backup.Repository, target backup.Target) backup.Point {
	t.Helper()
	p, err := repo.Backup(t.Context(), "db", target, backup.BackupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// longOnly skips what takes long, unless that is wanted.
func longOnly(t *testing.T) {
	t.Helper()
	if os.Getenv("HOLDFAST_LONG") == "" {
		t.Skip("with HOLDFAST_LONG=1")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ids are those of who runs the server, for the option owner.
func ids(p *testenv.PG) string { return fmt.Sprintf("%d:%d", p.UID, p.GID) }

// lose deletes all content of a repository.
func lose(t testing.TB, store provider.BlobStore) {
	t.Helper()
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		if err == nil {
			err = store.Delete(t.Context(), info.Key, provider.DeleteOptions{})
		}
		must(t, err)
	}
}
