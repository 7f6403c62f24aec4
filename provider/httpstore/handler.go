package httpstore

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// HandlerConfig says how a store is served.
type HandlerConfig struct {
	// Token is what clients must present. Required, at least 16 bytes,
	// unless InsecureNoToken says that anybody may do anything.
	Token string

	// InsecureNoToken serves the store to whoever can reach it.
	InsecureNoToken bool

	// MaxObject is the size in bytes of the largest object taken; 0 means
	// 64 GiB.
	MaxObject int64

	// Stall is how long a transfer may stand still before it is broken off;
	// 0 means one minute. There is no limit on a transfer that moves.
	Stall time.Duration

	// TempDir is where uploads of more than 1 MiB wait until they are
	// complete and checked; empty means os.TempDir.
	TempDir string

	// Logger gets refused requests and failures of the store; nil discards.
	Logger *slog.Logger
}

type handler struct {
	store provider.BlobStore
	c     HandlerConfig
}

// NewHandler serves store at the root of the handler; use http.StripPrefix
// to mount it elsewhere. It is safe for concurrent use, as the store is.
func NewHandler(store provider.BlobStore, c HandlerConfig) (http.Handler, error) {
	panic("httpstore: not yet")
}
