package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/backup/postgres/internal/wal"
)

// A watermark is a row that a backup has written before it began. Whatever is
// restored from the backup has it, or one of a later backup of the same name.
type watermark struct {
	Database string    `json:"database"`
	Name     string    `json:"name"`
	At       time.Time `json:"at,omitzero"`       // by the server's clock
	Missing  string    `json:"missing,omitempty"` // why there is none
}

// watermark writes the row. What keeps it from that is kept, too: the backup is
// worth more than its mark.
func (t *Target) watermark(ctx context.Context, src *source, name string) *watermark {
	if t.c.Watermark == "" {
		return nil
	}
	w := &watermark{Database: t.c.Watermark, Name: name}
	err := error(nil)
	if src.standby {
		err = fmt.Errorf("the source is a standby, which cannot be written to")
	} else {
		w.At, err = t.mark(ctx, w)
	}
	if err != nil {
		w.Missing = err.Error()
		t.c.Logger.Warn("there is no watermark", "point", name, "database", w.Database, "error", err)
	}
	return w
}

// marking waits neither for a standby, which may be our own receiver, nor for
// long for somebody who holds a lock.
const marking = `SET synchronous_commit = local; SET lock_timeout = '10s'; SET search_path = pg_catalog`

// makeMarks makes the table where it is missing: a role that may write to it
// need not be allowed to make it.
const makeMarks = `SELECT pg_advisory_xact_lock(3450166718244593267);
	CREATE SCHEMA IF NOT EXISTS holdfast;
	CREATE TABLE IF NOT EXISTS holdfast.watermark (name text PRIMARY KEY, at timestamptz NOT NULL)`

const putMark = `INSERT INTO holdfast.watermark AS w (name, at) VALUES ($1, clock_timestamp())
	ON CONFLICT (name) DO UPDATE SET at = greatest(w.at, excluded.at) RETURNING to_char(at AT TIME ZONE 'UTC', ` + moment + `)`

// moment is RFC 3339 for to_char, with microseconds, of a time in UTC.
const moment = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`

func (t *Target) mark(ctx context.Context, w *watermark) (at time.Time, err error) {
	c := t.conn.Copy()
	c.Database = w.Database
	conn, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return at, err
	}
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, marking).ReadAll(); err != nil {
		return at, err
	}
	row, err := query(ctx, conn, `SELECT to_regclass('holdfast.watermark') IS NULL`, 1)
	if err == nil && row[0] == "t" {
		_, err = conn.Exec(ctx, makeMarks).ReadAll()
	}
	if err != nil {
		return at, err
	}
	r := conn.ExecParams(ctx, putMark, [][]byte{[]byte(w.Name)}, nil, nil, nil).Read()
	if r.Err != nil {
		return at, r.Err
	}
	return time.Parse(time.RFC3339Nano, string(r.Rows[0][0]))
}

// A note is what a restore leaves for the proof of what it restored. It is a
// comment in postgresql.auto.conf, which the next ALTER SYSTEM removes.
type note struct {
	Began     time.Time  `json:"began"`          // of the restore
	Until     time.Time  `json:"until,omitzero"` // its target-time
	Watermark *watermark `json:"watermark,omitempty"`
	Backup    time.Time  `json:"backup,omitzero"` // it began
	From      wal.LSN    `json:"from,omitempty"`  // replaying begins
}

const noteBegin = "# holdfast "

var notes = regexp.MustCompile(`(?m)^` + noteBegin + `\{.*\n?`)

// annotated is a file of settings with a note, and without those it had.
func annotated(settings []byte, n note) []byte {
	b, err := json.Marshal(n)
	if err != nil {
		panic(err)
	}
	return append(notes.ReplaceAll(settings, nil), noteBegin+string(b)+"\n"...)
}

// readNote finds the note in a file of settings; the zero value if there is none.
func readNote(settings []byte) (n note) {
	all := notes.FindAll(settings, -1)
	if len(all) == 0 || json.Unmarshal(bytes.TrimPrefix(all[len(all)-1], []byte(noteBegin)), &n) != nil {
		return note{}
	}
	return n
}
