package disks

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// OpenOn is Open with a transport in place of HTTP.
func OpenOn(ctx context.Context, c Config, t policy.Transporter) (*Snapshots, error) {
	return open(ctx, c, t)
}
