package postgres

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
)

// Backup implements [backup.Target].
func (t *Target) Backup(ctx context.Context, s *backup.Session) error {
	src, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer src.close()
	log, err := s.Log(LogName(src.system))
	if err != nil {
		return err
	}
	// Before the backup begins, so that the server keeps all WAL of it.
	f, err := t.fetchWAL(ctx, src, log)
	if err != nil {
		return err
	}
	defer f.close()
	r, name, err := t.reader(ctx, src, f.slot)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer r.close()
	began := time.Now().UTC()
	mark := t.watermark(ctx, src, s.Name())
	var start position
	for {
		if start, err = r.begin(ctx, s); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		t.c.Logger.Info("base backup begins", "point", s.Name(), "start", start.at, "timeline", start.timeline, "reader", string(name))
		if err := f.begins(ctx, start); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		if err = r.read(ctx, s); !r.startsOver(ctx, s, err) {
			break
		}
	}
	if err != nil {
		return err
	}
	end, err := r.end(ctx, s)
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	b := base{
		System: src.system, Timeline: start.timeline, Start: start.at, Stop: end.at, Began: began, Ended: time.Now().UTC(),
		Version: src.version, Segment: src.segment, Block: src.block, Checksums: src.sums, Standby: src.standby, Reader: string(name), Whole: r.whole(),
		Tablespaces: r.tablespaces(ctx), Watermark: mark,
	}
	if end.timeline != b.Timeline || b.Stop < b.Start {
		return fmt.Errorf("postgres: the server was promoted while it was backed up: timeline %d to %d", b.Timeline, end.timeline)
	}
	if err := f.ends(ctx, b); err != nil {
		return fmt.Errorf("postgres: WAL of the backup: %w", err)
	}
	if err := s.Add(ctx, backup.Item{Path: basePath, Meta: b.encode()}, nil); err != nil {
		return err
	}
	return s.NeedLog(backup.LogPosition{Log: log.Name(), Branch: b.Timeline, From: uint64(b.floor(b.Start)), Consistent: uint64(b.Stop)})
}

// command is BASE_BACKUP as it is sent, with further options. The log has the WAL, so the server
// waits for no archive. Without a map it sends tablespaces as links, which say
// the same, and the manifest holds for what is restored elsewhere, too.
func (t *Target) command(name, more string) string {
	checkpoint := "fast"
	if t.c.Checkpoint != "" {
		checkpoint = t.c.Checkpoint
	}
	return fmt.Sprintf("BASE_BACKUP (LABEL %s, CHECKPOINT '%s', WAL false, WAIT false, MANIFEST 'yes', MANIFEST_CHECKSUMS '%s', VERIFY_CHECKSUMS true%s)",
		quote(label(name)), checkpoint, t.sums(Stream), more)
}

// label names a backup at the server.
func label(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, "holdfast "+name)
}

// quote makes a literal of the replication protocol.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// A reading makes items of a stream.
type reading struct {
	t      *Target
	src    *source
	s      *backup.Session
	stream *baseStream
	sums   string             // algorithm
	read   map[string]fileSum // what has arrived
	since  *earlier           // what arrives are changes; nil: all
	became manifestWriter     // what is made of changes

	manifest []byte
}

// all reads everything, and compares it with the manifest.
func (r *reading) all(ctx context.Context) error {
	for {
		p, err := r.stream.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		if p.manifest {
			err = r.keepManifest(ctx)
		} else {
			err = r.archive(ctx, p)
		}
		if err != nil {
			return err
		}
	}
	if r.manifest == nil {
		return errors.New("postgres: the server has sent no manifest")
	}
	manifest, err := parseManifest(r.manifest)
	if err == nil {
		err = agree(manifest, r.read)
	}
	if err == nil && r.since != nil {
		manifest := r.became.finish(r.src, r.stream.start, r.stream.end.at)
		m := meta{Type: typeFile, Mode: 0o600, ModTime: time.Now().UTC(), Sum: unknown(r.sums).String()}
		it := backup.Item{Path: manifestPath, Meta: m.encode()}
		err = r.s.Add(ctx, it, newSummed(bytes.NewReader(manifest), it, r.sums, func(fileSum) {}))
	}
	if err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if r.stream.corrupt {
		for _, w := range r.stream.warnings {
			r.s.Warn("", errors.New(w))
		}
	}
	return nil
}

func (r *reading) keepManifest(ctx context.Context) error {
	var text bytes.Buffer
	if r.since != nil { // it is of what arrives, and not of what becomes of it
		_, err := io.Copy(&text, r.stream)
		r.manifest = text.Bytes()
		return err
	}
	m := meta{Type: typeFile, Mode: 0o600, ModTime: time.Now().UTC(), Sum: unknown(r.sums).String()}
	it := backup.Item{Path: manifestPath, Meta: m.encode()}
	err := r.s.Add(ctx, it, newSummed(io.TeeReader(r.stream, &text), it, r.sums, func(fileSum) {}))
	r.manifest = text.Bytes()
	return err
}

// archive makes items of the entries of a tar archive.
func (r *reading) archive(ctx context.Context, p part) error {
	below := ""
	if p.location != "" {
		oid, err := strconv.ParseUint(strings.TrimSuffix(p.name, ".tar"), 10, 32)
		if err != nil {
			return fmt.Errorf("postgres: archive %.80q of a tablespace: want OID.tar", p.name)
		}
		below = fmt.Sprintf("pg_tblspc/%d/", oid)
	}
	entries := tar.NewReader(r.stream)
	for {
		h, err := entries.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("postgres: archive %.80q: %w", p.name, err)
		}
		if err := r.entry(ctx, below, h, entries); err != nil {
			return err
		}
	}
	// Zeroes may follow.
	if _, err := io.Copy(io.Discard, r.stream); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

func (r *reading) entry(ctx context.Context, below string, h *tar.Header, content io.Reader) error {
	path := strings.TrimSuffix(strings.TrimPrefix(h.Name, "./"), "/")
	if path == "" || path == "." {
		return nil // what is in an archive, itself
	}
	path = below + path
	if err := checkPath(path); err != nil {
		return fmt.Errorf("postgres: the server sends %w", err)
	}
	m := meta{Type: typeDir, Mode: uint32(h.Mode & 0o777), ModTime: h.ModTime.UTC()}
	switch h.Typeflag {
	case tar.TypeDir:
		return r.s.Add(ctx, backup.Item{Path: path, Meta: m.encode()}, nil)
	case tar.TypeSymlink:
		return nil // of a tablespace, which has been announced
	case tar.TypeReg:
	default:
		return fmt.Errorf("postgres: the server sends %q as a tar entry of type %q", path, h.Typeflag)
	}
	if _, twice := r.read[path]; twice {
		return fmt.Errorf("postgres: the server sends %q twice", path)
	}
	m.Type = typeFile
	if r.since != nil {
		return r.since.entry(ctx, r, path, m, h.Size, content)
	}
	return r.whole(ctx, path, m, content, func(s fileSum) { r.read[path] = s })
}

// whole adds a file that has arrived as a whole.
func (r *reading) whole(ctx context.Context, path string, m meta, content io.Reader, tell func(fileSum)) error {
	m.Sum = unknown(r.sums).String()
	it := backup.Item{Path: path}
	if isRelation(path) {
		it.BlockSize = relationBlock
		if r.src.version >= summaries*10000 && r.sums != sumCRC32C {
			m.CRC = unknown(sumCRC32C).String() // for when only changes arrive
		}
	}
	it.Meta = m.encode()
	return r.s.Add(ctx, it, newSummed(content, it, r.sums, tell))
}
