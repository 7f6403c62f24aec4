// Package tape holds WAL that was received and is not everywhere yet where it
// has to be: a queue of frames, in memory or in a directory.
//
// With a directory, what [Tape.Sync] was called for survives a crash of the
// machine: a frame is there whole or not at all, because each carries a sum
// and a file is cut behind its last whole frame when it is opened. Damage
// further ahead is an error, never a silent gap. When a sync fails, nothing
// since the last one is believed to be on disk: the file is cut back to that,
// and the tape is of no more use.
package tape

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// A Frame is a piece of WAL.
type Frame struct {
	Timeline uint32
	From, To uint64 // positions, half-open

	// First and Last are the earliest and the latest time of the commits that
	// end within, to the microsecond; zero if there is none.
	First, Last time.Time

	Received time.Time // zero: by an earlier process
}

// Config says where a tape is kept.
type Config struct {
	Dir    string // "": in memory
	System uint64 // whose WAL it is
	Limit  int64  // bytes; when there are more, the tape is full
}

// ErrOther: the directory has WAL of another system.
var ErrOther = errors.New("the spool holds WAL of another system")

// A Tape is a queue of frames, which are numbered from 0 on. It is safe for
// concurrent use, but for Append and Sync, which belong to one writer.
type Tape struct {
	c      Config
	root   *os.Root // nil: in memory
	unlock func() error

	mu        sync.Mutex
	frames    []held
	first     int64 // number of frames[0]
	size      int64 // of the content of frames
	more      chan struct{}
	trimmed   chan struct{}
	histories map[uint32][]byte

	files []*file // with frames; the last one is cur

	// Of the writer alone.
	cur *file // is written to; nil: none yet
	err error // nothing can be written any more
}

// held is a frame and where its content is.
type held struct {
	Frame
	data []byte
	file *file
	at   int64 // of its header in the file
}

// Open opens a tape, and finds what an earlier process left in its directory,
// which it makes if it is not there. Only one process can have it open.
func Open(c Config) (*Tape, error) {
	t := &Tape{c: c, more: make(chan struct{}), trimmed: make(chan struct{}, 1), histories: map[uint32][]byte{}}
	if c.Dir == "" {
		return t, nil
	}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", c.Dir, err), t.Close())
	}
	return t, nil
}

// Append adds a frame. It is not durable before Sync has returned nil. After an
// error the frame is not there.
func (t *Tape) Append(f Frame, data []byte) error {
	if f.Timeline == 0 || f.To-f.From != uint64(len(data)) || len(data) == 0 || len(data) > maxFrame {
		return fmt.Errorf("frame of timeline %d, %X to %X, with %d bytes", f.Timeline, f.From, f.To, len(data))
	}
	h := held{Frame: f}
	if t.root == nil {
		h.data = append([]byte(nil), data...)
	} else if err := t.write(&h, data); err != nil {
		return fmt.Errorf("spool %s: %w", t.c.Dir, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.push(h)
	return nil
}

func (t *Tape) push(h held) {
	t.frames = append(t.frames, h)
	t.size += int64(h.To - h.From)
	close(t.more)
	t.more = make(chan struct{})
}

// Full reports whether the tape has more than its limit.
func (t *Tape) Full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size >= t.c.Limit
}

// Size is how many bytes of WAL the tape has.
func (t *Tape) Size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.size
}

// Trimmed is readable when frames have gone since it was read last.
func (t *Tape) Trimmed() <-chan struct{} { return t.trimmed }

// Bounds are the number of the first frame and that of the next one to come.
func (t *Tape) Bounds() (first, next int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first, t.first + int64(len(t.frames))
}

// Frame returns a frame, if it is there.
func (t *Tape) Frame(n int64) (Frame, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < t.first || n >= t.first+int64(len(t.frames)) {
		return Frame{}, false
	}
	return t.frames[n-t.first].Frame, true
}

// Wait returns when the frame with a number is there, or with the error of ctx.
func (t *Tape) Wait(ctx context.Context, n int64) error {
	for {
		t.mu.Lock()
		there, more := n < t.first+int64(len(t.frames)), t.more
		t.mu.Unlock()
		if there {
			return ctx.Err()
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Read appends the content of a frame to b.
func (t *Tape) Read(b []byte, n int64) ([]byte, error) {
	t.mu.Lock()
	if n < t.first || n >= t.first+int64(len(t.frames)) {
		t.mu.Unlock()
		return b, fmt.Errorf("frame %d is not there", n)
	}
	h := t.frames[n-t.first]
	t.mu.Unlock()
	if h.file == nil {
		return append(b, h.data...), nil
	}
	b, err := h.file.read(b, h)
	if err != nil {
		return b, fmt.Errorf("spool %s: %w", t.c.Dir, err)
	}
	return b, nil
}

// Trim lets go of the frames before the one with a number. What is left of
// them on disk when that fails is found again by the next process.
func (t *Tape) Trim(n int64) error {
	t.mu.Lock()
	for len(t.frames) > 0 && t.first < n {
		t.size -= int64(t.frames[0].To - t.frames[0].From)
		t.frames[0] = held{}
		t.frames = t.frames[1:]
		t.first++
	}
	gone := t.unused()
	t.mu.Unlock()
	select {
	case t.trimmed <- struct{}{}:
	default:
	}
	return t.remove(gone)
}

// History returns the .history file of a timeline, nil if there is none.
func (t *Tape) History(timeline uint32) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.histories[timeline]
}
