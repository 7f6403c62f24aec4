package aws_test

import (
	"testing"

	"github.com/holdfast-go/holdfast/internal/testenv"
	"github.com/holdfast-go/holdfast/provider/internal/storetest"
)

// A million objects are listed with flat memory:
//
//	HOLDFAST_LONG=1 go test -run TestMillionKeys -v -timeout 30m ./provider/aws
func TestMillionKeys(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			server := start(t)
			bucket := server.NewBucket(t, testenv.BucketOptions{})
			n := storetest.Many()
			server.Plant(t, bucket, n, storetest.ManyKey)
			storetest.Lists(t, open(t, server, bucket, server.Credential, nil), n, 16<<20)
		})
	}
}
