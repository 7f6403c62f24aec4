package kms

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"regexp"
	"strings"

	"cloud.google.com/go/auth"
	"google.golang.org/api/cloudkms/v1"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

// Config says how Cloud KMS is reached. The zero value takes credentials from
// the environment.
type Config struct {
	// Endpoint is the URL of the service: a regional one
	// ("https://cloudkms.europe-west3.rep.googleapis.com"), or that of a private
	// connection. Empty means https://cloudkms.googleapis.com.
	Endpoint string

	// Credentials sign the requests. Nil means Application Default Credentials:
	// the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the metadata
	// server of the machine. The scope is https://www.googleapis.com/auth/cloudkms
	// or cloud-platform.
	Credentials *auth.Credentials

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits as long as the service asks it to, but no
	// longer than a minute, and else up to a quarter of a second, twice as long
	// each time.
	Attempts int
}

const maxWrapped = 8 << 10 // that WrapKey returns

// Keys is Cloud KMS as a [provider.KeyWrapper] and a [provider.KeyUnwrapper].
// It is safe for concurrent use.
type Keys struct {
	service *conn.Service
	keys    *cloudkms.ProjectsLocationsKeyRingsCryptoKeysService
}

var (
	_ provider.KeyWrapper   = (*Keys)(nil)
	_ provider.KeyUnwrapper = (*Keys)(nil)
)

// Open returns the service of c. It looks for credentials in the environment
// and asks the service nothing.
func Open(ctx context.Context, c Config) (*Keys, error) {
	var errs []error
	reached := conn.Config{
		Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts,
		Public: "https://cloudkms.googleapis.com", Scope: cloudkms.CloudkmsScope,
	}
	reached.Complete(func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("kms", field, format, args...))
	})
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	service, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	client, err := cloudkms.NewService(ctx, service.Options()...)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return &Keys{service: service, keys: client.Projects.Locations.KeyRings.CryptoKeys}, nil
}

// WrapKey implements [provider.KeyWrapper] with Encrypt.
func (k *Keys) WrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	err := check(key, ec)
	if err == nil && len(secret) != provider.WrappedSize {
		err = fmt.Errorf("a secret of %d bytes, want %d", len(secret), provider.WrappedSize)
	}
	var wrapped []byte
	if err == nil {
		wrapped, err = conn.Do(ctx, k.service, &conn.Attempts{}, func(ctx context.Context) ([]byte, error) {
			return k.encrypt(ctx, key, secret, ec.Bytes())
		})
	}
	if err != nil {
		return nil, wrap(ctx, "wrap key", key, err)
	}
	return wrapped, nil
}

func (k *Keys) encrypt(ctx context.Context, key string, secret, aad []byte) ([]byte, error) {
	in := &cloudkms.EncryptRequest{Plaintext: base64.StdEncoding.EncodeToString(secret), PlaintextCrc32c: sum(secret)}
	in.ForceSendFields = []string{"PlaintextCrc32c"} // 0 is one, too
	if len(aad) > 0 {
		in.AdditionalAuthenticatedData, in.AdditionalAuthenticatedDataCrc32c = base64.StdEncoding.EncodeToString(aad), sum(aad)
		in.ForceSendFields = append(in.ForceSendFields, "AdditionalAuthenticatedDataCrc32c")
	}
	out, err := k.keys.Encrypt(key, in).Context(ctx).Do()
	if err != nil {
		return nil, again(err)
	}
	wrapped, err := decoded(out.Ciphertext)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the ciphertext of the answer: %w: %w", conn.ErrAgain, err)
	case !out.VerifiedPlaintextCrc32c || len(aad) > 0 && !out.VerifiedAdditionalAuthenticatedDataCrc32c:
		return nil, fmt.Errorf("checksums of the request that Cloud KMS has not verified: %w", conn.ErrAgain)
	case sum(wrapped) != out.CiphertextCrc32c:
		return nil, fmt.Errorf("the ciphertext of the answer: %w", conn.ErrAgain)
	case !strings.HasPrefix(out.Name, key+"/cryptoKeyVersions/"):
		return nil, fmt.Errorf("wrapped by Cloud KMS with %q: %w", out.Name, conn.ErrAgain)
	case len(wrapped) == 0 || len(wrapped) > maxWrapped:
		return nil, fmt.Errorf("a ciphertext of %d bytes: %w", len(wrapped), conn.ErrAgain)
	}
	return wrapped, nil
}

// UnwrapKey implements [provider.KeyUnwrapper] with Decrypt.
func (k *Keys) UnwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	var secret []byte
	err := check(key, ec)
	if err == nil {
		secret, err = conn.Do(ctx, k.service, &conn.Attempts{}, func(ctx context.Context) ([]byte, error) {
			return k.decrypt(ctx, key, wrapped, ec.Bytes())
		})
	}
	if err != nil {
		return nil, wrap(ctx, "unwrap key", key, err)
	}
	return secret, nil
}

func (k *Keys) decrypt(ctx context.Context, key string, wrapped, aad []byte) ([]byte, error) {
	// The service says whether these credentials may unwrap, also if what it is
	// given has a size that it would refuse before it looks.
	switch {
	case len(wrapped) == 0:
		wrapped = []byte{0}
	case len(wrapped) > maxWrapped:
		wrapped = wrapped[:maxWrapped] // cut, it is as wrong
	}
	in := &cloudkms.DecryptRequest{Ciphertext: base64.StdEncoding.EncodeToString(wrapped), CiphertextCrc32c: sum(wrapped)}
	in.ForceSendFields = []string{"CiphertextCrc32c"}
	if len(aad) > 0 {
		in.AdditionalAuthenticatedData, in.AdditionalAuthenticatedDataCrc32c = base64.StdEncoding.EncodeToString(aad), sum(aad)
		in.ForceSendFields = append(in.ForceSendFields, "AdditionalAuthenticatedDataCrc32c")
	}
	out, err := k.keys.Decrypt(key, in).Context(ctx).Do()
	if err != nil {
		return nil, again(err)
	}
	secret, err := decoded(out.Plaintext)
	switch {
	case err != nil || sum(secret) != out.PlaintextCrc32c:
		clear(secret)
		return nil, fmt.Errorf("the plaintext of the answer: %w", conn.ErrAgain) // and not err, which may quote it
	case len(secret) != provider.WrappedSize:
		n := len(secret)
		clear(secret)
		return nil, fmt.Errorf("%w: it holds %d bytes that WrapKey did not wrap", provider.ErrWrongKey, n)
	}
	return secret, nil
}

var keyName = regexp.MustCompile(`^projects/[^/:?#%]+(:[^/:?#%]+)?/locations/[^/:?#%]+/keyRings/[^/:?#%]+/cryptoKeys/[^/:?#%]+$`)

func check(key string, ec provider.EncryptionContext) error {
	if !keyName.MatchString(key) {
		return fmt.Errorf("%q is not the name of a key, projects/P/locations/L/keyRings/R/cryptoKeys/K without a version", key)
	}
	if _, ok := ec[""]; ok {
		return errors.New("the encryption context has an empty name")
	}
	return nil
}

func sum(b []byte) int64 {
	return int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// decoded reads either of the two alphabets that Google's APIs write.
func decoded(s string) ([]byte, error) {
	if strings.ContainsAny(s, "-_") {
		return base64.URLEncoding.DecodeString(s)
	}
	return base64.StdEncoding.DecodeString(s)
}
