package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"filippo.io/age"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// motto is the smallest target there can be: one item.
type motto struct{ text string }

func (m *motto) Kind() string { return "motto" }

func (m *motto) Backup(ctx context.Context, s *backup.Session) error {
	return s.Add(ctx, backup.Item{Path: "motto"}, strings.NewReader(m.text))
}

func (m *motto) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	if len(d.Options) > 0 {
		return errors.New("a motto has no options")
	}
	it, err := v.Lookup(ctx, "motto")
	if err != nil {
		return err
	}
	r, err := v.Open(ctx, it)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	m.text = string(b)
	return err
}

// A target of one's own, backed up twice, and returned to the first point.
func Example() {
	ctx := context.Background()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	repo, err := backup.Init(ctx, backup.Config{
		Store: providertest.NewMemory(), // a bucket, in real life
		Keyring: backup.Keyring{
			Recipients: backup.AgeRecipients(key.Recipient()),
			Identities: backup.AgeIdentities(key),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	m := &motto{text: "per aspera ad astra"}
	for _, text := range []string{"per aspera ad astra", "carpe noctem"} {
		m.text = text
		if _, err := repo.Backup(ctx, "mottoes", m, backup.BackupOptions{}); err != nil {
			log.Fatal(err)
		}
	}
	var first backup.PointID
	for p, err := range repo.Points(ctx, "mottoes") {
		if err != nil {
			log.Fatal(err)
		}
		if first == "" {
			first = p.ID
		}
		fmt.Println(p.Name, p.Mode, p.Stats.Items, "item", p.Stats.Bytes, "bytes")
	}
	if err := repo.Restore(ctx, first, m, backup.Destination{}, backup.RestoreOptions{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.text)
	// Output:
	// mottoes full 1 item 19 bytes
	// mottoes full 1 item 12 bytes
	// per aspera ad astra
}

// A host that only backs up holds a credential that opens nothing. Here it is
// made, used, and what was stored with it is restored by who holds the key.
func ExampleRepository_Seal() {
	ctx := context.Background()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	store := providertest.NewMemory()
	repo, err := backup.Init(ctx, backup.Config{Store: store, Keyring: backup.Keyring{
		Recipients: backup.AgeRecipients(key.Recipient()),
		Identities: backup.AgeIdentities(key),
	}})
	if err != nil {
		log.Fatal(err)
	}
	credential, err := repo.Seal(ctx, "web1")
	if err != nil {
		log.Fatal(err)
	}
	text := credential.Text() // to a file with mode 0600 on the host web1

	// On web1:
	if credential, err = backup.ParseCredential(text); err != nil {
		log.Fatal(err)
	}
	web1, err := backup.Open(ctx, backup.Config{Store: store, Credential: credential})
	if err != nil {
		log.Fatal(err)
	}
	m := &motto{text: "per aspera ad astra"}
	point, err := web1.Backup(ctx, "mottoes", m, backup.BackupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(credential)
	fmt.Println(web1.Restore(ctx, point.ID, m, backup.Destination{}, backup.RestoreOptions{}) != nil)

	// Where the key is:
	m.text = ""
	if err := repo.Restore(ctx, point.ID, m, backup.Destination{}, backup.RestoreOptions{}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(m.text, "by", point.Writer)
	report, err := repo.Attest(ctx, backup.AttestOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(report.Attested.Packs, "packs attested,", len(report.Bad), "bad")
	// Output:
	// backup.Credential(redacted)
	// true
	// per aspera ad astra by web1
	// 2 packs attested, 0 bad
}
