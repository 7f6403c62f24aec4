// Package httpstore lets a [provider.BlobStore] be used from another process
// or host: [NewHandler] serves any store over HTTP, and [New] is a store that
// asks such a server.
//
// What holds for the store behind the handler holds for the client, version
// and condition semantics included, because each call of the client is one
// call there. Optional powers end at the wire, with one exception: the client
// is a [provider.Locker], and says errors.ErrUnsupported if the store behind
// it is none.
//
// # What it guarantees
//
// A Put is announced with the SHA-256 of its content; the server receives
// the whole of it, checks it, and only then hands it to its store, so that an
// upload that breaks off leaves nothing. A reader or a listing ends well only
// if the server said so: a connection that is cut in the middle is an error,
// never a short object or a short list, and the last bytes of an object are
// withheld until the server's store has vouched for them. An answer that does
// not come from a handler of this package (a proxy's error page, a captive
// portal) is an error of its own kind, never provider.ErrNotFound.
//
// Only calls that change nothing are repeated. A Put or Delete whose answer
// is lost returns an error that is none of the sentinels: the outcome is
// unknown, as package provider says.
//
// # What it does not do
//
// It knows one token, which allows everything. It does not encrypt: over
// http:// the token and the content travel in the clear; serve the handler
// with TLS, or behind something that does. Content of this library's
// repositories is encrypted before it gets here; that of others may not be.
//
// # Compatibility
//
// The protocol is versioned in the path ("/v1/..."). A client and a server of
// the same version of it understand each other.
package httpstore
