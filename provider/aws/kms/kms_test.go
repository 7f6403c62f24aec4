package kms_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
	"github.com/holdfast-go/holdfast/provider/aws/kms"
	"github.com/holdfast-go/holdfast/provider/providertest"
)

// service is moto behind what AWS documents, and keys in it.
type service struct {
	*wire.Proxy
	*documented
	key, other string // ARNs
}

func newService(t *testing.T) *service {
	t.Helper()
	endpoint := moto(t)
	s := &service{wire.New(t, endpoint), &documented{t: t, owner: client(endpoint), mayNotDecrypt: "wrap-only"}, "", ""}
	s.Add(s.rule)
	s.key, s.other = s.newKey(t), s.newKey(t)
	return s
}

func (s *service) newKey(t *testing.T) string {
	t.Helper()
	out, err := s.owner.CreateKey(t.Context(), &awskms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// id is the name by which moto takes a key in all its calls.
func id(key string) *string {
	_, id, _ := strings.Cut(key, ":key/")
	return &id
}

func (s *service) open(t *testing.T, change func(*kms.Config)) *kms.Keys {
	t.Helper()
	c := kms.Config{Region: home, Endpoint: s.URL, Attempts: 2, Credentials: credentials.NewStaticCredentialsProvider("owner", "secret", "")}
	if change != nil {
		change(&c)
	}
	k, err := kms.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func wrapOnly(c *kms.Config) {
	c.Credentials = credentials.NewStaticCredentialsProvider("wrap-only", "secret", "")
}

func (s *service) options(t *testing.T) providertest.KeysOptions {
	open := func(change func(*kms.Config)) func() (providertest.KeyService, error) {
		return func() (providertest.KeyService, error) { return s.open(t, change), nil }
	}
	return providertest.KeysOptions{
		Key: s.key, Other: s.other, Missing: s.key[:len(s.key)-4] + "0000",
		Second: open(nil), WrapOnly: open(wrapOnly),
		Rotate: func(ctx context.Context) error {
			_, err := s.owner.RotateKeyOnDemand(ctx, &awskms.RotateKeyOnDemandInput{KeyId: id(s.key)})
			return err
		},
		Down: func() { s.Add(wire.Cut) },
		Up:   func() { s.Clear(); s.Add(s.rule) },
	}
}

func TestKeys(t *testing.T) {
	s := newService(t)
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService { return s.open(t, nil) }, s.options(t))
}

// The same suite on a key of yours: HOLDFAST_AWS_KEY is its ARN, and
// HOLDFAST_AWS_OTHER_KEY that of a second one. Keys are neither made nor
// rotated.
func TestAWS(t *testing.T) {
	key := os.Getenv("HOLDFAST_AWS_KEY")
	if key == "" {
		t.Skip("HOLDFAST_AWS_KEY names no key")
	}
	open := func() (providertest.KeyService, error) { return kms.Open(t.Context(), kms.Config{Region: home}) }
	providertest.TestKeys(t, func(t *testing.T) providertest.KeyService {
		k, err := open()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}, providertest.KeysOptions{Key: key, Other: os.Getenv("HOLDFAST_AWS_OTHER_KEY"), Second: open})
}

var bound = provider.EncryptionContext{"repository": "r1"}

func secret() []byte { return bytes.Repeat([]byte{7}, provider.WrappedSize) }

// What goes to KMS, to the letter: Encrypt alone to wrap, and Decrypt never
// without the key.
func TestRequests(t *testing.T) {
	s := newService(t)
	k := s.open(t, func(c *kms.Config) { c.GrantTokens = []string{"grant"} })
	wrapped, err := k.WrapKey(t.Context(), s.key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.UnwrapKey(t.Context(), s.key, wrapped, bound); err != nil {
		t.Fatal(err)
	}
	seen := s.Seen("")
	if len(seen) != 2 || seen[0].Action != "Encrypt" || seen[1].Action != "Decrypt" {
		t.Fatalf("%d requests", len(seen))
	}
	for _, r := range seen {
		for _, want := range []string{`"KeyId":"` + s.key + `"`, `"EncryptionContext":{"repository":"r1"}`, `"GrantTokens":["grant"]`} {
			if !strings.Contains(string(r.Content), want) {
				t.Errorf("%s without %s", r.Action, want)
			}
		}
	}
}

// A key that cannot be used now is no key that is gone, and the error says
// what to do.
func TestUnusable(t *testing.T) {
	s := newService(t)
	k := s.open(t, nil)
	wrapped, err := k.WrapKey(t.Context(), s.key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	check := func(text string, vendor func(error) bool) {
		t.Helper()
		_, wrapErr := k.WrapKey(t.Context(), s.key, secret(), bound)
		_, unwrapErr := k.UnwrapKey(t.Context(), s.key, wrapped, bound)
		_, garbageErr := k.UnwrapKey(t.Context(), s.key, nil, bound)
		for _, err := range []error{wrapErr, unwrapErr, garbageErr} {
			if err == nil || !strings.Contains(err.Error(), text) || !vendor(err) {
				t.Errorf("%v, want one that says %q", err, text)
			}
			for _, sentinel := range []error{provider.ErrNotFound, provider.ErrWrongKey, fs.ErrPermission} {
				if errors.Is(err, sentinel) {
					t.Errorf("%v is %v", err, sentinel)
				}
			}
		}
	}
	if _, err := s.owner.DisableKey(t.Context(), &awskms.DisableKeyInput{KeyId: id(s.key)}); err != nil {
		t.Fatal(err)
	}
	check("kms:EnableKey", func(err error) bool { _, ok := errors.AsType[*types.DisabledException](err); return ok })
	if _, err := s.owner.ScheduleKeyDeletion(t.Context(), &awskms.ScheduleKeyDeletionInput{KeyId: id(s.key)}); err != nil {
		t.Fatal(err)
	}
	check("kms:CancelKeyDeletion", func(err error) bool { _, ok := errors.AsType[*types.KMSInvalidStateException](err); return ok })
}

// A key can be named in four ways.
func TestNames(t *testing.T) {
	s := newService(t)
	alias := "alias/" + *id(s.key)
	if _, err := s.owner.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: &alias, TargetKeyId: &s.key}); err != nil {
		t.Fatal(err)
	}
	k := s.open(t, nil)
	wrapped, err := k.WrapKey(t.Context(), s.key, secret(), bound)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{*id(s.key), alias, strings.Replace(s.key, "key/"+*id(s.key), alias, 1)} {
		if b, err := k.UnwrapKey(t.Context(), name, wrapped, bound); err != nil || !bytes.Equal(b, secret()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, sentinel := range map[string]error{"": nil, "arn:aws:s3:::bucket": nil, "alias/none": provider.ErrNotFound} {
		if _, err := k.WrapKey(t.Context(), name, secret(), bound); err == nil || errors.Is(err, provider.ErrNotFound) != (sentinel != nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := k.WrapKey(t.Context(), s.key, secret(), provider.EncryptionContext{"": "x"}); err == nil {
		t.Error("an empty name in the context is accepted")
	}
}

// What somebody else encrypted under the key is no wrapped key.
func TestForeignCiphertext(t *testing.T) {
	s := newService(t)
	out, err := client(s.URL).Encrypt(t.Context(), &awskms.EncryptInput{KeyId: &s.key, Plaintext: []byte("password"), EncryptionContext: bound})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.open(t, nil).UnwrapKey(t.Context(), s.key, out.CiphertextBlob, bound); !errors.Is(err, provider.ErrWrongKey) || len(b) > 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := s.open(t, nil).UnwrapKey(t.Context(), s.key, make([]byte, 7000), bound); !errors.Is(err, provider.ErrWrongKey) {
		t.Errorf("more than a ciphertext can have: %v", err)
	}
}
