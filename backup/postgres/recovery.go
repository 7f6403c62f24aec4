package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A recovery is the WAL that a restored cluster replays: what of it, and how
// it is told so.
type recovery struct {
	log    *backup.Log
	b      base
	target target
	dir    string // where the WAL goes

	way   []backup.Branch // timelines behind that of the backup, the oldest first
	turns int             // so many of them lead to the target
	end   wal.LSN         // of what is put there

	// known are the timelines of the log. A server that goes into operation
	// takes the first number that has no history: without these, the number
	// of another line, whose WAL is in the log.
	known []backup.Branch
}

// planRecovery makes certain that the log has the WAL, before anything is
// written.
func planRecovery(ctx context.Context, v *backup.View, b base, o options) (*recovery, error) {
	log, err := v.Log(LogName(b.System))
	if err != nil {
		return nil, err
	}
	t, err := readTimelines(ctx, log)
	if err != nil {
		return nil, err
	}
	r, err := t.prove(ctx, b, o.recovery)
	if err != nil {
		return nil, t.unreachable(ctx, err, []candidate{{point: v.Point(), b: b}}, o.recovery)
	}
	r.dir = o.walDir
	return r, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// timeline is the one that the way leads to.
func (r *recovery) timeline() uint32 {
	if n := len(r.way); n > 0 {
		return r.way[n-1].Branch
	}
	return r.b.Timeline
}

// A stretch is WAL in files of one timeline.
type stretch struct {
	timeline uint32
	from, to wal.LSN
}

// stretches divides the WAL by the timelines its files are named after: the
// file in which a timeline begins is that of the new one, and has what came
// before in it, too.
func (r *recovery) stretches() (out []stretch) {
	timeline, from := r.b.Timeline, r.b.floor(r.b.Start)
	for _, b := range r.way {
		begin := max(from, r.b.floor(wal.LSN(b.At)))
		if begin >= r.end {
			break // recovery ends before
		}
		if begin > from {
			out = append(out, stretch{timeline, from, begin})
		}
		timeline, from = b.Branch, begin
	}
	if from < r.end {
		out = append(out, stretch{timeline, from, r.end})
	}
	// Whoever stops on the way there wants that file of the old one.
	if r.turns < len(r.way) {
		at, timeline := wal.LSN(r.way[r.turns].At), r.b.Timeline
		if r.turns > 0 {
			timeline = r.way[r.turns-1].Branch
		}
		if from, to := max(r.b.floor(at), r.b.floor(r.b.Start)), min(at, r.end); from < to {
			out = append(out, stretch{timeline, from, to})
		}
	}
	return out
}

// stage puts the WAL into files.
func (r *recovery) stage(ctx context.Context, root *os.Root) error {
	for _, b := range r.known {
		if err := writeFile(root, wal.HistoryName(b.Branch), b.History); err != nil {
			return err
		}
	}
	for _, s := range r.stretches() {
		if err := r.stageStretch(ctx, root, s); err != nil {
			return fmt.Errorf("WAL: %w", err)
		}
	}
	return nil
}

func (r *recovery) stageStretch(ctx context.Context, root *os.Root, s stretch) error {
	in, err := r.log.Open(ctx, s.timeline, uint64(s.from), uint64(s.to))
	if err != nil {
		return err
	}
	defer in.Close()
	for at := s.from; at < s.to; at += wal.LSN(r.b.Segment) {
		f, err := root.OpenFile(wal.SegmentName(s.timeline, at, r.b.Segment), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, in, int64(min(s.to-at, wal.LSN(r.b.Segment))))
		if err == nil {
			err = f.Truncate(int64(r.b.Segment)) // zeroes, where the log ends
		}
		if err == nil {
			err = syncFile(f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(root *os.Root, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = syncFile(f)
	}
	return errors.Join(err, f.Close())
}

// ours are the settings that a restore makes. Those that an earlier one left
// in the cluster would be another target, and two are an error.
var ours = regexp.MustCompile(`(?mi)^\s*(restore_command|recovery_target(_\w+)?)\b.*\n?`)

// settings are those for postgresql.auto.conf, behind what it has.
func (r *recovery) settings(before []byte) []byte {
	var b strings.Builder
	b.Write(ours.ReplaceAll(before, nil))
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
	set := func(name, value string) { fmt.Fprintf(&b, "%s = %s\n", name, setting(value)) }
	b.WriteString("# Of a restore by Holdfast:\n")
	set("restore_command", "cp "+shell(strings.ReplaceAll(r.dir, "%", "%%"))+`/%f "%p"`)
	timeline := "current" // which wants no history
	if r.turns > 0 {
		timeline = fmt.Sprint(r.way[r.turns-1].Branch)
	}
	set("recovery_target_timeline", timeline)
	t := r.target
	switch {
	case !t.at.IsZero():
		set("recovery_target_time", t.at.UTC().Format("2006-01-02 15:04:05.999999-07"))
	case t.lsn != 0:
		set("recovery_target_lsn", t.lsn.String())
	case t.xid != "":
		set("recovery_target_xid", t.xid)
	case t.name != "":
		set("recovery_target_name", t.name)
	}
	if t.exclusive {
		set("recovery_target_inclusive", "off")
	}
	switch {
	case t.end(): // nothing that would bring about an action
	case t.action != "":
		set("recovery_target_action", t.action)
	default:
		set("recovery_target_action", "promote")
	}
	return []byte(b.String())
}

// setting quotes a value for postgresql.conf.
func setting(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// shell quotes a word for a shell.
func shell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
