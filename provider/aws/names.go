package aws

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/holdfast-go/holdfast/provider"
)

// checkKey refuses what some store behind the protocol would read as another
// key: empty and dotted segments, and control characters.
func checkKey(key string) error {
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

// The user metadata of an object is the caller's Meta and these two.
const (
	metaSum   = "holdfast-sha256" // of the content, in hex
	metaWrite = "holdfast-write"  // a random name of the Put, by which it knows its own
	metaCoded = "=holdfast64="    // begins a value in base64
)

func checkMeta(meta map[string]string) error {
	total := 0
	for k, v := range meta {
		total += len(k) + len(v)
		switch {
		case k == "" || strings.Trim(k, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
			return fmt.Errorf("meta: key %q is not of [a-z0-9-]", k)
		case k == metaSum || k == metaWrite:
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

// encodeMeta is Meta as headers can carry it: proxies and stores fold runs of
// spaces, and decode what looks like RFC 2047.
func encodeMeta(meta map[string]string) map[string]string {
	coded := make(map[string]string, len(meta)+2)
	for k, v := range meta {
		if v == "" || strings.Contains(v, "  ") || strings.Contains(v, "=?") || strings.HasPrefix(v, metaCoded) {
			v = metaCoded + base64.RawURLEncoding.EncodeToString([]byte(v))
		}
		coded[k] = v
	}
	return coded
}

// decodeMeta is the inverse, and gives the two entries of the store.
func decodeMeta(coded map[string]string) (meta map[string]string, sum [32]byte, write string) {
	for k, v := range coded {
		k = strings.ToLower(k)
		switch k {
		case metaSum:
			if b, err := hex.DecodeString(v); err == nil && len(b) == len(sum) {
				sum = [32]byte(b)
			}
			continue
		case metaWrite:
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

// The Version of an object is its ETag without the quotes. Other bytes have
// another ETag, and the listing of present objects tells it, which does not
// tell version IDs.
func versionOf(etag *string) provider.Version {
	if etag == nil {
		return ""
	}
	return provider.Version(strings.Trim(*etag, `"`))
}

func etagOf(v provider.Version) *string {
	s := `"` + string(v) + `"`
	return &s
}

var errRetention = errors.New("want a mode and a time")

func checkRetention(r provider.Retention) error {
	if r.IsZero() || (r.Mode == provider.Governance || r.Mode == provider.Compliance) && !r.Until.IsZero() {
		return nil
	}
	return fmt.Errorf("retain: %w, got mode %q until %v", errRetention, r.Mode, r.Until)
}

// wholeSeconds rounds up: that is what stores keep.
func wholeSeconds(t time.Time) time.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		return whole.Add(time.Second).UTC()
	}
	return t.UTC()
}

// retentionOf is what the headers of an object say, if it is still in force.
func retentionOf(mode types.ObjectLockMode, until *time.Time) provider.Retention {
	if mode == "" || until == nil || !time.Now().Before(*until) {
		return provider.Retention{}
	}
	return provider.Retention{Mode: provider.LockMode(strings.ToLower(string(mode))), Until: until.UTC()}
}

func lockMode(m provider.LockMode) types.ObjectLockMode {
	return types.ObjectLockMode(strings.ToUpper(string(m)))
}

// weaker reports whether r would take something away from what old protects.
func weaker(r, old provider.Retention) bool {
	return !old.IsZero() && (r.Until.Before(old.Until) || old.Mode == provider.Compliance && r.Mode != provider.Compliance)
}
