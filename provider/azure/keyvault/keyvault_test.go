package keyvault_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/wire"
	"github.com/holdfast-go/holdfast/provider/azure/keyvault"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

var bound = provider.EncryptionContext{"repository": "r1"}

func secret() []byte { return bytes.Repeat([]byte{7}, provider.WrappedSize) }

func (v *vault) open(t *testing.T, change func(*keyvault.Config)) *keyvault.Keys {
	t.Helper()
	c := keyvault.Config{Vault: vaultURL, Attempts: 1, Credential: &wire.Tokens{Prefix: "owner"}}
	if change != nil {
		change(&c)
	}
	k, err := keyvault.OpenOn(t.Context(), c, v)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func as(who string) func(*keyvault.Config) {
	return func(c *keyvault.Config) { c.Credential = &wire.Tokens{Prefix: who} }
}

func (v *vault) suite(t *testing.T, key, other string, change func(*keyvault.Config)) {
	open := func(changes ...func(*keyvault.Config)) func() (providertest.KeyService, error) {
		return func() (providertest.KeyService, error) {
			return v.open(t, func(c *keyvault.Config) {
				for _, f := range append(changes, change) {
					if f != nil {
						f(c)
					}
				}
			}), nil
		}
	}
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService {
		k, _ := open()()
		return k
	}, providertest.KeysOptions{
		Key: key, Other: other, Missing: "missing", Second: open(), WrapOnly: open(as("wraponly")),
		Rotate: func(context.Context) error { v.rotate(key); return nil },
		Down:   func() { v.Add(wire.Cut) },
		Up:     v.restore,
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	newVault(t, "backups", "other").suite(t, "backups", "other", nil)
}

// Keys of a Managed HSM that are symmetric.
func TestSymmetricKeys(t *testing.T) {
	t.Parallel()
	newVault(t, "symmetric", "symmetric2").suite(t, "symmetric", "symmetric2", func(c *keyvault.Config) { c.Algorithm = "A256KW" })
}

// The same suite on keys of yours, with the standard chain of credentials.
// HOLDFAST_AZURE_VAULT_KEY is https://VAULT/keys/NAME, HOLDFAST_AZURE_VAULT_OTHER_KEY
// another key of the vault. Keys are neither made nor rotated.
func TestAzure(t *testing.T) {
	key := os.Getenv("HOLDFAST_AZURE_VAULT_KEY")
	if key == "" {
		t.Skip("HOLDFAST_AZURE_VAULT_KEY names no key")
	}
	url, _, _ := strings.Cut(key, "/keys/")
	open := func() (providertest.KeyService, error) {
		return keyvault.Open(t.Context(), keyvault.Config{Vault: url, Algorithm: os.Getenv("HOLDFAST_AZURE_VAULT_ALGORITHM")})
	}
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService {
		k, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}, providertest.KeysOptions{Key: key, Other: os.Getenv("HOLDFAST_AZURE_VAULT_OTHER_KEY"), Missing: url + "/keys/holdfast-check-missing", Second: open})
}

// What goes to the vault, to the letter: a key of our own and never the
// secret, without a version to wrap and with the one that wrapped to unwrap.
func TestRequests(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	wrapped, err := k.WrapKey(t.Context(), "backups", secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	first := v.keys["backups"].versions[0].id
	v.rotate("backups")
	if _, err := k.UnwrapKey(t.Context(), vaultURL+"/keys/backups", wrapped, bound); err != nil {
		t.Fatal(err)
	}
	var signed []*wire.Request
	for _, r := range v.Seen("", "") {
		if r.Token() != "" {
			signed = append(signed, r)
		}
	}
	if len(signed) != 2 {
		t.Fatalf("%d requests", len(signed))
	}
	if p := signed[0].URL.Path; signed[0].Method != "POST" || p != "/keys/backups/wrapkey" {
		t.Errorf("%s %s", signed[0].Method, p)
	}
	if p := signed[1].URL.Path; signed[1].Method != "POST" || p != "/keys/backups/"+first+"/unwrapkey" {
		t.Errorf("%s %s, want version %s", signed[1].Method, p, first)
	}
	for _, r := range signed {
		if !strings.Contains(string(r.Content), `"alg":"RSA-OAEP-256"`) || strings.Contains(string(r.Content), "BwcHBwcHBwcHBwcH") {
			t.Errorf("%s", r.Content)
		}
	}
}

// isNone checks that err is there and none of package provider.
func isNone(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	for _, sentinel := range []error{provider.ErrNotFound, provider.ErrWrongKey, fs.ErrPermission} {
		if errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want one that says %q", err, text)
		}
	}
}

// A key that cannot be used now is no key that is gone, no wrong key and no
// lack of permission, and the error says what to do.
func TestUnusable(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	wrapped, err := k.WrapKey(t.Context(), "backups", secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	both := func(texts ...string) {
		t.Helper()
		_, err := k.WrapKey(t.Context(), "backups", secret(), bound)
		isNone(t, err, texts...)
		for _, b := range [][]byte{wrapped, nil} {
			_, err = k.UnwrapKey(t.Context(), "backups", b, bound)
			isNone(t, err, texts...)
			if _, ok := errors.AsType[*azcore.ResponseError](err); !ok {
				t.Errorf("%v without the error of the vendor", err)
			}
		}
	}
	for code, text := range map[string]string{
		"KeyDisabled": "--enabled true", "KeyExpired": "--expires", "KeyOperationForbidden": "--ops", "ForbiddenByFirewall": "network rules",
	} {
		v.change("backups", func(k *key) { k.refuse = code })
		both(text)
	}
	v.change("backups", func(k *key) { k.refuse, k.deleted = "", true })
	both("az keyvault key recover", "2030-01-02 03:04")

	// Whether it can be had back is not answered: then it is not gone either.
	v.Add(func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
		if r.Is("GET", "/deletedkeys/") {
			return wire.Fault(r, 503, "ServiceUnavailable", "later", ""), nil
		}
		return next()
	})
	both("not answered")
	v.restore()

	// Who may not ask for deleted keys is told what the vault said.
	_, err = v.open(t, as("unwraponly")).UnwrapKey(t.Context(), "backups", wrapped, bound)
	if !errors.Is(err, provider.ErrNotFound) || !strings.Contains(err.Error(), "may not ask") {
		t.Error(err)
	}

	// A version that is disabled, after a rotation.
	v.change("backups", func(k *key) { k.deleted, k.versions[0].disabled = false, true })
	v.rotate("backups")
	_, err = k.UnwrapKey(t.Context(), "backups", wrapped, bound)
	isNone(t, err, "--enabled true")
	if _, err := k.UnwrapKey(t.Context(), "backups", []byte("x"), bound); !errors.Is(err, provider.ErrWrongKey) {
		t.Error(err)
	}
}

// A key of another kind does not wrap, and did not wrap what it is to unwrap.
func TestOtherKind(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups", "symmetric")
	k := v.open(t, nil)
	_, err := k.WrapKey(t.Context(), "symmetric", secret(), bound)
	isNone(t, err, "Config.Algorithm")
	wrapped, err := k.WrapKey(t.Context(), "backups", secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	// What unwraps is what wrapped, whatever the Config says.
	other := v.open(t, func(c *keyvault.Config) { c.Algorithm = "A256KW" })
	if b, err := other.UnwrapKey(t.Context(), "backups", wrapped, bound); err != nil || !bytes.Equal(b, secret()) {
		t.Error(err)
	}
}

// Each byte of what is wrapped counts, and the version in it is no way to ask
// for another key.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	wrapped, err := k.WrapKey(t.Context(), "backups", secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	for i := range wrapped {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(wrapped)
			b[i] ^= bit
			if got, err := k.UnwrapKey(t.Context(), "backups", b, bound); !errors.Is(err, provider.ErrWrongKey) || len(got) > 0 {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
		if _, err := k.UnwrapKey(t.Context(), "backups", wrapped[:i], bound); !errors.Is(err, provider.ErrWrongKey) {
			t.Fatalf("%d bytes: %v", i, err)
		}
	}
	for _, r := range v.Seen("", "/keys/") {
		if !operation.MatchString(r.URL.Path) || !strings.HasPrefix(r.URL.Path, "/keys/backups/") {
			t.Errorf("asked for %s", r.URL.Path)
		}
	}
}

// What passes is tried again; what does not is an error of its own.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, func(c *keyvault.Config) { c.Attempts = 2 })
	wrapped, err := k.WrapKey(t.Context(), "backups", secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	for name, rule := range map[string]wire.Rule{
		"429": wire.Answers(429, `{"error":{"code":"Throttled","message":"slow down"}}`, "Retry-After", "1"),
		"500": wire.Answers(500, `{"error":{"code":"InternalServerError"}}`), "503": wire.Answers(503, "<html>"), "lost": wire.Lost, "cut": wire.Cut,
	} {
		t.Run(name, func(t *testing.T) {
			first, done := wire.First(1, "POST", "key", rule)
			v.Add(first)
			if b, err := k.UnwrapKey(t.Context(), "backups", wrapped, bound); err != nil || !bytes.Equal(b, secret()) || done.Load() != 1 {
				t.Error(err)
			}
			v.restore()
		})
	}
	v.Add(wire.Answers(500, `{"error":{"code":"InternalServerError","message":"later"}}`))
	_, err = k.UnwrapKey(t.Context(), "backups", wrapped, bound)
	isNone(t, err, "500 InternalServerError: later")
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%v is not one line", err)
	}
}

