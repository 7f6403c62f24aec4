package kms_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/fakegcp"
	"github.com/holdfast-go/holdfast/provider/gcp/kms"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

const (
	ring  = "projects/p/locations/europe/keyRings/r/cryptoKeys/"
	key   = ring + "one"
	other = ring + "two"
)

func newService(t *testing.T) *fakegcp.KMS {
	s := fakegcp.NewKMS(t)
	s.Key(key)
	s.Key(other)
	return s
}

func open(t *testing.T, s *fakegcp.KMS, token string) *kms.Keys {
	t.Helper()
	k, err := kms.Open(t.Context(), kms.Config{Endpoint: s.URL, Attempts: 3, Credentials: fakegcp.Token("p", func() string { return token })})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeys(t *testing.T) {
	s := newService(t)
	s.Reader = "wrap-only"
	open := func(token string) func() (providertest.KeyService, error) {
		return func() (providertest.KeyService, error) { return open(t, s, token), nil }
	}
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService {
		k, _ := open("owner")()
		return k
	}, providertest.KeysOptions{
		Key: key, Other: other, Missing: ring + "none", Second: open("owner"), WrapOnly: open("wrap-only"),
		Rotate: func(context.Context) error { s.Key(key); return nil },
		Down:   func() { s.Add(fakegcp.Cut) }, Up: s.Clear,
	})
}

// The same suite on a key of yours. Keys are neither made nor rotated.
func TestGCP(t *testing.T) {
	key := os.Getenv("HOLDFAST_GCP_KEY")
	if key == "" {
		t.Skip("HOLDFAST_GCP_KEY names no key")
	}
	open := func() (providertest.KeyService, error) { return kms.Open(t.Context(), kms.Config{}) }
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService {
		k, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}, providertest.KeysOptions{Key: key, Other: os.Getenv("HOLDFAST_GCP_OTHER_KEY"), Second: open})
}

var bound = provider.EncryptionContext{"repository": "r1"}

func secret() []byte { return bytes.Repeat([]byte{7}, 32) }

