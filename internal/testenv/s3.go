package testenv

import (
	"context"
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
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	"github.com/testcontainers/testcontainers-go/wait"
)

// A Credential opens what its policy allows.
type Credential struct{ AccessKey, SecretKey string }

// S3 is a running server that speaks S3. Its Credential is the owner's.
type S3 struct {
	Name     string // "minio" or "versitygw"
	Endpoint string // "http://localhost:32768"
	Region   string
	Credential

	container *testcontainers.DockerContainer
}

// MinIO starts MinIO, unless the process has done so. It ignores the If-Match
// of a delete, and refuses what is locked with InvalidRequest.
func MinIO(t testing.TB) *S3 {
	t.Helper()
	return start(t, minio, "9000/tcp", wait.ForHTTP("/minio/health/ready").WithPort("9000/tcp"), func(c Credential) []testcontainers.ContainerCustomizer {
		key := make([]byte, 32)
		rand.Read(key)
		return []testcontainers.ContainerCustomizer{
			testcontainers.WithEnv(map[string]string{
				"MINIO_ROOT_USER": c.AccessKey, "MINIO_ROOT_PASSWORD": c.SecretKey,
				"MINIO_CI_CD": "1", "MINIO_BROWSER": "off",
				"MINIO_KMS_SECRET_KEY": "test:" + base64.StdEncoding.EncodeToString(key),
			}),
			testcontainers.WithCmd("/minio", "server", "--quiet", "--address", ":9000", "/data"),
		}
	})
}

// VersityGW starts versitygw, unless the process has done so. Its errors are
// those of AWS.
func VersityGW(t testing.TB) *S3 {
	t.Helper()
	return start(t, versitygw, "7070/tcp", wait.ForListeningPort("7070/tcp").SkipInternalCheck(), func(c Credential) []testcontainers.ContainerCustomizer {
		return []testcontainers.ContainerCustomizer{
			testcontainers.WithEnv(map[string]string{"ROOT_ACCESS_KEY_ID": c.AccessKey, "ROOT_SECRET_ACCESS_KEY": c.SecretKey}),
			testcontainers.WithCmd("/versitygw", "--quiet", "--port", ":7070", "--iam-dir", "/iam", "posix", "--versioning-dir", "/versions", "/data"),
		}
	})
}

func start(t testing.TB, p program, port string, up wait.Strategy, how func(Credential) []testcontainers.ContainerCustomizer) *S3 {
	t.Helper()
	if !managed {
		t.Fatal("a package that starts servers needs: func TestMain(m *testing.M) { testenv.Main(m) }")
	}
	started.Lock()
	defer started.Unlock()
	if s := started.servers[p.image]; s != nil {
		return s
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // it may have to be built
	defer cancel()
	docker, err := connect(ctx)
	if err != nil {
		absent(t, err)
	}
	defer docker.Close()
	sweep(ctx, docker)
	image, err := p.prepare(ctx, docker, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	s := &S3{Name: p.image, Region: "us-east-1", Credential: Credential{"owner", rand.Text()}}
	options := append(how(s.Credential),
		testcontainers.WithExposedPorts(port),
		testcontainers.WithLabels(map[string]string{label: p.image}),
		testcontainers.WithWaitStrategyAndDeadline(patience, up))
	s.container, err = testcontainers.Run(ctx, image, options...)
	started.stop = append(started.stop, func() error { return testcontainers.TerminateContainer(s.container, testcontainers.StopTimeout(0)) })
	if err != nil {
		t.Fatalf("start %s: %v\n%s", p.image, err, s.logs(ctx))
	}
	if s.Endpoint, err = s.container.PortEndpoint(ctx, port, "http"); err != nil {
		t.Fatal(err)
	}
	if started.servers == nil {
		started.servers = map[string]*S3{}
	}
	started.servers[p.image] = s
	return s
}

// logs is the end of what the server has said.
func (s *S3) logs(ctx context.Context) string {
	if s.container == nil {
		return ""
	}
	r, err := s.container.Logs(ctx)
	if err != nil {
		return ""
	}
	defer r.Close()
	b, _ := io.ReadAll(r)
	return string(b[max(0, len(b)-4096):])
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
	if s.Name != minio.image {
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
