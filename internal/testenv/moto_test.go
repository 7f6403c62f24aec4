package testenv_test

import (
	"net/http"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestMoto(t *testing.T) {
	s := testenv.StartMoto(t)
	resp, err := http.Get(s.Endpoint + "/moto-api/data.json")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s", resp.Status)
	}
}
