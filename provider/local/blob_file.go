package local

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// The file of an object is a description followed by the content:
//
//	8 bytes   magic
//	4 bytes   length of the JSON, big endian
//	4 bytes   CRC-32C of the JSON, big endian
//	n bytes   JSON of a description, n being the same whatever its SHA256 and time
//	rest      content
//
// The file of a retention is the same with other magic and no content.
const (
	objectMagic    = "HFobject"
	retentionMagic = "HFretain"
	preambleLen    = 16
	maxJSON        = 64 << 10
)

type description struct {
	Key      string            `json:"key"` // so that a file moved elsewhere shows
	Size     int64             `json:"size"`
	Version  provider.Version  `json:"version"`
	SHA256   string            `json:"sha256"`
	Modified string            `json:"modified"`
	Meta     map[string]string `json:"meta,omitempty"`

	contentAt int64 // where the content begins; not stored
}

// fixedTime has the same length for every time of four-digit years.
const fixedTime = "2006-01-02T15:04:05.000000000Z07:00"

func (d description) info(r provider.Retention, now time.Time) (provider.Info, error) {
	sum, err := hex.DecodeString(d.SHA256)
	if err != nil || len(sum) != 32 {
		return provider.Info{}, fmt.Errorf("%w: its description has no SHA-256", provider.ErrCorrupt)
	}
	modified, err := time.Parse(fixedTime, d.Modified)
	if err != nil {
		return provider.Info{}, fmt.Errorf("%w: its description has no time", provider.ErrCorrupt)
	}
	if !inForce(r, now) {
		r = provider.Retention{}
	}
	return provider.Info{
		Key:      d.Key,
		Size:     d.Size,
		Modified: modified.UTC(),
		Version:  d.Version,
		SHA256:   [32]byte(sum),
		Meta:     d.Meta,
		Retain:   r,
	}, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeFrame(magic string, v any) ([]byte, error) {
	j, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, preambleLen+len(j))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(j)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(j, castagnoli))
	return append(b, j...), nil
}

// decodeFrame reads the start of a file into v and returns its length.
func decodeFrame(r io.ReaderAt, magic string, v any) (int64, error) {
	var buf [1024]byte // enough for most, so that one read does
	n, err := r.ReadAt(buf[:], 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if n < preambleLen || string(buf[:8]) != magic {
		return 0, fmt.Errorf("%w: its file does not begin with %s", provider.ErrCorrupt, magic)
	}
	size := int(binary.BigEndian.Uint32(buf[8:]))
	if size > maxJSON {
		return 0, fmt.Errorf("%w: its description claims %d bytes", provider.ErrCorrupt, size)
	}
	j := make([]byte, size)
	if have := copy(j, buf[preambleLen:n]); have < size {
		if _, err := r.ReadAt(j[have:], int64(preambleLen+have)); err == io.EOF {
			return 0, fmt.Errorf("%w: its description is cut off", provider.ErrCorrupt)
		} else if err != nil {
			return 0, err
		}
	}
	if crc32.Checksum(j, castagnoli) != binary.BigEndian.Uint32(buf[12:]) {
		return 0, fmt.Errorf("%w: its description is damaged", provider.ErrCorrupt)
	}
	if err := json.Unmarshal(j, v); err != nil {
		return 0, fmt.Errorf("%w: its description cannot be read: %w", provider.ErrCorrupt, err)
	}
	return int64(preambleLen + size), nil
}

// openObject opens the file of an object. [provider.ErrNotFound] if there is
// none, [provider.ErrCorrupt] if its description is damaged or that of another
// key, or its length is wrong.
func (s *BlobStore) openObject(path, key string) (*os.File, description, error) {
	f, err := s.root.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, description{}, provider.ErrNotFound
	}
	if err != nil {
		return nil, description{}, err
	}
	d, err := describe(f, key)
	if err != nil {
		f.Close()
		return nil, description{}, err
	}
	return f, d, nil
}

func describe(f *os.File, key string) (d description, err error) {
	fi, err := f.Stat()
	if err != nil {
		return d, err
	}
	if !fi.Mode().IsRegular() {
		return d, fmt.Errorf("%w: %s is no regular file", provider.ErrCorrupt, f.Name())
	}
	d.contentAt, err = decodeFrame(f, objectMagic, &d)
	switch {
	case err != nil:
		return d, err
	case d.Key != key:
		return d, fmt.Errorf("%w: its file is that of key %q", provider.ErrCorrupt, d.Key)
	case fi.Size() != d.contentAt+d.Size:
		return d, fmt.Errorf("%w: its file has %d bytes of content, want %d", provider.ErrCorrupt, fi.Size()-d.contentAt, d.Size)
	}
	return d, nil
}
