package wal_test

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A builder writes WAL as a server does: the tests' own idea of the format.
type builder struct {
	b        []byte
	start    uint64
	seg      uint64
	magic    uint16
	system   uint64
	timeline uint32
	prev     uint64
	cont     uint32 // bytes that go on over the next page header
	flags    uint16 // further ones of the next page
}

func newBuilder(start, seg uint64) *builder {
	return &builder{start: start, seg: seg, magic: 0xD110, system: 77, timeline: 1}
}

func (w *builder) at() uint64 { return w.start + uint64(len(w.b)) }

func (w *builder) page() {
	flags, at := w.flags, w.at()
	w.flags = 0
	if w.cont > 0 {
		flags |= 1
	}
	if at%w.seg == 0 {
		flags |= 2
	}
	w.b = binary.LittleEndian.AppendUint16(w.b, w.magic)
	w.b = binary.LittleEndian.AppendUint16(w.b, flags)
	w.b = binary.LittleEndian.AppendUint32(w.b, w.timeline)
	w.b = binary.LittleEndian.AppendUint64(w.b, at)
	w.b = binary.LittleEndian.AppendUint32(w.b, w.cont)
	w.b = append(w.b, 0, 0, 0, 0)
	if at%w.seg == 0 {
		w.b = binary.LittleEndian.AppendUint64(w.b, w.system)
		w.b = binary.LittleEndian.AppendUint32(w.b, uint32(w.seg))
		w.b = binary.LittleEndian.AppendUint32(w.b, 8192)
	}
}

// record writes a record with a body and returns where it begins.
func (w *builder) record(manager, info uint8, xid uint32, body []byte) wal.LSN {
	h := make([]byte, 24)
	binary.LittleEndian.PutUint32(h, uint32(24+len(body)))
	binary.LittleEndian.PutUint32(h[4:], xid)
	binary.LittleEndian.PutUint64(h[8:], w.prev)
	h[16], h[17] = info, manager
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, body)
	binary.LittleEndian.PutUint32(h[20:], crc32.Update(sum, table, h[:20]))
	if w.at()%8192 == 0 {
		w.page()
	}
	start := w.at()
	w.write(append(h, body...))
	for w.at()%8 > 0 {
		w.b = append(w.b, 0)
	}
	w.prev = start
	return wal.LSN(start)
}

func (w *builder) write(p []byte) {
	for len(p) > 0 {
		if w.at()%8192 == 0 {
			w.cont = uint32(len(p))
			w.page()
			w.cont = 0
		}
		n := min(uint64(len(p)), 8192-w.at()%8192)
		w.b = append(w.b, p[:n]...)
		p = p[n:]
	}
}

// fill writes a record after which the page has only so many bytes left.
func (w *builder) fill(left uint64) {
	if w.at()%8192 == 0 {
		w.page()
	}
	if room := 8192 - w.at()%8192 - left; room > 0 {
		w.record(10, 0, 5, make([]byte, room-24))
	}
}

func (w *builder) switchSegment() {
	w.record(0, 0x40, 0, nil)
	if n := w.at() % w.seg; n > 0 {
		w.b = append(w.b, make([]byte, w.seg-n)...)
	}
}

// data is the body of a record without blocks.
func data(main ...byte) []byte {
	if len(main) < 256 {
		return append([]byte{255, byte(len(main))}, main...)
	}
	return append(binary.LittleEndian.AppendUint32([]byte{254}, uint32(len(main))), main...)
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func stamp(t time.Time) []byte {
	return binary.LittleEndian.AppendUint64(nil, uint64(t.Sub(epoch).Microseconds()))
}

func (w *builder) commit(xid uint32, t time.Time) wal.LSN {
	return w.record(1, 0, xid, data(stamp(t)...))
}

func u32(n ...uint32) (b []byte) {
	for _, v := range n {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// prepared writes the end of a prepared transaction with all that can stand
// before its number.
func (w *builder) prepared(info uint8, xid uint32, t time.Time, subs int) wal.LSN {
	b := stamp(t)
	bits := uint32(1 | 2 | 4 | 16 | 32 | 128 | 256)
	if info == 0x30 {
		bits |= 8
	}
	b = append(b, u32(bits, 16384, 1663, uint32(subs))...)
	b = append(b, make([]byte, 4*subs)...)
	b = append(append(b, u32(2)...), make([]byte, 24)...)
	size := 12
	if w.magic >= 0xD118 {
		size = 16
	}
	b = append(append(b, u32(3)...), make([]byte, 3*size)...)
	if info == 0x30 {
		b = append(append(b, u32(1)...), make([]byte, 16)...)
	}
	b = append(b, u32(xid)...)
	b = append(append(b, "name\x00"...), make([]byte, 16)...)
	return w.record(1, info|0x80, 0, data(b...))
}

func (w *builder) restorePoint(name string, t time.Time) wal.LSN {
	b := make([]byte, 64)
	copy(b, name)
	return w.record(0, 0x70, 0, data(append(stamp(t), b...)...))
}

func (w *builder) checkpoint(info uint8, redo uint64, t time.Time) wal.LSN {
	b := binary.LittleEndian.AppendUint64(nil, redo)
	b = append(b, u32(w.timeline, w.timeline)...)
	b = append(b, make([]byte, 48)...)
	b = binary.LittleEndian.AppendUint64(b, uint64(t.Unix()))
	return w.record(0, info, 0, data(append(b, make([]byte, 16)...)...))
}

func (w *builder) endOfRecovery(from uint32, t time.Time) wal.LSN {
	return w.record(0, 0x90, 0, data(append(stamp(t), u32(w.timeline, from)...)...))
}
