package dnsrecord

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckText accepts what has one way to be written in all services.
func CheckText(text string) error {
	for _, c := range []byte(text) {
		if c < ' ' || c > '~' {
			return fmt.Errorf("text has byte 0x%02x: want printable ASCII", c)
		}
	}
	return nil
}

// Strings cuts a text into character-strings of at most 255 bytes (RFC 1035
// section 3.3), at least one.
func Strings(text string) (parts []string) {
	for part := range slices.Chunk([]byte(text), 255) {
		parts = append(parts, string(part))
	}
	if parts == nil {
		return []string{""}
	}
	return parts
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// Escape puts a backslash before what would be special in a character-string.
func Escape(part string) string { return escape.Replace(part) }

// Quote writes a text as character-strings in presentation form.
func Quote(text string) string {
	parts := Strings(text)
	for i := range parts {
		parts[i] = `"` + Escape(parts[i]) + `"`
	}
	return strings.Join(parts, " ")
}

// A First takes the first character of a string that is not empty off it, which
// may be escaped.
type First func(s string) (c byte, rest string)

// Unquote is the text of character-strings in presentation form (RFC 1035
// section 5.1), with and without quotes.
func Unquote(s string, first First) (string, error) {
	var b strings.Builder
	inside := false
	for len(s) > 0 {
		c, rest := first(s)
		switch {
		case s[0] == '"':
			inside = !inside
		case inside || s[0] != ' ' && s[0] != '\t':
			b.WriteByte(c)
		}
		s = rest
	}
	if inside {
		return "", errors.New("a quote is not closed")
	}
	return b.String(), nil
}

// Unescape is the content of a character-string.
func Unescape(s string, first First) string {
	var b strings.Builder
	for len(s) > 0 {
		c, rest := first(s)
		b.WriteByte(c)
		s = rest
	}
	return b.String()
}

// Decimal is a [First]: of \ddd the character with that code, of \x that x.
func Decimal(s string) (byte, string) { return coded(s, 10) }

// Octal is the [First] of Route 53: of \ooo the character with that code, of \x
// that x.
func Octal(s string) (byte, string) { return coded(s, 8) }

func coded(s string, base int) (byte, string) {
	if s[0] != '\\' || len(s) == 1 {
		return s[0], s[1:]
	}
	if len(s) >= 4 && strings.Trim(s[1:4], "0123456789"[:base]) == "" {
		if n := (int(s[1]-'0')*base+int(s[2]-'0'))*base + int(s[3]-'0'); n < 256 {
			return byte(n), s[4:]
		}
	}
	return s[1], s[2:]
}
