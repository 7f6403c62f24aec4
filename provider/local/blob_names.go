package local

import (
	"encoding/hex"
	"path"
	"strings"
)

// Keys become paths below dataDir so that a walk can yield them in the order
// of their bytes, that "a" and "a/b" can both be objects, and that every file
// system can hold them:
//
//   - "/" parts a key into segments. All but the last become directories
//     "d-" + segment, the last becomes the file "o-" + segment, with the
//     object's retention, if any, in "r-" + segment beside it.
//   - A segment of at least pieceLen bytes is cut: each full piece becomes a
//     directory "c-" + piece, and the rest, which may be empty, goes on there.
//     The cut depends on nothing but the segment, so all keys that share a
//     piece are below one directory.
//   - Bytes other than [a-z0-9._-] are written %xx, as is a final dot: no name
//     depends on case, none is longer than 255 bytes, none is reserved.
//
// Within a directory an object sorts as its segment, a "d-" directory as its
// segment and "/", a "c-" directory as its piece. That is the order of whole
// keys: what is below a directory shares its sort string as a prefix, and no
// sibling's sort string begins with it.
const (
	objectName    = "o-"
	retentionName = "r-"
	segmentName   = "d-"
	pieceName     = "c-"

	pieceLen = 80 // 3*80 and the two bytes in front stay below 255
)

// locate returns the directory in which key is, or would be, and the part of
// its last segment that names it there. The last segment is empty for a
// prefix that ends in "/".
func locate(key string) (dir, rest string) {
	names := []string{dataDir}
	for {
		segment, tail, more := strings.Cut(key, "/")
		for len(segment) >= pieceLen {
			names = append(names, pieceName+encodeName(segment[:pieceLen]))
			segment = segment[pieceLen:]
		}
		if !more {
			return strings.Join(names, "/"), segment
		}
		names = append(names, segmentName+encodeName(segment))
		key = tail
	}
}

func objectPath(key string) string {
	dir, rest := locate(key)
	return dir + "/" + objectName + encodeName(rest)
}

func retentionPath(object string) string {
	dir, name := path.Split(object)
	return dir + retentionName + strings.TrimPrefix(name, objectName)
}

func plain(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-'
}

func encodeName(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; plain(c) && (c != '.' || i < len(s)-1) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteString(hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

// decodeName reverses encodeName; ok is false for what encodeName never
// writes.
func decodeName(name string) (s string, ok bool) {
	if !strings.Contains(name, "%") {
		for i := range len(name) {
			if !plain(name[i]) {
				return "", false
			}
		}
		return name, !strings.HasSuffix(name, ".")
	}
	var b strings.Builder
	for len(name) > 0 {
		if name[0] != '%' {
			b.WriteByte(name[0])
			name = name[1:]
			continue
		}
		if len(name) < 3 {
			return "", false
		}
		c, err := hex.DecodeString(name[1:3])
		if err != nil {
			return "", false
		}
		b.Write(c)
		name = name[3:]
	}
	return b.String(), true
}

// sortString is how the entry of a directory is ordered among its siblings;
// ok is false for files that are no part of the listing. It tells the kinds
// apart by itself: see entryName.
func sortString(name string) (s string, ok bool) {
	if len(name) < 2 {
		return "", false
	}
	s, ok = decodeName(name[2:])
	if !ok || encodeName(s) != name[2:] {
		return "", false
	}
	switch kind := name[:2]; {
	case kind == objectName && len(s) < pieceLen:
		return s, true
	case kind == segmentName && len(s) < pieceLen:
		return s + "/", true
	case kind == pieceName && len(s) == pieceLen:
		return s, true
	}
	return "", false
}

// entryName reverses sortString.
func entryName(s string) string {
	switch {
	case strings.HasSuffix(s, "/"):
		return segmentName + encodeName(s[:len(s)-1])
	case len(s) == pieceLen:
		return pieceName + encodeName(s)
	}
	return objectName + encodeName(s)
}

// isDirectory says whether a sort string is that of a directory.
func isDirectory(s string) bool { return strings.HasSuffix(s, "/") || len(s) == pieceLen }
