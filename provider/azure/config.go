package azure

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

const (
	defaultPartSize    = 16 << 20
	minPartSize        = 256 << 10
	maxPartSize        = 1 << 30 // Put Blob and Put Block take 4,000 MiB and more; memory sets the limit
	maxParts           = 50_000  // blocks of a blob
	defaultConcurrency = 4
	defaultAttempts    = 5
)

// Config says where the container is and how blobs are written to it. Required
// are Container, and one of Account, Endpoint and ConnectionString.
type Config struct {
	// Container is the name of an existing container.
	Container string

	// Account is the name of the storage account.
	Account string

	// Endpoint is the URL of the blob service of the account, where that is
	// not https://ACCOUNT.blob.core.windows.net: another cloud, a private
	// endpoint, or an emulator, "http://127.0.0.1:10000/devstoreaccount1".
	Endpoint string

	// At most one of the following four says who asks. None means the standard
	// chain of azidentity: environment, workload identity, managed identity,
	// and the developer tools.

	// Credential gets tokens of Microsoft Entra ID. Over https only.
	Credential azcore.TokenCredential

	// AccountKey is a key of Account, in base64: all rights on all containers.
	AccountKey string

	// SAS is a shared access signature, "sv=2026-02-06&sp=...".
	SAS string

	// ConnectionString is as the portal shows it, with a key or a SAS in it,
	// and has the Endpoint in it, too.
	ConnectionString string

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Tier of new blobs: "Hot", "Cool" or "Cold"; empty means the account's.
	// Blobs in the Archive tier cannot be read, so Archive is refused.
	Tier string

	// EncryptionScope encrypts new blobs at rest with the key of this scope of
	// the account. Empty means as the container says.
	EncryptionScope string

	// CustomerKey encrypts blobs at rest with these 32 bytes, which the service
	// does not keep: without them nothing can be read. Not together with
	// EncryptionScope; over https only. Nil means none.
	CustomerKey []byte

	// PartSize is the size in bytes above which a body goes up in blocks of
	// that size: from 256 KiB to 1 GiB, 0 means 16 MiB. Bodies of more than
	// 50,000 blocks go up in larger ones.
	PartSize int64

	// Concurrency is how many blocks of one body are under way; 0 means 4. A
	// Put holds at most PartSize * (Concurrency + 1) bytes in memory.
	Concurrency int

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the store waits ever longer, or as long as the service asks
	// with Retry-After, if that is no more than a minute.
	Attempts int
}

// complete validates a Config and fills in what is zero. What it says of a
// secret is where it stands and never what it is.
func (c *Config) complete() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("azure: Config.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if len(c.Container) < 3 || len(c.Container) > 63 || strings.Trim(c.Container, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		fault("Container", "%q, want 3 to 63 of [a-z0-9-]", c.Container)
	}
	c.checkPlace(fault)
	c.checkCredential(fault)
	if strings.EqualFold(c.Tier, string(blob.AccessTierArchive)) {
		fault("Tier", "blobs in the Archive tier cannot be read; move old blobs there by a lifecycle rule, if you must")
	}
	if n := len(c.CustomerKey); n != 0 && n != 32 {
		fault("CustomerKey", "%d bytes, want 32", n)
	}
	if len(c.CustomerKey) > 0 && c.EncryptionScope != "" {
		fault("CustomerKey", "set together with EncryptionScope")
	}
	number := func(field string, v *int64, zero, low, high int64) {
		if *v == 0 {
			*v = zero
		}
		if *v < low || *v > high {
			fault(field, "%d, want %d to %d", *v, low, high)
		}
	}
	concurrency, attempts := int64(c.Concurrency), int64(c.Attempts)
	number("PartSize", &c.PartSize, defaultPartSize, minPartSize, maxPartSize)
	number("Concurrency", &concurrency, defaultConcurrency, 1, 1000)
	number("Attempts", &attempts, defaultAttempts, 1, 100)
	c.Concurrency, c.Attempts = int(concurrency), int(attempts)
	return errors.Join(errs...)
}

func (c *Config) checkPlace(fault func(field, format string, args ...any)) {
	switch {
	case c.ConnectionString != "" && (c.Account != "" || c.Endpoint != ""):
		fault("ConnectionString", "set together with Account or Endpoint, which are in it")
	case c.ConnectionString == "" && c.Account == "" && c.Endpoint == "":
		fault("Account", "empty, and so are Endpoint and ConnectionString")
	}
	if c.Account != "" && strings.Trim(c.Account, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		fault("Account", "not of [a-z0-9]; a URL is an Endpoint")
	}
	if c.Endpoint == "" {
		return
	}
	switch u, err := url.Parse(c.Endpoint); {
	case err != nil: // the error quotes the URL, which may hold a secret
		fault("Endpoint", "not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		fault("Endpoint", "want http:// or https:// and a host")
	case u.User != nil:
		fault("Endpoint", "has a user or password; use AccountKey or another credential")
	case u.RawQuery != "" || u.Fragment != "":
		fault("Endpoint", "has a query; a shared access signature is SAS")
	}
}

func (c *Config) checkCredential(fault func(field, format string, args ...any)) {
	var given []string
	for field, is := range map[string]bool{"Credential": c.Credential != nil, "AccountKey": c.AccountKey != "", "SAS": c.SAS != "", "ConnectionString": c.ConnectionString != ""} {
		if is {
			given = append(given, field)
		}
	}
	if len(given) > 1 {
		for _, field := range given {
			fault(field, "set together with another credential")
		}
	}
	if c.AccountKey != "" {
		if c.Account == "" {
			fault("AccountKey", "needs Account")
		}
		if _, err := base64.StdEncoding.DecodeString(c.AccountKey); err != nil {
			fault("AccountKey", "not in base64")
		}
	}
	if c.SAS != "" {
		if q, err := url.ParseQuery(strings.TrimPrefix(c.SAS, "?")); err != nil || !q.Has("sig") {
			fault("SAS", "no signature in it; want the part of the URL behind the question mark")
		}
	}
}
