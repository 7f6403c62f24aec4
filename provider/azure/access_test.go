package azure_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure"
)

// signed opens a container with a shared access signature.
func signed(t *testing.T, s *testenv.Azure, container string, may sas.ContainerPermissions) *azure.Store {
	return open(t, s, container, func(c *azure.Config) { c.AccountKey, c.SAS = "", s.SAS(t, container, may) })
}

// A signature that creates can neither replace, delete nor read, and learns of
// a key that is taken if it may read.
func TestCreateOnlySignature(t *testing.T) {
	server := testenv.Azurite(t)
	ctx := t.Context()
	container := server.NewContainer(t)
	writer := signed(t, server, container, sas.ContainerPermissions{Create: true, List: true})
	reads := signed(t, server, container, sas.ContainerPermissions{Create: true, Read: true})
	if _, err := writer.Put(ctx, "points/1", provider.Bytes([]byte("true")), provider.PutOptions{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	listed := 0
	for _, err := range writer.List(ctx, "", provider.ListOptions{}) {
		if err != nil {
			t.Error(err)
		}
		listed++
	}
	if listed != 1 {
		t.Errorf("lists %d blobs, want 1", listed)
	}
	_, putErr := writer.Put(ctx, "points/1", provider.Bytes([]byte("false")), provider.PutOptions{})
	_, _, getErr := writer.Get(ctx, "points/1", provider.GetOptions{})
	_, statErr := writer.Stat(ctx, "points/1")
	for what, err := range map[string]error{"put over it": putErr, "get": getErr, "stat": statErr,
		"delete": writer.Delete(ctx, "points/1", provider.DeleteOptions{}), "delete that reads": reads.Delete(ctx, "points/1", provider.DeleteOptions{})} {
		if !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v, want fs.ErrPermission", what, err)
		}
	}
	if _, err := reads.Put(ctx, "points/1", provider.Bytes([]byte("false")), provider.PutOptions{IfAbsent: true}); !errors.Is(err, provider.ErrConflict) {
		t.Errorf("IfAbsent on a taken key, with a signature that reads: %v", err)
	}
	if b, _, err := provider.ReadAll(ctx, reads, "points/1", 100); err != nil || string(b) != "true" {
		t.Errorf("%q, %v", b, err)
	}
}

// A connection string says where and who.
func TestConnectionString(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	may := sas.ContainerPermissions{Read: true, Create: true, List: true, Write: true, Delete: true}
	for key, secret := range map[string]string{"k": "AccountKey=" + server.Key, "s": "SharedAccessSignature=" + server.SAS(t, container, may)} {
		s, err := azure.Open(t.Context(), azure.Config{Container: container,
			ConnectionString: "AccountName=" + server.Account + ";BlobEndpoint=" + server.Endpoint + ";" + secret})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Put(t.Context(), key, provider.Bytes([]byte("x")), provider.PutOptions{}); err != nil {
			t.Errorf("put: %v", err)
		}
		if err := s.Delete(t.Context(), key, provider.DeleteOptions{}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
}

// tokens are a credential whose tokens expire at once.
type tokens struct{ asked []string }

func (c *tokens) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.asked = append(c.asked, o.Scopes...)
	return azcore.AccessToken{Token: fmt.Sprint("token", len(c.asked)), ExpiresOn: time.Now()}, nil
}

// Over https a server is trusted that the CA vouches for, and no other. Tokens
// of Entra ID go along, and are renewed. What is asked with the token is asked
// of Azurite with the account's key, because it knows no such tokens.
func TestTokensAndCA(t *testing.T) {
	server := testenv.Azurite(t)
	container := server.NewContainer(t)
	n := newNetwork(t, server, httptest.NewTLSServer)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.Certificate().Raw})
	through := func(c *azure.Config) { c.Endpoint, c.CA, c.Attempts = n.URL+"/"+server.Account, ca, 1 }

	stranger := open(t, server, container, func(c *azure.Config) { through(c); c.CA = nil })
	if _, err := stranger.Stat(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody known: %v", err)
	}
	s := open(t, server, container, through)
	if _, err := s.Put(t.Context(), "x", provider.Bytes([]byte("content")), provider.PutOptions{}); err != nil {
		t.Errorf("with the CA: %v", err)
	}

	var seen []string
	n.Meets(1000, func(*http.Request) bool { return true }, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("Authorization"))
		w.Header().Set("x-ms-error-code", "AuthorizationPermissionMismatch")
		w.WriteHeader(http.StatusForbidden)
	})
	c := &tokens{}
	asks := open(t, server, container, func(config *azure.Config) { through(config); config.AccountKey, config.Credential = "", c })
	for range 2 {
		if _, err := asks.Stat(t.Context(), "x"); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v", err)
		}
	}
	if len(seen) != 2 || seen[0] != "Bearer token1" || seen[1] != "Bearer token2" || c.asked[0] != "https://storage.azure.com/.default" {
		t.Errorf("authorized by %q for %q", seen, c.asked)
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
