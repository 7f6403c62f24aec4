package conn

import (
	"errors"
	"io/fs"
	"net/http"
	"slices"

	"google.golang.org/api/googleapi"
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
