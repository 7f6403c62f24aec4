package logical

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/provider"
)

// What a restore calls its own: the new database, the one it replaces, and that
// if it is to be dropped.
const (
	isNew  = "new"
	isOld  = "old"
	isDrop = "drop"
)

var ours = regexp.MustCompile(`\.holdfast-(new|old|drop)-[0-9a-f]{12}$`)

// isOurs reports whether a database is of a restore.
func isOurs(name string) bool { return ours.MatchString(name) }

// tag begins the names of one kind that belong to name: as much of it as there
// is room for, and what tells it from others that begin so.
func tag(name, kind string) string {
	sum := sha256.Sum256([]byte(name))
	suffix := ".holdfast-" + kind + "-" + hex.EncodeToString(sum[:3])
	room := maxName - len(suffix) - 6
	for len(name) > room {
		_, n := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-n]
	}
	return name + suffix
}

// ourName is a new name of a kind.
func ourName(name, kind string) string {
	var b [3]byte
	rand.Read(b[:])
	return tag(name, kind) + hex.EncodeToString(b[:])
}

// alone makes this the only restore into name, as long as q is connected.
func alone(ctx context.Context, q *pgx.Conn, name string) error {
	sum := sha256.Sum256([]byte("holdfast restore into " + name))
	for end := time.Now().Add(patience / 4); ; { // the server may not know yet that another has died
		var got bool
		if err := q.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, int64(binary.BigEndian.Uint64(sum[:]))).Scan(&got); err != nil {
			return fmt.Errorf("lock: %w", classed(err))
		}
		if got {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("another restore into it is under way: %w", provider.ErrConflict)
		}
		select {
		case <-time.After(patience / 100):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// leftovers drops what restores into name have left behind. Where somebody is
// connected to one, as a pg_restore that has not noticed yet that it is alone,
// it waits for a while.
func leftovers(ctx context.Context, q *pgx.Conn, name string) (dropped []string, err error) {
	all, err := query[string](ctx, q, `SELECT datname::text FROM pg_catalog.pg_database ORDER BY 1`)
	if err != nil {
		return nil, classed(err)
	}
	for _, d := range all {
		if !isOurs(d) || !strings.HasPrefix(d, tag(name, isNew)) && !strings.HasPrefix(d, tag(name, isDrop)) {
			continue
		}
		if strings.HasPrefix(d, tag(name, isDrop)) { // a template would not be dropped
			if _, err := q.Exec(ctx, "ALTER DATABASE "+ident(d)+" IS_TEMPLATE false"); err != nil {
				return dropped, classed(err)
			}
		}
		for end := time.Now().Add(patience); ; {
			if err = drop(ctx, q, d, ""); !hasCode(err, codeInUse) || time.Now().After(end) {
				break
			}
			select {
			case <-time.After(patience / 100):
			case <-ctx.Done():
			}
		}
		if err != nil {
			return dropped, fmt.Errorf("drop %q, which an earlier restore has left behind: %w", d, classed(err))
		}
		dropped = append(dropped, d)
	}
	return dropped, nil
}

func drop(ctx context.Context, q *pgx.Conn, name, how string) error {
	_, err := q.Exec(ctx, "DROP DATABASE IF EXISTS "+ident(name)+how)
	return err
}

// number is the OID of a database, 0 if there is none.
func number(ctx context.Context, q *pgx.Conn, name string) (oid uint32, err error) {
	err = q.QueryRow(ctx, `SELECT coalesce((SELECT oid FROM pg_catalog.pg_database WHERE datname = $1), 0)`, name).Scan(&oid)
	return oid, err
}
