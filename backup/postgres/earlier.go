package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
	"github.com/holdfast-go/holdfast/provider"
)

// An earlier is the point from which a server of version 17 or later can tell
// what has changed.
type earlier struct {
	v       *backup.View
	b       base
	segment uint32 // blocks of a file of a relation
}

// summaries is the first version that tells what has changed.
const summaries = 17

// errUnfit: what there is of the earlier point cannot be built on.
var errUnfit = errors.New("what there is of the earlier backup cannot be built on")

// earlier finds out whether changes since the parent of a session will do, and
// gives the server what it needs to tell them. If not, why says it; err is only
// what ends the backup.
func (r *streamReader) earlier(ctx context.Context, s *backup.Session) (e *earlier, why, err error) {
	v := s.Parent()
	switch {
	case v == nil:
		return nil, nil, nil
	case r.src.version < summaries*10000:
		return nil, fmt.Errorf("servers tell what has changed from version %d on", summaries), nil
	case v.Point().Partial():
		return nil, errors.New("the earlier backup has warnings, of pages that fail"), nil
	}
	e = &earlier{v: v}
	if why := e.fits(ctx, r.src); why != nil {
		return nil, why, ctx.Err()
	}
	if why := r.tell(ctx, e); why != nil {
		// The connection may be left in the middle of something.
		return nil, why, errors.Join(ctx.Err(), r.reconnect(ctx))
	}
	return e, nil, nil
}

// fits says why a point is none to build on.
func (e *earlier) fits(ctx context.Context, src *source) error {
	row, err := query(ctx, src.conn, "SHOW summarize_wal", 1)
	if err != nil {
		return err
	}
	if row[0] != "on" {
		return errors.New("summarize_wal is off; ALTER SYSTEM SET summarize_wal = on, and SELECT pg_reload_conf()")
	}
	if row, err = query(ctx, src.conn, "SHOW segment_size", 1); err != nil {
		return err
	}
	size, err := parseSize(row[0])
	if err != nil {
		return err
	}
	e.segment = uint32(size / uint64(src.block))
	it, err := e.v.Lookup(ctx, basePath)
	if err != nil {
		return err
	}
	if e.b, err = decodeBase(it); err != nil {
		return err
	}
	switch {
	case e.b.System != src.system:
		return fmt.Errorf("the earlier backup is of another cluster, %d", e.b.System)
	case e.b.Version/10000 != src.version/10000:
		return fmt.Errorf("the earlier backup is of a server of version %d", e.b.Version/10000)
	case e.b.Checksums != src.sums || e.b.Block != src.block:
		return errors.New("pages had other checksums, or another size, at the earlier backup")
	case relationBlock%src.block != 0:
		return fmt.Errorf("pages of %d bytes are none of which chunks consist", src.block)
	}
	return nil
}

// tell sends the manifest of the earlier backup to the server.
func (r *streamReader) tell(ctx context.Context, e *earlier) error {
	it, err := e.v.Lookup(ctx, manifestPath)
	if err != nil {
		return err
	}
	in, err := e.v.Open(ctx, it)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := r.src.conn.CopyFrom(ctx, in, "UPLOAD_MANIFEST"); err != nil {
		return fmt.Errorf("UPLOAD_MANIFEST: %w", err)
	}
	return nil
}

// reconnect replaces the connection by one to the same cluster.
func (r *streamReader) reconnect(ctx context.Context) error {
	r.src.close()
	fresh, err := r.t.open(ctx)
	if err != nil {
		return err
	}
	r.src.conn = fresh.conn
	if fresh.system != r.src.system {
		return fmt.Errorf("field Conn leads to the cluster %d, and did to %d", fresh.system, r.src.system)
	}
	return nil
}

// refused reports whether an error is the server's answer to BASE_BACKUP, which
// can be another to one that asks for all.
func refused(err error) bool {
	_, ok := errors.AsType[*pgconn.PgError](err)
	return ok
}

