package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// Errors of scanning; they come as an [*Error] that says where.
var (
	// ErrInvalid: these bytes are no WAL, or not what belongs here.
	ErrInvalid = errors.New("not valid WAL")

	// ErrEnd: nothing more was written. What follows is zeros, as at the end
	// of a segment file that is in use.
	ErrEnd = errors.New("end of WAL")
)

// An Error says at which position something is wrong.
type Error struct {
	At  LSN
	Err error // wraps ErrInvalid or ErrEnd
}

func (e *Error) Error() string { return fmt.Sprintf("WAL at %v: %v", e.At, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Config says what is scanned. The fields but Start may be left zero.
type Config struct {
	// Start is the position of the first byte. Records are delivered from the
	// first one on that begins behind the first page header.
	Start LSN

	SegmentSize uint64 // 0: learned from the first page of a segment
	BlockSize   uint32 // of the WAL; 0 is 8192, which nearly every server has
	System      uint64 // identifier; 0: any
	Timeline    uint32 // the youngest that pages may be of; 0: any
}

const (
	shortHeader = 24
	longHeader  = 40

	pageContinues   = 0x0001 // begins with the rest of a record
	pageLong        = 0x0002
	pageOverwritten = 0x0008 // the record that was to go on here never will
	pageFlags       = 0x000F
)

// versions are the major versions of PostgreSQL by the magic of their pages.
func versionOf(magic uint16) int {
	switch magic {
	case 0xD110:
		return 15
	case 0xD113:
		return 16
	case 0xD116:
		return 17
	case 0xD118:
		return 18
	}
	return 0
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Scanner reads WAL as it comes, in pieces of any length.
type Scanner struct {
	c   Config
	at  LSN   // of the next byte
	err error // ends all

	until LSN              // the end of a page: what comes before it is not looked at
	page  [longHeader]byte // the header being read
	have  uint32           // of it
	left  uint32           // bytes of this page still to come; 0: a header is next
	pad   uint32           // bytes before the next record

	in      bool // within a record
	blind   bool // of which the beginning is not known
	start   LSN
	rec     []byte // what is kept of it
	got     uint32 // how much of it has come
	want    uint32 // its length, once recordHeader bytes of it have come
	keep    uint32
	sum     uint32
	last    LSN  // where the last whole record begins
	end     LSN  // and ends
	known   bool // there was one
	version int

	synced   bool   // a page header was seen
	timeline uint32 // of the last page
}

// NewScanner returns a scanner.
func NewScanner(c Config) *Scanner {
	if c.BlockSize == 0 {
		c.BlockSize = 8192
	}
	s := &Scanner{c: c, at: c.Start}
	// What comes before the first whole page cannot be understood.
	size := uint64(max(c.BlockSize, 1))
	s.until = LSN((uint64(c.Start) + size - 1) / size * size)
	if b := c.BlockSize; b&(b-1) != 0 || b < 1<<10 || b > 64<<10 {
		s.fail(c.Start, "pages of %d bytes: want a power of two from 1 to 64 KiB", b)
	} else if c.SegmentSize != 0 && CheckSegmentSize(c.SegmentSize) != nil {
		s.err = CheckSegmentSize(c.SegmentSize)
	}
	return s
}

// At is the position behind the last byte that was scanned.
func (s *Scanner) At() LSN { return s.at }

// End is where the last whole record ends, as [Record.End] says; 0 if there was none.
func (s *Scanner) End() LSN { return s.end }

// Version is the major version of the server that wrote it, 0 if not known yet.
func (s *Scanner) Version() int { return s.version }

// SegmentSize is the size of segments, 0 if not known yet.
func (s *Scanner) SegmentSize() uint64 { return s.c.SegmentSize }

// System is the identifier of the system that wrote it, 0 if not known yet.
func (s *Scanner) System() uint64 { return s.c.System }

func (s *Scanner) fail(at LSN, format string, args ...any) error {
	s.err = &Error{at, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...)}
	return s.err
}

// Scan takes the next bytes and calls emit with each record that is whole with
// them, if it checks out; an error of emit ends it. After an error every
// further call returns it.
func (s *Scanner) Scan(p []byte, emit func(Record) error) error {
	for len(p) > 0 && s.err == nil {
		n, err := s.step(p, emit)
		s.at += LSN(n)
		p = p[n:]
		if err != nil && s.err == nil {
			s.err = err
		}
	}
	return s.err
}

// step consumes some bytes: of what is not looked at, of a page header, of
// padding, or of a record.
func (s *Scanner) step(p []byte, emit func(Record) error) (int, error) {
	switch {
	case s.at < s.until:
		return int(min(uint64(len(p)), uint64(s.until-s.at))), nil
	case s.left == 0:
		return s.header(p)
	}
	p = p[:min(uint64(len(p)), uint64(s.left))]
	if s.pad > 0 {
		n := min(uint32(len(p)), s.pad)
		s.pad -= n
		s.left -= n
		return int(n), nil
	}
	n, err := s.record(p)
	s.left -= uint32(n)
	if err != nil || !s.in || s.want == 0 || s.got < s.want {
		return n, err
	}
	return n, s.finish(s.at+LSN(n), emit)
}

// header reads the header of a page.
func (s *Scanner) header(p []byte) (int, error) {
	size := uint32(shortHeader)
	if s.have >= 4 && binary.LittleEndian.Uint16(s.page[2:])&pageLong != 0 {
		size = longHeader
	}
	if s.have < 4 { // the flags decide how long it is
		n := copy(s.page[s.have:4], p)
		s.have += uint32(n)
		return n, nil
	}
	n := copy(s.page[s.have:size], p)
	s.have += uint32(n)
	if s.have < size {
		return n, nil
	}
	at := s.at + LSN(n) - LSN(size)
	s.have = 0
	s.left = s.c.BlockSize - size
	return n, s.begin(at, size)
}

// begin checks the header of the page at a position.
func (s *Scanner) begin(at LSN, size uint32) error {
	b := s.page[:size]
	magic, flags := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:])
	timeline, addr := binary.LittleEndian.Uint32(b[4:]), LSN(binary.LittleEndian.Uint64(b[8:]))
	version := versionOf(magic)
	switch {
	case bytes.Equal(b, make([]byte, size)):
		s.err = &Error{at, fmt.Errorf("%w: a page of zeros", ErrEnd)}
		return s.err
	case version == 0:
		return s.fail(at, "a page with magic %04X, which no version from 15 to 18 has", magic)
	case s.version != 0 && version != s.version:
		return s.fail(at, "a page of version %d behind one of version %d", version, s.version)
	case flags&^pageFlags != 0:
		return s.fail(at, "a page with flags %04X", flags)
	case addr != at:
		return s.fail(at, "a page that says it belongs to %v", addr)
	case timeline < s.timeline:
		return s.fail(at, "a page of timeline %d behind one of timeline %d", timeline, s.timeline)
	case timeline == 0 || s.c.Timeline != 0 && timeline > s.c.Timeline:
		return s.fail(at, "a page of timeline %d, where %d is the youngest", timeline, s.c.Timeline)
	}
	s.version, s.timeline = version, timeline
	if err := s.first(at, b, flags&pageLong != 0); err != nil {
		return err
	}
	return s.resume(at, flags, binary.LittleEndian.Uint32(b[16:]))
}

