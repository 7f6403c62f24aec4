package testenv

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
)

// A Credential opens what its policy allows.
type Credential struct{ AccessKey, SecretKey string }

// S3 is a running server that speaks S3. Its Credential is the owner's.
type S3 struct {
	server
	Region string
	Credential
}

// MinIO starts MinIO, unless the process has done so. It ignores the If-Match
// of a delete, and refuses what is locked with InvalidRequest.
func MinIO(t testing.TB) *S3 {
	t.Helper()
	key := make([]byte, 32)
	rand.Read(key)
	return startS3(t, func(c Credential) service {
		return service{
			image: minio, port: "9000/tcp", scheme: "http",
			up: wait.ForHTTP("/minio/health/ready").WithPort("9000/tcp"),
			env: map[string]string{
				"MINIO_ROOT_USER": c.AccessKey, "MINIO_ROOT_PASSWORD": c.SecretKey,
				"MINIO_CI_CD": "1", "MINIO_BROWSER": "off",
				"MINIO_KMS_SECRET_KEY": "test:" + base64.StdEncoding.EncodeToString(key),
			},
			cmd: []string{"/minio", "server", "--quiet", "--address", ":9000", "/data"},
		}
	})
}

// VersityGW starts versitygw, unless the process has done so. Its errors are
// those of AWS.
func VersityGW(t testing.TB) *S3 {
	t.Helper()
	return startS3(t, func(c Credential) service {
		return service{
			image: versitygw, port: "7070/tcp", scheme: "http",
			env: map[string]string{"ROOT_ACCESS_KEY_ID": c.AccessKey, "ROOT_SECRET_ACCESS_KEY": c.SecretKey},
			cmd: []string{"/versitygw", "--quiet", "--port", ":7070", "--iam-dir", "/iam", "posix", "--versioning-dir", "/versions", "/data"},
		}
	})
}

func startS3(t testing.TB, how func(Credential) service) *S3 {
	t.Helper()
	owner := Credential{"owner", rand.Text()}
	d := how(owner)
	return once(t, d.image.name, func() *S3 {
		t.Helper()
		return &S3{d.start(t), "us-east-1", owner}
	})
}

// Client speaks to the server as its owner.
func (s *S3) Client() *s3.Client {
	return s3.New(s3.Options{
		Region:       s.Region,
		BaseEndpoint: aws.String(s.Endpoint),
		UsePathStyle: true,
		Credentials:  credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	})
}

// BucketOptions say what a new bucket does with versions. The zero value keeps
// none.
type BucketOptions struct {
	Versions bool          // keeps every version
	Locks    bool          // takes retentions; implies Versions
	Keep     time.Duration // puts what is written under compliance so long, in whole days; implies Locks
}

// NewBucket makes a bucket and returns its name. It goes away with the server.
func (s *S3) NewBucket(t testing.TB, o BucketOptions) string {
	t.Helper()
	ctx, c := t.Context(), s.Client()
	name := "b" + strings.ToLower(rand.Text())
	locks := o.Locks || o.Keep > 0
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name, ObjectLockEnabledForBucket: aws.Bool(locks)}); err != nil {
		t.Fatal(err)
	}
	if o.Versions && !locks {
		_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: &name,
			VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if o.Keep > 0 {
		days := int32((o.Keep + 24*time.Hour - 1) / (24 * time.Hour))
		_, err := c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: &name,
			ObjectLockConfiguration: &types.ObjectLockConfiguration{
				ObjectLockEnabled: types.ObjectLockEnabledEnabled,
				Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{
					Mode: types.ObjectLockRetentionModeCompliance, Days: &days}},
			}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return name
}

// CreateOnly makes a credential that may put objects into the bucket, list
// them and their versions, and get those whose key begins with none of the
// prefixes of noGet. It may not delete, shorten a retention or change the
// bucket. It may write over what is there: the bucket must keep versions.
// Only MinIO has such policies.
func (s *S3) CreateOnly(t testing.TB, bucket string, noGet ...string) Credential {
	t.Helper()
	return s.NewCredential(t, CreateOnlyPolicy(bucket, noGet...))
}

// CreateOnlyPolicy is the policy of [S3.CreateOnly], as AWS takes it, too.
func CreateOnlyPolicy(bucket string, noGet ...string) string {
	type statement struct {
		Effect           string
		Action, Resource []string
	}
	arn := "arn:aws:s3:::" + bucket
	statements := []statement{
		{"Allow", []string{"s3:ListBucket", "s3:ListBucketVersions"}, []string{arn}},
		{"Allow", []string{"s3:PutObject", "s3:PutObjectRetention", "s3:AbortMultipartUpload",
			"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectRetention"}, []string{arn + "/*"}},
	}
	if len(noGet) > 0 {
		deny := statement{Effect: "Deny", Action: []string{"s3:GetObject", "s3:GetObjectVersion"}}
		for _, prefix := range noGet {
			deny.Resource = append(deny.Resource, arn+"/"+prefix+"*")
		}
		statements = append(statements, deny)
	}
	b, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		panic(err) // strings only
	}
	return string(b)
}

// NewCredential makes a user with a policy, which is JSON as IAM takes it.
// Only MinIO has them.
func (s *S3) NewCredential(t testing.TB, policy string) Credential {
	t.Helper()
	if s.Name != minio.name {
		t.Fatalf("%s has no users with policies", s.Name)
	}
	c := Credential{"user-" + strings.ToLower(rand.Text()[:12]), rand.Text()}
	code, out, err := s.container.Exec(t.Context(), []string{"/minioadmin"}, tcexec.Multiplexed(),
		tcexec.WithEnv([]string{"NEW_USER=" + c.AccessKey, "NEW_PASSWORD=" + c.SecretKey, "NEW_POLICY=" + policy}))
	if err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(out)
	if err != nil || code != 0 {
		t.Fatalf("make a user: exit %d, %v: %s", code, err, said)
	}
	return c
}
