package aws

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/aws/internal/conn"
)

// wrap makes a [provider.Error] of what a call to the SDK returned: the
// sentinel that it means and, below it, the vendor's error.
func wrap(ctx context.Context, op, key string, err error) error {
	return conn.Wrap(ctx, provider.Error{Op: op, Provider: "s3", Key: key, Err: err}, meaningOf(err))
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
	"InvalidObjectState": provider.ErrCold, // of GET, and of a copy
	"NotImplemented":     errors.ErrUnsupported,
	"InvalidTag":         errors.ErrUnsupported, // of characters of which nobody says all

	"XAmzContentChecksumMismatch": provider.ErrCorrupt, "XAmzContentSHA256Mismatch": provider.ErrCorrupt,
	"XMinioInvalidObjectName": provider.ErrInvalidKey, "XMinioInvalidResourceName": provider.ErrInvalidKey, "XMinioParentIsObject": provider.ErrInvalidKey, "XMinioObjectExistsAsDirectory": provider.ErrInvalidKey,
	"ObjectParentIsFile": provider.ErrInvalidKey, "ExistingObjectIsDirectory": provider.ErrInvalidKey, "DirectoryObjectContainsData": provider.ErrInvalidKey,
	"ObjectLockConfigurationNotFoundError": errors.ErrUnsupported, "InvalidBucketObjectLockConfiguration": errors.ErrUnsupported, "MissingObjectLockConfiguration": errors.ErrUnsupported,
}

func meaningOf(err error) error {
	if err == nil {
		return nil
	}
	code := conn.CodeOf(err)
	if m, ok := codes[code]; ok {
		return m
	}
	if code == "InvalidRequest" && strings.Contains(err.Error(), "missing ObjectLockConfiguration") || strings.Contains(err.Error(), "missing Object Lock Configuration") {
		return errors.ErrUnsupported
	}
	switch conn.StatusOf(err) {
	case http.StatusPreconditionFailed:
		return provider.ErrConflict
	case http.StatusForbidden, http.StatusUnauthorized:
		return fs.ErrPermission
	case http.StatusNotImplemented:
		return errors.ErrUnsupported
	}
	return nil
}

// isMissing: there is no such object; of a read, not of a bucket.
func isMissing(err error) bool {
	switch conn.CodeOf(err) {
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
	return conn.CodeOf(err) == "ConditionalRequestConflict" || conn.CodeOf(err) == "OperationAborted"
}