// first checks what only the first page of a segment says.
func (s *Scanner) first(at LSN, b []byte, long bool) error {
	if !long {
		if s.c.SegmentSize != 0 && uint64(at)%s.c.SegmentSize == 0 {
			return s.fail(at, "the first page of a segment without a long header")
		}
		return nil
	}
	system := binary.LittleEndian.Uint64(b[24:])
	segment, block := uint64(binary.LittleEndian.Uint32(b[32:])), binary.LittleEndian.Uint32(b[36:])
	switch {
	case CheckSegmentSize(segment) != nil:
		return s.fail(at, "%v", CheckSegmentSize(segment))
	case s.c.SegmentSize != 0 && segment != s.c.SegmentSize:
		return s.fail(at, "segments of %d bytes, where they have %d", segment, s.c.SegmentSize)
	case uint64(at)%segment != 0:
		return s.fail(at, "a long header within a segment of %d bytes", segment)
	case block != s.c.BlockSize:
		return s.fail(at, "pages of %d bytes, where %d are expected", block, s.c.BlockSize)
	case s.c.System != 0 && system != s.c.System:
		return s.fail(at, "WAL of system %d, where that of %d belongs", system, s.c.System)
	}
	s.c.SegmentSize, s.c.System = segment, system
	return nil
}

// resume settles what the content of a page begins with: rest bytes of a
// record that began earlier, or a record.
func (s *Scanner) resume(at LSN, flags uint16, rest uint32) error {
	continues := flags&pageContinues != 0
	switch {
	case continues && (rest == 0 || rest > maxRecord):
		return s.fail(at, "a page that goes on with %d bytes", rest)
	case !s.synced && continues:
		s.in, s.blind, s.got, s.want = true, true, 0, rest
	case s.in && !continues && flags&pageOverwritten != 0:
		// The server crashed before the record was whole, and said so here.
		s.in, s.blind = false, false
	case s.in && !continues:
		return s.fail(at, "the record at %v does not go on", s.start)
	case s.in && s.want > 0 && rest != s.want-s.got:
		return s.fail(at, "%d bytes to come of the record at %v, where %d are missing", rest, s.start, s.want-s.got)
	case s.in && s.want == 0 && s.got+rest < recordHeader:
		return s.fail(at, "%d bytes to come of the header of the record at %v", rest, s.start)
	case s.in && s.want == 0:
		s.want = s.got + rest // and its own header must say so, too
	case !s.in && continues:
		return s.fail(at, "the rest of a record that did not begin")
	}
	s.synced = true
	return nil
}

