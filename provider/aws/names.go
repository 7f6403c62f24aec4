package aws

import (
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

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

// retentionOf is what the headers of an object say, if it is still in force.
func retentionOf(mode types.ObjectLockMode, until *time.Time) provider.Retention {
	if mode == "" || until == nil || !time.Now().Before(*until) {
		return provider.Retention{}
	}
	return provider.Retention{Mode: provider.LockMode(strings.ToLower(string(mode))), Until: until.UTC()}
}

func lockMode(m provider.LockMode) types.ObjectLockMode {
	return types.ObjectLockMode(strings.ToUpper(string(m)))
}
