package httpstore

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/holdfast-go/holdfast/provider"
)

// The content of an object comes in frames: four bytes of length, big
// endian, then so many bytes. A length of zero announces the outcome: four
// bytes of length and a frameEnd in JSON. Frames, rather than trailers, since
// proxies drop trailers, and rather than Content-Length alone, since the
// store may find out only at the end that what it read is damaged.

const frameSize = 64 << 10 // bytes of content in a frame, at most

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// frameEnd closes a stream: with the checksum of what was sent, or with the
// reason why there is no more.
type frameEnd struct {
	CRC32C uint32     `json:"crc32c"`
	Error  *wireError `json:"error,omitempty"`
}

// writeFrames sends all of r. ready is called before every write. It returns
// the error of r, which the other end has been told, or that of w.
func writeFrames(w io.Writer, r io.Reader, ready func()) error {
	buf := make([]byte, 4+frameSize)
	var crc uint32
	var readErr error
	for readErr == nil {
		var n int
		n, readErr = r.Read(buf[4:])
		if n == 0 {
			continue
		}
		crc = crc32.Update(crc, crcTable, buf[4:4+n])
		binary.BigEndian.PutUint32(buf, uint32(n))
		ready()
		if _, err := w.Write(buf[:4+n]); err != nil {
			return err
		}
	}
	end := frameEnd{CRC32C: crc}
	if readErr == io.EOF {
		readErr = nil
	} else {
		we, _ := toWireError(readErr)
		end.Error = &we
	}
	b, err := json.Marshal(end)
	if err != nil {
		return err
	}
	ready()
	head := binary.BigEndian.AppendUint32(make([]byte, 4), uint32(len(b)))
	if _, err := w.Write(append(head, b...)); err != nil {
		return err
	}
	return readErr
}

// A frameReader delivers the content in the frames of an answer. It gives out
// the last byte only when it has seen that the stream ended well, so that
// even a caller who stops reading at the size it knows cannot take damaged
// or cut content for good.
type frameReader struct {
	body  io.ReadCloser
	r     *bufio.Reader
	wrap  func(error) error
	left  int64 // bytes of content to come
	frame int64 // of which in this frame
	crc   uint32
	err   error
}

func newFrameReader(body io.ReadCloser, size int64, wrap func(error) error) *frameReader {
	return &frameReader{body: body, r: bufio.NewReaderSize(body, frameSize), wrap: wrap, left: size}
}

func (f *frameReader) Close() error { return f.body.Close() }

func (f *frameReader) Read(p []byte) (int, error) {
	if f.err != nil || len(p) == 0 {
		return 0, f.err
	}
	n, err := f.read(p)
	if err == nil && f.left == 0 {
		err = f.end()
		if err == io.EOF && n > 0 {
			f.err = io.EOF
			return n, nil
		}
	}
	if err != nil {
		f.err = err
		if err != io.EOF {
			n, f.err = 0, f.wrap(err)
		}
	}
	return n, f.err
}

// read delivers bytes of the present frame.
func (f *frameReader) read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, nil
	}
	if f.frame == 0 {
		n, err := f.uint32()
		switch {
		case err != nil:
			return 0, err
		case n == 0:
			if err := f.outcome(); err != nil {
				return 0, err
			}
			return 0, fmt.Errorf("%d bytes less than announced: %w", f.left, io.ErrUnexpectedEOF)
		case int64(n) > min(f.left, frameSize):
			return 0, fmt.Errorf("frame of %d bytes where %d are to come: %w", n, f.left, provider.ErrCorrupt)
		}
		f.frame = int64(n)
	}
	n, err := f.r.Read(p[:min(int64(len(p)), f.frame)])
	f.crc = crc32.Update(f.crc, crcTable, p[:n])
	f.frame -= int64(n)
	f.left -= int64(n)
	return n, noEOF(err)
}

// end reads the outcome where it must follow; io.EOF is a good one.
func (f *frameReader) end() error {
	n, err := f.uint32()
	if err != nil {
		return err
	}
	if n != 0 {
		return fmt.Errorf("more bytes than announced: %w", provider.ErrCorrupt)
	}
	if err := f.outcome(); err != nil {
		return err
	}
	// The connection is used again only if its answer was read to the end.
	if _, err := f.r.ReadByte(); err != nil {
		return err
	}
	return fmt.Errorf("bytes after the end: %w", provider.ErrCorrupt)
}

func (f *frameReader) outcome() error {
	n, err := f.uint32()
	if err != nil {
		return err
	}
	if n > maxAnswer {
		return fmt.Errorf("outcome of %d bytes: %w", n, provider.ErrCorrupt)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(f.r, b); err != nil {
		return noEOF(err)
	}
	var end frameEnd
	if err := json.Unmarshal(b, &end); err != nil {
		return errors.Join(provider.ErrCorrupt, err)
	}
	if end.Error != nil {
		return end.Error.err()
	}
	if end.CRC32C != f.crc {
		return fmt.Errorf("damaged on the way: %w", provider.ErrCorrupt)
	}
	return nil
}

func (f *frameReader) uint32() (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(f.r, b[:]); err != nil {
		return 0, noEOF(err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// noEOF: within a stream an end is always too early.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
