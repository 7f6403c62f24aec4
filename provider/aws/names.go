package aws

import (
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-go/holdfast/provider"
)

// The Version of an object is its ETag without the quotes. Other bytes have
// another ETag, and the listing of present objects tells it, which does not
// tell version IDs.
func versionOf(etag *string) provider.Version {
	if etag == nil {
		return ""
	}
	return provider.Version(strings.Trim(*etag, `"`))
}

func etagOf(v provider.Version) *string {
	s := `"` + string(v) + `"`
	return &s
}

// retentionOf is what the headers of an object say, if it is still in force by
// the clock of the store, which is that of the answer.
func retentionOf(mode types.ObjectLockMode, until *time.Time, answer middleware.Metadata) provider.Retention {
	now, told := awsmiddleware.GetServerTime(answer)
	if !told {
		now = time.Now()
	}
	if mode == "" || until == nil || !now.Before(*until) {
		return provider.Retention{}
	}
	return provider.Retention{Mode: provider.LockMode(strings.ToLower(string(mode))), Until: until.UTC()}
}

func lockMode(m provider.LockMode) types.ObjectLockMode {
	return types.ObjectLockMode(strings.ToUpper(string(m)))
}