// label takes the lines that make a backup an incremental one out of its
// backup_label, without which no server would start with it. They have to name
// the earlier one.
func (e *earlier) label(text []byte) ([]byte, error) {
	var kept []byte
	var from wal.LSN
	var timeline uint32
	var err1, err2 error
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "INCREMENTAL FROM LSN: "); ok {
			from, err1 = wal.ParseLSN(strings.TrimSpace(v))
		} else if v, ok := strings.CutPrefix(line, "INCREMENTAL FROM TLI: "); ok {
			timeline, err2 = parseTimeline(strings.TrimSpace(v))
		} else {
			kept = append(kept, line...)
		}
	}
	if err := errors.Join(err1, err2); err != nil || from != e.b.Start || timeline != e.b.Timeline {
		return nil, errors.Join(fmt.Errorf("the server sends what has changed since %v on timeline %d, and was asked for that since %v on %d",
			from, timeline, e.b.Start, e.b.Timeline), err)
	}
	return kept, nil
}

// crc is the CRC-32C of an earlier file. One that has another sum in its
// description is read for it.
func (e *earlier) crc(ctx context.Context, prev backup.Item, m meta, sum digest) (fileCRC, error) {
	if sum.algorithm() == sumCRC32C {
		return crcOf(sum), nil
	}
	if b, err := hex.DecodeString(m.CRC); err == nil && len(b) == crc32.Size {
		return crcOf(digest(b)), nil
	}
	in, err := e.v.Open(ctx, prev)
	if err != nil {
		return 0, err
	}
	defer in.Close()
	h := newSummer(sumCRC32C)
	if _, err := io.Copy(h, in); err != nil {
		return 0, err
	}
	return crcOf(h.digest()), nil
}

// entry makes a file of what has arrived of it: all, or what has changed.
func (e *earlier) entry(ctx context.Context, r *reading, path string, m meta, size int64, content io.Reader) error {
	file, changed := changesOf(path)
	switch {
	case changed:
		if err := e.change(ctx, r, path, file, m, size, content); err != nil {
			return fmt.Errorf("postgres: %q: %w", path, err)
		}
		return nil
	case path == labelPath:
		text, err := io.ReadAll(io.LimitReader(content, 64<<10))
		if err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		h := newSummer(r.sums)
		h.Write(text)
		r.read[path] = fileSum{int64(len(text)), h.digest()}
		if text, err = e.label(text); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		return r.whole(ctx, path, m, bytes.NewReader(text), func(s fileSum) { r.became.add(path, m.ModTime, s) })
	}
	return r.whole(ctx, path, m, content, func(s fileSum) {
		r.read[path] = s
		r.became.add(path, m.ModTime, s)
	})
}

// change makes a file of the earlier one and of what has changed.
func (e *earlier) change(ctx context.Context, r *reading, path, file string, m meta, size int64, content io.Reader) error {
	sent := &summed{r: content, sum: newSummer(r.sums), tell: nil}
	c, err := readChanges(sent, size, r.src.block, e.segment)
	if err != nil {
		return err
	}
	prev, err := e.v.Lookup(ctx, file)
	if errors.Is(err, provider.ErrNotFound) {
		err = fmt.Errorf("%w: it does not have this file", errUnfit)
	}
	if err != nil {
		return err
	}
	was, sum, err := decodeMeta(prev)
	if err != nil {
		return err
	}
	it := backup.Item{Path: file, BlockSize: relationBlock}
	y := &synthesis{v: e.v, prev: prev, changes: c, blocks: sent, block: int64(r.src.block), ahead: 4 * r.t.c.Workers}
	if len(c.blocks) == 0 && prev.Size == y.size() {
		m.CRC, m.Sum = was.CRC, was.Sum
		it.Meta = m.encode()
		err = r.s.Reuse(ctx, prev, it)
	} else if y.crc, err = e.crc(ctx, prev, was, sum); err == nil {
		m.Sum = unknown(sumCRC32C).String()
		it.Meta = m.encode()
		if err = r.s.Assemble(ctx, it, y.pieces(ctx, it.Meta)); err == nil {
			sum = y.crc.digest()
		}
	}
	if err != nil {
		return err
	}
	r.read[path] = fileSum{sent.size, sent.sum.digest()}
	r.became.add(file, m.ModTime, fileSum{y.size(), sum})
	return nil
}