// maxRecord is more than any record has (XLogRecordMaxSize is 1020 MiB).
const maxRecord = 1 << 30

// record reads bytes of a record.
func (s *Scanner) record(p []byte) (int, error) {
	if s.blind {
		n := min(uint32(len(p)), s.want-s.got)
		s.got += n
		return int(n), nil
	}
	if !s.in {
		s.in, s.start, s.rec, s.got, s.want, s.sum = true, s.at, s.rec[:0], 0, 0, 0
	}
	if s.got < recordHeader {
		n := min(len(p), int(recordHeader-s.got))
		s.rec = append(s.rec, p[:n]...)
		s.got += uint32(n)
		if s.got < recordHeader {
			return n, s.empty()
		}
		return n, s.check()
	}
	n := min(uint32(len(p)), s.want-s.got)
	s.sum = crc32.Update(s.sum, castagnoli, p[:n])
	if have := uint32(len(s.rec)); have < s.keep {
		s.rec = append(s.rec, p[:min(n, s.keep-have)]...)
	}
	s.got += n
	return int(n), nil
}

// empty finds the end of what was written: a record without a length.
func (s *Scanner) empty() error {
	if len(s.rec) >= 4 && binary.LittleEndian.Uint32(s.rec) == 0 {
		s.err = &Error{s.start, fmt.Errorf("%w: no record", ErrEnd)}
	}
	return s.err
}

// check looks at the header of a record.
func (s *Scanner) check() error {
	if err := s.empty(); err != nil {
		return err
	}
	length, prev := binary.LittleEndian.Uint32(s.rec), LSN(binary.LittleEndian.Uint64(s.rec[8:]))
	switch {
	case length < recordHeader || length > maxRecord:
		return s.fail(s.start, "a record of %d bytes", length)
	case s.want != 0 && length != s.want:
		return s.fail(s.start, "a record of %d bytes, of which its page says %d", length, s.want)
	case prev >= s.start || s.known && prev != s.last:
		return s.fail(s.start, "a record that says it follows one at %v, where the last one begins at %v", prev, s.last)
	}
	s.want, s.keep = length, kept(s.rec[17], s.rec[16])
	return nil
}

// finish checks a whole record, which ends at a position, and delivers it.
func (s *Scanner) finish(end LSN, emit func(Record) error) error {
	blind := s.blind
	s.in, s.blind = false, false
	s.pad = uint32(-end & 7)
	if blind {
		return nil
	}
	h := s.rec[:recordHeader]
	if sum, want := crc32.Update(s.sum, castagnoli, h[:20]), binary.LittleEndian.Uint32(h[20:]); sum != want {
		return s.fail(s.start, "a record whose sum is %08X, and should be %08X", sum, want)
	}
	r := Record{LSN: s.start, End: end + LSN(s.pad), Length: s.want, XID: binary.LittleEndian.Uint32(h[4:]),
		Prev: LSN(binary.LittleEndian.Uint64(h[8:])), Info: h[16], Manager: h[17]}
	r.decode(s.rec, s.version)
	if cap(s.rec) > 64<<10 {
		s.rec = nil
	}
	if r.Kind == SwitchSegment {
		if s.c.SegmentSize == 0 {
			return s.fail(s.start, "the end of a segment whose size is not known")
		}
		r.End = LSN((uint64(end) + s.c.SegmentSize - 1) / s.c.SegmentSize * s.c.SegmentSize)
		s.until, s.left, s.pad = r.End, 0, 0
	}
	s.last, s.end, s.known = s.start, r.End, true
	return emit(r)
}

// Records delivers the records of what r reads. It ends with r; a record that
// is not whole by then is not delivered. After an error, which may be one of
// r, it ends as well.
func Records(r io.Reader, c Config) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s, buf := NewScanner(c), make([]byte, 64<<10)
		stop := errors.New("enough")
		for {
			n, rerr := r.Read(buf)
			err := s.Scan(buf[:n], func(rec Record) error {
				if !yield(rec, nil) {
					return stop
				}
				return nil
			})
			switch {
			case errors.Is(err, stop):
				return
			case err == nil && rerr != nil && rerr != io.EOF:
				err = rerr
			}
			if err != nil {
				yield(Record{}, err)
				return
			}
			if rerr == io.EOF {
				return
			}
		}
	}
}
