package httpstore

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/holdfast-go/holdfast/provider"
)

// Get implements [provider.BlobStore]. ctx governs the reader too.
func (s *Store) Get(ctx context.Context, key string, o provider.GetOptions) (io.ReadCloser, provider.Info, error) {
	c := &call{op: "get", key: key, path: pathObject, query: url.Values{"key": {key}}}
	if o.Offset != 0 {
		c.query.Set("offset", strconv.FormatInt(o.Offset, 10))
	}
	if o.Length != 0 {
		c.query.Set("length", strconv.FormatInt(o.Length, 10))
	}
	if o.Version != "" {
		c.query.Set("version", string(o.Version))
	}
	resp, err := s.read(ctx, c)
	if err != nil {
		return nil, provider.Info{}, err
	}
	var w wireInfo
	if err := fromHeader(resp.Header, headerInfo, &w); err != nil {
		resp.Body.Close()
		return nil, provider.Info{}, c.wrap(s.noAnswer(err))
	}
	info, err := s.info(c, w)
	if err != nil {
		resp.Body.Close()
		return nil, provider.Info{}, err
	}
	size := max(0, info.Size-o.Offset)
	if o.Length > 0 {
		size = min(size, o.Length)
	}
	return newFrameReader(resp.Body, size, c.wrap), info, nil
}

// Put implements [provider.BlobStore]. The body is read once to hash it if
// o.SHA256 is zero, and once to send it.
func (s *Store) Put(ctx context.Context, key string, body provider.Body, o provider.PutOptions) (provider.Info, error) {
	c := &call{op: "put", key: key, method: http.MethodPut, path: pathObject, query: url.Values{"key": {key}}}
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return provider.Info{}, c.wrap(provider.ErrInvalidKey)
	}
	sum := o.SHA256
	if sum == ([32]byte{}) {
		var err error
		if sum, err = hash(ctx, body); err != nil {
			return provider.Info{}, c.wrap(err)
		}
	}
	asked, err := toHeader(wirePut{
		IfAbsent: o.IfAbsent, IfMatch: string(o.IfMatch), SHA256: fmt.Sprintf("%x", sum),
		Meta: o.Meta, Retain: toWireRetention(o.Retain),
	})
	if err != nil {
		return provider.Info{}, c.wrap(err)
	}
	c.header = http.Header{headerPut: {asked}}
	sent := &bodyError{}
	c.size = body.Size()
	c.body = func() io.Reader { return &bodyReader{io.NewSectionReader(body, 0, c.size), c.size, sent} }
	var w wireInfo
	err = s.change(ctx, c, &w)
	if readErr := sent.get(); readErr != nil && err != nil {
		// The transport reports that the request broke off; this is why.
		return provider.Info{}, c.wrap(fmt.Errorf("read body: %w", readErr))
	}
	if err != nil {
		return provider.Info{}, err
	}
	return s.info(c, w)
}

// Stat implements [provider.BlobStore].
func (s *Store) Stat(ctx context.Context, key string) (provider.Info, error) {
	c := &call{op: "stat", key: key, path: pathStat, query: url.Values{"key": {key}}}
	resp, err := s.read(ctx, c)
	if err != nil {
		return provider.Info{}, err
	}
	defer resp.Body.Close()
	var w wireInfo
	if err := decode(resp.Body, &w); err != nil {
		return provider.Info{}, c.wrap(s.noAnswer(err))
	}
	return s.info(c, w)
}

// Delete implements [provider.BlobStore].
func (s *Store) Delete(ctx context.Context, key string, o provider.DeleteOptions) error {
	c := &call{op: "delete", key: key, method: http.MethodDelete, path: pathObject, query: url.Values{"key": {key}}}
	if o.Version != "" {
		c.query.Set("version", string(o.Version))
	}
	return s.change(ctx, c, &struct{}{})
}

