package postgres

import (
	"context"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// OptionsOf are those of a destination that mean a target.
func OptionsOf(t RecoveryTarget) map[string]string { return t.target().options() }

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
