package backup_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

func TestRecoveryCard(t *testing.T) {
	store := providertest.NewMemory()
	repo := newRepo(t, store)
	point := mustBackup(t, repo, "payroll", treeOf(map[string]string{"a": "secret content"}), backup.Full)
	var out bytes.Buffer
	if err := repo.RecoveryCard(t.Context(), &out, backup.CardOptions{Location: "bucket dr-1", Contact: "the vault"}); err != nil {
		t.Fatal(err)
	}
	card := out.String()
	source, err := os.ReadFile("reader/main.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"bucket dr-1", "the vault", string(point.ID), "1 recovery points", identity.Recipient().String(), string(source), "# The format of a repository"} {
		if !strings.Contains(card, want) {
			t.Errorf("the card lacks %.60q", want)
		}
	}
	for _, not := range []string{"payroll", "secret content", "AGE-SECRET-KEY"} {
		if strings.Contains(card, not) {
			t.Errorf("the card tells %q", not)
		}
	}
	for i, line := range strings.Split(card[:strings.Index(card, "APPENDIX 2")], "\n") {
		if len(line) > 100 {
			t.Errorf("line %d has %d characters: %s", i+1, len(line), line)
		}
	}

	// The format object in it is the one in the store.
	_, text, _ := strings.Cut(card, "The object format, in base64:\n\n")
	text, _, _ = strings.Cut(text, "\n\n")
	got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := provider.ReadAll(t.Context(), store, "format", 1<<20)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the format object of the card: %.100q, want %.100q (%v)", got, want, err)
	}
}

func TestRecoveryCardOfAStoreThatFails(t *testing.T) {
	repo := newRepo(t, providertest.NewMemory())
	var out bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := repo.RecoveryCard(ctx, &out, backup.CardOptions{}); err == nil || out.Len() > 0 {
		t.Errorf("%v, %d bytes written", err, out.Len())
	}
}
