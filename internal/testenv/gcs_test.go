package testenv_test

import (
	"net/http"
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestFakeGCS(t *testing.T) {
	s := testenv.FakeGCS(t)
	bucket := s.NewBucket(t, testenv.BucketOptions{Versions: true})
	resp, err := http.Get(s.Endpoint + "/storage/v1/b/" + bucket + "/o")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("list: %s", resp.Status)
	}
	if again := testenv.FakeGCS(t); again != s {
		t.Error("the second test gets another server")
	}
}
