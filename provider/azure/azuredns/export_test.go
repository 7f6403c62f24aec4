package azuredns

import (
	"context"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/miekg/dns"
)

// OpenOn is Open with a transport in place of HTTP, and ask in place of DNS;
// nil leaves that.
func OpenOn(ctx context.Context, c Config, t policy.Transporter, ask func(ctx context.Context, server, name string, typ uint16) ([]dns.RR, error)) (*Zones, error) {
	z, err := open(ctx, c, t)
	if err == nil && ask != nil {
		z.ask = ask
	}
	return z, err
}

var (
	AskServer = askServer
	Text      = text
)
