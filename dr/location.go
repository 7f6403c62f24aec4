package dr

import (
	"errors"
	"net/url"
	"path"
	"strings"
)

// A location is a place in a tree of places: a directory or a prefix in a
// bucket. It tells whether two places overlap, by their names alone.
type location struct {
	tree string // scheme and host
	path string // clean, absolute, with slashes
}

// locate reads a URL or a path of any platform. Relative paths and text that
// is neither have no location, and overlap with nothing.
func locate(s string) (location, bool) {
	slashed := strings.ReplaceAll(s, `\`, "/")
	if len(slashed) > 2 && slashed[1] == ':' && slashed[2] == '/' {
		// C:\data: drive letters are not case-sensitive.
		return location{"file://", path.Clean("/" + strings.ToLower(slashed[:1]) + slashed[1:])}, true
	}
	if strings.HasPrefix(slashed, "/") {
		return location{"file://", path.Clean(slashed)}, true
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Opaque != "" {
		return location{}, false
	}
	scheme := strings.ToLower(u.Scheme)
	if scheme == "file" && (u.Host == "" || u.Host == "localhost") {
		return locate(u.Path)
	}
	return location{scheme + "://" + strings.ToLower(u.Host), path.Clean("/" + u.Path)}, true
}

// holds reports whether b is a or inside a.
func (a location) holds(b location) bool {
	if a.tree != b.tree {
		return false
	}
	return a.path == b.path || a.path == "/" || strings.HasPrefix(b.path, a.path+"/")
}

// bucketURL parses the URL of a bucket.
func bucketURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return nil, errors.New("is not set")
	case err != nil:
		// The error of net/url repeats the URL, which may hold a password.
		return nil, errors.New("is not a URL")
	case u.Scheme == "" || u.Opaque != "" || (u.Host == "" && u.Path == ""):
		return nil, errors.New("is not a URL with a scheme")
	}
	return u, nil
}

// holdsPassword reports whether a URL carries one.
func holdsPassword(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return strings.Contains(s, "@") && strings.Contains(s, "://")
	}
	_, set := u.User.Password()
	return set
}
