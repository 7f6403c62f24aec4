package conn

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// StatusOf is the status of the answer, or 0 if there was none.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}

// HasReason says whether the service gave one of these reasons.
func HasReason(err error, reasons ...string) bool {
	e, ok := errors.AsType[*googleapi.Error](err)
	return ok && slices.ContainsFunc(e.Errors, func(item googleapi.ErrorItem) bool { return slices.Contains(reasons, item.Reason) })
}

// Permission is fs.ErrPermission if the answer is that the credentials do not
// allow the call, are not known or have expired, else nil.
func Permission(err error) error {
	if status := StatusOf(err); (status == http.StatusForbidden || status == http.StatusUnauthorized) && !limited(err) {
		return fs.ErrPermission
	}
	return nil
}

// Wrap makes a [provider.Error] of what the SDK returned: the error of package
// provider that it means, which may be nil, and below it the vendor's. An
// answer that asks to be asked less it knows itself.
func Wrap(ctx context.Context, service, op, key string, err, meaning error) error {
	if status := StatusOf(err); meaning == nil && (limited(err) || status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		meaning = remote.ThrottledFor(retryAfter(err, time.Now()))
	}
	return remote.Wrap(ctx, service, op, key, err, meaning)
}
