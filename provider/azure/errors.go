package azure

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// wrap makes a [provider.Error] of what a call to the SDK returned: the
// sentinel that it means and, below it, the vendor's error.
func wrap(ctx context.Context, op, key string, err error) error {
	err = answered(err)
	meaning := meaningOf(err)
	switch codeOf(err) {
	case bloberror.BlobArchived, bloberror.BlobBeingRehydrated:
		err = fmt.Errorf("the blob is in the Archive tier; Warm brings it back in some hours: %w", err)
	case bloberror.SnapshotsPresent:
		err = fmt.Errorf("the blob has snapshots, which would go with it; delete them first: %w", err)
	case bloberror.InvalidBlockList:
		err = fmt.Errorf("other Puts of this key took its blocks away, each time it sent them: %w", err)
	case bloberror.InvalidBlobOrBlock:
		err = fmt.Errorf("another program has left blocks under this key that it did not commit; they go away in a week, or when it commits: %w", err)
	}
	return remote.Wrap(ctx, "azblob", op, key, err, meaning)
}

// codes are the names by which the service says what the contract has a
// sentinel for.
var codes = map[bloberror.Code]error{
	bloberror.BlobNotFound:             provider.ErrNotFound,
	bloberror.BlobAlreadyExists:        provider.ErrConflict,
	bloberror.ConditionNotMet:          provider.ErrConflict,
	bloberror.TargetConditionNotMet:    provider.ErrConflict,
	bloberror.BlobImmutableDueToPolicy: provider.ErrLocked,
	bloberror.InvalidRange:             provider.ErrRange,
	bloberror.BlobArchived:             provider.ErrCold,
	bloberror.BlobBeingRehydrated:      provider.ErrCold,
	bloberror.InvalidResourceName:      provider.ErrInvalidKey,
	bloberror.MD5Mismatch:              provider.ErrCorrupt,
	bloberror.CRC64Mismatch:            provider.ErrCorrupt,

	bloberror.AuthenticationFailed:            fs.ErrPermission,
	bloberror.AuthorizationFailure:            fs.ErrPermission,
	bloberror.AuthorizationPermissionMismatch: fs.ErrPermission,
	bloberror.InsufficientAccountPermissions:  fs.ErrPermission,
	bloberror.UnauthorizedBlobOverwrite:       fs.ErrPermission,
}

func meaningOf(err error) error {
	if err == nil {
		return nil
	}
	code := codeOf(err)
	if m, ok := codes[code]; ok {
		return m
	}
	switch statusOf(err) {
	case http.StatusForbidden, http.StatusUnauthorized:
		return fs.ErrPermission
	case http.StatusNotImplemented:
		return errors.ErrUnsupported
	case http.StatusPreconditionFailed:
		if code == "" { // with another name it is about a lease, and no condition of ours
			return provider.ErrConflict
		}
	case http.StatusRequestedRangeNotSatisfiable:
		return provider.ErrRange
	}
	return remote.Throttled(statusOf(err), headerOf(err))
}

// codeOf is the name the service gave the error, or empty.
func codeOf(err error) bloberror.Code {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return bloberror.Code(e.ErrorCode)
	}
	return ""
}

// statusOf is the status of the answer, or 0 if there was none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	return 0
}

// headerOf is the header of the answer, or nil if there was none.
func headerOf(err error) http.Header {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.RawResponse != nil {
		return e.RawResponse.Header
	}
	return nil
}

// isMissing: there is no such blob, or no such version of it. A container that
// is not there is another thing.
func isMissing(err error) bool { return codeOf(err) == bloberror.BlobNotFound }

// An answer is an error of the service in one line; the SDK's goes over twenty.
type answer struct{ *azcore.ResponseError }

// answered shortens what a call to the SDK returned. It is found as
// [azcore.ResponseError] all the same.
func answered(err error) error {
	if e, ok := err.(*azcore.ResponseError); ok {
		return answer{e}
	}
	return err
}

func (a answer) Unwrap() error { return a.ResponseError }

// Error reads "409 BlobAlreadyExists: The specified blob already exists.
// (request 0a1b...)".
func (a answer) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", a.StatusCode, a.ErrorCode)
	if a.RawResponse == nil {
		return b.String()
	}
	var doc struct{ Message string }
	if body, err := runtime.Payload(a.RawResponse); err == nil && xml.Unmarshal(body, &doc) == nil {
		if line, _, _ := strings.Cut(doc.Message, "\n"); line != "" {
			fmt.Fprintf(&b, ": %s", strings.TrimSpace(line))
		}
	}
	if id := a.RawResponse.Header.Get("x-ms-request-id"); id != "" {
		fmt.Fprintf(&b, " (request %s)", id)
	}
	return b.String()
}

// unanswered says of a failed attempt whether the service may have carried it
// out all the same.
func unanswered(resp *http.Response, err error) bool {
	if err != nil {
		return true
	}
	if resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("x-ms-error-code") == string(bloberror.ServerBusy) {
		return false
	}
	return resp.StatusCode >= 500 && resp.StatusCode != http.StatusNotImplemented
}

// attempts watches the attempts that the SDK makes of one call.
type attempts struct{ unanswered atomic.Bool }

type attemptsKey struct{}

func (a *attempts) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptsKey{}, a)
}

// watcher stands before the transport. It notes attempts that may have had
// their effect although the SDK makes others after them, and takes shared
// access signatures out of errors, which quote the URL.
type watcher struct{}

func (watcher) Do(req *policy.Request) (*http.Response, error) {
	leave, err := remote.Enter(req.Raw().Context())
	if err != nil {
		return nil, err
	}
	resp, err := req.Next()
	if err != nil {
		leave(remote.NoAnswer(req.Raw().Context()))
	} else {
		leave(remote.Answered(resp.StatusCode, resp.Header, !unanswered(resp, nil)))
	}
	if a, ok := req.Raw().Context().Value(attemptsKey{}).(*attempts); ok && unanswered(resp, err) {
		a.unanswered.Store(true)
	}
	if u, ok := err.(*url.Error); ok {
		plain, _, _ := strings.Cut(u.URL, "?")
		err = &url.Error{Op: u.Op, URL: plain, Err: u.Err}
	}
	return resp, err
}
