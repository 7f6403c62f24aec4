package backup

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A chunkID is the HMAC-SHA-256 of a chunk's plaintext. Content and metadata
// use different keys, so their ids never meet.
type chunkID [32]byte

func (id chunkID) String() string { return hex.EncodeToString(id[:8]) }

// A ref points to a chunk.
type ref struct {
	id    chunkID
	plain uint32 // length of the plaintext
}

const (
	maxData  = 1 << 20 // plaintext of any chunk
	maxBlock = 1 << 20 // Item.BlockSize

	// A frame is one AEAD message whose plaintext is one byte of
	// compression and the chunk.
	frameOverhead = 1 + sealOverhead
	maxFrame      = maxData + frameOverhead
	frameRoom     = 1 + maxData // of what a frame holds
)

// Compressions, the first byte within a frame.
const (
	compressionNone   = 0
	compressionZstd   = 1
	compressionSnappy = 2 // of chunks of data only
)

// An identifier computes chunk ids. It is not safe for concurrent use.
type identifier struct {
	data, meta hash.Hash
	scratch    []byte // of openFrame
	plain      []byte // see spare
	frame      []byte // of chunkAt
}

func (k *keys) newIdentifier() *identifier {
	return &identifier{data: hmac.New(sha256.New, k.dataID), meta: hmac.New(sha256.New, k.metaID)}
}

// spare returns memory for openFrame of a caller who needs what was opened
// only until it opens the next.
func (i *identifier) spare() []byte {
	if i.plain == nil {
		i.plain = make([]byte, 0, frameRoom)
	}
	return i.plain
}

func (i *identifier) id(kind string, plain []byte) (id chunkID) {
	h := i.data
	if kind == kindMeta {
		h = i.meta
	}
	h.Reset()
	h.Write(plain)
	h.Sum(id[:0])
	return id
}

// newEncoder returns the compressor of a session: fast, because it is what
// most of a backup's time goes to, and safe for concurrent EncodeAll.
func newEncoder(workers int) *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(workers),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // only for impossible options
	}
	return e
}

// newDecoder returns a decompressor that is safe for concurrent DecodeAll
// and never makes more than a chunk may have.
func newDecoder(workers int) *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(workers), zstd.WithDecoderMaxMemory(maxData),
		zstd.WithDecoderMaxWindow(maxData), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return d
}

// compress returns what to put into the frame of a chunk. in begins with a
// byte that is free for the compression; out is scratch space. Without an
// encoder it is Snappy.
func compress(e *zstd.Encoder, in, out []byte) []byte {
	plain := in[1:]
	in[0] = compressionNone
	if len(plain) < 128 {
		return in
	}
	if e == nil {
		out = slices.Grow(out[:0], 1+s2.MaxEncodedLen(len(plain)))[:1]
		out[0] = compressionSnappy
		out = out[:1+len(s2.EncodeSnappy(out[1:cap(out)], plain))]
	} else {
		out = append(out[:0], compressionZstd)
		out = e.EncodeAll(plain, out)
	}
	if len(out) > len(in)-len(in)/32 {
		return in
	}
	return out
}

// openFrame decrypts, decompresses and verifies a chunk. What it returns has
// exactly plain bytes. It is freshly allocated, or lies in the memory of into
// if that has room for frameRoom bytes.
func openFrame(a cipher.AEAD, d *zstd.Decoder, ids *identifier, kind string, r ref, frame, into []byte) ([]byte, error) {
	if r.plain > maxData {
		return nil, fmt.Errorf("%w: chunk %s of %d bytes", ErrDamaged, r.id, r.plain)
	}
	// What is shorter than the chunk has to be decompressed, so it is not
	// what is returned: if it says otherwise, its length is wrong.
	opened := into[:0]
	compressed := len(frame) < int(r.plain)+frameOverhead
	if compressed {
		opened = ids.scratch[:0]
	}
	b, err := a.Open(opened, nil, frame, r.id[:])
	if err != nil || len(b) == 0 {
		return nil, fmt.Errorf("%w: chunk %s %w", ErrDamaged, r.id, errSealed)
	}
	if compressed {
		ids.scratch = b[:0]
	}
	plain := b[1:]
	switch b[0] {
	case compressionNone:
	case compressionZstd:
		if !compressed || cap(into) < int(r.plain) {
			into = make([]byte, 0, r.plain)
		}
		plain, err = d.DecodeAll(b[1:], into[:0:r.plain])
		if err != nil {
			return nil, fmt.Errorf("%w: chunk %s: %v", ErrDamaged, r.id, err)
		}
	case compressionSnappy:
		// Of no more than there is room for is anything decompressed.
		n, err := s2.DecodedLen(b[1:])
		if err != nil {
			return nil, fmt.Errorf("%w: chunk %s: %v", ErrDamaged, r.id, err)
		}
		if n != int(r.plain) {
			return nil, fmt.Errorf("%w: chunk %s has %d bytes, not %d", ErrDamaged, r.id, n, r.plain)
		}
		if !compressed || cap(into) < int(r.plain) {
			into = make([]byte, 0, r.plain)
		}
		if plain, err = s2.Decode(into[:r.plain], b[1:]); err != nil {
			return nil, fmt.Errorf("%w: chunk %s: %v", ErrDamaged, r.id, err)
		}
	default:
		return nil, fmt.Errorf("%w: chunk %s: compression %d", ErrFormat, r.id, b[0])
	}
	if len(plain) != int(r.plain) {
		return nil, fmt.Errorf("%w: chunk %s has %d bytes, not %d", ErrDamaged, r.id, len(plain), r.plain)
	}
	if ids.id(kind, plain) != r.id {
		return nil, fmt.Errorf("%w: chunk %s has other content", ErrDamaged, r.id)
	}
	return slices.Clip(plain), nil
}
