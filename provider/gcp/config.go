package gcp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

const (
	publicEndpoint  = "https://storage.googleapis.com"
	defaultPartSize = 16 << 20
	minPartSize     = 256 << 10
	maxPartSize     = 1 << 30
	defaultAttempts = 5
)

// Config says where the bucket is and how objects are written to it. Only
// Bucket is required.
type Config struct {
	// Bucket is the name of an existing bucket.
	Bucket string

	// Endpoint is the URL of the service: "https://storage-xyz.p.googleapis.com"
	// of a private connection, another universe, an emulator. Empty means
	// https://storage.googleapis.com. STORAGE_EMULATOR_HOST is not asked.
	Endpoint string

	// Credentials sign the requests. Nil means Application Default Credentials:
	// the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's, or the metadata
	// server of the machine. Package cloud.google.com/go/auth/credentials makes
	// them of a file or of JSON, oauth2adapt of a token source; their scope is
	// https://www.googleapis.com/auth/devstorage.full_control or cloud-platform.
	Credentials *auth.Credentials

	// Anonymous sends no credentials at all. Not together with Credentials.
	Anonymous bool

	// UserProject is billed for the requests, as buckets want it whose requester
	// pays. Empty means the project of the bucket.
	UserProject string

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// StorageClass of new objects, such as "NEARLINE"; empty means the bucket's.
	StorageClass string

	// KMSKey encrypts new objects at rest with this key of Cloud KMS:
	// "projects/P/locations/L/keyRings/R/cryptoKeys/K". Empty means as the
	// bucket says.
	KMSKey string

	// CustomerKey encrypts objects at rest with these 32 bytes, which the
	// service does not keep: without them nothing can be read. Not together
	// with KMSKey; over https only. Nil means none.
	CustomerKey []byte

	// PartSize is the size in bytes from which a body goes up in pieces of that
	// size, one after the other, each of which is sent again alone if it fails:
	// a multiple of 256 KiB, up to 1 GiB. 0 means 16 MiB. A Put holds at most
	// PartSize + 1 MiB in memory.
	PartSize int64

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the store waits as long as the service asks it to, but no
	// longer than a minute, and else up to a quarter of a second, twice as long
	// each time. The service takes about one change a second of one key, and
	// refuses others until then.
	Attempts int
}

// Store is a bucket as a [provider.BlobStore], a [provider.Locker], a
// [provider.Versioner] and a [provider.Copier]. It is safe for concurrent use.
type Store struct {
	c      Config
	client *storage.Client
	bucket *storage.BucketHandle

	found atomic.Bool // the bucket has been seen to exist
	locks atomic.Bool // the bucket is known to take retentions
}

var (
	_ provider.BlobStore = (*Store)(nil)
	_ provider.Locker    = (*Store)(nil)
	_ provider.Versioner = (*Store)(nil)
	_ provider.Copier    = (*Store)(nil)
)

// Open returns the bucket of c. It looks for credentials in the environment
// and makes no request to the service.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	base, err := c.baseTransport()
	if err != nil {
		return nil, err
	}
	authenticated := &authenticated{c: c, base: watched{base}}
	if c.Credentials != nil {
		authenticated.own = c.Credentials.TokenProvider // the transport puts a cache in its place
	}
	if err := authenticated.renew(ctx, nil); err != nil {
		return nil, fmt.Errorf("gcp: credentials: %w", err)
	}
	client, err := storage.NewClient(ctx, option.WithHTTPClient(&http.Client{Transport: authenticated}),
		option.WithEndpoint(c.Endpoint+"/storage/v1/"), storage.WithJSONReads())
	if err != nil {
		return nil, fmt.Errorf("gcp: %w", err)
	}
	// Every change carries its own condition or its name, and is looked up when
	// its outcome is unknown: all of them may be tried again.
	client.SetRetry(storage.WithPolicy(storage.RetryAlways), storage.WithMaxAttempts(c.Attempts), storage.WithBackoff(backoff()))
	bucket := client.Bucket(c.Bucket)
	if c.UserProject != "" {
		bucket = bucket.UserProject(c.UserProject)
	}
	return &Store{c: c, client: client, bucket: bucket}, nil
}

func backoff() gax.Backoff {
	return gax.Backoff{Initial: 250 * time.Millisecond, Max: 10 * time.Second, Multiplier: 2}
}

// String names the bucket, to people: "bucket B of Cloud Storage at
// storage.googleapis.com".
func (s *Store) String() string {
	name := "bucket " + s.c.Bucket + " of Cloud Storage"
	if u, err := url.Parse(s.c.Endpoint); err == nil && u.Host != "" {
		name += " at " + u.Host
	}
	return name
}

// complete validates a Config and fills in what is zero.
func (c *Config) complete() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("gcp: Config.%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.Bucket == "" {
		fault("Bucket", "empty")
	}
	if c.Endpoint == "" {
		c.Endpoint = publicEndpoint
	}
	c.Endpoint = strings.TrimSuffix(c.Endpoint, "/")
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil: // the error quotes the URL, which may hold a password
		fault("Endpoint", "not a URL")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		fault("Endpoint", "want http:// or https:// and a host")
	case u.User != nil:
		fault("Endpoint", "has a user or password; use Credentials")
	case u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		fault("Endpoint", "want nothing behind the host")
	case u.Scheme == "http" && len(c.CustomerKey) > 0:
		fault("CustomerKey", "would go over http in the clear")
	}
	if c.Anonymous && c.Credentials != nil {
		fault("Anonymous", "set together with Credentials")
	}
	if n := len(c.CustomerKey); n != 0 && n != 32 {
		fault("CustomerKey", "%d bytes, want 32", n)
	}
	if len(c.CustomerKey) > 0 && c.KMSKey != "" {
		fault("CustomerKey", "set together with KMSKey")
	}
	if c.PartSize == 0 {
		c.PartSize = defaultPartSize
	}
	if c.PartSize < minPartSize || c.PartSize > maxPartSize || c.PartSize%minPartSize != 0 {
		fault("PartSize", "%d, want a multiple of %d up to %d", c.PartSize, minPartSize, maxPartSize)
	}
	if c.Attempts == 0 {
		c.Attempts = defaultAttempts
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		fault("Attempts", "%d, want 1 to 100", c.Attempts)
	}
	return errors.Join(errs...)
}

func (c *Config) baseTransport() (http.RoundTripper, error) {
	t := remote.Transport()
	t.MaxIdleConnsPerHost = 100
	if len(c.CA) == 0 {
		return t, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("gcp: Config.CA: no certificate in PEM")
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return t, nil
}

// object is the handle of a key for reads and writes of its bytes.
func (s *Store) object(key string) *storage.ObjectHandle {
	o := s.bucket.Object(key)
	if len(s.c.CustomerKey) > 0 {
		o = o.Key(s.c.CustomerKey)
	}
	return o
}
