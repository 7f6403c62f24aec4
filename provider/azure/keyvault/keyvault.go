package keyvault

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// Config says which vault, and how it is reached. Required is Vault.
type Config struct {
	// Vault is the URL of a Key Vault or a Managed HSM:
	// "https://NAME.vault.azure.net", "https://NAME.managedhsm.azure.net".
	Vault string

	// Algorithm wraps: "RSA-OAEP-256" for keys of RSA, which empty means, or
	// "A256KW" for symmetric keys of 256 bits in a Managed HSM. What unwraps
	// is what wrapped, and not told by this.
	Algorithm string

	// Credential gets tokens of Microsoft Entra ID. Nil means the standard
	// chain of azidentity: environment, workload identity, managed identity,
	// and the developer tools.
	Credential azcore.TokenCredential

	// Cloud says where the standard chain gets its tokens; the zero value is
	// the public cloud.
	Cloud cloud.Configuration

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the client waits ever longer, or as long as the service
	// asks with Retry-After, if that is no more than a minute.
	Attempts int
}

// algorithms by the byte that stands for them in what is wrapped.
var algorithms = map[byte]azkeys.EncryptionAlgorithm{
	1: azkeys.EncryptionAlgorithmRSAOAEP256,
	2: azkeys.EncryptionAlgorithmA256KW,
}

const providerName = "keyvault"

// Keys are the keys of one vault as a [provider.KeyWrapper] and a
// [provider.KeyUnwrapper]. It is safe for concurrent use.
type Keys struct {
	vault     string // without a final slash
	algorithm byte
	client    *azkeys.Client
}

var (
	_ provider.KeyWrapper   = (*Keys)(nil)
	_ provider.KeyUnwrapper = (*Keys)(nil)
)

// Open returns the keys of the vault of c. It reads what the environment says
// of credentials and makes no request.
func Open(ctx context.Context, c Config) (*Keys, error) { return open(ctx, c, nil) }

func open(ctx context.Context, c Config, transport policy.Transporter) (*Keys, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("keyvault", field, format, args...))
	}
	k := &Keys{vault: strings.TrimSuffix(c.Vault, "/")}
	checkVault(k.vault, fault)
	if c.Algorithm == "" {
		c.Algorithm = string(azkeys.EncryptionAlgorithmRSAOAEP256)
	}
	for b, name := range algorithms {
		if string(name) == c.Algorithm {
			k.algorithm = b
		}
	}
	if k.algorithm == 0 {
		fault("Algorithm", `%q, want "RSA-OAEP-256" or "A256KW"`, c.Algorithm)
	}
	reached := conn.Config{Credential: c.Credential, Cloud: c.Cloud, CA: c.CA, Attempts: c.Attempts, Transport: transport}
	reached.Complete(fault)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	token, err := reached.Token()
	if err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	k.client, err = azkeys.NewClient(k.vault, token, &azkeys.ClientOptions{ClientOptions: reached.Options()})
	if err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	return k, nil
}

func checkVault(vault string, fault func(field, format string, args ...any)) {
	switch u, err := url.Parse(vault); {
	case vault == "":
		fault("Vault", "empty")
	case err != nil: // the error quotes the URL, which may hold a secret
		fault("Vault", "not a URL")
	case u.Scheme != "https" || u.Host == "" || u.Path != "":
		fault("Vault", "want https:// and a host, and no path")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		fault("Vault", "has a user, a password or a query")
	}
}

var (
	keyName    = regexp.MustCompile(`^[0-9A-Za-z-]{1,127}$`)
	keyVersion = regexp.MustCompile(`^[0-9A-Za-z]{1,64}$`)
)

// split reads the name of a key: "name", or its URL in this vault. A version
// in it is refused: wrapping with it would end with the next rotation, and
// unwrapping does not need it.
func (k *Keys) split(key string) (string, error) {
	name := key
	if rest, ok := strings.CutPrefix(key, "https://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		if !strings.EqualFold("https://"+host, k.vault) {
			return "", fmt.Errorf("the key is in another vault than %s", k.vault)
		}
		if name, ok = strings.CutPrefix(path, "keys/"); !ok {
			return "", errors.New("not the URL of a key, want https://VAULT/keys/NAME")
		}
		name = strings.TrimSuffix(name, "/")
	}
	if bare, version, ok := strings.Cut(name, "/"); ok && keyName.MatchString(bare) && keyVersion.MatchString(version) {
		return "", fmt.Errorf("it names a version; name the key, %q, whose current version wraps and whose versions all unwrap", bare)
	}
	if !keyName.MatchString(name) {
		return "", errors.New("not the name or the URL of a key")
	}
	return name, nil
}

