package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// ArchiveSegment puts a file that PostgreSQL hands to archive_command (%p) into
// a log: a segment of WAL, whole or .partial, or a .history file. It can be
// repeated, and runs beside a [Receiver]: only what the log lacks is added. If
// the log has other bytes at its positions, which is compared as far as the
// writer can, it is refused with [backup.ErrSplit]. Other files, such as
// .backup ones, are not kept, and no error.
//
// Of a segment whose timeline began within it only what came since is taken:
// the .history file of the timeline, which PostgreSQL archives first, has to be
// there before.
func ArchiveSegment(ctx context.Context, l *backup.Log, path string) error {
	if err := archiveFile(ctx, l, path); err != nil {
		return fmt.Errorf("archive %s: %w", filepath.Base(path), err)
	}
	return nil
}

func archiveFile(ctx context.Context, l *backup.Log, path string) error {
	name := filepath.Base(path)
	if number, ok := strings.CutSuffix(name, ".history"); ok {
		return archiveHistory(ctx, l, path, number)
	}
	whole, partial := strings.CutSuffix(name, ".partial")
	if strings.Contains(whole, ".") {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	a, err := openSegment(f, whole)
	if err != nil {
		return err
	}
	if want := LogName(a.system); l.Name() != want {
		return fmt.Errorf("it belongs into log %q, not %q", want, l.Name())
	}
	return a.archive(ctx, l, partial)
}

func archiveHistory(ctx context.Context, l *backup.Log, path, number string) error {
	n, err := strconv.ParseUint(number, 16, 32)
	if err != nil || len(number) != 8 || n < 2 {
		return errors.New("not a timeline's .history file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lin, err := parseLineage(uint32(n), text)
	if err != nil {
		return err
	}
	for _, b := range lin.branches(func(timeline uint32) []byte {
		if timeline == uint32(n) {
			return text
		}
		return nil
	}) {
		if err := l.StartBranch(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// A segmentFile is a file of WAL.
type segmentFile struct {
	f        *os.File
	system   uint64
	size     uint64
	timeline uint32
	start    LSN
}

func openSegment(f *os.File, name string) (a segmentFile, err error) {
	head := make([]byte, 40)
	if _, err := io.ReadFull(f, head); err != nil {
		return a, fmt.Errorf("read its header: %w", err)
	}
	a = segmentFile{f: f, system: binary.LittleEndian.Uint64(head[24:]), size: uint64(binary.LittleEndian.Uint32(head[32:]))}
	if a.timeline, a.start, err = wal.ParseSegmentName(name, a.size); err != nil {
		return a, err
	}
	if at := LSN(binary.LittleEndian.Uint64(head[8:])); at != a.start {
		return a, fmt.Errorf("its first page belongs to %v", at)
	}
	info, err := f.Stat()
	if err == nil && uint64(info.Size()) != a.size {
		err = fmt.Errorf("it has %d bytes, want %d", info.Size(), a.size)
	}
	return a, err
}

// archive adds what the log lacks, and compares the rest.
func (a segmentFile) archive(ctx context.Context, l *backup.Log, partial bool) error {
	times, end, err := a.scan(partial)
	if err != nil {
		return err
	}
	begin, err := a.begin(ctx, l)
	if err != nil || begin >= end {
		return err
	}
	if err := a.compare(ctx, l, begin, end); err != nil {
		return err
	}
	c, err := l.Coverage(ctx, a.timeline, uint64(begin), uint64(end))
	if err != nil {
		return err
	}
	for _, g := range c.Gaps {
		for from := g.From; from < g.To; from += backup.MaxSegment {
			seg := backup.Segment{Branch: a.timeline, From: from, To: min(g.To, from+backup.MaxSegment)}
			seg.First, seg.Last = times.within(seg.From, seg.To)
			data, err := a.read(seg.From, seg.To)
			if err != nil {
				return err
			}
			if err := l.Append(ctx, seg, data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a segmentFile) read(from, to uint64) ([]byte, error) {
	data := make([]byte, to-from)
	_, err := a.f.ReadAt(data, int64(from-uint64(a.start)))
	return data, err
}

// scan reads all records. A whole segment ends with one that goes on in the
// next one, or was left early; a partial one where nothing more was written.
func (a segmentFile) scan(partial bool) (t commits, end LSN, err error) {
	end = a.start + LSN(a.size)
	s := wal.NewScanner(wal.Config{Start: a.start, SegmentSize: a.size, Timeline: a.timeline})
	buf := make([]byte, 1<<20)
	for at := int64(0); at < int64(a.size); at += int64(len(buf)) {
		if _, err := a.f.ReadAt(buf, at); err != nil {
			return t, 0, err
		}
		err := s.Scan(buf, func(r wal.Record) error {
			if r.Kind == wal.Commit && commitTime(r.Time) {
				t = append(t, commit{r.LSN, r.LSN + LSN(r.Length), r.Time})
			}
			return nil
		})
		if err != nil && partial {
			return t, max(s.End(), a.start), nil
		}
		if err != nil {
			return t, 0, err
		}
	}
	return t, end, nil
}

// begin is where the timeline of the segment begins, if that is within it.
func (a segmentFile) begin(ctx context.Context, l *backup.Log) (LSN, error) {
	if a.timeline == 1 {
		return a.start, nil
	}
	for b, err := range l.Branches(ctx) {
		if err != nil {
			return 0, err
		}
		if b.Branch == a.timeline && b.Parent != 0 {
			return max(a.start, LSN(b.At)), nil
		}
	}
	return 0, fmt.Errorf("where timeline %d comes from is not known: archive %s first", a.timeline, wal.HistoryName(a.timeline))
}

// compare compares what the log has of some positions: all of it, or if the
// writer cannot read, by the sums of those segments that lie within.
func (a segmentFile) compare(ctx context.Context, l *backup.Log, begin, end LSN) error {
	for seg, err := range l.Segments(ctx, a.timeline, uint64(begin), uint64(end)) {
		if err != nil {
			return err
		}
		if seg.Damaged != "" {
			continue
		}
		lo, hi := max(seg.From, uint64(begin)), min(seg.To, uint64(end))
		mine, err := a.read(lo, hi)
		if err != nil {
			return err
		}
		if lo == seg.From && hi == seg.To {
			err = l.Append(ctx, backup.Segment{Branch: seg.Branch, From: seg.From, To: seg.To, First: seg.First, Last: seg.Last}, mine)
			if err != nil && !errors.Is(err, backup.ErrOverlap) {
				return err
			}
			continue
		}
		theirs, err := readLog(ctx, l, seg.Branch, lo, hi)
		if errors.Is(err, backup.ErrSealed) {
			continue
		}
		if err != nil {
			return err
		}
		if !bytes.Equal(mine, theirs) {
			return fmt.Errorf("%v to %v: %w", LSN(lo), LSN(hi), backup.ErrSplit)
		}
	}
	return nil
}

func readLog(ctx context.Context, l *backup.Log, branch uint32, from, to uint64) ([]byte, error) {
	r, err := l.Open(ctx, branch, from, to)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
