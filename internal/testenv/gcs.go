package testenv

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/testcontainers/testcontainers-go/wait"
)

// GCS is a running fake-gcs-server, which speaks the JSON protocol of Google
// Cloud Storage below Endpoint + "/storage/v1/" and takes any credential. It
// deletes whatever the precondition of a delete says, and it keeps no
// retention, hold or key.
type GCS struct{ server }

// FakeGCS starts fake-gcs-server, unless the process has done so.
func FakeGCS(t testing.TB) *GCS {
	t.Helper()
	return once(t, fakegcs.name, func() *GCS {
		t.Helper()
		return &GCS{service{
			image: fakegcs, port: "4443/tcp", scheme: "http",
			up:  wait.ForHTTP("/_internal/healthcheck").WithPort("4443/tcp"),
			cmd: []string{"/fake-gcs-server", "-scheme", "http", "-host", "0.0.0.0", "-port", "4443", "-backend", "memory", "-log-level", "error"},
		}.start(t)}
	})
}

// NewBucket makes a bucket and returns its name. It goes away with the server.
func (s *GCS) NewBucket(t testing.TB, o BucketOptions) string {
	t.Helper()
	if o.Locks || o.Keep > 0 {
		t.Fatalf("%s locks nothing", s.Name)
	}
	name := "b" + strings.ToLower(rand.Text())
	b, err := json.Marshal(map[string]any{"name": name, "versioning": map[string]bool{"enabled": o.Versions}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint+"/storage/v1/b?project=test", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if said, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("make a bucket: %s: %s", resp.Status, said)
	}
	return name
}
