package backup

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/provider"
)

// A segment is stored as
//
//	object header
//	4 bytes  length of the section, big endian
//	section  "interval", sealed with the index key: see interval
//	frames   content, MiB by MiB, sealed with a key of the writer's session
//	64 bytes signature of the writer
//
// under a key that tells log, branch and positions.

const (
	kindSegment = "segment"
	kindBranch  = "branch"
	logPrefix   = "logs/"
	startName   = "start"

	maxInterval = 4 << 20
	maxParts    = 1 << 16
	maxObject   = MaxSegment + MaxSegment/maxData*frameOverhead + maxHeader + maxInterval + 1<<10
)

// An interval is what a segment says of itself to whoever has the index key.
type interval struct {
	name        string
	span        span
	first, last time.Time // of the commits within
	sum         [32]byte  // of the content, under the log sum key
	parts       []part    // of a compacted segment: the raw ones it was made of
	frames      []uint32  // their lengths
}

// A part is a raw segment within a compacted one. It begins where the one
// before it ends.
type part struct {
	to  uint64
	sum [32]byte
}

// A span is a branch and half-open positions on it.
type span struct {
	branch   uint32
	from, to uint64
}

func (s span) overlaps(o span) bool {
	return s.branch == o.branch && s.from < o.to && o.from < s.to
}

func (s span) contains(o span) bool {
	return s.branch == o.branch && s.from <= o.from && o.to <= s.to
}

func (s span) String() string { return fmt.Sprintf("%08x/%016x-%016x", s.branch, s.from, s.to) }

// key is the span's key within a log.
func (l *Log) key(s span) string { return l.prefix + s.String() }

func (l *Log) startKey(branch uint32) string {
	return fmt.Sprintf("%s%08x/%s", l.prefix, branch, startName)
}

// parse is the inverse of key.
func (l *Log) parse(key string) (s span, ok bool) {
	name := strings.TrimPrefix(key, l.prefix)
	if len(name) != 8+1+16+1+16 || name[8] != '/' || name[25] != '-' || strings.ToLower(name) != name {
		return s, false
	}
	branch, err1 := strconv.ParseUint(name[:8], 16, 32)
	from, err2 := strconv.ParseUint(name[9:25], 16, 64)
	to, err3 := strconv.ParseUint(name[26:], 16, 64)
	s = span{uint32(branch), from, to}
	return s, err1 == nil && err2 == nil && err3 == nil && s.valid() == nil
}

func (s span) valid() error {
	switch {
	case s.branch == 0:
		return errors.New("field Branch is 0; branches are counted from 1")
	case s.from >= s.to:
		return fmt.Errorf("from %d to %d: want from less than to", s.from, s.to)
	case s.to-s.from > MaxSegment:
		return fmt.Errorf("from %d to %d: a segment has at most %d bytes; append it in pieces", s.from, s.to, MaxSegment)
	}
	return nil
}

// logID is what stands for the name of a log in keys.
func (k *keys) logID(name string) (id [16]byte) {
	m := hmac.New(sha256.New, k.logName)
	m.Write([]byte(name))
	copy(id[:], m.Sum(nil))
	return id
}

// logContent tells whether two segments are the same, to those who cannot
// read them.
func (k *keys) logContent(data []byte) (sum [32]byte) {
	m := hmac.New(sha256.New, k.logSum)
	m.Write(data)
	m.Sum(sum[:0])
	return sum
}

