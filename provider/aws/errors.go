package aws

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// wrap makes a [provider.Error] of what a call to the SDK returned: the
// sentinel that it means and, below it, the vendor's error.
func wrap(ctx context.Context, op, key string, err error) error {
	return remote.Wrap(ctx, "s3", op, key, err, meaningOf(err))
}

// codes are the names by which stores say what the contract has a sentinel
// for. Those of S3 come first, then those of stores that speak it.
var codes = map[string]error{
	"NoSuchKey": provider.ErrNotFound, "NotFound": provider.ErrNotFound, "NoSuchVersion": provider.ErrNotFound,
	"PreconditionFailed": provider.ErrConflict,
	"InvalidRange":       provider.ErrRange,
	"KeyTooLongError":    provider.ErrInvalidKey,
	"BadDigest":          provider.ErrCorrupt,
	"AccessDenied":       fs.ErrPermission, "Forbidden": fs.ErrPermission, "InvalidAccessKeyId": fs.ErrPermission, "SignatureDoesNotMatch": fs.ErrPermission,
	"NotImplemented": errors.ErrUnsupported,

	"XAmzContentChecksumMismatch": provider.ErrCorrupt, "XAmzContentSHA256Mismatch": provider.ErrCorrupt,
	"XMinioInvalidObjectName": provider.ErrInvalidKey, "XMinioInvalidResourceName": provider.ErrInvalidKey, "XMinioParentIsObject": provider.ErrInvalidKey, "XMinioObjectExistsAsDirectory": provider.ErrInvalidKey,
	"ObjectParentIsFile": provider.ErrInvalidKey, "ExistingObjectIsDirectory": provider.ErrInvalidKey, "DirectoryObjectContainsData": provider.ErrInvalidKey,
	"ObjectLockConfigurationNotFoundError": errors.ErrUnsupported, "InvalidBucketObjectLockConfiguration": errors.ErrUnsupported, "MissingObjectLockConfiguration": errors.ErrUnsupported,
}

func meaningOf(err error) error {
	if err == nil {
		return nil
	}
	code := codeOf(err)
	if m, ok := codes[code]; ok {
		return m
	}
	if code == "InvalidRequest" && strings.Contains(err.Error(), "missing ObjectLockConfiguration") || strings.Contains(err.Error(), "missing Object Lock Configuration") {
		return errors.ErrUnsupported
	}
	switch statusOf(err) {
	case http.StatusPreconditionFailed:
		return provider.ErrConflict
	case http.StatusForbidden, http.StatusUnauthorized:
		return fs.ErrPermission
	case http.StatusNotImplemented:
		return errors.ErrUnsupported
	}
	return nil
}

// codeOf is the name the store gave the error, or empty.
func codeOf(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// statusOf is the status of the answer, or 0 if there was none.
func statusOf(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

// isMissing: there is no such object; of a read, not of a bucket.
func isMissing(err error) bool {
	switch codeOf(err) {
	case "NoSuchKey", "NotFound", "NoSuchVersion":
		return true
	case "MethodNotAllowed": // a delete marker
		return true
	}
	return false
}

// isBusy: another conditional request on the key was under way; this one was
// not carried out and may be made again.
func isBusy(err error) bool {
	return codeOf(err) == "ConditionalRequestConflict" || codeOf(err) == "OperationAborted"
}

// unanswered says of a failed attempt whether the store may have carried it
// out all the same.
func unanswered(err error) bool {
	if err == nil {
		return false
	}
	status := statusOf(err)
	return status == 0 || status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusNotImplemented
}

// attempts watches the attempts that the SDK makes of one call.
type attempts struct{ unanswered bool }

// watch notes attempts of a call that may have had their effect although the
// SDK makes others after them.
func (a *attempts) watch(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("holdfast-attempts",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleFinalize(ctx, in)
			if unanswered(err) {
				a.unanswered = true
			}
			return out, metadata, err
		}), "Retry", middleware.After)
}
