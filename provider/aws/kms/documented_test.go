package kms_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/holdfast-go/holdfast/provider/aws/internal/wire"
)

// documented adds to moto what the documentation of AWS says and moto leaves
// out: a key that is disabled or will be deleted is not used, a credential may
// not decrypt, a dry run does nothing, and replicas of multi-Region keys are
// one key. Of a ciphertext moto does not look at the key it is asked to
// decrypt with, joins names and values of the context without lengths, and
// calls a key ID in it that no key has AccessDenied.
type documented struct {
	t     *testing.T
	owner *kms.Client

	mayNotDecrypt string            // an access key
	replicas      map[string]string // a multi-Region key to the plain key that plays it
	in            []string          // regions that have the replicas

	mu   sync.Mutex
	made map[string]ciphertext
}

// A ciphertext is what one is bound to.
type ciphertext struct {
	key     string
	context map[string]string
}

const home = "us-east-1"

// client speaks to moto, past all rules.
func client(endpoint string) *kms.Client {
	return kms.New(kms.Options{Region: home, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider("owner", "secret", "")})
}

func (d *documented) rule(r *wire.Request, next func() (*http.Response, error)) (*http.Response, error) {
	if r.Action != "Encrypt" && r.Action != "Decrypt" {
		return next()
	}
	for replica, plain := range d.replicas {
		if !strings.Contains(string(r.Content), replica) {
			continue
		}
		if !slices.Contains(d.in, r.Region()) {
			return refusal("NotFoundException", "Key '"+replica+"' does not exist"), nil
		}
		r.Content = []byte(strings.NewReplacer(replica, plain, ":"+r.Region()+":", ":"+home+":").Replace(string(r.Content)))
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "/"+r.Region()+"/", "/"+home+"/", 1))
		r.Header.Set("Content-Length", fmt.Sprint(len(r.Content)))
	}
	var in struct {
		KeyId           string
		DryRun          bool
		DryRunModifiers []string
	}
	if err := json.Unmarshal(r.Content, &in); err != nil {
		d.t.Errorf("%s: %v", r.Action, err)
	}
	key, err := d.owner.DescribeKey(r.Context(), &kms.DescribeKeyInput{KeyId: aws.String(in.KeyId)}, func(o *kms.Options) { o.Region = r.Region() })
	if err != nil {
		return refusal("NotFoundException", "Key '"+in.KeyId+"' does not exist"), nil
	}
	switch key.KeyMetadata.KeyState {
	case types.KeyStateDisabled:
		return refusal("DisabledException", *key.KeyMetadata.Arn+" is disabled."), nil
	case types.KeyStatePendingDeletion:
		return refusal("KMSInvalidStateException", *key.KeyMetadata.Arn+" is pending deletion."), nil
	}
	if r.Action == "Decrypt" && r.AccessKey() == d.mayNotDecrypt && (in.DryRun || !garbage(r.Content)) {
		return refusal("AccessDeniedException", "User: arn:aws:iam::123456789012:user/w is not authorized to perform: kms:Decrypt on resource: "+*key.KeyMetadata.Arn), nil
	}
	if in.DryRun {
		if !slices.Contains(in.DryRunModifiers, "IGNORE_CIPHERTEXT") {
			d.t.Errorf("a dry run that would look at the ciphertext")
		}
		return wire.Answer(http.StatusPreconditionFailed, "application/x-amz-json-1.1", `{"__type":"DryRunOperationException","message":"would have succeeded"}`), nil
	}
	answer, err := next()
	if err != nil || r.Action == "Encrypt" && answer.StatusCode != http.StatusOK {
		return answer, err
	}
	return d.bound(*key.KeyMetadata.Arn, r, answer)
}

// bound notes what Encrypt made, and refuses what Decrypt must not accept.
func (d *documented) bound(key string, r *wire.Request, answer *http.Response) (*http.Response, error) {
	var in, out struct {
		CiphertextBlob    string
		EncryptionContext map[string]string
	}
	b, err := io.ReadAll(answer.Body)
	if err == nil {
		err = errors.Join(json.Unmarshal(r.Content, &in), json.Unmarshal(b, &out))
	}
	if err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(b))
	d.mu.Lock()
	defer d.mu.Unlock()
	if r.Action == "Encrypt" {
		if d.made == nil {
			d.made = map[string]ciphertext{}
		}
		d.made[out.CiphertextBlob] = ciphertext{key, in.EncryptionContext}
		return answer, nil
	}
	made, ok := d.made[in.CiphertextBlob]
	switch {
	case ok && made.key != key:
		return refusal("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation."), nil
	case !ok || !maps.Equal(made.context, in.EncryptionContext):
		return refusal("InvalidCiphertextException", ""), nil
	}
	return answer, nil
}

// garbage is a ciphertext that KMS tells at first sight.
func garbage(content []byte) bool {
	var in struct{ CiphertextBlob []byte }
	return json.Unmarshal(content, &in) == nil && len(in.CiphertextBlob) < 40
}

func refusal(code, message string) *http.Response {
	b, _ := json.Marshal(map[string]string{"__type": code, "message": message})
	return wire.Answer(http.StatusBadRequest, "application/x-amz-json-1.1", string(b))
}
