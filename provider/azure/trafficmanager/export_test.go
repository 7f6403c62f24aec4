package trafficmanager

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// OpenOn is Open with a transport in place of HTTP.
func OpenOn(ctx context.Context, c Config, t policy.Transporter) (*Profile, error) {
	return open(ctx, c, t)
}

// SetSettle is for tests that wait for what never comes.
func (p *Profile) SetSettle(d time.Duration) { p.service.Settle = d }
