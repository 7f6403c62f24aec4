package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// A Session is a point being made. A [Target] adds items to it; what it has
// added becomes visible when [Target.Backup] returns nil, all at once.
//
// A session is used by one goroutine at a time. Its work (identifying,
// compressing, encrypting, uploading) goes on in parallel behind it, so an
// error of the store may surface at any later call; the target returns it.
type Session struct {
	name   string
	mode   Mode
	parent *View
	p      *pipeline
	sort   sorter
	ids    *identifier

	cut  cutSettings
	cuts *cutter // made when first needed
	over bool

	externals    []External
	logs         []LogPosition
	warnings     []Warning
	warningCount int64
	stats        Stats
	progress     func(Progress)
	reported     time.Time
	began        time.Time
}

const (
	maxWarnings    = 1000
	maxWarningText = 1024
	maxExternals   = 100_000
)

// Name is the name of the workload.
func (s *Session) Name() string { return s.name }

// Mode says what to read. It is [Full] also where Incremental or
// Differential was asked for and there is no point to compare with, and after
// [Session.StartOver].
func (s *Session) Mode() Mode { return s.mode }

// Parent is the point to compare with, or nil if Mode is Full. Its items
// come in the order of [ComparePaths], so a target that walks in that order
// compares by merging, without holding either side in memory.
//
// In a process that cannot read (see [Config].Credential) it is the writer's
// own point, as far as [Config].Cache remembers it: items may be missing from
// it, which the target then takes for new, and to open content fails with
// [ErrSealed].
func (s *Session) Parent() *View { return s.parent }

// Add adds an item whose content is read from r until io.EOF; nil means no
// content. Items may be added in any order; the order of [ComparePaths] is
// the cheapest. Of several with one path the last counts. If r fails, its
// error is returned as it is and the item is not added: the target may warn
// and go on. Any other error ends the session. Until r has returned io.EOF its
// reader may complete it.Meta in place, within its length: with a checksum.
func (s *Session) Add(ctx context.Context, it Item, r io.Reader) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := it.valid(); err != nil {
		return err
	}
	it.Size, it.content = 0, content{}
	p := &pending{item: it, list: listWriter{write: s.metaWriter(ctx)}}
	if r != nil {
		if err := s.read(ctx, p, r); err != nil {
			return err
		}
	}
	return s.push(ctx, p)
}

// Reuse adds an item with the content that prev, an item of [Session.Parent],
// has, without reading anything. An error wrapping [ErrDamaged] says that
// this content is not in the repository any more, or not where this writer
// may rely on it; the target then reads and Adds it, which heals the
// repository.
func (s *Session) Reuse(ctx context.Context, prev, it Item) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := it.valid(); err != nil {
		return err
	}
	if s.parent == nil {
		return errors.New("reuse: this session has no parent; read and Add instead")
	}
	it.Size, it.content = prev.Size, prev.content
	if err := s.keep(ctx, prev); err != nil {
		return fmt.Errorf("reuse %q: %w", prev.Path, err)
	}
	return s.push(ctx, &pending{item: it})
}

// keep marks the packs that an item of the parent is in as needed.
func (s *Session) keep(ctx context.Context, prev Item) error {
	if c := prev.content; c.depth == 0 {
		left := prev.Size
		for i := range c.refs {
			left -= int64(c.refs[i].plain)
		}
		if left != 0 {
			return fmt.Errorf("%w: its chunks do not add up to %d bytes", ErrDamaged, prev.Size)
		}
		if id, ok := s.p.reuseAll(c.refs); !ok {
			return fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, id)
		}
		return nil
	}
	for d, err := range s.parent.refs(ctx, prev) {
		if err != nil {
			return err
		}
		if _, ok := s.p.reuseAll([]ref{d.ref}); !ok {
			return fmt.Errorf("%w: chunk %s is in no pack", ErrDamaged, d.id)
		}
	}
	return nil
}

// External adds a part that never enters the repository.
func (s *Session) External(e External) error {
	if e.Kind == "" || e.Ref == "" {
		return errors.New("external: Kind and Ref are required")
	}
	if b, err := json.Marshal(e); err != nil || len(b) > maxMeta {
		return errors.Join(fmt.Errorf("external %s %.80q: at most %d bytes are possible", e.Kind, e.Ref, maxMeta), err)
	}
	if len(s.externals) == maxExternals {
		return fmt.Errorf("external: a point has at most %d", maxExternals)
	}
	s.externals = append(s.externals, e)
	return nil
}

// Warn records that something is missing from the point or inconsistent in
// it. err must hold no secret.
func (s *Session) Warn(path string, err error) {
	s.warningCount++
	if len(s.warnings) < maxWarnings {
		text := err.Error()
		s.warnings = append(s.warnings, Warning{Path: path[:min(len(path), maxPath)], Text: text[:min(len(text), maxWarningText)]})
	}
}

