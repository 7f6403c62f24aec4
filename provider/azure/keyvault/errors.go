package keyvault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/azure/internal/conn"
)

// fail makes a [provider.Error] of what a call returned.
func (k *Keys) fail(ctx context.Context, op, key string, err error) error {
	if hint := hint(err); hint != "" {
		err = &unusable{fmt.Errorf("%s: %w", hint, conn.Answered(err))}
	}
	return conn.Wrap(ctx, providerName, op, key, err, meaning(err))
}

// meaning is the error of package provider that an answer stands for. What
// says that a key cannot be used now stands for none, so that nobody takes it
// for a key that is gone.
func meaning(err error) error {
	if _, ok := errors.AsType[*unusable](err); ok || hint(err) != "" {
		return nil
	}
	switch {
	case isMissing(err):
		return provider.ErrNotFound
	case conn.StatusOf(err) == http.StatusBadRequest && isUnwrap(err):
		return provider.ErrWrongKey
	}
	return conn.Permission(err)
}

// unusable is an error about a key that is there, and none of package provider.
type unusable struct{ error }

func (u *unusable) Unwrap() error { return u.error }

func isMissing(err error) bool {
	return conn.StatusOf(err) == http.StatusNotFound && conn.CodeOf(err) == "KeyNotFound"
}

// isUnwrap: the vault was asked to unwrap. That it cannot read what it is given
// it says by 400, as of anything else in a request that is not right; all else
// in ours is the same each time.
func isUnwrap(err error) bool {
	e, ok := response(err)
	return ok && e.Request != nil && strings.HasSuffix(e.Request.URL.Path, "/unwrapkey")
}

// hint says what to do about a key that is there and cannot be used, or is
// empty. The vault says it by 403, as it says that the credential is not
// allowed something.
func hint(err error) string {
	if conn.StatusOf(err) == http.StatusBadRequest && !isUnwrap(err) {
		return "not a key that wraps with Config.Algorithm"
	}
	if conn.StatusOf(err) != http.StatusForbidden {
		return ""
	}
	d := conn.DetailOf(err)
	if d.InnerError.Code == "" && strings.Contains(d.Message, "disabled key") {
		d.InnerError.Code = "KeyDisabled" // not every version of the service has the inner code
	}
	switch d.InnerError.Code {
	case "KeyDisabled":
		return "the key, or the version that wrapped, is disabled, enable it (az keyvault key set-attributes --enabled true)"
	case "KeyNotYetValid", "KeyExpired":
		return "the dates of the key do not allow it now (az keyvault key set-attributes --expires)"
	case "KeyOperationForbidden":
		return "the key is not for this operation (az keyvault key set-attributes --ops wrapKey unwrapKey)"
	case "ForbiddenByFirewall", "ForbiddenByConnection":
		return "the network rules of the vault do not let this machine in"
	}
	return ""
}

// response is the answer of the service in err.
func response(err error) (*http.Response, bool) {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || e.RawResponse == nil {
		return nil, false
	}
	return e.RawResponse, true
}
