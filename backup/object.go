package backup

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Every object except the format object begins with
//
//	8 bytes  "holdfast"
//	4 bytes  length of the header, big endian
//	header   JSON, see objectHeader
//
// and goes on with sealed sections, and the signature of the writer in all
// that sign.go says is signed.

const (
	objectMagic = "holdfast"
	maxHeader   = 4 << 20

	maxHeaderValues = 4096 // in its JSON; those of today have less than 100
)

const (
	kindSession = "session"
	kindPoint   = "point"
	kindIndex   = "index"
	kindData    = "data" // a pack of content
	kindMeta    = "meta" // a pack of item lists

	// Of maintenance, see condemned.go.
	kindPlan      = "condemned"
	kindAwaited   = "awaited"
	kindVerdict   = "verdict"
	kindTombstone = "tombstone"
	kindTime      = "time"
	kindVerified  = "verified" // see verified.go
	kindEnd       = "end"      // of a session
	kindDeleting  = "deleting" // and closed

	kindForgotten = "forgotten" // see links.go
)

// objectHeader is stored in the clear and authenticated by every section.
// Readers ignore fields they do not know, and refuse a version they do not.
type objectHeader struct {
	Version int    `json:"v"`
	Kind    string `json:"kind"`
	Salt    []byte `json:"salt"`              // 32 random bytes, for the keys of this object
	Session string `json:"session,omitempty"` // id of the point that the writing session was to make
	Enc     []byte `json:"enc,omitempty"`     // the session's secret, encapsulated; in memory as joinEnc says
	Gen     int    `json:"gen,omitempty"`     // to the key of this generation; absent if it is the first
	Writer  string `json:"writer,omitempty"`

	Prev []link `json:"prev,omitempty"` // the writer's points before this one, in manifests

	Cert *signedCertificate `json:"cert,omitempty"` // of the writer, in objects that are signed

	Format []byte `json:"format,omitempty"` // the format object, so that it can be restored from anywhere; see newBareHeader
	Keys   []byte `json:"keys,omitempty"`   // and the present keys object, if there is one
}

// newHeader returns the first bytes of a new object.
func (k *keys) newHeader(kind, session string, enc []byte) (objectHeader, []byte, error) {
	return k.newLinkedHeader(kind, session, enc, nil)
}

// newLinkedHeader is newHeader for a manifest.
func (k *keys) newLinkedHeader(kind, session string, enc []byte, prev []link) (objectHeader, []byte, error) {
	h := objectHeader{Version: formatVersion, Kind: kind, Salt: make([]byte, 32), Session: session, Enc: enc, Writer: k.self.name, Format: k.encoded, Keys: k.keysEncoded(), Prev: prev}
	if signedKind(kind) {
		h.Cert = k.cert
	}
	return h.encode()
}

// newBareHeader is newHeader without the copies of format and keys, which are
// most of a small segment.
func (k *keys) newBareHeader(kind string, enc []byte) (objectHeader, []byte, error) {
	return objectHeader{Version: formatVersion, Kind: kind, Salt: make([]byte, 32), Enc: enc, Writer: k.self.name, Cert: k.cert}.encode()
}

// encode chooses the salt and returns the first bytes of the object.
func (h objectHeader) encode() (objectHeader, []byte, error) {
	rand.Read(h.Salt)
	stored := h
	if stored.Enc, stored.Gen = splitEnc(h.Enc); stored.Gen == 1 {
		stored.Gen = 0
	}
	j, err := json.Marshal(stored)
	if err != nil {
		return h, nil, err
	}
	b := append([]byte(objectMagic), 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[len(objectMagic):], uint32(len(j)))
	return h, append(b, j...), nil
}

// headerLen tells from the first 12 bytes how long magic, length and header
// are together.
func headerLen(b []byte) (int, error) {
	if len(b) < 12 || string(b[:8]) != objectMagic {
		return 0, fmt.Errorf("%w: not an object of Holdfast", ErrDamaged)
	}
	n := binary.BigEndian.Uint32(b[8:12])
	if n > maxHeader {
		return 0, fmt.Errorf("%w: header of %d bytes", ErrDamaged, n)
	}
	return 12 + int(n), nil
}