// WrapKey implements [provider.KeyWrapper] with the operation wrapKey.
func (k *Keys) WrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	wrapped, err := k.wrapKey(ctx, key, secret, ec)
	if err != nil {
		return nil, k.fail(ctx, "wrap key", key, err)
	}
	return wrapped, nil
}

func (k *Keys) wrapKey(ctx context.Context, key string, secret []byte, ec provider.EncryptionContext) ([]byte, error) {
	name, err := k.split(key)
	if err == nil {
		err = checkContext(ec)
	}
	if err == nil && len(secret) != provider.WrappedSize {
		err = fmt.Errorf("a secret of %d bytes, want %d", len(secret), provider.WrappedSize)
	}
	if err != nil {
		return nil, err
	}
	own := newKey()
	defer clear(own)
	algorithm := algorithms[k.algorithm]
	out, err := k.client.WrapKey(ctx, name, "", azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: own}, nil)
	if err != nil {
		return nil, k.missing(ctx, name, err)
	}
	if out.KID == nil || out.KID.Name() != name || !keyVersion.MatchString(out.KID.Version()) || len(out.Result) == 0 || len(out.Result) > maxWrapped {
		return nil, errors.New("the service has wrapped, and does not say with which version")
	}
	e := envelope{algorithm: k.algorithm, version: out.KID.Version(), wrapped: out.Result}
	return e.seal(own, secret, ec)
}

// UnwrapKey implements [provider.KeyUnwrapper] with the operation unwrapKey.
func (k *Keys) UnwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	secret, err := k.unwrapKey(ctx, key, wrapped, ec)
	if err != nil {
		return nil, k.fail(ctx, "unwrap key", key, err)
	}
	return secret, nil
}

func (k *Keys) unwrapKey(ctx context.Context, key string, wrapped []byte, ec provider.EncryptionContext) ([]byte, error) {
	name, err := k.split(key)
	if err == nil {
		err = checkContext(ec)
	}
	if err != nil {
		return nil, err
	}
	e, err := parse(wrapped)
	if err != nil {
		return nil, k.mayUnwrap(ctx, name, err)
	}
	own, err := k.unwrap(ctx, name, e.version, e.algorithm, e.wrapped)
	switch {
	case isMissing(err):
		// Of the key, or of a version that this key never had.
		return nil, k.mayUnwrap(ctx, name, fmt.Errorf("the key has no version %s: %w", e.version, provider.ErrWrongKey))
	case err != nil:
		return nil, err
	}
	defer clear(own)
	return e.open(own, ec)
}

func (k *Keys) unwrap(ctx context.Context, name, version string, alg byte, wrapped []byte) ([]byte, error) {
	algorithm := algorithms[alg]
	out, err := k.client.UnwrapKey(ctx, name, version, azkeys.KeyOperationParameters{Algorithm: &algorithm, Value: wrapped}, nil)
	return out.Result, err
}

// mayUnwrap returns wrong if the credentials may unwrap with the key, and why
// they may not otherwise. Whoever may not must not learn which bytes are a
// wrapped key; nor is a key that is gone to be told by what it wrapped. It
// asks to unwrap what no key has wrapped, with the current version.
func (k *Keys) mayUnwrap(ctx context.Context, name string, wrong error) error {
	own, err := k.unwrap(ctx, name, "", k.algorithm, make([]byte, 256))
	clear(own)
	if err == nil || meaning(err) == provider.ErrWrongKey {
		return wrong
	}
	return k.missing(ctx, name, err)
}

// missing adds to an error that there is no key what became of it: one that
// was deleted can be had back for a while, and is not gone.
func (k *Keys) missing(ctx context.Context, name string, err error) error {
	if !isMissing(err) {
		return err
	}
	deleted, lookErr := k.client.GetDeletedKey(ctx, name, nil)
	switch {
	case isMissing(lookErr):
		return err
	case lookErr == nil:
		until := "the end of its retention"
		if a := deleted.Attributes; deleted.ScheduledPurgeDate != nil && a != nil {
			until = deleted.ScheduledPurgeDate.UTC().Format("2006-01-02 15:04")
		}
		return &unusable{fmt.Errorf("the key is soft-deleted and can be had back until %s (az keyvault key recover): %w", until, conn.Answered(err))}
	case conn.Permission(lookErr) != nil, conn.StatusOf(lookErr) == 400: // a vault without soft-delete
		return fmt.Errorf("whether it can be recovered this credential may not ask: %w", conn.Answered(err))
	}
	return &unusable{fmt.Errorf("there is no such key, and whether it is soft-deleted is not answered (%v): %w", conn.Answered(lookErr), conn.Answered(err))}
}

func checkContext(ec provider.EncryptionContext) error {
	if _, ok := ec[""]; ok {
		return errors.New("the encryption context has an empty name")
	}
	return nil
}
