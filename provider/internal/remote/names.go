package remote

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/provider"
)

// CheckKey refuses what some store or proxy would read as another key: empty
// and dotted segments, and control characters.
func CheckKey(key string) error {
	if key == "" || len(key) > 1024 || !utf8.ValidString(key) {
		return provider.ErrInvalidKey
	}
	for segment := range strings.SplitSeq(key, "/") {
		if segment == "" || segment == "." || segment == ".." || len(segment) > 255 {
			return provider.ErrInvalidKey
		}
	}
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\ufffe' || r == '\uffff' }) {
		return provider.ErrInvalidKey
	}
	return nil
}

// InOrder yields what a service lists, without the keys that [CheckKey]
// refuses. An order other than that of bytes is an error.
func InOrder(entries iter.Seq2[provider.Info, error]) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		last := ""
		for entry, err := range entries {
			if err == nil && last != "" && entry.Key <= last {
				err = OutOfOrder(last, entry.Key)
			}
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			last = entry.Key
			if CheckKey(entry.Key) == nil && !yield(entry, nil) {
				return
			}
		}
	}
}

// OutOfOrder is the error of a service that lists a before b.
func OutOfOrder(a, b string) error {
	return fmt.Errorf("the store lists %q before %q, not in order of bytes: %w", a, b, errors.ErrUnsupported)
}

// The metadata of an object is the caller's Meta and these two.
const (
	MetaSum   = "holdfast-sha256" // of the content, in hex
	MetaWrite = "holdfast-write"  // a random name of the Put, by which it knows its own
	metaCoded = "=holdfast64="    // begins a value in base64
)

// CheckMeta refuses what is no Meta of the contract.
func CheckMeta(meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		switch {
		case k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return fmt.Errorf("meta: key %q is not of [a-z0-9-]", k)
		case k == MetaSum || k == MetaWrite:
			return fmt.Errorf("meta: key %q is used by the store itself", k)
		case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) || strings.TrimSpace(v) != v:
			return fmt.Errorf("meta: value of %q is not printable ASCII, or begins or ends with a space", k)
		}
	}
	if total > 1024 || len(meta) > 32 {
		return fmt.Errorf("meta: %d pairs of %d bytes, more than 32 or 1024", len(meta), total)
	}
	return nil
}

// CheckTags declines what no service keeps as a tag, and characters that this
// one does not take.
func CheckTags(tags map[string]string, takes func(rune) bool) error {
	if len(tags) > 10 {
		return fmt.Errorf("%d tags, and an object has at most 10: %w", len(tags), errors.ErrUnsupported)
	}
	for k, v := range tags {
		for what, text := range map[string]string{"key": k, "value": v} {
			for _, r := range text {
				if !takes(r) || r == utf8.RuneError {
					return fmt.Errorf("tag %q: the %s has %q: %w", k, what, r, errors.ErrUnsupported)
				}
			}
		}
		if strings.TrimSpace(k) != k || strings.TrimSpace(v) != v {
			return fmt.Errorf("tag %q: begins or ends with a space: %w", k, errors.ErrUnsupported)
		}
		if nk, nv := utf8.RuneCountInString(k), utf8.RuneCountInString(v); nk < 1 || nk > 128 || nv > 256 {
			return fmt.Errorf("tag %q: %d and %d characters, want 1 to 128 and 0 to 256: %w", k, nk, nv, errors.ErrUnsupported)
		}
	}
	return nil
}

// EncodeMeta is the metadata of an object as headers can carry it: proxies and
// stores fold runs of spaces, and decode what looks like RFC 2047. A sum of
// zero is not known and left out.
func EncodeMeta(meta map[string]string, sum [32]byte, write string) map[string]string {
	coded := make(map[string]string, len(meta)+2)
	for k, v := range meta {
		if v == "" || strings.Contains(v, "  ") || strings.Contains(v, "=?") || strings.HasPrefix(v, metaCoded) {
			v = metaCoded + base64.RawURLEncoding.EncodeToString([]byte(v))
		}
		coded[k] = v
	}
	coded[MetaWrite] = write
	if sum != [32]byte{} {
		coded[MetaSum] = hex.EncodeToString(sum[:])
	}
	return coded
}

// DecodeMeta is the inverse.
func DecodeMeta(coded map[string]string) (meta map[string]string, sum [32]byte, write string) {
	for k, v := range coded {
		k = strings.ToLower(k)
		switch k {
		case MetaSum:
			if b, err := hex.DecodeString(v); err == nil && len(b) == len(sum) {
				sum = [32]byte(b)
			}
			continue
		case MetaWrite:
			write = v
			continue
		}
		if rest, ok := strings.CutPrefix(v, metaCoded); ok {
			if b, err := base64.RawURLEncoding.DecodeString(rest); err == nil {
				v = string(b)
			}
		}
		if meta == nil {
			meta = map[string]string{}
		}
		meta[k] = v
	}
	return meta, sum, write
}

// Wrap makes a [provider.Error] of what a service returned: the sentinel that
// it means, which may be nil, and below it the vendor's error.
func Wrap(ctx context.Context, service, op, key string, err, meaning error) error {
	if already, ok := errors.AsType[*provider.Error](err); ok {
		return already
	}
	if meaning != nil && !errors.Is(err, meaning) {
		err = fmt.Errorf("%w: %w", meaning, err)
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &provider.Error{Op: op, Provider: service, Key: key, Err: err}
}
