package kms

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

// wrap makes a [provider.Error] of what a call to the SDK returned.
func wrap(ctx context.Context, op, key string, err error) error {
	hint, means := meaning(err, op == "unwrap key")
	if hint != "" {
		err = fmt.Errorf("%s: %w", hint, err)
	}
	return conn.Wrap(ctx, "cloudkms", op, key, err, means)
}

// meaning is the error of package provider that an answer stands for, and what
// to do about it. What says that a key cannot be used now stands for none, so
// that nobody takes it for a key that is gone.
func meaning(err error, unwrapping bool) (hint string, means error) {
	if conn.StatusOf(err) == http.StatusNotFound {
		return "", provider.ErrNotFound
	}
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok || e.Code != http.StatusBadRequest {
		return "", conn.Permission(err)
	}
	said := e.Message + e.Body
	for _, s := range []struct {
		word  string
		means error
		hint  string
	}{
		{"state is: DESTROYED", provider.ErrNotFound, ""},
		{"state is: DESTROY_SCHEDULED", nil, "the version of the key will be destroyed, restore it (cloudkms.cryptoKeyVersions.restore) and enable it"},
		{"state is: DISABLED", nil, "the version of the key is disabled, enable it (cloudkms.cryptoKeyVersions.update)"},
		{"purpose", nil, "not a key whose purpose is ENCRYPT_DECRYPT"},
		{"FAILED_PRECONDITION", nil, "the key is not in a state to be used"},
		{"checksum", nil, ""},
	} {
		if strings.Contains(said, s.word) {
			return s.hint, s.means
		}
	}
	if unwrapping && strings.Contains(said, "Decryption failed") {
		return "", provider.ErrWrongKey
	}
	return "", nil
}

// again marks the refusal of a request that arrived with other bytes than those
// that were sent.
func again(err error) error {
	if e, ok := errors.AsType[*googleapi.Error](err); ok && e.Code == http.StatusBadRequest && strings.Contains(e.Message, "checksum") {
		return fmt.Errorf("%w: %w", conn.ErrAgain, err)
	}
	return err
}
