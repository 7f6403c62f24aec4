package roles_test

import (
	"strings"
	"testing"

	"github.com/holdfast-go/holdfast/backup/postgres/roles"
)

func TestConfig(t *testing.T) {
	for conn, want := range map[string]string{
		"":                                    "Conn is empty",
		"host=a password=hush":                "passfile",
		"postgres://u:hush@a/postgres":        "passfile",
		"host=a,b":                            "several hosts",
		"host=a,a port=1,2":                   "several hosts",
		"host=a target_session_attrs=primary": "target_session_attrs",
	} {
		_, err := roles.New(roles.Config{Conn: conn})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", conn, err)
		}
	}
	if _, err := roles.New(roles.Config{Conn: "host=a", Patience: -1}); err == nil || !strings.Contains(err.Error(), "Patience") {
		t.Errorf("%v", err)
	}
	s, err := roles.New(roles.Config{Conn: "host=a port=5433 sslmode=prefer"})
	if err != nil || s.String() != "postgres a:5433" {
		t.Errorf("%v, %v", s, err)
	}
}
