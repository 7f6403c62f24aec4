package azure

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"

	"github.com/holdfast-go/holdfast/provider"
	"github.com/holdfast-go/holdfast/provider/internal/remote"
)

// maxSegments is how many a blob's name may have, by the service's
// documentation.
const maxSegments = 254

// checkKey refuses what the service does not keep exactly as it is given,
// beside what no store should: it drops dots from the end of a segment, and
// takes no name of more than 254 segments.
func checkKey(key string) error {
	if err := remote.CheckKey(key); err != nil {
		return err
	}
	segments := 0
	for segment := range strings.SplitSeq(key, "/") {
		if segments++; segments > maxSegments {
			return fmt.Errorf("more than %d segments: %w", maxSegments, provider.ErrInvalidKey)
		}
		if strings.HasSuffix(segment, ".") {
			return fmt.Errorf("segment %q ends in a dot, which the service drops: %w", segment, provider.ErrInvalidKey)
		}
	}
	if i := strings.IndexFunc(key, unkept); i >= 0 {
		r, _ := utf8.DecodeRuneInString(key[i:])
		return fmt.Errorf("has %U: %w", r, provider.ErrInvalidKey)
	}
	return nil
}

// beginsKeys reports whether checkKey takes any key with the prefix. The
// service must not be asked for others: some it cannot even be asked for.
func beginsKeys(prefix string) bool {
	whole := wholeRunes(prefix)
	end := strings.LastIndexByte(whole, '/')
	return utf8.ValidString(whole) && !strings.ContainsFunc(whole, unkept) && (end < 0 || checkKey(whole[:end]) == nil)
}

// wholeRunes cuts the beginning of a character off the end of a prefix, which
// may be any string of bytes.
func wholeRunes(s string) string {
	for i := len(s) - 1; i >= 0 && i > len(s)-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			if !utf8.FullRuneInString(s[i:]) {
				return s[:i]
			}
			break
		}
	}
	return s
}

// unkept are characters that a URL cannot have even when they are escaped
// (RFC 3987, section 2.2: what is neither in iunreserved nor in ASCII), the
// backslash, and those beyond the basic plane, of which nobody says whether
// the service lists them by bytes or by UTF-16, where they come earlier.
func unkept(r rune) bool {
	switch {
	case r < ' ', r >= 0x7f && r < 0xa0, r == '\\':
		return true
	case r >= 0xe000 && r < 0xf900, r >= 0xfdd0 && r < 0xfdf0, r >= 0xfff0:
		return true
	}
	return false
}

// metaPrefix begins the names of what a Put keeps in the metadata. They are
// identifiers of C#, which have no dash and do not begin with a digit: the key
// 0-point is m_0_point. Keys have no underscore.
const metaPrefix = "m_"

func encodeMeta(meta map[string]string, sum [32]byte, write string) map[string]*string {
	coded := map[string]*string{}
	for k, v := range remote.EncodeMeta(meta, sum, write) {
		coded[metaPrefix+strings.ReplaceAll(k, "-", "_")] = &v
	}
	return coded
}

// decodeMeta is the inverse. The metadata of a blob that another program wrote
// is told under its own names, in lower case and with dashes.
func decodeMeta(coded map[string]*string) (meta map[string]string, sum [32]byte, write string) {
	plain := map[string]string{}
	for k, v := range coded {
		name, ours := strings.CutPrefix(strings.ToLower(k), metaPrefix)
		name = strings.ReplaceAll(name, "_", "-")
		if _, taken := plain[name]; ours || !taken {
			plain[name] = value(v)
		}
	}
	return remote.DecodeMeta(plain)
}

// The Version of a blob is its ETag without the quotes, which the service
// makes anew for each write.
func versionOf(etag *azcore.ETag) provider.Version {
	return provider.Version(strings.Trim(string(value(etag)), `"`))
}

func etagOf(v provider.Version) *azcore.ETag { return pointer(azcore.ETag(`"` + string(v) + `"`)) }

// isETag reports whether a Version can be one of ours. Others must not become
// a header, where * matches any.
func isETag(v provider.Version) bool {
	return !strings.ContainsFunc(string(v), func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '*' })
}

// retentionOf is what the headers of a blob say, if it is still in force by the
// clock of the service, which is that of the answer.
func retentionOf(mode *blob.ImmutabilityPolicyMode, until, answered *time.Time) provider.Retention {
	now := time.Now()
	if answered != nil {
		now = *answered
	}
	if mode == nil || until == nil || !now.Before(*until) {
		return provider.Retention{}
	}
	for _, m := range []provider.LockMode{provider.Governance, provider.Compliance} {
		if strings.EqualFold(string(*mode), string(lockMode(m))) {
			return provider.Retention{Mode: m, Until: until.UTC()}
		}
	}
	return provider.Retention{} // "Mutable": not in force
}

// lockMode is the service's word: an unlocked policy can be shortened by who
// has the right to, a locked one only extended.
func lockMode(m provider.LockMode) blob.ImmutabilityPolicySetting {
	if m == provider.Compliance {
		return blob.ImmutabilityPolicySettingLocked
	}
	return blob.ImmutabilityPolicySettingUnlocked
}
