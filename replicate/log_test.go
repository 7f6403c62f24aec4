package replicate_test

import (
	"io"
	"testing"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
	"github.com/holdfast-go/holdfast/replicate"
)

var _ replicate.Source = (*backup.Log)(nil)

// A log is copied while it grows and is compacted; what has arrived is read at
// the standby, and where that ends is its RPO.
func TestLogReplicates(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	keys := backup.Keyring{Recipients: backup.AgeRecipients(id.Recipient()), Identities: backup.AgeIdentities(id)}
	from, to := providertest.NewMemory(), providertest.NewMemory()
	repo, err := backup.Init(t.Context(), backup.Config{Store: from, Keyring: keys})
	if err != nil {
		t.Fatal(err)
	}
	log, err := repo.Log("db")
	if err != nil {
		t.Fatal(err)
	}
	write := func(at uint64, text string) {
		t.Helper()
		if err := log.Append(t.Context(), backup.Segment{Branch: 1, From: at}, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	copyAll := func() {
		t.Helper()
		if res, err := replicate.Copy(t.Context(), replicate.Config{Source: log, From: from, To: to}); err != nil || len(res.Failed) > 0 {
			t.Fatalf("%+v, %v", res, err)
		}
	}
	write(0, "one ")
	write(4, "two ")
	copyAll()
	write(8, "three ")
	if b, err := replicate.Lag(t.Context(), log, to); err != nil || b.Points != 1 {
		t.Errorf("backlog %+v, %v", b, err)
	}
	standby, err := backup.Open(t.Context(), backup.Config{Store: to, Keyring: keys})
	if err != nil {
		t.Fatal(err) // from the copy of the format object in a segment
	}
	there, err := standby.Log("db")
	if err != nil {
		t.Fatal(err)
	}
	read := func(end uint64) string {
		t.Helper()
		r, err := there.Open(t.Context(), 1, 0, end)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if c, err := there.Coverage(t.Context(), 1, 0, 0); err != nil || c.End != 8 || read(8) != "one two " {
		t.Errorf("at the standby %+v, %v", c, err)
	}
	write(backup.MaxSegment, "far")
	if rep, err := log.Compact(t.Context()); err != nil || rep.Deleted.Segments != 3 {
		t.Fatalf("%+v, %v", rep, err)
	}
	copyAll()
	if rep, err := there.Compact(t.Context()); err != nil || rep.Deleted.Segments != 2 || rep.Written.Segments != 0 {
		t.Errorf("at the standby: %+v, %v", rep, err)
	}
	if got := read(14); got != "one two three " {
		t.Errorf("read %q", got)
	}
}
