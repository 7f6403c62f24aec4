package dr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// A Secret is a reference to a secret, never the secret itself:
// "env:NAME" names an environment variable, "file:/path" a file whose first
// line is the secret. A configuration can therefore be printed, committed and
// sent to a colleague.
type Secret string

// String returns the reference. Text that is no reference is not repeated,
// because it may be the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	if s.check() != nil {
		return "(not a reference; withheld)"
	}
	return string(s)
}

// GoString keeps %#v from printing what String withholds.
func (s Secret) GoString() string { return fmt.Sprintf("dr.Secret(%q)", s.String()) }

// MarshalText implements [encoding.TextMarshaler]; it withholds what String
// withholds.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]. Whether the text is a
// reference is for [Config.Validate] to say, with the name of the field.
func (s *Secret) UnmarshalText(b []byte) error {
	*s = Secret(b)
	return nil
}

var errNotReference = errors.New("not a reference of the form env:NAME or file:/path")

func (s Secret) check() error {
	kind, name, _ := strings.Cut(string(s), ":")
	switch {
	case kind == "env" && name != "" && !strings.ContainsAny(name, "= \x00\n"):
		return nil
	case kind == "file" && name != "" && !strings.ContainsAny(name, "\x00\n"):
		return nil
	}
	return errNotReference
}

// Resolve reads the secret: the variable, or the first line of the file. An
// error names the reference, never the content. An empty secret is an error,
// for an unset variable must not pass as "".
func (s Secret) Resolve(ctx context.Context) (string, error) {
	text, err := s.content(ctx)
	if err != nil || strings.HasPrefix(string(s), "env:") {
		return text, err
	}
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" {
		return "", fmt.Errorf("resolve secret %s: the first line of the file is empty", s)
	}
	return line, nil
}

// content is the whole of what the reference names.
func (s Secret) content(ctx context.Context) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := s.check(); err != nil {
		return "", fmt.Errorf("resolve secret: %w", err)
	}
	kind, name, _ := strings.Cut(string(s), ":")
	if kind == "env" {
		v := os.Getenv(name)
		if v == "" {
			return "", fmt.Errorf("resolve secret %s: the environment variable is not set or empty", s)
		}
		return v, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("resolve secret %s: %w", s, err)
	}
	return string(b), nil
}