func wrapped(t *testing.T, k *kms.Keys) []byte {
	t.Helper()
	b, err := k.WrapKey(t.Context(), key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// isUnknown: nobody may take the error for a certain answer.
func isUnknown(t *testing.T, err error) {
	t.Helper()
	for _, sentinel := range []error{provider.ErrNotFound, provider.ErrWrongKey, fs.ErrPermission, provider.ErrConflict, provider.ErrCorrupt} {
		if err == nil || errors.Is(err, sentinel) {
			t.Errorf("%v is %v", err, sentinel)
		}
	}
}

// What is sent: both checksums, and the context as the additional data.
func TestRequest(t *testing.T) {
	s := newService(t)
	k := open(t, s, "owner")
	b := wrapped(t, k)
	if _, err := k.UnwrapKey(t.Context(), key, b, bound); err != nil {
		t.Fatal(err)
	}
	seen := s.Seen("")
	if len(seen) != 2 {
		t.Fatalf("%d requests", len(seen))
	}
	std := base64.StdEncoding.EncodeToString
	for i, want := range []map[string]string{
		{"plaintext": std(secret()), "plaintextCrc32c": "3596965425", "additionalAuthenticatedData": std(bound.Bytes())},
		{"ciphertext": std(b), "additionalAuthenticatedData": std(bound.Bytes())},
	} {
		var got map[string]string
		if err := json.Unmarshal(seen[i].Content, &got); err != nil {
			t.Fatal(err)
		}
		for name, v := range want {
			if got[name] != v {
				t.Errorf("%s: %s is %q, want %q", seen[i].Method, name, got[name], v)
			}
		}
		if len(got) != 4 {
			t.Errorf("%s: %d fields, want 4", seen[i].Method, len(got))
		}
	}
}

// A key that cannot be used now is no key that is gone, and the error says what
// to do; one that was destroyed is gone.
func TestStates(t *testing.T) {
	s := newService(t)
	k := open(t, s, "owner")
	old := wrapped(t, k)
	for state, hint := range map[string]string{"DISABLED": "enable it", "DESTROY_SCHEDULED": "restore it", "PENDING_GENERATION": "not in a state"} {
		s.SetState(key, 1, state)
		_, wrapErr := k.WrapKey(t.Context(), key, secret(), bound)
		_, unwrapErr := k.UnwrapKey(t.Context(), key, old, bound)
		for _, err := range []error{wrapErr, unwrapErr} {
			isUnknown(t, err)
			if _, vendor := errors.AsType[*googleapi.Error](err); !vendor || !strings.Contains(err.Error(), hint) {
				t.Errorf("%s: %v, want one that says %q", state, err, hint)
			}
		}
	}
	s.SetState(key, 1, "DESTROYED")
	if _, err := k.WrapKey(t.Context(), key, secret(), bound); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("wrap with a destroyed version: %v", err)
	}
	s.Key(key) // a second version
	young := wrapped(t, k)
	if _, err := k.UnwrapKey(t.Context(), key, young, bound); err != nil {
		t.Error(err)
	}
	if _, err := k.UnwrapKey(t.Context(), key, old, bound); !errors.Is(err, provider.ErrNotFound) {
		t.Errorf("unwrap of a destroyed version: %v", err)
	}
	s.SetPurpose(key, "ASYMMETRIC_SIGN")
	_, err := k.UnwrapKey(t.Context(), key, young, bound)
	isUnknown(t, err)
	if !strings.Contains(err.Error(), "ENCRYPT_DECRYPT") {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	s := newService(t)
	k := open(t, s, "owner")
	for _, name := range []string{"", "one", key + "/cryptoKeyVersions/1", key + ":encrypt", key + "?a=b", "/" + key, ring} {
		_, err := k.WrapKey(t.Context(), name, secret(), bound)
		isUnknown(t, err)
		_, err = k.UnwrapKey(t.Context(), name, []byte("x"), bound)
		isUnknown(t, err)
	}
	if _, err := k.WrapKey(t.Context(), key, secret(), provider.EncryptionContext{"": "x"}); err == nil {
		t.Error("an empty name in the context is accepted")
	}
	if n := len(s.Seen("")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	if _, err := k.UnwrapKey(t.Context(), key, make([]byte, 100_000), bound); !errors.Is(err, provider.ErrWrongKey) {
		t.Errorf("more than was ever wrapped: %v", err)
	}
}

// What somebody else encrypted under the key is no wrapped key.
func TestForeignCiphertext(t *testing.T) {
	s := newService(t)
	std := base64.StdEncoding.EncodeToString
	r, err := http.NewRequest("POST", s.URL+"/v1/"+key+":encrypt", strings.NewReader(`{"plaintext":"`+std([]byte("password"))+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer owner")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Ciphertext []byte }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Ciphertext) == 0 {
		t.Fatal(err)
	}
	if b, err := open(t, s, "owner").UnwrapKey(t.Context(), key, answer.Ciphertext, nil); !errors.Is(err, provider.ErrWrongKey) || len(b) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// What passes is tried again, as long as it may be.
func TestTriesAgain(t *testing.T) {
	t.Parallel()
	checksum := fakegcp.Refuses(fakegcp.Fault{Code: 400, Reason: "badRequest", Status: "INVALID_ARGUMENT",
		Message: "The checksum in field ciphertext_crc32c did not match the data in field ciphertext."})
	for name, rule := range map[string]fakegcp.Rule{
		"429": fakegcp.Throttled, "403": fakegcp.Limited, "503": fakegcp.Unavailable, "cut": fakegcp.Cut, "lost": fakegcp.Lost, "checksum": checksum,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			k := open(t, s, "owner")
			for _, method := range []string{"cloudkms.projects.locations.keyRings.cryptoKeys.encrypt", "cloudkms.projects.locations.keyRings.cryptoKeys.decrypt"} {
				first, _ := fakegcp.First(1, method, rule)
				s.Add(first)
			}
			start := time.Now()
			if got, err := k.UnwrapKey(t.Context(), key, wrapped(t, k), bound); err != nil || !bytes.Equal(got, secret()) {
				t.Error(err)
			}
			if n := len(s.Seen("")); n != 4 {
				t.Errorf("%d requests, want 4", n)
			}
			if took := time.Since(start); name == "429" && took < 2*time.Second {
				t.Errorf("after %v, and both answers ask for a second of patience", took)
			}
			s.Add(rule)
			_, err := k.WrapKey(t.Context(), key, secret(), bound)
			isUnknown(t, err)
			if n := len(s.Seen("")); n != 7 {
				t.Errorf("%d requests, want 7", n)
			}
		})
	}
}

// An answer that was damaged is not believed, whatever it is that was.
func TestDamaged(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string][2]string{
		"not verified":     {`"verifiedPlaintextCrc32c":true`, `"verifiedPlaintextCrc32c":false`},
		"aad not verified": {`"verifiedAdditionalAuthenticatedDataCrc32c":true`, `"verifiedAdditionalAuthenticatedDataCrc32c":false`},
		"another key":      {"cryptoKeys/one/", "cryptoKeys/two/"},
		"ciphertext":       {`"ciphertext":"CiQA`, `"ciphertext":"CiQB`},
		"no ciphertext":    {`"ciphertext":"`, `"ciphertext":"!`},
		"plaintext":        {`"plaintext":"Bw`, `"plaintext":"Cw`},
		"its sum":          {`"plaintextCrc32c":"`, `"plaintextCrc32c":"1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newService(t)
			k := open(t, s, "owner")
			b := wrapped(t, k)
			var found bool
			damaged := func(_ *fakegcp.Request, next func() (*http.Response, error)) (*http.Response, error) {
				answer, err := next()
				if err != nil {
					return nil, err
				}
				var body bytes.Buffer
				body.ReadFrom(answer.Body)
				changed := strings.Replace(body.String(), damage[0], damage[1], 1)
				found = found || changed != body.String()
				return fakegcp.Answer(answer.StatusCode, changed), nil
			}
			first, _ := fakegcp.First(2, "", damaged)
			s.Add(first)
			again, err := k.WrapKey(t.Context(), key, secret(), bound)
			if err != nil {
				t.Fatal(err)
			}
			first, _ = fakegcp.First(2, "", damaged)
			s.Add(first)
			if got, err := k.UnwrapKey(t.Context(), key, again, bound); err != nil || !bytes.Equal(got, secret()) {
				t.Error(err)
			}
			if !found {
				t.Fatal("nothing was damaged")
			}
			s.Add(damaged)
			_, wrapErr := k.WrapKey(t.Context(), key, secret(), bound)
			_, unwrapErr := k.UnwrapKey(t.Context(), key, b, bound)
			if wrapErr == nil && unwrapErr == nil {
				t.Error("believed after all")
			}
			for _, err := range []error{wrapErr, unwrapErr} {
				if err != nil {
					isUnknown(t, err)
				}
			}
		})
	}
}

// A token that the service calls expired, while our clock says that it is
// good, is replaced; where there is no other, the error says so.
func TestExpired(t *testing.T) {
	s := newService(t)
	s.Takes("2")
	token := "1"
	k, err := kms.Open(t.Context(), kms.Config{Endpoint: s.URL, Credentials: fakegcp.Token("p", func() string {
		defer func() { token = "2" }()
		return token
	})})
	if err != nil {
		t.Fatal(err)
	}
	wrapped(t, k)
	s.Takes("3")
	if _, err := k.WrapKey(t.Context(), key, secret(), bound); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("with a token that is not taken: %v", err)
	}
}

// A service that is silent costs the time of ctx and no more.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.Add(fakegcp.Hole)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := open(t, s, "owner").WrapKey(ctx, key, secret(), bound)
	if isUnknown(t, err); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestDenied(t *testing.T) {
	s := newService(t)
	k := open(t, s, "owner")
	b := wrapped(t, k)
	s.Add(fakegcp.Denied)
	for _, b := range [][]byte{b, nil, make([]byte, 9000)} {
		if _, err := k.UnwrapKey(t.Context(), key, b, bound); !errors.Is(err, fs.ErrPermission) || errors.Is(err, provider.ErrWrongKey) {
			t.Error(err)
		}
	}
}

func TestConfig(t *testing.T) {
	_, err := kms.Open(t.Context(), kms.Config{Endpoint: "https://user:secret@host/path", Attempts: -1, CA: []byte("none")})
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Fatal(err)
	}
	for _, field := range []string{"Endpoint", "Attempts", "CA"} {
		if !strings.Contains(err.Error(), "kms: Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}
