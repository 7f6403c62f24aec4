package aws

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// Checksum says which checksum goes along with each upload, for the store to
// verify before it commits and to keep.
type Checksum string

const (
	// ChecksumSHA256 sends x-amz-checksum-sha256: the strongest.
	ChecksumSHA256 Checksum = "sha256"

	// ChecksumNone is for stores that refuse the checksum headers of 2022.
	// Uploads are then protected by the signature of the request, which has a
	// SHA-256 of the content that the store verifies, and is not kept.
	ChecksumNone Checksum = "none"
)

const (
	defaultPartSize    = 16 << 20
	minPartSize        = 5 << 20 // of S3
	maxPartSize        = 1 << 30
	maxParts           = 10_000
	defaultConcurrency = 4
)

// Config says where the bucket is and how objects are written to it. Only
// Bucket is required.
type Config struct {
	// Bucket is the name of an existing bucket.
	Bucket string

	// Region of the bucket. Empty means what the environment and the shared
	// configuration say, or us-east-1 if Endpoint is set and they say nothing.
	Region string

	// Endpoint is the URL of a store other than AWS: "https://host:9000".
	// Empty means AWS.
	Endpoint string

	// PathStyle asks for https://host/bucket/key in place of
	// https://bucket.host/key. Most stores other than AWS want it.
	PathStyle bool

	// Credentials sign the requests. Nil means the standard chain: environment,
	// shared files, web identity, container and instance roles.
	Credentials aws.CredentialsProvider

	// CA is a list of certificates in PEM that are trusted in place of the
	// system's. Empty means the system's.
	CA []byte

	// Checksum of uploads; empty means ChecksumSHA256.
	Checksum Checksum

	// StorageClass of new objects; empty means the bucket's. Classes that
	// must be restored before they are read (GLACIER, DEEP_ARCHIVE) are not
	// for a repository.
	StorageClass string

	// KMSKey encrypts new objects at rest with this key of AWS KMS (an ID, an
	// ARN or an alias). Empty means as the bucket says.
	KMSKey string

	// CustomerKey encrypts objects at rest with these 32 bytes (SSE-C), which
	// the store does not keep: without them nothing can be read. Not together
	// with KMSKey; over https only. Nil means none.
	CustomerKey []byte

	// PartSize is the size in bytes from which a body goes up in parts of that
	// size: from 5 MiB to 1 GiB, 0 means 16 MiB. Bodies of more than 10,000
	// parts go up in larger parts.
	PartSize int64

	// Concurrency is how many parts of one body are under way; 0 means 4. A
	// Put holds at most PartSize * (Concurrency + 1) bytes in memory.
	Concurrency int

	// ListAhead is how many pages a listing fetches ahead of its consumer, where
	// slashes in the keys divide them into parts; up to 64, 0 means that it asks
	// for one page after the other. It is for many keys far away. A page has a
	// thousand objects and takes some 300 kB; at most ListAhead + 3 are held, up
	// to four times that where parts are in parts. The store must group keys by
	// a delimiter as AWS does.
	ListAhead int

	// Attempts is how often a request is made before it fails; 0 means 5.
	// Between them the store waits as the SDK's standard mode does, and it
	// stops trying again when most requests fail.
	Attempts int
}

// Store is a bucket as a [provider.BlobStore], a [provider.Locker], a
// [provider.Versioner], a [provider.Warmer], a [provider.Copier] and a
// [provider.Tagger]. It is safe for concurrent use.
type Store struct {
	c      Config
	client *s3.Client

	copyPart int64 // bytes of a part that is copied

	probing           *semaphore.Weighted // of one: a ctx does not outwait another's question
	locks             bool                // the bucket is known to take retentions
	conditionalDelete *bool               // whether the store honours the If-Match of a delete; nil: not known
}

var (
	_ provider.BlobStore = (*Store)(nil)
	_ provider.Locker    = (*Store)(nil)
	_ provider.Versioner = (*Store)(nil)
	_ provider.Warmer    = (*Store)(nil)
	_ provider.Copier    = (*Store)(nil)
	_ provider.Tagger    = (*Store)(nil)
)

// Open returns the bucket of c. It reads the configuration of the environment
// and makes no request to the store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	loaded, err := c.conn().Load(ctx)
	if err != nil {
		return nil, fmt.Errorf("aws: %w", err)
	}
	client := s3.NewFromConfig(loaded, func(o *s3.Options) {
		o.UsePathStyle = c.PathStyle
		// The store gets the checksum that Checksum says, and none that the
		// SDK would add: other stores than AWS refuse those.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
	})
	if endpoint := aws.ToString(client.Options().BaseEndpoint); len(c.CustomerKey) > 0 && strings.HasPrefix(strings.ToLower(endpoint), "http:") {
		return nil, errors.New("aws: Config.CustomerKey: goes along with each request, and would over http in the clear")
	}
	return &Store{c: c, copyPart: copyPart, client: client, probing: semaphore.NewWeighted(1)}, nil
}

// String names the bucket, to people: "bucket B of S3 in eu-central-1".
func (s *Store) String() string {
	if u, err := url.Parse(s.c.Endpoint); err == nil && u.Host != "" {
		return "bucket " + s.c.Bucket + " of S3 at " + u.Host
	}
	return "bucket " + s.c.Bucket + " of S3 in " + s.client.Options().Region
}

// complete validates a Config and fills in what is zero.
func (c *Config) complete() error {
	var errs []error
	fault := func(field, format string, args ...any) {
		errs = append(errs, conn.Fault("aws", field, format, args...))
	}
	if c.Bucket == "" {
		fault("Bucket", "empty")
	}
	reached := c.conn()
	reached.Complete(fault)
	c.Attempts = reached.Attempts
	if c.Checksum == "" {
		c.Checksum = ChecksumSHA256
	}
	if c.Checksum != ChecksumSHA256 && c.Checksum != ChecksumNone {
		fault("Checksum", "%q, want %q or %q", c.Checksum, ChecksumSHA256, ChecksumNone)
	}
	if n := len(c.CustomerKey); n != 0 && n != 32 {
		fault("CustomerKey", "%d bytes, want 32", n)
	}
	if len(c.CustomerKey) > 0 && c.KMSKey != "" {
		fault("CustomerKey", "set together with KMSKey")
	}
	number := func(field string, v *int64, zero, low, high int64) {
		if *v == 0 {
			*v = zero
		}
		if *v < low || *v > high {
			fault(field, "%d, want %d to %d", *v, low, high)
		}
	}
	concurrency, ahead := int64(c.Concurrency), int64(c.ListAhead)
	number("PartSize", &c.PartSize, defaultPartSize, minPartSize, maxPartSize)
	number("Concurrency", &concurrency, defaultConcurrency, 1, 1000)
	number("ListAhead", &ahead, 0, 0, 64)
	c.Concurrency = int(concurrency)
	return errors.Join(errs...)
}

// conn is the part of a Config that says how the store is reached.
func (c *Config) conn() *conn.Config {
	return &conn.Config{Region: c.Region, Endpoint: c.Endpoint, Credentials: c.Credentials, CA: c.CA, Attempts: c.Attempts}
}

// sse are the three headers of SSE-C; all nil without a CustomerKey.
type sse struct{ algorithm, key, sum *string }

func (c *Config) sse() sse {
	if len(c.CustomerKey) == 0 {
		return sse{}
	}
	sum := md5.Sum(c.CustomerKey) // the protocol's; it protects nothing
	return sse{aws.String("AES256"), aws.String(base64.StdEncoding.EncodeToString(c.CustomerKey)), aws.String(base64.StdEncoding.EncodeToString(sum[:]))}
}