// decodeHeader reads the header of an object of the given kind. head is what
// newHeader made, rest what follows it.
func decodeHeader(b []byte, kind string) (h objectHeader, head, rest []byte, err error) {
	n, err := headerLen(b)
	if err != nil {
		return h, nil, nil, err
	}
	if n > len(b) {
		return h, nil, nil, fmt.Errorf("%w: header of %d bytes in %d", ErrDamaged, n, len(b))
	}
	if valuesIn(b[12:n]) > maxHeaderValues {
		return h, nil, nil, fmt.Errorf("%w: header has more than %d values", ErrDamaged, maxHeaderValues)
	}
	if err := json.Unmarshal(b[12:n], &h); err != nil {
		return h, nil, nil, fmt.Errorf("%w: header: %v", ErrDamaged, err)
	}
	switch {
	case h.Version != formatVersion:
		return h, nil, nil, fmt.Errorf("%w: object version %d", ErrFormat, h.Version)
	case h.Kind != kind:
		return h, nil, nil, fmt.Errorf("%w: a %.20q where a %q belongs", ErrDamaged, h.Kind, kind)
	case h.Gen < 0 || h.Gen == 1 || h.Gen > maxGenerations || h.Gen != 0 && len(h.Enc) != encSize:
		return h, nil, nil, fmt.Errorf("%w: session key of %d bytes and generation %d", ErrDamaged, len(h.Enc), h.Gen)
	case len(h.Salt) != 32:
		return h, nil, nil, fmt.Errorf("%w: salt of %d bytes", ErrDamaged, len(h.Salt))
	}
	h.Enc = joinEnc(h.Enc, h.Gen)
	return h, b[:n], b[n:], nil
}

// sealSection encrypts one section under a key derived from secret. It is
// bound to the header, to its own name, and to the key of the object if that
// is known before its content.
func sealSection(dst, secret []byte, h objectHeader, head []byte, name, key string, plain []byte) []byte {
	a := newAEAD(derive(secret, h.Salt, h.Kind+" "+name))
	return a.Seal(dst, nil, plain, sectionAAD(head, name, key))
}

func openSection(secret []byte, h objectHeader, head []byte, name, key string, sealed []byte) ([]byte, error) {
	a := newAEAD(derive(secret, h.Salt, h.Kind+" "+name))
	plain, err := a.Open(nil, nil, sealed, sectionAAD(head, name, key))
	if err != nil {
		return nil, fmt.Errorf("%w: section %q %w", ErrDamaged, name, errSealed)
	}
	return plain, nil
}

func sectionAAD(head []byte, name, key string) []byte {
	sum := sha256.Sum256(head)
	return append(sum[:], (name + "\x00" + key)...)
}

// appendSection appends the length of a sealed section and the section.
func appendSection(b, sealed []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(sealed)))
	return append(b, sealed...)
}

func cutSection(b []byte) (sealed, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, fmt.Errorf("%w: ends before a section", ErrDamaged)
	}
	n := int64(binary.BigEndian.Uint32(b))
	if n > int64(len(b)-4) {
		return nil, nil, fmt.Errorf("%w: section of %d bytes in %d", ErrDamaged, n, len(b)-4)
	}
	return b[4 : 4+n], b[4+n:], nil
}

// Keys of objects.

const (
	pointPrefix   = "points/"
	sessionPrefix = "sessions/"
	indexPrefix   = "index/"
)

func pointKey(id PointID) string   { return pointPrefix + string(id) }
func sessionKey(id PointID) string { return sessionPrefix + string(id) }
func indexKey(sum [32]byte) string { return indexPrefix + hex.EncodeToString(sum[:]) }

func packKey(kind string, sum [32]byte) string {
	h := hex.EncodeToString(sum[:])
	return kind + "/" + h[:2] + "/" + h
}

var packKeyPattern = regexp.MustCompile(`^(data|meta)/([0-9a-f]{2})/([0-9a-f]{64})$`)

// parsePackKey is the inverse of packKey.
func parsePackKey(key string) (kind string, sum [32]byte, ok bool) {
	m := packKeyPattern.FindStringSubmatch(key)
	if m == nil || !strings.HasPrefix(m[3], m[2]) {
		return "", sum, false
	}
	hex.Decode(sum[:], []byte(m[3]))
	return m[1], sum, true
}

func parseIndexKey(key string) (sum [32]byte, ok bool) {
	h := strings.TrimPrefix(key, indexPrefix)
	if len(h) != 64 || strings.ToLower(h) != h {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(h))
	return sum, err == nil
}

func pointIDOf(key string) (PointID, bool) {
	id, ok := strings.CutPrefix(key, pointPrefix)
	if !ok {
		return "", false
	}
	_, err := PointID(id).Time()
	return PointID(id), err == nil
}
