package kms

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// Config says how KMS is reached. The zero value takes region and credentials
// from the environment.
type Config struct {
	// Region of keys that are not named by an ARN. Empty means what the
	// environment and the shared configuration say, or us-east-1 if Endpoint
	// is set and they say nothing.
	Region string

	// Replicas are the regions that are asked for a multi-Region key, in this
	// order, after the one that its name says.
	Replicas []string

	// Timeout is how long one region may take, all attempts together, before
	// the next one is asked; 0 means 20 seconds. Where there is no next one it
	// does not apply: then ctx alone ends a call.
	Timeout time.Duration

	// GrantTokens go along with each call, for grants that are not yet known
	// everywhere.
	GrantTokens []string

	// FIPS uses the endpoints that are validated by FIPS 140. Not every
	// region has one. Not together with Endpoint.
	FIPS bool

	// Endpoint is the URL of a service other than AWS's own, for all regions.
	// Empty means AWS.
	Endpoint string

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits as the SDK's standard mode does, and it
	// stops trying again when most requests fail.
	Attempts int
}

const (
	defaultTimeout = 20 * time.Second
	maxCiphertext  = 6144 // bytes that Decrypt takes
)

// Keys is KMS as a [provider.KeyWrapper] and a [provider.KeyUnwrapper]. It is
// safe for concurrent use.
type Keys struct {
	c      Config
	region string // of names that are no ARN
	client *kms.Client
}

var (
	_ provider.KeyWrapper   = (*Keys)(nil)
	_ provider.KeyUnwrapper = (*Keys)(nil)
)

// Open returns the service of c. It reads the configuration of the environment
// and makes no request.
func Open(ctx context.Context, c Config) (*Keys, error) {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("kms", field, format, args...))
	}
	reached := conn.Config{
		Region: c.Region, Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts, FIPS: c.FIPS,
		Answer: conn.ControlAnswer,
	}
	reached.Complete(fault)
	for i, r := range c.Replicas {
		if r == "" {
			fault("Replicas", "number %d is empty", i+1)
		}
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Timeout < 0 {
		fault("Timeout", "%v, want more than 0", c.Timeout)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	loaded, err := reached.Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return &Keys{c: c, region: loaded.Region, client: kms.NewFromConfig(loaded)}, nil
}

// WrapKey implements [provider.KeyWrapper] with Encrypt.
func (k *Keys) WrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	err := checkContext(ec)
	if err == nil && len(secret) != provider.WrappedSize {
		err = fmt.Errorf("a secret of %d bytes, want %d", len(secret), provider.WrappedSize)
	}
	if err != nil {
		return nil, k.wrap(ctx, "wrap key", key, err)
	}
	var wrapped []byte
	err = k.inRegions(ctx, key, func(ctx context.Context, in region) error {
		out, err := k.client.Encrypt(ctx, &kms.EncryptInput{
			KeyId: &in.key, Plaintext: secret, EncryptionContext: ec, GrantTokens: k.c.GrantTokens,
		}, in.option)
		if err == nil {
			wrapped = out.CiphertextBlob
		}
		return err
	})
	if err != nil {
		return nil, k.wrap(ctx, "wrap key", key, err)
	}
	return wrapped, nil
}

// UnwrapKey implements [provider.KeyUnwrapper] with Decrypt.
func (k *Keys) UnwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	if err := checkContext(ec); err != nil {
		return nil, k.wrap(ctx, "unwrap key", key, err)
	}
	var secret []byte
	err := k.inRegions(ctx, key, func(ctx context.Context, in region) (err error) {
		secret, err = k.decrypt(ctx, in, wrapped, ec)
		return err
	})
	if err != nil {
		return nil, k.wrap(ctx, "unwrap key", key, err)
	}
	return secret, nil
}

var errForm = fmt.Errorf("no ciphertext of KMS has this size: %w", provider.ErrWrongKey)

func (k *Keys) decrypt(ctx context.Context, in region, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	if len(wrapped) == 0 || len(wrapped) > maxCiphertext {
		return nil, k.mayDecrypt(ctx, in, ec, errForm)
	}
	out, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		// Without KeyId any key would do that the ciphertext names.
		KeyId: &in.key, CiphertextBlob: wrapped, EncryptionContext: ec, GrantTokens: k.c.GrantTokens,
	}, in.option)
	switch {
	case err != nil && wrongKey(err):
		return nil, k.mayDecrypt(ctx, in, ec, err)
	case err != nil:
		return nil, err
	case len(out.Plaintext) != provider.WrappedSize:
		n := len(out.Plaintext)
		clear(out.Plaintext)
		return nil, fmt.Errorf("%w: it holds %d bytes that WrapKey did not wrap", provider.ErrWrongKey, n)
	}
	return out.Plaintext, nil
}

// mayDecrypt returns wrong if the credentials may decrypt with the key, and
// why they may not otherwise. KMS looks at a ciphertext before it looks at
// permissions, and whoever may not unwrap must not learn which bytes are a
// ciphertext; nor is a key that is gone to be told by its ciphertexts.
func (k *Keys) mayDecrypt(ctx context.Context, in region, ec provider.EncryptionContext, wrong error) error {
	_, err := k.client.Decrypt(ctx, &kms.DecryptInput{
		KeyId: &in.key, EncryptionContext: ec, GrantTokens: k.c.GrantTokens,
		DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext},
	}, in.option)
	if meaning(err) != nil && !wrongKey(err) || unusable(err) != "" || ctx.Err() != nil {
		return err
	}
	return wrong // DryRunOperationException: it would have been done
}

func checkContext(ec provider.EncryptionContext) error {
	if _, ok := ec[""]; ok {
		return errors.New("the encryption context has an empty name")
	}
	return nil
}
