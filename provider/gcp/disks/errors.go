package disks

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"google.golang.org/api/compute/v1"
	"google.golang.org/api/googleapi"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/gcp/internal/conn"
)

// A failure is why an operation ended, in the words of the service.
type failure struct{ code, message string }

func (f *failure) Error() string { return fmt.Sprintf("%s (%s)", f.message, f.code) }

// failed is the failure of an operation that is over, or nil.
func failed(op *compute.Operation) error {
	if op.Error == nil || len(op.Error.Errors) == 0 {
		return nil
	}
	return &failure{op.Error.Errors[0].Code, op.Error.Errors[0].Message}
}

// aProject is what is not found if the project is not there.
var aProject = regexp.MustCompile(`'projects/[^/']+'`)

// notFound: the service has no such resource, and has the project.
func notFound(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code == "RESOURCE_NOT_FOUND"
	}
	e, ok := errors.AsType[*googleapi.Error](err)
	return ok && e.Code == http.StatusNotFound && !aProject.MatchString(e.Message)
}

// A vanished is what went wrong with something beside what the caller has named:
// that it is not there does not mean that a snapshot or a volume is not.
type vanished struct {
	what string
	err  error
}

func (v *vanished) Error() string { return v.what + ": " + v.err.Error() }
func (v *vanished) Unwrap() error { return v.err }

// An unseenError is that what was made is not there.
type unseenError struct{ what string }

func (u *unseenError) Error() string { return u.what + " was made and is not there" }

// exists: there is something of that name already.
func exists(err error) bool {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.code == "RESOURCE_ALREADY_EXISTS"
	}
	return conn.StatusOf(err) == http.StatusConflict
}

// meaning is the error of package provider that an answer stands for.
func meaning(err error) error {
	if _, beside := errors.AsType[*vanished](err); !beside && notFound(err) {
		return provider.ErrNotFound
	}
	return conn.Permission(err)
}
