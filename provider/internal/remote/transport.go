package remote

import (
	"net/http"
	"time"
)

// Transport is a transport like the standard library's, proxies of the
// environment included.
func Transport() *http.Transport {
	if standard, ok := http.DefaultTransport.(*http.Transport); ok { // some programs put another in its place
		return standard.Clone()
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, IdleConnTimeout: 90 * time.Second}
}