func (v interval) encode() []byte {
	b := appendBytes(nil, v.name)
	b = binary.AppendUvarint(b, uint64(v.span.branch))
	b = binary.AppendUvarint(b, v.span.from)
	b = binary.AppendUvarint(b, v.span.to)
	b = binary.AppendUvarint(b, logTime(v.first))
	b = binary.AppendUvarint(b, logTime(v.last))
	b = append(b, v.sum[:]...)
	b = binary.AppendUvarint(b, uint64(len(v.parts)))
	at := v.span.from
	for _, p := range v.parts {
		b = binary.AppendUvarint(b, p.to-at)
		b = append(b, p.sum[:]...)
		at = p.to
	}
	b = binary.AppendUvarint(b, uint64(len(v.frames)))
	for _, n := range v.frames {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// decodeInterval reads what encode wrote.
func decodeInterval(plain []byte) (interval, error) {
	d := &decoder{b: plain}
	v := interval{name: string(d.bytes("name", maxLogName))}
	v.span.branch = uint32(d.uint("branch", math.MaxUint32))
	v.span.from = d.uint("from", math.MaxUint64)
	v.span.to = d.uint("to", math.MaxUint64)
	v.first = logTimeOf(d.uint("time of the first commit", math.MaxInt64))
	v.last = logTimeOf(d.uint("time of the last commit", math.MaxInt64))
	v.sum = d.sum("sum")
	if err := v.span.valid(); err != nil {
		d.fail("%v", err)
	}
	at := v.span.from
	for n := min(d.count("parts", 33), maxParts); n > 0 && d.err == nil; n-- {
		at += d.uint("length of a part", v.span.to-at)
		v.parts = append(v.parts, part{at, d.sum("sum of a part")})
	}
	if len(v.parts) > 0 && at != v.span.to {
		d.fail("parts end at %d, not at %d", at, v.span.to)
	}
	if n := d.count("frames", 1); d.err == nil && uint64(n) != frameCount(v.span) {
		d.fail("%d frames for %d bytes", n, v.span.to-v.span.from)
	} else {
		for ; n > 0 && d.err == nil; n-- {
			v.frames = append(v.frames, uint32(d.uint("length of a frame", maxFrame)))
		}
	}
	if err := d.end(); err != nil {
		return interval{}, err
	}
	return v, nil
}

func frameCount(s span) uint64 { return (s.to - s.from + maxData - 1) / maxData }

// logTime is a time as it is stored: nanoseconds since 1970, 0 for none.
func logTime(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func logTimeOf(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// seal returns the bytes of a segment.
func (l *Log) seal(v interval, data []byte) ([]byte, error) {
	secret, enc, before, err := l.session()
	if err != nil {
		return nil, err
	}
	k, key := l.r.keys, l.key(v.span)
	var h objectHeader
	var head []byte
	if len(v.parts) == 0 && before%copyEvery > 0 {
		h, head, err = k.newBareHeader(kindSegment, enc)
	} else {
		h, head, err = k.newHeader(kindSegment, "", enc)
	}
	if err != nil {
		return nil, err
	}
	aead := newAEAD(derive(secret, h.Salt, kindSegment+" frames"))
	frames := make([]byte, 0, len(data)/2+4096)
	in, scratch := make([]byte, 0, 1+min(len(data), maxData)), []byte(nil)
	v.frames = nil
	for n := uint64(0); len(data) > 0; n++ {
		piece := data[:min(len(data), maxData)]
		data = data[len(piece):]
		in = append(append(in[:0], 0), piece...)
		frame := compress(l.zstd, in, scratch)
		before := len(frames)
		frames = aead.Seal(frames, nil, frame, frameAAD(n, key))
		v.frames = append(v.frames, uint32(len(frames)-before))
		if &frame[0] != &in[0] {
			scratch = frame
		}
	}
	b := appendSection(slices.Clone(head), sealSection(nil, k.index, h, head, "interval", key, v.encode()))
	return k.signObject(kindSegment, key, append(b, frames...)), nil
}

// frameAAD binds a frame to its place, so that nobody who may write segments
// can make one of the frames of another.
func frameAAD(n uint64, key string) []byte {
	return append(binary.BigEndian.AppendUint64(nil, n), key...)
}

// A sealedSegment is a segment of which the interval was read.
type sealedSegment struct {
	interval
	key    string
	header objectHeader
	size   int64 // of the object
	start  int64 // of the frames within the object
}

// decodeSegment reads header and interval from the beginning of a segment of
// size bytes. need is how long a beginning that takes, if b is too short.
func (l *Log) decodeSegment(s span, b []byte, size int64) (seg sealedSegment, need int64, err error) {
	seg = sealedSegment{key: l.key(s), size: size}
	n, err := headerLen(b)
	if err != nil {
		return seg, 0, err
	}
	if int64(n)+4 > size {
		return seg, 0, fmt.Errorf("%w: header of %d bytes in %d", ErrDamaged, n, size)
	}
	if n+4 > len(b) {
		return seg, int64(n) + 4, nil
	}
	length := int64(binary.BigEndian.Uint32(b[n:]))
	seg.start = int64(n) + 4 + length
	if length > maxInterval || seg.start > size {
		return seg, 0, fmt.Errorf("%w: section of %d bytes in a segment of %d", ErrDamaged, length, size)
	}
	if seg.start > int64(len(b)) {
		return seg, seg.start, nil
	}
	h, head, rest, err := decodeHeader(b, kindSegment)
	if err != nil {
		return seg, 0, err
	}
	plain, err := openSection(l.r.keys.index, h, head, "interval", seg.key, rest[4:4+length])
	if err != nil {
		return seg, 0, err
	}
	seg.header = h
	if seg.interval, err = decodeInterval(plain); err != nil {
		return seg, 0, err
	}
	if seg.span != s || l.name != "" && seg.name != l.name {
		return seg, 0, fmt.Errorf("%w: it says it is %v of another log or place", ErrDamaged, seg.span)
	}
	left := size - seg.start - signatureSize
	for _, f := range seg.frames {
		left -= int64(f)
	}
	if left != 0 {
		return seg, 0, fmt.Errorf("%w: frames and object differ by %d bytes in length", ErrDamaged, left)
	}
	return seg, 0, nil
}

// interval reads what a segment says of itself. [provider.ErrNotFound] if it
// is gone.
func (l *Log) interval(ctx context.Context, s span, size int64) (sealedSegment, error) {
	n := min(size, 16<<10)
	for {
		b, err := readRange(ctx, l.r.c.Store, l.key(s), 0, n)
		if err != nil {
			return sealedSegment{}, err
		}
		seg, need, err := l.decodeSegment(s, b, size)
		if err != nil {
			return sealedSegment{}, fmt.Errorf("%s: %w", l.key(s), err)
		}
		if need == 0 {
			return seg, nil
		}
		n = need
	}
}

// load reads a segment, checks all of it, and returns its content.
func (l *Log) load(ctx context.Context, s span) (sealedSegment, []byte, error) {
	b, _, err := provider.ReadAll(ctx, l.r.c.Store, l.key(s), maxObject)
	if errors.Is(err, provider.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return sealedSegment{}, nil, err
	}
	seg, data, err := l.open(s, b)
	if err != nil {
		return sealedSegment{}, nil, fmt.Errorf("%s: %w", l.key(s), err)
	}
	return seg, data, nil
}

func (l *Log) open(s span, b []byte) (sealedSegment, []byte, error) {
	_, _, _, by, err := l.r.keys.verifyObject(kindSegment, l.key(s), b)
	if err != nil {
		return sealedSegment{}, nil, err
	}
	seg, need, err := l.decodeSegment(s, b, int64(len(b)))
	if err == nil && need > 0 {
		err = fmt.Errorf("%w: cut off", ErrDamaged)
	}
	if err == nil && len(seg.parts) > 0 && !by.holder {
		err = fmt.Errorf("%w: signature is by %q, who cannot read and so cannot have compacted anything", ErrDamaged, by.name)
	}
	if err != nil {
		return seg, nil, err
	}
	secret, err := l.r.secret(seg.header.Enc)
	if err != nil {
		return seg, nil, err
	}
	aead := newAEAD(derive(secret, seg.header.Salt, kindSegment+" frames"))
	data := make([]byte, 0, s.to-s.from)
	b = b[seg.start:]
	for n, length := range seg.frames {
		frame := b[:length]
		b = b[length:]
		want := min(maxData, int(s.to-s.from)-len(data))
		plain, err := aead.Open(nil, nil, frame, frameAAD(uint64(n), seg.key))
		if err != nil || len(plain) == 0 {
			return seg, nil, fmt.Errorf("%w: frame %d %w", ErrDamaged, n, errSealed)
		}
		if data, err = l.unpack(data, plain, want); err != nil {
			return seg, nil, fmt.Errorf("frame %d: %w", n, err)
		}
	}
	if l.r.keys.logContent(data) != seg.sum {
		return seg, nil, fmt.Errorf("%w: content is not what its interval says", ErrDamaged)
	}
	at := uint64(0)
	for _, p := range seg.parts {
		end := p.to - s.from
		if l.r.keys.logContent(data[at:end]) != p.sum {
			return seg, nil, fmt.Errorf("%w: content to %d is not what its interval says", ErrDamaged, p.to)
		}
		at = end
	}
	return seg, data, nil
}

// unpack appends the content of a frame, which must have want bytes and for
// which data has room.
func (l *Log) unpack(data, plain []byte, want int) ([]byte, error) {
	content, at := plain[1:], len(data)
	switch plain[0] {
	case compressionNone:
	case compressionZstd:
		var err error
		// Never more than there is room for.
		if content, err = l.r.zstd.DecodeAll(content, data[at:at:at+want]); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrDamaged, err)
		}
	default:
		return nil, fmt.Errorf("%w: compression %d", ErrFormat, plain[0])
	}
	if len(content) != want {
		return nil, fmt.Errorf("%w: %d bytes where %d belong", ErrDamaged, len(content), want)
	}
	data = data[:at+want]
	copy(data[at:], content)
	return data, nil
}

func hexID(id [16]byte) string { return hex.EncodeToString(id[:]) }
