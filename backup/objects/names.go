package objects

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
)

// The path of an item is the key of its object, below Config.Prefix, with two
// bytes of it written otherwise:
//
//   - "/" is ".\xff", so that [backup.ComparePaths], for which a slash comes
//     before everything else, orders paths as stores list keys: a listing and
//     the items of a point are merged without holding either, and the session
//     has nothing to sort. No key has the byte 0xff, which UTF-8 lacks.
//   - Zero, which a path cannot have, is "/\x02". The slash is free for it.
//
// An object whose key is the whole prefix has the path "/". A version that is
// not the present one has the path of its key, "/\x01" and its number, from
// the oldest, in 16 hexadecimal digits: it follows the present one and comes
// before every longer key.
const (
	codedSlash = ".\xff"
	codedZero  = "/\x02"
	codedEmpty = "/"
	versionTag = "/\x01"

	numberLen = 16
)

var coder = strings.NewReplacer("/", codedSlash, "\x00", codedZero)

// present is the number of the version that is not numbered.
const present = -1

// pathOf returns the path of the item for a version of an object.
func pathOf(key string, number int) string {
	p := coder.Replace(key)
	switch {
	case number != present:
		return fmt.Sprintf("%s%s%0*x", p, versionTag, numberLen, number)
	case p == "":
		return codedEmpty
	}
	return p
}

var decoder = strings.NewReplacer(codedSlash, "/", codedZero, "\x00")

// keyOf is the inverse of pathOf. A path that pathOf never returns is an
// error: such a point was not made by this package.
func keyOf(path string) (key string, number int, err error) {
	coded, number := path, present
	if i := strings.LastIndex(path, versionTag); i >= 0 && i == len(path)-len(versionTag)-numberLen {
		n, err := strconv.ParseUint(path[i+len(versionTag):], 16, 31)
		if err != nil {
			return "", 0, errPath(path)
		}
		coded, number = path[:i], int(n)
	}
	if coded != codedEmpty {
		key = decoder.Replace(coded)
	}
	if !validKey(key) || pathOf(key, number) != path {
		return "", 0, errPath(path)
	}
	return key, number, nil
}

func errPath(path string) error {
	return fmt.Errorf("path %.200q names no object; this point was not made by this package and is not restored: %w", path, backup.ErrDamaged)
}