// Lock implements [provider.Locker]; errors.ErrUnsupported if the store
// behind the server is none.
func (s *Store) Lock(ctx context.Context, key string, r provider.Retention) error {
	c := &call{op: "lock", key: key, method: http.MethodPost, path: pathLock, query: url.Values{"key": {key}}}
	b, err := json.Marshal(wireRetention{Mode: string(r.Mode), Until: r.Until})
	if err != nil {
		return c.wrap(err)
	}
	c.size = int64(len(b))
	c.body = func() io.Reader { return bytes.NewReader(b) }
	return s.change(ctx, c, &struct{}{})
}

// List implements [provider.BlobStore]. It streams: neither side holds more
// than one object's Info.
func (s *Store) List(ctx context.Context, prefix string, o provider.ListOptions) iter.Seq2[provider.Info, error] {
	return func(yield func(provider.Info, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		c := &call{op: "list", key: prefix, path: pathList, query: url.Values{"prefix": {prefix}, "after": {o.StartAfter}}}
		resp, err := s.read(ctx, c)
		if err != nil {
			yield(provider.Info{}, err)
			return
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxAnswer)
		last, n := o.StartAfter, int64(0)
		for lines.Scan() {
			info, end, err := s.line(c, lines.Bytes(), n)
			if end {
				return
			}
			if err == nil && (info.Key <= last || !strings.HasPrefix(info.Key, prefix)) {
				err = c.wrap(fmt.Errorf("server lists %q after %q: out of order or of another prefix", info.Key, last))
			}
			if err != nil {
				yield(provider.Info{}, err)
				return
			}
			if !yield(info, nil) {
				return
			}
			last, n = info.Key, n+1
		}
		err = lines.Err()
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		yield(provider.Info{}, c.wrap(fmt.Errorf("listing broke off after %d objects: %w", n, err)))
	}
}

// line reads one line of a listing that has had n objects so far.
func (s *Store) line(c *call, b []byte, n int64) (info provider.Info, end bool, err error) {
	var l wireLine
	if err := json.Unmarshal(b, &l); err != nil {
		return info, false, c.wrap(fmt.Errorf("listing broke off after %d objects: %w: %w", n, io.ErrUnexpectedEOF, err))
	}
	switch {
	case l.Error != nil:
		return info, false, c.wrap(l.Error.err())
	case l.End != nil && l.End.Count == n:
		return info, true, nil
	case l.End != nil:
		return info, false, c.wrap(fmt.Errorf("%d objects arrived of the %d listed", n, l.End.Count))
	case l.Info == nil:
		return info, false, c.wrap(errors.New("line of the listing is not understood"))
	}
	info, err = l.Info.info()
	if err != nil {
		return info, false, c.wrap(err)
	}
	return info, false, nil
}

// info turns the description of the object of c into an Info.
func (s *Store) info(c *call, w wireInfo) (provider.Info, error) {
	info, err := w.info()
	if err == nil && info.Key != c.key {
		err = fmt.Errorf("the answer is about %q", info.Key)
	}
	if err != nil {
		return provider.Info{}, c.wrap(s.noAnswer(err))
	}
	return info, nil
}

// hash reads a body through once.
func hash(ctx context.Context, body provider.Body) (sum [32]byte, err error) {
	h := sha256.New()
	r := &bodyReader{io.NewSectionReader(body, 0, body.Size()), body.Size(), &bodyError{}}
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			return [32]byte(h.Sum(nil)), nil
		}
		if err != nil {
			return sum, fmt.Errorf("read body: %w", err)
		}
	}
}

// A bodyReader reads left bytes of a body and remembers what stopped it: the
// transport keeps only part of that, and less is an error.
type bodyReader struct {
	r    io.Reader
	left int64
	err  *bodyError
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && err != io.EOF {
		b.err.set(err)
	}
	return n, err
}

// The transport reads a body on a goroutine of its own, which may outlive the
// call.
type bodyError struct {
	mu  sync.Mutex
	err error
}

func (b *bodyError) set(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *bodyError) get() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
