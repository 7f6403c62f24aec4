package azure

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/semaphore"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Store is a container as a [provider.BlobStore], a [provider.Locker], a
// [provider.Versioner], a [provider.Warmer], a [provider.Copier] and a
// [provider.Tagger]. It is safe for concurrent use.
type Store struct {
	c        Config
	client   *container.Client
	key      *container.SharedKeyCredential // nil if another credential asks
	copyPart int64

	probing *semaphore.Weighted // of one: a ctx does not outwait another's question
	flat    bool                // the namespace is known not to be hierarchical
	locks   bool                // the container is known to take retentions
}

var (
	_ provider.BlobStore = (*Store)(nil)
	_ provider.Locker    = (*Store)(nil)
	_ provider.Versioner = (*Store)(nil)
	_ provider.Warmer    = (*Store)(nil)
	_ provider.Copier    = (*Store)(nil)
	_ provider.Tagger    = (*Store)(nil)
)

// Open returns the container of c. It reads what the environment says of
// credentials and makes no request to the store.
func Open(ctx context.Context, c Config) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	transport, err := c.transport()
	if err != nil {
		return nil, err
	}
	key, err := c.sharedKey()
	if err != nil {
		return nil, err
	}
	client, err := c.connect(transport, key)
	if err != nil {
		return nil, err
	}
	if len(c.CustomerKey) > 0 && !strings.HasPrefix(client.URL(), "https://") {
		return nil, errors.New("azure: Config.CustomerKey: goes along with each request, over https only")
	}
	return &Store{c: c, client: client, key: key, copyPart: copyPart, probing: semaphore.NewWeighted(1)}, nil
}

// String names the container, to people: "container C of Blob Storage at
// account.blob.core.windows.net".
func (s *Store) String() string {
	name := "container " + s.c.Container + " of Blob Storage"
	if u, err := url.Parse(s.client.URL()); err == nil { // without the SAS in it
		name += " at " + u.Host
	}
	return name
}

// connect makes a client that asks as the Config says, and completes the
// Config by the credential of the standard chain if it is that.
func (c *Config) connect(transport policy.Transporter, key *container.SharedKeyCredential) (*container.Client, error) {
	o := &container.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport:        transport,
		Retry:            policy.RetryOptions{MaxRetries: int32(c.Attempts - 1), MaxRetryDelay: time.Minute},
		PerCallPolicies:  []policy.Policy{renewal{}},
		PerRetryPolicies: []policy.Policy{watcher{}},
		Telemetry:        policy.TelemetryOptions{ApplicationID: "holdfast"},
	}}
	if c.Attempts == 1 {
		o.Retry.MaxRetries = -1 // 0 means three
	}
	if c.ConnectionString != "" {
		client, err := container.NewClientFromConnectionString(c.ConnectionString, c.Container, o)
		if err != nil {
			// The error may quote what it could not read.
			return nil, errors.New("azure: Config.ConnectionString: want BlobEndpoint or AccountName, and AccountKey or SharedAccessSignature")
		}
		return client, nil
	}
	url := strings.TrimSuffix(c.Endpoint, "/")
	if url == "" {
		url = "https://" + c.Account + ".blob.core.windows.net"
	}
	url += "/" + c.Container
	switch {
	case key != nil:
		return container.NewClientWithSharedKeyCredential(url, key, o)
	case c.SAS != "":
		return container.NewClientWithNoCredential(url+"?"+strings.TrimPrefix(c.SAS, "?"), o)
	}
	if c.Credential == nil {
		chain, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("azure: Config names no credential, and the standard chain: %w", err)
		}
		c.Credential = chain
	}
	return container.NewClient(url, c.Credential, o)
}

// renewal asks once more when the service does not take the token: its clock
// decides whether one has expired, and the SDK, which goes by ours, has dropped
// the token when it saw the answer.
type renewal struct{}

func (renewal) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	if err := req.RewindBody(); err != nil {
		return resp, nil
	}
	resp.Body.Close()
	return req.Next()
}

// answerPatience is how long the service may be silent after a request has
// been sent. It gives up on its own requests earlier.
const answerPatience = 2 * time.Minute

// systemTransport is like the standard library's, but never unpacks what the
// service delivers, and gives up on a server that does not answer.
func systemTransport() *http.Client {
	t := remote.Transport()
	t.DisableCompression = true // or a blob with a Content-Encoding would not be delivered as it is
	t.MaxIdleConnsPerHost = 100
	t.ResponseHeaderTimeout = answerPatience
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.MinVersion = tls.VersionTLS12
	return &http.Client{Transport: t}
}

func (c *Config) transport() (*http.Client, error) {
	client := systemTransport()
	if len(c.CA) == 0 {
		return client, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CA) {
		return nil, errors.New("azure: Config.CA: no certificate in PEM")
	}
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = pool
	return client, nil
}

// cpk is what goes along with each request under a CustomerKey; nil without.
func (c *Config) cpk() *blob.CPKInfo {
	if len(c.CustomerKey) == 0 {
		return nil
	}
	sum := sha256.Sum256(c.CustomerKey)
	return &blob.CPKInfo{
		EncryptionAlgorithm: pointer(blob.EncryptionAlgorithmTypeAES256),
		EncryptionKey:       pointer(base64.StdEncoding.EncodeToString(c.CustomerKey)),
		EncryptionKeySHA256: pointer(base64.StdEncoding.EncodeToString(sum[:])),
	}
}

func (c *Config) scope() *blob.CPKScopeInfo {
	if c.EncryptionScope == "" {
		return nil
	}
	return &blob.CPKScopeInfo{EncryptionScope: &c.EncryptionScope}
}

func (c *Config) tier() *blob.AccessTier {
	if c.Tier == "" {
		return nil
	}
	return pointer(blob.AccessTier(c.Tier))
}

func pointer[T any](v T) *T { return &v }

// value is what p points to, or the zero value.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// isFlat returns nil unless the account has a hierarchical namespace (Data
// Lake Storage): there a key is a path of directories, which are listed in
// another order, appear as blobs, and cannot be beside a blob of their name. A
// credential that may not ask goes on without an answer.
func (s *Store) isFlat(ctx context.Context) error {
	if err := s.probing.Acquire(ctx, 1); err != nil {
		return err
	}
	defer s.probing.Release(1)
	if s.flat {
		return nil
	}
	info, err := s.client.GetAccountInfo(ctx, nil)
	if status := statusOf(err); err != nil && (status < 400 || status >= 500) {
		return fmt.Errorf("ask what kind of account it is: %w", answered(err))
	}
	if value(info.IsHierarchicalNamespaceEnabled) {
		return fmt.Errorf("the account has a hierarchical namespace, which keeps other keys in another order; use one without: %w", errors.ErrUnsupported)
	}
	s.flat = true
	return nil
}
