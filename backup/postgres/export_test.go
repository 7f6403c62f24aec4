package postgres

import (
	"context"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// OptionsOf are those of a destination that mean a target.
func OptionsOf(t RecoveryTarget) map[string]string { return t.target().options() }

// CommitBehind says where the segment ends that has the first commit behind a
// time, of a log on timeline 1 from a position on.
func CommitBehind(ctx context.Context, log *backup.Log, from, to wal.LSN, at time.Time, few wal.LSN) (wal.LSN, error) {
	r := &recovery{log: log, b: base{Timeline: 1, Start: from, Stop: from, Segment: 1 << 20}, end: to, target: target{at: at}}
	return r.commitBehind(ctx, few)
}

// A BaseTarget makes points that are bases, with no file in them.
type BaseTarget struct {
	System      uint64
	Timeline    uint32
	Start, Stop wal.LSN
	At          time.Time
}

func (BaseTarget) Kind() string { return "postgres" }

func (b BaseTarget) Backup(ctx context.Context, s *backup.Session) error {
	d := base{System: b.System, Timeline: b.Timeline, Start: b.Start, Stop: b.Stop, Began: b.At, Ended: b.At.Add(time.Second), Segment: 1 << 20}
	if err := s.Add(ctx, backup.Item{Path: basePath, Meta: d.encode()}, nil); err != nil {
		return err
	}
	return s.NeedLog(backup.LogPosition{Log: LogName(b.System), Branch: b.Timeline, From: uint64(d.floor(b.Start)), Consistent: uint64(b.Stop)})
}

func (BaseTarget) Restore(context.Context, *backup.View, backup.Destination) error { return nil }

// FetchWAL does for a stretch of WAL what a backup does for its own.
func (t *Target) FetchWAL(ctx context.Context, log *backup.Log, timeline uint32, from, to wal.LSN) error {
	src, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer src.close()
	f, err := t.fetchWAL(ctx, src, log)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.begins(ctx, position{from, timeline}); err != nil {
		return err
	}
	return f.ends(ctx, base{System: src.system, Timeline: timeline, Start: from, Stop: to, Segment: src.segment})
}
