package conn

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// Wrap makes a [provider.Error] of what a call to the SDK returned: the error
// of package provider that it means, which may be nil, and below it the
// vendor's, in one line.
func Wrap(ctx context.Context, service, op, key string, err, meaning error) error {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok && e.RawResponse != nil && meaning == nil {
		meaning = remote.Throttled(e.StatusCode, e.RawResponse.Header)
	}
	return remote.Wrap(ctx, service, op, key, Answered(err), meaning)
}

// Permission is fs.ErrPermission if the answer is that the credentials do not
// allow the call, are not known or have expired, or if there are none; else nil.
func Permission(err error) error {
	if status := StatusOf(err); status == http.StatusForbidden || status == http.StatusUnauthorized {
		return fs.ErrPermission
	}
	if failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok && failed.RawResponse != nil && failed.RawResponse.StatusCode < 500 {
		return fs.ErrPermission // Entra ID has answered, and the answer is no
	}
	return nil
}

// CodeOf is the name the service gave the error, or empty.
func CodeOf(err error) string {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.ErrorCode
	}
	return ""
}

// StatusOf is the status of the answer, or 0 if there was none.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	return 0
}

// A Detail is what the body of an answer says of an error.
type Detail struct {
	Code       string
	Message    string
	InnerError struct{ Code string }
}

// DetailOf reads the body of an answer; zero if it has none of the form that
// the services of Azure use.
func DetailOf(err error) Detail {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || e.RawResponse == nil {
		return Detail{}
	}
	var doc struct {
		Error *Detail
		Detail
	}
	body, readErr := runtime.Payload(e.RawResponse)
	switch {
	case readErr != nil || json.Unmarshal(body, &doc) != nil:
		return Detail{}
	case doc.Error != nil:
		return *doc.Error
	}
	return doc.Detail // Azure DNS leaves the envelope out
}

// An answer is an error of the service in one line; the SDK's goes over
// twenty. It is found as [azcore.ResponseError] all the same.
type answer struct{ *azcore.ResponseError }

// Answered shortens what a call to the SDK returned.
func Answered(err error) error {
	if e, ok := err.(*azcore.ResponseError); ok {
		return answer{e}
	}
	return err
}

func (a answer) Unwrap() error { return a.ResponseError }

// Error reads "404 ResourceNotFound: The Resource ... was not found. (request
// 0a1b...)".
func (a answer) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", a.StatusCode, a.ErrorCode)
	if line, _, _ := strings.Cut(DetailOf(a.ResponseError).Message, "\n"); line != "" {
		fmt.Fprintf(&b, ": %s", strings.TrimSpace(line))
	}
	if a.RawResponse != nil {
		if id := a.RawResponse.Header.Get("x-ms-request-id"); id != "" {
			fmt.Fprintf(&b, " (request %s)", id)
		}
	}
	return b.String()
}
