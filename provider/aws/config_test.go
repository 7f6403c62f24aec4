package aws

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
)

func TestConfig(t *testing.T) {
	good := Config{Bucket: "b"}
	if err := good.complete(); err != nil || good.PartSize != 16<<20 || good.Concurrency != 4 || good.Attempts != 5 || good.Checksum != ChecksumSHA256 {
		t.Errorf("%+v, %v", good, err)
	}
	bad := Config{Endpoint: "https://user:secret@host", Checksum: "md4", CustomerKey: []byte("secret"), KMSKey: "k", PartSize: 1, Concurrency: -1, Attempts: 101}
	err := bad.complete()
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{"Bucket", "Endpoint", "Checksum", "CustomerKey", "PartSize", "Concurrency", "Attempts"} {
		if !strings.Contains(err.Error(), "Config."+field+":") {
			t.Errorf("%v does not name %s", err, field)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("%v tells a secret", err)
	}
	if _, err := Open(t.Context(), Config{Bucket: "b", Region: "r", CA: []byte("no PEM")}); err == nil || !strings.Contains(err.Error(), "CA") {
		t.Errorf("a CA that is none: %v", err)
	}
	for _, clear := range []func(*Config){
		func(c *Config) { c.Endpoint = "http://store:9000" },
		func(*Config) { t.Setenv("AWS_ENDPOINT_URL_S3", "http://store:9000") },
	} {
		c := Config{Bucket: "b", Region: "r", CustomerKey: make([]byte, 32)}
		clear(&c)
		if _, err := Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "Config.CustomerKey") {
			t.Errorf("a key in the clear to %q: %v", c.Endpoint, err)
		}
	}
}

// A store is named without its credential, whichever way it is printed.
func TestString(t *testing.T) {
	secret := credentials.NewStaticCredentialsProvider("id", "secret", "")
	for want, c := range map[string]Config{
		"bucket b of S3 in eu-central-1": {Bucket: "b", Region: "eu-central-1", Credentials: secret, CustomerKey: make([]byte, 32)},
		"bucket b of S3 at store:9000":   {Bucket: "b", Region: "eu-central-1", Endpoint: "http://store:9000/", Credentials: secret},
	} {
		s, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%+v", s); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
