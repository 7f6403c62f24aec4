package postgres_test

import (
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres"
)

// A password in a connection string is refused, by name, and not repeated.
func TestNoPasswordInConn(t *testing.T) {
	for _, conn := range []string{
		"host=db1 password=hunter2", "password = 'hunter2' host=db1", "host=db1\npassword=hunter2", "sslpassword=hunter2",
		"postgres://me:hunter2@db1/x", "postgresql://me:hun%40ter2@db1,db2/x?sslmode=require", "postgres://db1/x?password=hunter2", "postgres://db1/x?a=b&sslpassword=hunter2",
	} {
		_, err := postgres.New(postgres.Config{Conn: conn})
		if err == nil || !strings.Contains(err.Error(), "password") || !strings.Contains(err.Error(), "passfile") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", conn, err)
		}
	}
	for _, conn := range []string{"host=db1 user=me passfile=/password", "postgres://me@db1/password", "host=db1 application_name='no password here'"} {
		if _, err := postgres.New(postgres.Config{Conn: conn}); err != nil {
			t.Errorf("%q: %v", conn, err)
		}
	}
}

// What is wrong with a Config is said all at once, and no connection string is
// repeated.
func TestBadConfig(t *testing.T) {
	_, err := postgres.New(postgres.Config{Conn: "hunter2", Checkpoint: "slow", Workers: -1, Reader: "best", ManifestChecksums: "MD5"})
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Fatal(err)
	}
	for _, want := range []string{"Conn", "Checkpoint", "Workers", "Reader", "ManifestChecksums"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if _, err := postgres.New(postgres.Config{Reader: postgres.Local}); err == nil || !strings.Contains(err.Error(), "Data") {
		t.Errorf("a local reader without a directory: %v", err)
	}
}
