package failover

import (
	"context"
	"fmt"
)

// A Probe asks one question about a site. It is safe for concurrent use.
type Probe interface {
	// Probe returns nil if the site gave the expected answer before ctx
	// ended. The text says what was seen, without secrets.
	Probe(ctx context.Context) (string, error)
	fmt.Stringer // what is asked: "http https://...", for evidence and logs
}
