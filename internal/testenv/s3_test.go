package testenv_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/holdfast-go/holdfast/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestS3(t *testing.T) {
	for _, start := range []func(testing.TB) *testenv.S3{testenv.MinIO, testenv.VersityGW} {
		s := start(t)
		bucket := s.NewBucket(t, testenv.BucketOptions{Locks: true})
		if _, err := s.Client().HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: &bucket}); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if again := start(t); again != s {
			t.Errorf("%s: the second test gets another server", s.Name)
		}
	}
}
