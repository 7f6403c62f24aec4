package replicate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/holdfast-go/holdfast/internal/throttle"
	"github.com/holdfast-go/holdfast/provider"
)

// window is how much one request asks for. A destination that reads parts of
// an object in parallel therefore leaves at most so much of each unread.
const window = 32 << 20

// maxIdle is how many open readers wait to be read on.
const maxIdle = 8

// remote is an object of a store as a [provider.Body]: it can be read again
// and in parallel and holds nothing in memory. Whoever reads on where an
// earlier read ended reads from the same request.
type remote struct {
	ctx   context.Context // a Body is read without one
	store provider.BlobStore
	limit *throttle.Limiter
	key   string
	size  int64
	ahead int64 // bytes that one request asks for

	mu      sync.Mutex
	version provider.Version // of the first reply, and then of all
	idle    []*stream
	err     error // the first failure to read
}

type stream struct {
	io.Reader
	io.Closer
	pos, end int64
}

func openRemote(ctx context.Context, s provider.BlobStore, l *throttle.Limiter, o provider.Info) *remote {
	return &remote{ctx: ctx, store: s, limit: l, key: o.Key, size: o.Size, ahead: window, version: o.Version}
}

func (b *remote) Size() int64 { return b.size }

// ReadAt implements [io.ReaderAt].
func (b *remote) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read %s: negative offset", b.key)
	}
	if off >= b.size {
		return 0, io.EOF
	}
	want := p[:min(int64(len(p)), b.size-off)]
	done := 0
	for done < len(want) {
		n, err := b.readSome(want[done:], off+int64(done))
		done += n
		if err != nil {
			return done, b.failed(err)
		}
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readSome reads up to the end of one request.
func (b *remote) readSome(p []byte, off int64) (int, error) {
	s, err := b.at(off)
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(s, p[:min(int64(len(p)), s.end-s.pos)])
	s.pos += int64(n)
	switch {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = fmt.Errorf("ends at byte %d of %d: %w", s.pos, b.size, provider.ErrCorrupt)
		fallthrough
	case err != nil || s.pos == s.end:
		s.Close()
		return n, err
	}
	b.keep(s)
	return n, nil
}

// at returns a reader whose next byte is the one at off.
func (b *remote) at(off int64) (*stream, error) {
	b.mu.Lock()
	for i, s := range b.idle {
		if s.pos == off {
			b.idle = append(b.idle[:i], b.idle[i+1:]...)
			b.mu.Unlock()
			return s, nil
		}
	}
	version := b.version
	b.mu.Unlock()

	end := min(off+b.ahead, b.size)
	r, info, err := b.store.Get(b.ctx, b.key, provider.GetOptions{Offset: off, Length: end - off, Version: version})
	if err != nil {
		return nil, err
	}
	if err := b.recognise(info); err != nil {
		r.Close()
		return nil, err
	}
	return &stream{b.limit.Reader(b.ctx, r), r, off, end}, nil
}

// recognise makes sure that all requests are answered from one object, of the
// promised size.
func (b *remote) recognise(info provider.Info) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.version == "" {
		b.version = info.Version
	}
	switch {
	case info.Size != b.size:
		return fmt.Errorf("has %d bytes instead of %d: %w", info.Size, b.size, provider.ErrCorrupt)
	case info.Version != b.version:
		return fmt.Errorf("replaced while being read: %w", provider.ErrCorrupt)
	}
	return nil
}

// keep offers s to the next read. The longest unused one makes room.
func (b *remote) keep(s *stream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.idle) == maxIdle {
		b.idle[0].Close()
		b.idle = append(b.idle[:0], b.idle[1:]...)
	}
	b.idle = append(b.idle, s)
}

func (b *remote) failed(err error) error {
	err = fmt.Errorf("read %s: %w", b.key, err)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	return err
}

// failure returns the first failure to read, which the error of a Put does
// not always hold.
func (b *remote) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Close closes what is open; b is not read any more.
func (b *remote) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.idle {
		s.Close()
	}
	b.idle = nil
}

// sum reads the whole object and returns its SHA-256.
func (b *remote) sum() ([32]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(b, 0, b.size)); err != nil {
		return [32]byte{}, err
	}
	return [32]byte(h.Sum(nil)), nil
}

// isDamage tells bytes that are gone or wrong from a store that cannot be
// reached.
func isDamage(err error) bool {
	return errors.Is(err, provider.ErrNotFound) || errors.Is(err, provider.ErrCorrupt) || errors.Is(err, provider.ErrRange)
}