func (s *Session) ready(ctx context.Context) error {
	if s.over {
		return errors.New("session is over")
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return s.p.failure()
}

func (s *Session) push(ctx context.Context, p *pending) error {
	s.sort.write = s.metaWriter(ctx)
	if err := s.sort.add(p); err != nil {
		return err
	}
	s.report(false)
	return nil
}

// count is called for every item as it is written to the tree.
func (s *Session) count(it Item) {
	s.stats.Items++
	s.stats.Bytes += it.Size
}

// report tells progress, not more often than every quarter of a second
// unless it is final.
func (s *Session) report(final bool) {
	if s.progress == nil {
		return
	}
	now := time.Now()
	if !final && now.Sub(s.reported) < 250*time.Millisecond {
		return
	}
	s.reported = now
	p := Progress{Items: s.stats.Items, Bytes: s.stats.Bytes, Read: s.stats.BytesRead, Stored: s.p.bytesStored.Load(), Elapsed: now.Sub(s.began)}
	if s.parent != nil { // what was there last time is the best guess
		p.TotalItems, p.TotalBytes = s.parent.m.point.Stats.Items, s.parent.m.point.Stats.Bytes
	}
	s.progress(p)
}

// read cuts the content of an item into chunks and submits them.
func (s *Session) read(ctx context.Context, p *pending, r io.Reader) error {
	if p.item.BlockSize > 0 {
		return s.readBlocks(ctx, p, r)
	}
	first, err := s.p.take(ctx, s.p.small, smallBuffer)
	if err != nil {
		return err
	}
	n, err := io.ReadFull(r, first[1:1+min(s.cut.Min, smallBuffer-1)])
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		if n == 0 {
			s.p.give(first)
			return nil
		}
		return s.submit(ctx, p, first, n)
	}
	if err != nil {
		s.p.give(first)
		return err
	}
	err = s.readCut(ctx, p, first[1:1+n], r)
	s.p.give(first)
	return err
}

// readCut cuts where the content suggests: that of head, and then of r.
func (s *Session) readCut(ctx context.Context, p *pending, head []byte, r io.Reader) (err error) {
	if s.cuts == nil {
		if s.cuts, err = newCutter(s.cut, s.p.r.keys.cut); err != nil {
			return err
		}
	}
	s.cuts.reset(head, r)
	for {
		buf, err := s.p.take(ctx, s.p.large, largeBuffer)
		if err != nil {
			return err
		}
		n, err := s.cuts.next(buf[1:])
		if err != nil {
			s.p.give(buf)
			if err == io.EOF {
				return nil
			}
			return err
		}
		if err := s.submit(ctx, p, buf, n); err != nil {
			return err
		}
	}
}

// readBlocks cuts every BlockSize bytes.
func (s *Session) readBlocks(ctx context.Context, p *pending, r io.Reader) error {
	for {
		buf, err := s.buffer(ctx, p.item.BlockSize)
		if err != nil {
			return err
		}
		n, err := io.ReadFull(r, buf[1:1+p.item.BlockSize])
		if n == 0 || (err != nil && err != io.ErrUnexpectedEOF) {
			s.p.give(buf)
			if err == io.EOF {
				return nil
			}
			return err
		}
		if serr := s.submit(ctx, p, buf, n); serr != nil || err != nil {
			return serr
		}
	}
}

func (s *Session) buffer(ctx context.Context, n int) ([]byte, error) {
	if n < smallBuffer {
		return s.p.take(ctx, s.p.small, smallBuffer)
	}
	return s.p.take(ctx, s.p.large, largeBuffer)
}

// submit sends one chunk of an item off.
func (s *Session) submit(ctx context.Context, p *pending, buf []byte, n int) error {
	p.item.Size += int64(n)
	s.stats.BytesRead += int64(n)
	sl := &slot{done: make(chan struct{})}
	if err := s.p.submit(ctx, job{buf: buf, n: n, kind: kindData, slot: sl}); err != nil {
		return err
	}
	p.slots = append(p.slots, sl)
	if len(p.slots) >= 2*listRefs {
		return p.settle(listRefs)
	}
	return nil
}

// metaWriter returns the function that stores pages of metadata.
func (s *Session) metaWriter(ctx context.Context) metaWriter {
	return func(page []byte) (ref, error) {
		if len(page) > maxData {
			return ref{}, fmt.Errorf("page of %d bytes of metadata", len(page)) // kept impossible by the limits of items
		}
		buf, err := s.buffer(ctx, len(page))
		if err != nil {
			return ref{}, err
		}
		copy(buf[1:], page)
		r := ref{id: s.ids.id(kindMeta, page), plain: uint32(len(page))}
		s.p.r.cache.put(cachedPage(r.id), page)
		return r, s.p.submit(ctx, job{buf: buf, n: len(page), kind: kindMeta, ref: r})
	}
}
