package conn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-go/holdfast/provider"
)

// Wrap completes e, whose Err is what the SDK returned, with the error of
// package provider that it means, or nil, and the end of ctx.
func Wrap(ctx context.Context, e provider.Error, meaning error) error {
	if already, ok := errors.AsType[*provider.Error](e.Err); ok {
		return already
	}
	if meaning != nil && !errors.Is(e.Err, meaning) {
		e.Err = fmt.Errorf("%w: %w", meaning, e.Err)
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(e.Err, ended) {
		e.Err = fmt.Errorf("%w: %w", ended, e.Err)
	}
	return &e
}

// Permission is fs.ErrPermission if the answer is that the credentials do not
// allow the call, are not known or have expired, else nil.
func Permission(err error) error {
	switch CodeOf(err) {
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthFailure", "NotAuthorizedException", "OptInRequired",
		"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "MissingAuthenticationToken", "MissingAuthenticationTokenException",
		"SignatureDoesNotMatch", "IncompleteSignature", "IncompleteSignatureException":
		return fs.ErrPermission
	}
	if status := StatusOf(err); expired(err) || status == http.StatusForbidden || status == http.StatusUnauthorized {
		return fs.ErrPermission
	}
	return nil
}

// expired: the credentials were good once.
func expired(err error) bool {
	switch CodeOf(err) {
	case "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired":
		return true
	}
	return false
}

// CodeOf is the name the service gave the error, or empty.
func CodeOf(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// StatusOf is the status of the answer, or 0 if there was none.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return e.HTTPStatusCode()
	}
	return 0
}

// Unanswered says of a failed attempt whether the service may have carried it
// out all the same.
func Unanswered(err error) bool {
	if err == nil {
		return false
	}
	status := StatusOf(err)
	return status == 0 || status >= 500 && status != http.StatusServiceUnavailable && status != http.StatusNotImplemented
}

// Attempts watches the attempts that the SDK makes of one call.
type Attempts struct{ Unanswered bool }

// Watch notes attempts of a call that may have had their effect although the
// SDK makes others after them.
func (a *Attempts) Watch(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("holdfast-attempts",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleFinalize(ctx, in)
			if Unanswered(err) {
				a.Unanswered = true
			}
			return out, metadata, err
		}), "Retry", middleware.After)
}
