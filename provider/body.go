package provider

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
)

// Bytes returns b as a [Body].
func Bytes(b []byte) Body { return bytes.NewReader(b) }

// A Summed body is in memory and knows its SHA-256. A store that keeps one need
// not compute it again: that what it writes is still what was summed, it sees
// by the CRC-32C, which takes a twentieth of the time.
type Summed interface {
	Body

	// SHA256 is that of the whole body, computed from the bytes that ReadAt
	// delivers.
	SHA256() [32]byte

	// CRC32C is the checksum by Castagnoli's polynomial of those bytes,
	// taken when their SHA-256 was known.
	CRC32C() uint32
}

// SummedBytes returns b as a [Body] that is [Summed]. The caller has computed
// sum from b just before and vouches for it; b must not change until the Put
// has returned.
func SummedBytes(b []byte, sum [32]byte) Body {
	return &summed{bytes.NewReader(b), sum, crc32.Checksum(b, castagnoli)}
}

type summed struct {
	*bytes.Reader
	sum [32]byte
	crc uint32
}

func (s *summed) SHA256() [32]byte { return s.sum }
func (s *summed) CRC32C() uint32   { return s.crc }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FileBody returns the content of an open file, of the size it has now, as a
// [Body]. The file must stay open and unchanged until the Put has returned.
func FileBody(f *os.File) (Body, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, fi.Size()), nil
}

// ReadAll reads a whole object of at most max bytes, to the end that the store
// declares. A larger one is an error before it is read; one that ends early,
// goes on past its Size, or has another SHA-256 than its Info is [ErrCorrupt].
func ReadAll(ctx context.Context, s BlobStore, key string, max int64) ([]byte, Info, error) {
	r, info, err := s.Get(ctx, key, GetOptions{})
	if err != nil {
		return nil, Info{}, err
	}
	defer r.Close()
	if info.Size > max {
		return nil, info, fmt.Errorf("read %s: %d bytes, more than the %d it may have", key, info.Size, max)
	}
	if info.Size < 0 {
		return nil, info, fmt.Errorf("read %s: has a size of %d: %w", key, info.Size, ErrCorrupt)
	}
	b := make([]byte, info.Size)
	n, err := io.ReadFull(r, b)
	if err == nil {
		err = atEnd(r)
	}
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF: // of the reader itself: it ended as if that were all
		err = fmt.Errorf("%d of %d bytes: %w: %w", n, info.Size, io.ErrUnexpectedEOF, ErrCorrupt)
	case err == nil && info.SHA256 != [32]byte{} && info.SHA256 != sha256.Sum256(b):
		err = fmt.Errorf("another SHA-256 than the store keeps for it: %w", ErrCorrupt)
	}
	if err != nil {
		return nil, info, fmt.Errorf("read %s: %w", key, err)
	}
	return b, info, nil
}

// atEnd asks for what comes behind the last byte: some readers tell only there
// that what they delivered is damaged.
func atEnd(r io.Reader) error {
	n, err := io.CopyN(io.Discard, r, 1)
	switch {
	case n > 0:
		return fmt.Errorf("goes on past its size: %w", ErrCorrupt)
	case err == io.EOF:
		return nil
	}
	return err
}

// PutOnce creates an object that nothing else may ever have written with
// other bytes, and survives a lost reply: if the key turns out to be taken,
// it reads the object, and the same bytes are success. [ErrConflict] if the
// key holds other bytes, or what can never be read: because the credential may
// not, or it is damaged. If it cannot be read now, that is the error, and
// nobody knows whose it is. The body is read into memory if the key is taken.
func PutOnce(ctx context.Context, s BlobStore, key string, body []byte, o PutOptions) (Info, error) {
	o.IfAbsent, o.IfMatch = true, ""
	info, err := s.Put(ctx, key, Bytes(body), o)
	taken := errors.Is(err, ErrConflict)
	if err == nil || errors.Is(err, ErrInvalidKey) || errors.Is(err, ErrCorrupt) || ctx.Err() != nil && !taken {
		return info, err
	}
	got, info, readErr := ReadAll(ctx, s, key, int64(len(body)))
	switch {
	case readErr == nil && bytes.Equal(got, body):
		return info, nil
	case readErr == nil || taken && (info.Size > int64(len(body)) || !mayBeRead(readErr)):
		return Info{}, &Error{Op: "put", Provider: "store", Key: key, Err: ErrConflict}
	case taken:
		return Info{}, fmt.Errorf("put %s: the key is taken, and whether by the same bytes is not known: %w", key, readErr)
	}
	return Info{}, err
}

// mayBeRead says of an object that was not read whether it may be later on.
func mayBeRead(err error) bool {
	for _, lasting := range []error{ErrNotFound, ErrCorrupt, fs.ErrPermission} {
		if errors.Is(err, lasting) {
			return false
		}
	}
	return true
}
