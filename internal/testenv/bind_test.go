package testenv_test

import (
	"net"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestBIND(t *testing.T) {
	s := testenv.BIND(t)
	for _, addr := range []string{s.Endpoint, s.Secondary} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	if again := testenv.BIND(t); again != s {
		t.Error("the second test gets another server")
	}
}
