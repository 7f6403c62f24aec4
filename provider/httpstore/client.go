package httpstore

import (
	"net/http"

	"github.com/holdfast-go/holdfast/provider"
)

// Config says where the server is.
type Config struct {
	// URL is where the handler is mounted: "https://host:8443/store".
	// Required; http or https, no user, query or fragment.
	URL string

	// Token is the HandlerConfig.Token of the server. Empty sends none.
	Token string

	// Client makes the requests; nil means one with a connection pool of its
	// own and no overall timeout, since an upload may take hours: deadlines
	// come from the contexts. Redirects are not followed in any case.
	Client *http.Client
}

// Store is a [provider.BlobStore] and a [provider.Locker] that asks a server.
type Store struct {
	base   string
	token  string
	client *http.Client
}

var (
	_ provider.BlobStore = (*Store)(nil)
	_ provider.Locker    = (*Store)(nil)
)