// A service that is silent costs the time of ctx and no more.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	v.Add(wire.Hole)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := k.WrapKey(ctx, "backups", secret(), bound)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	isNone(t, err)
}

// A token that has expired by the clock of the service is fetched anew, once.
func TestExpiredToken(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	if _, err := k.WrapKey(t.Context(), "backups", secret(), bound); err != nil {
		t.Fatal(err)
	}
	expired := func(all bool) wire.Rule {
		return func(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
			if all || r.Token() == "owner-1" {
				return wire.Answer(r, 401, `{"error":{"code":"Unauthorized","message":"AKV10022: Invalid audience or expired"}}`,
					"WWW-Authenticate", `Bearer authorization="https://login.windows.net/tenant" resource="https://vault.azure.net"`), nil
			}
			return next()
		}
	}
	v.Add(expired(false))
	if _, err := k.WrapKey(t.Context(), "backups", secret(), bound); err != nil {
		t.Errorf("a token that can be renewed: %v", err)
	}
	v.Add(expired(true))
	if _, err := k.WrapKey(t.Context(), "backups", secret(), bound); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("one that cannot: %v", err)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	v := newVault(t, "backups")
	k := v.open(t, nil)
	version := v.keys["backups"].versions[0].id
	for name, text := range map[string]string{
		"": "not the name", "a/b/c": "not the name", "ü": "not the name", "../x": "not the name",
		"https://other.vault.azure.net/keys/backups": "another vault", vaultURL + "/secrets/backups": "want https://VAULT/keys/NAME",
		"backups/" + version: "names a version", vaultURL + "/keys/backups/" + version: "names a version",
	} {
		_, err := k.WrapKey(t.Context(), name, secret(), bound)
		isNone(t, err, text)
		_, err = k.UnwrapKey(t.Context(), name, secret(), bound)
		isNone(t, err, text)
	}
	_, err := k.WrapKey(t.Context(), "backups", secret(), provider.EncryptionContext{"": "x"})
	isNone(t, err, "empty name")
	if n := len(v.Seen("", "")); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestConfig(t *testing.T) {
	_, err := keyvault.Open(t.Context(), keyvault.Config{Vault: "https://user:secret@host/", Algorithm: "RSA1_5", Attempts: -1, CA: []byte("none")})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Vault", "Algorithm", "Attempts", "CA"} {
		if !strings.Contains(err.Error(), "keyvault: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
	for _, url := range []string{"", "http://host", "https://", "https://host/keys", "https://host?sig=secret", ":"} {
		if _, err := keyvault.Open(t.Context(), keyvault.Config{Vault: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// Who wraps keys in Azure compiles no other service and no other cloud.
func TestBringsNothingElse(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.Lines(string(out)) {
		for _, other := range []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/", "k8s.io/", "/sdk/resourcemanager/", "/azblob"} {
			if strings.Contains(pkg, other) {
				t.Errorf("brings %s", pkg)
			}
		}
	}
	if !strings.Contains(string(out), "azkeys") {
		t.Error("go list does not name the SDK")
	}
}
