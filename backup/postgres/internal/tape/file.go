package tape

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/internal/durable"
)

// A file of the directory has the name %016x.wal, ascending, and begins with
// 32 bytes: magic, system, and zeros. Each frame follows as
//
//	4 bytes  length of the content
//	4 bytes  timeline
//	8 bytes  position where it begins
//	8 bytes  earliest commit, microseconds since 1970, 0 for none
//	8 bytes  latest commit
//	4 bytes  CRC-32C of all this and the content
//	content
//
// with little-endian numbers. Histories are beside them under the names that
// PostgreSQL gives them.
const (
	magic       = "HFSPOOL1"
	fileHeader  = 32
	frameHeader = 36
	fileSize    = 16 << 20 // about
	maxFrame    = 1 << 20
)

type file struct {
	f      *os.File
	name   string
	number uint64
	size   int64
	synced int64
}

var table = crc32.MakeTable(crc32.Castagnoli)

func (h held) header(data []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHeader), uint32(h.To-h.From))
	b = binary.LittleEndian.AppendUint32(b, h.Timeline)
	b = binary.LittleEndian.AppendUint64(b, h.From)
	b = binary.LittleEndian.AppendUint64(b, micros(h.First))
	b = binary.LittleEndian.AppendUint64(b, micros(h.Last))
	return binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.Checksum(b, table), table, data))
}

func micros(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixMicro())
}

func timeOf(v uint64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(v)).UTC()
}

