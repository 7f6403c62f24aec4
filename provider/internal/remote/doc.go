// Package remote is what stores behind a network have in common: a reader that
// goes on where a connection broke, a body that goes up in parts with bounded
// memory, and the keys, metadata and retentions that all of them take. It knows
// no service.
package remote
