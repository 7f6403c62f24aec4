package kms

import (
	"context"
	"fmt"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// wrap makes a [provider.Error] of what a call to the SDK returned.
func (k *Keys) wrap(ctx context.Context, op, key string, err error) error {
	if hint := unusable(err); hint != "" {
		err = fmt.Errorf("%s: %w", hint, err)
	}
	return conn.Wrap(ctx, provider.Error{Op: op, Provider: "kms", Key: key, Err: err}, meaning(err))
}

// meaning is the error of package provider that an answer stands for. What
// says that a key cannot be used now stands for none, so that nobody takes it
// for a key that is gone.
func meaning(err error) error {
	switch {
	case conn.CodeOf(err) == "NotFoundException":
		return provider.ErrNotFound
	case wrongKey(err):
		return provider.ErrWrongKey
	}
	return conn.Permission(err)
}

func wrongKey(err error) bool {
	code := conn.CodeOf(err)
	return code == "InvalidCiphertextException" || code == "IncorrectKeyException"
}

// unusable says what to do about a key that is there and cannot be used, or is
// empty.
func unusable(err error) string {
	switch conn.CodeOf(err) {
	case "DisabledException":
		return "the key is disabled, enable it (kms:EnableKey)"
	case "KMSInvalidStateException":
		if strings.Contains(err.Error(), "pending deletion") || strings.Contains(err.Error(), "pending replica deletion") {
			return "the key will be deleted, cancel that (kms:CancelKeyDeletion) and enable it (kms:EnableKey)"
		}
		return "the key is not in a state to be used"
	case "KeyUnavailableException":
		return "the key is not available now"
	case "InvalidKeyUsageException", "UnsupportedOperationException":
		return "not a key that encrypts with SYMMETRIC_DEFAULT"
	}
	return ""
}