// open takes the directory and reads what is there.
func (t *Tape) open() (err error) {
	if err := os.MkdirAll(t.c.Dir, 0o700); err != nil {
		return err
	}
	if t.root, err = os.OpenRoot(t.c.Dir); err != nil {
		return err
	}
	if t.unlock, err = durable.TryLock(t.root, "lock"); err != nil {
		return err
	}
	if t.unlock == nil {
		return errors.New("another process uses it")
	}
	if err := t.readHistories(); err != nil {
		return err
	}
	names, err := t.names(".wal")
	if err != nil {
		return err
	}
	for i, name := range names {
		if err := t.replay(name, i == len(names)-1); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (t *Tape) names(suffix string) (out []string, err error) {
	all, err := fs.ReadDir(t.root.FS(), ".")
	for _, e := range all {
		if strings.HasSuffix(e.Name(), suffix) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, err
}

func (t *Tape) readHistories() error {
	names, err := t.names(".history")
	if err != nil {
		return err
	}
	for _, name := range names {
		n, err := strconv.ParseUint(strings.TrimSuffix(name, ".history"), 16, 32)
		if err != nil {
			continue
		}
		if t.histories[uint32(n)], err = t.root.ReadFile(name); err != nil {
			return err
		}
	}
	return nil
}

// SetHistory keeps the .history file of a timeline.
func (t *Tape) SetHistory(timeline uint32, text []byte) error {
	if t.root != nil && string(t.History(timeline)) != string(text) {
		if err := durable.WriteFile(t.root, fmt.Sprintf("%08X.history", timeline), text); err != nil {
			return fmt.Errorf("spool %s: %w", t.c.Dir, err)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.histories[timeline] = text
	return nil
}

// replay reads a file. What follows the last whole frame of the last file was
// never synced, and is cut off.
func (t *Tape) replay(name string, last bool) error {
	f, err := t.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(strings.TrimSuffix(name, ".wal"), 16, 64)
	x := &file{f: f, name: name, number: number}
	t.files = append(t.files, x)
	if err != nil {
		return errors.New("not a file of a spool")
	}
	in := bufio.NewReaderSize(f, 1<<20)
	head := make([]byte, fileHeader)
	if _, err := io.ReadFull(in, head); err != nil || string(head[:8]) != magic {
		if last && (err != nil || string(head) == string(make([]byte, fileHeader))) { // made, and not yet written
			t.files = t.files[:len(t.files)-1]
			return errors.Join(f.Close(), durable.Remove(t.root, name))
		}
		return errors.Join(errors.New("not a file of a spool"), err)
	}
	if system := binary.LittleEndian.Uint64(head[8:]); system != t.c.System {
		return fmt.Errorf("%w, %d; that of the server is %d", ErrOther, system, t.c.System)
	}
	x.size = fileHeader
	for {
		h, err := next(in)
		if err == io.EOF {
			break
		}
		if err != nil && !last {
			return fmt.Errorf("damaged at %d: %w; take it away, and the server is asked again for what it held, if it has that still", x.size, err)
		}
		if err != nil {
			if err := f.Truncate(x.size); err != nil {
				return err
			}
			break
		}
		h.file, h.at = x, x.size
		x.size += frameHeader + int64(h.To-h.From)
		t.push(h)
	}
	// Whether the last process synced it is not known.
	x.synced, t.cur = x.size, x
	return f.Sync()
}

var errTorn = errors.New("no whole frame")

// next reads a frame, without keeping its content. io.EOF behind the last one.
func next(in io.Reader) (held, error) {
	head := make([]byte, frameHeader)
	if n, err := io.ReadFull(in, head); err != nil {
		if n == 0 {
			return held{}, err
		}
		return held{}, errTorn
	}
	n := binary.LittleEndian.Uint32(head)
	h := held{Frame: Frame{Timeline: binary.LittleEndian.Uint32(head[4:]), From: binary.LittleEndian.Uint64(head[8:]),
		First: timeOf(binary.LittleEndian.Uint64(head[16:])), Last: timeOf(binary.LittleEndian.Uint64(head[24:]))}}
	h.To = h.From + uint64(n)
	if n == 0 || n > maxFrame || h.Timeline == 0 {
		return held{}, errTorn
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(in, data); err != nil || string(h.header(data)) != string(head) {
		return held{}, errTorn
	}
	return h, nil
}

func (x *file) read(b []byte, h held) ([]byte, error) {
	buf := make([]byte, frameHeader+h.To-h.From)
	if _, err := x.f.ReadAt(buf, h.at); err != nil {
		return b, fmt.Errorf("%s: %w", x.name, err)
	}
	data := buf[frameHeader:]
	if string(h.header(data)) != string(buf[:frameHeader]) {
		return b, fmt.Errorf("%s: damaged at %d", x.name, h.at)
	}
	return append(b, data...), nil
}

// write writes a frame to the last file.
func (t *Tape) write(h *held, data []byte) error {
	if t.err != nil {
		return t.err
	}
	x, err := t.current()
	if err != nil {
		return err
	}
	frame := append(h.header(data), data...)
	_, err = x.f.WriteAt(frame, x.size)
	if err != nil && t.rewind(x) == nil { // the disk is full, of what nobody needs any more
		_, err = x.f.WriteAt(frame, x.size)
	}
	if err != nil {
		return errors.Join(err, x.f.Truncate(x.size)) // and what is left of it is no whole frame
	}
	h.file, h.at = x, x.size
	x.size += int64(frameHeader + len(data))
	return nil
}

// rewind empties the last file, if no frame is left.
func (t *Tape) rewind(x *file) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.frames) > 0 || x.size == fileHeader {
		return errors.New("nothing to be had")
	}
	if err := x.f.Truncate(fileHeader); err != nil {
		return err
	}
	x.size, x.synced = fileHeader, fileHeader
	return nil
}

// current is the file to write to; when one has its size, it is synced, and the
// next one made.
func (t *Tape) current() (*file, error) {
	number := uint64(1)
	if x := t.cur; x != nil {
		if x.size < fileSize {
			return x, nil
		}
		if err := t.Sync(); err != nil {
			return nil, err
		}
		number = x.number + 1
	}
	x := &file{name: fmt.Sprintf("%016x.wal", number), number: number, size: fileHeader}
	f, err := t.root.OpenFile(x.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	head := binary.LittleEndian.AppendUint64([]byte(magic), t.c.System)
	_, err = f.Write(append(head, make([]byte, fileHeader-len(head))...))
	if err == nil {
		err = durable.SyncDir(t.root, ".")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), t.root.Remove(x.name))
	}
	x.f, t.cur = f, x
	t.mu.Lock()
	t.files = append(t.files, x)
	t.mu.Unlock()
	return x, nil
}

// Sync returns when all that was appended is durable; in memory nothing is.
func (t *Tape) Sync() error {
	x := t.cur
	if t.err != nil || x == nil {
		return t.err
	}
	if x.synced == x.size {
		return nil
	}
	if err := x.f.Sync(); err != nil {
		// A second sync could succeed without having written anything.
		t.err = fmt.Errorf("spool %s: sync: %w", t.c.Dir, errors.Join(err, x.f.Truncate(x.synced)))
		return t.err
	}
	x.synced = x.size
	return nil
}

// unused takes out the files of which no frame is left, but for the last one.
// The lock is held.
func (t *Tape) unused() (out []*file) {
	for len(t.files) > 1 && (len(t.frames) == 0 || t.frames[0].file != t.files[0]) {
		out = append(out, t.files[0])
		t.files = t.files[1:]
	}
	return out
}

func (t *Tape) remove(gone []*file) error {
	var errs []error
	for _, x := range gone {
		errs = append(errs, x.f.Close(), t.root.Remove(x.name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("spool %s: %w", t.c.Dir, err)
	}
	return nil
}

// Close lets go of the directory. It does not sync.
func (t *Tape) Close() error {
	var errs []error
	for _, x := range t.files {
		errs = append(errs, x.f.Close())
	}
	if t.unlock != nil {
		errs = append(errs, t.unlock())
	}
	if t.root != nil {
		errs = append(errs, t.root.Close())
	}
	return errors.Join(errs...)
}
