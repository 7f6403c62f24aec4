// Package conn is what the packages for the control planes of Azure have in
// common: how a service is reached, and what its errors mean. It imports no
// service.
package conn

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Config says how a service is reached. The Configs of the packages have
// fields of these names, which they document to their users.
type Config struct {
	Credential azcore.TokenCredential // nil: the standard chain
	Cloud      cloud.Configuration    // zero: the public one
	CA         []byte
	Attempts   int // 0: DefaultAttempts

	// Transport sends the requests in place of HTTP: in tests.
	Transport policy.Transporter
}

const (
	// DefaultAttempts is how often a request is made before it fails.
	DefaultAttempts = 5

	// answerPatience is how long the head of an answer may take. What a
	// control plane is asked is answered in seconds, so that silence of a
	// minute is a lost connection.
	answerPatience = time.Minute
)

// Complete validates a Config and fills in what is zero. It calls fault with
// the name of each field that is wrong.
func (c *Config) Complete(fault func(field, format string, args ...any)) {
	if len(c.CA) > 0 && !x509.NewCertPool().AppendCertsFromPEM(c.CA) {
		fault("CA", "no certificate in PEM")
	}
	if c.Attempts == 0 {
		c.Attempts = DefaultAttempts
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		fault("Attempts", "%d, want 1 to 100", c.Attempts)
	}
}

// Token is what gets tokens. It asks nobody yet.
func (c Config) Token() (azcore.TokenCredential, error) {
	if c.Credential != nil {
		return c.Credential, nil
	}
	chain, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: azcore.ClientOptions{Cloud: c.Cloud, Transport: c.client()},
	})
	if err != nil {
		return nil, fmt.Errorf("Config names no credential, and the standard chain: %w", err)
	}
	return chain, nil
}

// Options are those of a client of a completed Config.
func (c Config) Options() azcore.ClientOptions {
	o := azcore.ClientOptions{
		Cloud:            c.Cloud,
		Transport:        c.Transport,
		Retry:            policy.RetryOptions{MaxRetries: int32(c.Attempts - 1), MaxRetryDelay: time.Minute},
		PerCallPolicies:  []policy.Policy{renewal{}},
		PerRetryPolicies: []policy.Policy{watcher{}},
		Telemetry:        policy.TelemetryOptions{ApplicationID: "holdfast"},
	}
	if o.Transport == nil {
		o.Transport = c.client()
	}
	if c.Attempts == 1 {
		o.Retry.MaxRetries = -1 // 0 means three
	}
	return o
}

// ARM are the Options of a client of the Resource Manager. It registers no
// resource providers with the subscription: that is its owner's decision.
func (c Config) ARM() *arm.ClientOptions {
	return &arm.ClientOptions{ClientOptions: c.Options(), DisableRPRegistration: true}
}

// client is like the standard library's, proxies of the environment included.
func (c Config) client() *http.Client {
	t := remote.Transport()
	t.ResponseHeaderTimeout = answerPatience
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.MinVersion = tls.VersionTLS12
	if len(c.CA) > 0 {
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) // has one: see Complete
	}
	return &http.Client{Transport: t}
}

// Fault formats a complaint about a field of a Config of package pkg.
func Fault(pkg, field, format string, args ...any) error {
	return fmt.Errorf("%s: Config.%s: %s", pkg, field, fmt.Sprintf(format, args...))
}
