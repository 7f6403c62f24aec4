package conn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Wrap completes e, whose Err is what the SDK returned, with the error of
// package provider that it means, or nil, and the end of ctx. An answer that
// asks to be asked less it knows itself.
func Wrap(ctx context.Context, e provider.Error, meaning error) error {
	if already, ok := errors.AsType[*provider.Error](e.Err); ok {
		return already
	}
	if meaning == nil {
		meaning = throttled(e.Err)
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
	if _, stopped := errors.AsType[*remote.Stop](err); stopped || err == nil {
		return false
	}
	status := StatusOf(err)
	return status == 0 || status >= 500 && status != http.StatusNotImplemented && !declined(err)
}

// declined says of a failed attempt that the service has declined it, as it
// does by a 503 of its own. One that says nothing else is of a proxy, which
// answers so as well when it has lost the service on the way; some SDKs make
// up a name and a message for it.
func declined(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && StatusOf(err) == http.StatusServiceUnavailable &&
		e.ErrorCode() != "UnknownError" && e.ErrorMessage() != http.StatusText(http.StatusServiceUnavailable)
}

// Attempts watches the attempts that the SDK makes of one call.
type Attempts struct {
	Unanswered bool
	Failed     bool // 503, and not for the rate: of a control plane, nothing says that it has done nothing
}

// Watch notes attempts of a call that may have had their effect although the
// SDK makes others after them.
func (a *Attempts) Watch(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("holdfast-attempts",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleFinalize(ctx, in)
			if Unanswered(err) {
				a.Unanswered = true
			}
			if _, rate := retry.DefaultThrottleErrorCodes[CodeOf(err)]; !rate && StatusOf(err) == http.StatusServiceUnavailable {
				a.Failed = true
			}
			return out, metadata, err
		}), "Retry", middleware.After)
}

// headerOf is the header of the answer, or nil if there was none.
func headerOf(err error) http.Header {
	if e, ok := errors.AsType[*awshttp.ResponseError](err); ok && e.Response != nil {
		return e.Response.Header
	}
	return nil
}

// throttled is the error of package provider for an answer that asks to be
// asked less, by its name or its status, or nil.
func throttled(err error) error {
	if _, ok := retry.DefaultThrottleErrorCodes[CodeOf(err)]; ok {
		return remote.ThrottledFor(remote.RetryAfter(headerOf(err), time.Now()))
	}
	return remote.Throttled(StatusOf(err), headerOf(err))
}

// gate makes every attempt of a call pass the gate of its ctx. A stack without
// attempts signs a URL, and sends nothing.
func gate(stack *middleware.Stack) error {
	if _, sends := stack.Finalize.Get("Retry"); !sends {
		return nil
	}
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("holdfast-gate",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			leave, err := remote.Enter(ctx)
			if err != nil {
				return middleware.FinalizeOutput{}, middleware.Metadata{}, err
			}
			out, metadata, err := next.HandleFinalize(ctx, in)
			leave(outcome(ctx, err))
			return out, metadata, err
		}), "Retry", middleware.After)
}

func outcome(ctx context.Context, err error) remote.Outcome {
	status := StatusOf(err)
	switch {
	case err == nil:
		return remote.Outcome{}
	case status < http.StatusMultipleChoices: // none, or its body is not understood
		return remote.NoAnswer(ctx)
	}
	o := remote.Answered(status, headerOf(err), declined(err))
	if wait := throttled(err); wait != nil {
		o = remote.Outcome{Failed: true, Throttled: true, After: provider.RetryAfter(wait), Status: status}
	}
	if CodeOf(err) == "RequestTimeout" || CodeOf(err) == "RequestTimeoutException" {
		o = remote.Outcome{Failed: true, Unknown: true, Status: status}
	}
	return o
}
