package remote

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"strings"

	"github.com/holdfast-go/holdfast/provider"
)

// A Stream is an object that has been opened for reading.
type Stream struct {
	Body    io.ReadCloser // delivers from At on
	At, End int64         // the bytes to deliver

	// Again opens the same version of the object from another byte on.
	Again func(at int64) (io.ReadCloser, error)

	// Fail makes of an error what Read returns.
	Fail func(error) error

	// Sum is the SHA-256 of the bytes from At to End. If they have another,
	// the reader ends in provider.ErrCorrupt. Zero means not to be verified.
	Sum [32]byte

	// CRC32C is the big-endian CRC-32C of the same bytes, which is verified in
	// place of a Sum that is not known. Nil means not to be verified.
	CRC32C []byte
}

// Reader returns the reader of a stream. A connection that breaks is opened
// again where it broke.
func (s Stream) Reader() io.ReadCloser {
	r := &reader{Stream: s}
	switch {
	case s.Sum != [32]byte{}:
		r.hash, r.want = sha256.New(), s.Sum[:]
	case s.CRC32C != nil:
		r.hash, r.want = crc32.New(crc32.MakeTable(crc32.Castagnoli)), s.CRC32C
	}
	return r
}

type reader struct {
	Stream
	broken int       // connections that broke since the last byte
	hash   hash.Hash // nil: of unknown content
	want   []byte
	err    error
}

// brokenAttempts is how many connections in a row may break before a byte.
const brokenAttempts = 4

func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		if r.At == r.End {
			r.err = io.EOF
			if r.hash != nil && !bytes.Equal(r.hash.Sum(nil), r.want) {
				r.err = r.Fail(provider.ErrCorrupt)
			}
			break
		}
		n, err := r.Body.Read(p[:min(int64(len(p)), r.End-r.At)])
		if n > 0 {
			if r.hash != nil {
				r.hash.Write(p[:n])
			}
			r.At += int64(n)
			r.broken = 0
			return n, nil
		}
		if err != nil {
			r.reopen(err)
		} else if len(p) == 0 {
			return 0, nil
		}
	}
	return 0, r.err
}

// WriteTo implements [io.WriterTo], so that io.Copy moves large pieces: of a
// fast network each one costs two calls of the kernel.
func (r *reader) WriteTo(w io.Writer) (n int64, err error) {
	const piece = 256 << 10
	b := make([]byte, max(min(r.End-r.At, piece), 1))
	for {
		got, err := r.Read(b)
		if got > 0 {
			put, err := w.Write(b[:got])
			n += int64(put)
			if err == nil && put < got {
				err = io.ErrShortWrite
			}
			if err != nil {
				return n, err
			}
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// reopen goes on after a connection broke with err.
func (r *reader) reopen(err error) {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.Body.Close()
	r.broken++
	if r.broken >= brokenAttempts || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		r.err = r.Fail(err)
		return
	}
	body, againErr := r.Again(r.At)
	if againErr != nil {
		r.Body = io.NopCloser(strings.NewReader(""))
		r.err = r.Fail(fmt.Errorf("%w; and again: %w", err, againErr))
		return
	}
	r.Body = body
}

func (r *reader) Close() error { return r.Body.Close() }
