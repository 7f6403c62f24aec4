package postgres_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres"
	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/local"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// backupEnv tells a process of this test binary to make a backup.
const backupEnv = "HOLDFAST_TEST_BACKUP"

type backupChild struct {
	Config           postgres.Config
	Store, Key, Puts string
}

// packs are small, so that a small cluster fills many.
const packs = 1 << 20

func smallPacks(store provider.BlobStore, key *age.X25519Identity) backup.Config {
	return backup.Config{Store: store, PackSize: packs,
		Keyring: backup.Keyring{Recipients: backup.AgeRecipients(key.Recipient()), Identities: backup.AgeIdentities(key)}}
}

// TestBackupChild is the backup that TestBackupKilled kills.
func TestBackupChild(t *testing.T) {
	text := os.Getenv(backupEnv)
	if text == "" {
		t.Skip("it is run by TestBackupKilled")
	}
	var c backupChild
	must(t, json.Unmarshal([]byte(text), &c))
	key, err := age.ParseX25519Identity(c.Key)
	must(t, err)
	store, err := local.NewBlobStore(local.Config{Dir: c.Store})
	must(t, err)
	puts, err := os.OpenFile(c.Puts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	noted := providertest.NewFaulty(store, func(call providertest.Call) providertest.Fault {
		if call.Op == "put" && strings.HasPrefix(call.Key, "data/") {
			fmt.Fprintln(puts, call.Key)
		}
		return providertest.Fault{}
	})
	repo, err := backup.Open(t.Context(), smallPacks(noted, key))
	must(t, err)
	backUp(t, repo, newTarget(t, c.Config))
	t.Error("it came to its end: nobody has killed it")
}

// However often and whenever a backup is killed, the server has no backup and
// no slot of it left, and the next one stores nothing again that was durable,
// whatever the reader: with all that was killed, there is no pack more than
// one backup that nobody disturbs stores of the same cluster.
func TestBackupKilled(t *testing.T) {
	t.Parallel()
	p := testenv.Postgres(t, 17, testenv.PostgresOptions{Settings: map[string]string{"autovacuum": "off"}})
	p.SQL(t, "create extension pgcrypto", "create table t (b bytea)", "alter table t alter b set storage external",
		"insert into t select gen_random_bytes(1000) from generate_series(1, 90000)")
	readers := []postgres.Config{atData(p), {Conn: p.Conn, Reader: postgres.Stream}, {Conn: p.Conn, Reader: postgres.Parallel}}
	if os.Getenv("HOLDFAST_LONG") == "" {
		readers = readers[:1]
	}
	for _, c := range readers {
		t.Run(string(c.Reader), func(t *testing.T) {
			key, dir := ageKey(t), filepath.Join(t.TempDir(), "store")
			store, err := local.NewBlobStore(local.Config{Dir: dir, Create: true})
			must(t, err)
			_, err = backup.Init(t.Context(), smallPacks(store, key))
			must(t, err)
			child := backupChild{Config: c, Store: dir, Key: key.String(), Puts: filepath.Join(t.TempDir(), "puts")}
			killBackup(t, p, child, 33+rand.IntN(40))
			for range 1 + rounds(1)/4 {
				killBackup(t, p, child, 1+rand.IntN(8))
			}
			durable := packBytes(t, store)
			repo, err := backup.Open(t.Context(), smallPacks(store, key))
			must(t, err)
			point := backUp(t, repo, newTarget(t, c))
			idle(t, p)
			whole, err := local.NewBlobStore(local.Config{Dir: filepath.Join(t.TempDir(), "whole"), Create: true})
			must(t, err)
			undisturbed, err := backup.Init(t.Context(), smallPacks(whole, key))
			must(t, err)
			backUp(t, undisturbed, newTarget(t, c))
			// Files that the server has changed since are not the same ones.
			again := packBytes(t, store) - packBytes(t, whole)
			t.Logf("%d bytes were durable, %d are more than is needed", durable, again)
			if durable < 33*packs/2 || again >= packs/2 {
				t.Errorf("%d bytes were durable; then %d more were stored than one backup takes, so some of them twice", durable, again)
			}
			restored := filepath.Join(p.Dir, "restored-"+string(c.Reader))
			restore(t, repo, point, restored, map[string]string{"target": "consistent", "verify": "true"})
			r := verified(t, p, restored)
			if n := r.SQL(t, "select count(*) from t"); n != "90000" {
				t.Errorf("restored: %s rows", n)
			}
			stopped(t, r)
		})
	}
}

// packBytes is how much content is stored.
func packBytes(t *testing.T, store provider.BlobStore) (n int64) {
	t.Helper()
	for info, err := range store.List(t.Context(), "data/", provider.ListOptions{}) {
		must(t, err)
		n += info.Size
	}
	return n
}

// killBackup runs a backup and kills it when it has stored so many packs.
func killBackup(t *testing.T, p *testenv.PG, c backupChild, after int) {
	t.Helper()
	os.Remove(c.Puts)
	text, err := json.Marshal(c)
	must(t, err)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestBackupChild$", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), backupEnv+"="+string(text))
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	must(t, cmd.Start())
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	for deadline := time.Now().Add(2 * time.Minute); lines(c.Puts) < after && time.Now().Before(deadline); {
		select {
		case <-ended:
			t.Fatalf("the backup has ended by itself:\n%s", said.String())
		case <-time.After(time.Millisecond):
		}
	}
	cmd.Process.Kill()
	<-ended
	idle(t, p)
}
