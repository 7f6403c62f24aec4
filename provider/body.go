package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Bytes returns b as a [Body].
func Bytes(b []byte) Body { return bytes.NewReader(b) }

// FileBody returns the content of an open file, of the size it has now, as a
// [Body]. The file must stay open and unchanged until the Put has returned.
func FileBody(f *os.File) (Body, error) {
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f, 0, fi.Size()), nil
}

// ReadAll reads a whole object of at most max bytes. A larger one is an
// error before it is read.
func ReadAll(ctx context.Context, s BlobStore, key string, max int64) ([]byte, Info, error) {
	r, info, err := s.Get(ctx, key, GetOptions{})
	if err != nil {
		return nil, Info{}, err
	}
	defer r.Close()
	if info.Size > max {
		return nil, info, fmt.Errorf("read %s: %d bytes, more than the %d it may have", key, info.Size, max)
	}
	b := make([]byte, info.Size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, info, fmt.Errorf("read %s: %w", key, err)
	}
	return b, info, nil
}

// PutOnce creates an object that nothing else may ever have written with
// other bytes, and survives a lost reply: if the key turns out to be taken,
// it reads the object, and the same bytes are success. [ErrConflict] if the
// key holds other bytes. The body is read into memory if the key is taken.
func PutOnce(ctx context.Context, s BlobStore, key string, body []byte, o PutOptions) (Info, error) {
	o.IfAbsent, o.IfMatch = true, ""
	info, err := s.Put(ctx, key, Bytes(body), o)
	if err == nil || errors.Is(err, ErrInvalidKey) || errors.Is(err, ErrCorrupt) || ctx.Err() != nil {
		return info, err
	}
	got, info, readErr := ReadAll(ctx, s, key, int64(len(body)))
	switch {
	case readErr == nil && bytes.Equal(got, body):
		return info, nil
	case readErr == nil || errors.Is(err, ErrConflict):
		return Info{}, &Error{Op: "put", Provider: "store", Key: key, Err: ErrConflict}
	}
	return Info{}, err
}
