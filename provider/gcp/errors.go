package gcp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/iterator"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// wrap makes a [provider.Error] of what a call to the SDK returned: the
// sentinel that it means and, below it, the vendor's error.
func wrap(ctx context.Context, op, key string, err error) error {
	meaning := meaningOf(err)
	if text := err.Error(); uploadID.MatchString(text) {
		if u, ok := errors.AsType[*url.Error](err); ok {
			u.URL, _, _ = strings.Cut(u.URL, "?")
		}
		err = discreet{uploadID.ReplaceAllString(text, "upload_id=..."), err}
	}
	return remote.Wrap(ctx, "gcs", op, key, err, meaning)
}

// uploadID is what makes the address of an upload a credential: whoever has it
// can go on with the upload. Errors of connections quote it.
var uploadID = regexp.MustCompile(`upload_id=[^&"\s]*`)

// discreet is an error with another text.
type discreet struct {
	text string
	error
}

func (d discreet) Error() string { return d.text }
func (d discreet) Unwrap() error { return d.error }

// reasons are the names by which the service says that an object is protected.
var reasons = map[string]error{
	"retentionPolicyNotMet": provider.ErrLocked, "objectUnderActiveHold": provider.ErrLocked, "objectRetentionNotMet": provider.ErrLocked,
	"lockedRetentionPolicy": provider.ErrLocked,
}

// words are what its messages say where it has no reason of its own.
var words = []struct {
	status int
	word   string
	is     error
}{
	{http.StatusForbidden, "retention", provider.ErrLocked},
	{http.StatusForbidden, " hold", provider.ErrLocked},
	{http.StatusBadRequest, "crc32c", provider.ErrCorrupt},
	{http.StatusBadRequest, "md5", provider.ErrCorrupt},
	{http.StatusBadRequest, "not enabled for object retention", errors.ErrUnsupported},
	{http.StatusBadRequest, "object retention is not enabled", errors.ErrUnsupported},
	{http.StatusBadRequest, "object retention cannot be", provider.ErrLocked},
}

func meaningOf(err error) error {
	switch {
	case err == nil, errors.Is(err, storage.ErrBucketNotExist):
		return nil
	case errors.Is(err, storage.ErrObjectNotExist):
		return provider.ErrNotFound
	}
	e, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return nil
	}
	for _, item := range e.Errors {
		if is := reasons[item.Reason]; is != nil {
			return is
		}
	}
	said := strings.ToLower(e.Message + e.Body)
	for _, w := range words {
		if e.Code == w.status && strings.Contains(said, w.word) {
			return w.is
		}
	}
	switch e.Code {
	case http.StatusPreconditionFailed:
		return provider.ErrConflict
	case http.StatusRequestedRangeNotSatisfiable:
		return provider.ErrRange
	case http.StatusForbidden, http.StatusUnauthorized:
		return fs.ErrPermission
	case http.StatusNotImplemented:
		return errors.ErrUnsupported
	}
	return remote.Throttled(e.Code, e.Header)
}

// statusOf is the status of the answer, or 0 if there was none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}

// missing makes of the error of an object that is not there one of the bucket,
// if it is that which is not there: the service answers both with 404, and a
// caller would take the second for an empty store. It asks once.
func (s *Store) missing(ctx context.Context, err error) error {
	if err == nil {
		s.found.Store(true)
	}
	if s.found.Load() || !errors.Is(err, storage.ErrObjectNotExist) {
		return err
	}
	it := s.bucket.Objects(ctx, &storage.Query{Prefix: "holdfast", Projection: storage.ProjectionNoACL})
	it.PageInfo().MaxSize = 1
	_, listErr := it.Next()
	switch {
	case listErr == nil, errors.Is(listErr, iterator.Done), errors.Is(meaningOf(listErr), fs.ErrPermission):
		s.found.Store(true)
		return err
	case errors.Is(listErr, storage.ErrBucketNotExist):
		return listErr
	}
	return fmt.Errorf("look whether it is the object or the bucket that is not there: %w", listErr)
}
