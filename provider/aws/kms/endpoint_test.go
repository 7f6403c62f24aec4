package kms

import (
	"errors"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

type seen struct{ host string }

func (s *seen) Do(r *http.Request) (*http.Response, error) {
	s.host = r.URL.Host
	return nil, errors.New("not sent")
}

// Where requests go: to the region of the key, and with FIPS to endpoints that
// are validated.
func TestEndpoints(t *testing.T) {
	for want, c := range map[string]Config{
		"kms.eu-west-1.amazonaws.com":      {Region: "us-east-1"},
		"kms-fips.eu-west-1.amazonaws.com": {Region: "us-east-1", FIPS: true},
	} {
		c.Attempts, c.Credentials = 1, credentials.NewStaticCredentialsProvider("k", "s", "")
		k, err := Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		all, err := k.regions("arn:aws:kms:eu-west-1:1:key/x")
		if err != nil {
			t.Fatal(err)
		}
		var s seen
		k.client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("x"), Plaintext: []byte("x")}, all[0].option, func(o *kms.Options) { o.HTTPClient = &s })
		if s.host != want {
			t.Errorf("asked %s, want %s", s.host, want)
		}
	}
}
