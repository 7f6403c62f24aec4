// Package conn is what the packages for AWS have in common: how a service is
// reached, and what its errors mean. It imports no service.
package conn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// Config says how a service is reached. The Configs of the packages have
// fields of these names, which they document to their users.
type Config struct {
	Region      string // empty: what the environment says
	Endpoint    string // empty: that of AWS
	Credentials aws.CredentialsProvider
	CA          []byte
	Attempts    int // 0: DefaultAttempts
	FIPS        bool

	// Fallback is the region where neither Region nor the environment names
	// one: of services that are the same from everywhere.
	Fallback string

	// Answer is how long the head of an answer may take; 0 means for ever.
	// What a control plane is asked is answered in seconds, so that silence
	// of a minute is a lost connection.
	Answer time.Duration
}

// Defaults of the fields of Config.
const (
	DefaultAttempts = 5
	ControlAnswer   = time.Minute
)

// maxIdle is how many connections wait to be used again; the transport closes
// them after a minute and a half.
const maxIdle = 256

// Complete validates a Config and fills in what is zero. It calls fault with
// the name of each field that is wrong.
func (c *Config) Complete(fault func(field, format string, args ...any)) {
	if c.Endpoint != "" {
		switch u, err := url.Parse(c.Endpoint); {
		case err != nil: // the error quotes the URL, which may hold a password
			fault("Endpoint", "not a URL")
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			fault("Endpoint", "want http:// or https:// and a host")
		case u.User != nil:
			fault("Endpoint", "has a user or password; use Credentials")
		}
		if c.FIPS {
			fault("FIPS", "set together with Endpoint; give the endpoint that is validated")
		}
	}
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

// Load reads the configuration of the environment and returns that of a
// client. It asks nobody.
func (c Config) Load(ctx context.Context) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(c.client())}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	if c.FIPS {
		options = append(options, config.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, err
	}
	if loaded.Region == "" && c.Endpoint != "" {
		loaded.Region = "us-east-1"
	}
	if loaded.Region == "" {
		loaded.Region = c.Fallback
	}
	if loaded.Region == "" {
		return aws.Config{}, errors.New("Config.Region: empty, and the environment names none")
	}
	if c.Endpoint != "" {
		loaded.BaseEndpoint = &c.Endpoint
	}
	loaded.APIOptions = append(loaded.APIOptions, gate)
	renew := renewal(loaded.Credentials)
	loaded.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = c.Attempts
			o.Retryables = append([]retry.IsErrorRetryable{renew, retry.IsErrorRetryableFunc(skewed)}, o.Retryables...)
			// The SDK goes by the names that AWS has for it.
			o.Retryables = append(o.Retryables, retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusTooManyRequests: {}}})
		})
	}
	return loaded, nil
}

// client leaves the transport as the SDK has it, proxies of the environment
// included, but for the connections that wait to be used again: it keeps ten,
// and so opens others all the time for who has more requests under way.
func (c Config) client() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = maxIdle, maxIdle
		t.ResponseHeaderTimeout = c.Answer
		if len(c.CA) == 0 {
			return
		}
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) // has one: see Complete
	})
}

// renewal makes credentials that the service calls expired be fetched anew
// for the next attempt: the service's clock decides, and the SDK goes by ours.
// S3 answers a HEAD with 400 then, and has no body to say why.
func renewal(p aws.CredentialsProvider) retry.IsErrorRetryable {
	return retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
		nameless := CodeOf(err) == "BadRequest" && StatusOf(err) == http.StatusBadRequest
		if !expired(err) && !nameless {
			return aws.UnknownTernary
		}
		cache, ok := p.(*aws.CredentialsCache)
		if !ok || cache.IsCredentialsProvider(&credentials.StaticCredentialsProvider{}) {
			return aws.FalseTernary // would be the same again
		}
		if had, err := cache.Retrieve(context.Background()); nameless && (err != nil || had.SessionToken == "") {
			return aws.FalseTernary // do not expire
		}
		cache.Invalidate()
		return aws.TrueTernary
	})
}

// skewed makes a HEAD again that was refused by a service whose clock is
// another than ours: there is no name in the answer, by which the SDK would know.
// It has noted the service's time, and signs for that.
func skewed(err error) aws.Ternary {
	if StatusOf(err) != http.StatusForbidden || CodeOf(err) != "Forbidden" {
		return aws.UnknownTernary
	}
	const most = 4 * time.Minute // that the SDK takes for none
	date, dateErr := http.ParseTime(headerOf(err).Get("Date"))
	if dateErr != nil || time.Until(date).Abs() < most {
		return aws.UnknownTernary
	}
	return aws.TrueTernary
}

// Fault formats a complaint about a field of a Config of package pkg.
func Fault(pkg, field, format string, args ...any) error {
	return fmt.Errorf("%s: Config.%s: %s", pkg, field, fmt.Sprintf(format, args...))
}
