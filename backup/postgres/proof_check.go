package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// maxFailures of a cluster are told one by one.
const maxFailures = 100

func (p *prover) fail(f ProofFailure) {
	if len(p.proof.Failures) < maxFailures {
		p.proof.Failures = append(p.proof.Failures, f)
	}
}

func (p *prover) notDone(what string) {
	if !slices.Contains(p.proof.NotDone, what) {
		p.proof.NotDone = append(p.proof.NotDone, what)
	}
}

// check looks at the data. Failures of data do not end it.
func (p *prover) check(ctx context.Context) error {
	names, err := p.databases(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := p.database(ctx, name); err != nil {
			return p.broken(ctx, err)
		}
	}
	if err := p.checkWatermark(ctx, names); err != nil {
		return p.broken(ctx, err)
	}
	for _, q := range p.c.Queries {
		if err := p.ask(ctx, q); err != nil {
			return p.broken(ctx, err)
		}
	}
	if n := len(p.proof.Failures); n > 0 {
		return fmt.Errorf("%w: %d failures, the first: %v", ErrUnproven, n, p.proof.Failures[0])
	}
	return nil
}

// broken says of an error that ended the checks what the server had to say.
func (p *prover) broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("check: %w (the server's log: %s)", err, p.log("nothing"))
}

// databases are those that can be looked at.
func (p *prover) databases(ctx context.Context) (names []string, err error) {
	conn, err := p.connect(ctx, "postgres", nil)
	if err != nil {
		return nil, err
	}
	defer hangUp(conn)
	rows, err := textRows(ctx, conn, "SELECT datname, datallowconn AND datconnlimit <> -2 FROM pg_database ORDER BY datname")
	for _, r := range rows {
		switch {
		case r[1] == "t":
			names = append(names, r[0])
		case r[0] != "template0":
			p.notDone(fmt.Sprintf("database %q: it takes no connections", r[0]))
		}
	}
	return names, err
}

// textRows runs a query and returns what it yields as text.
func textRows(ctx context.Context, conn *pgconn.PgConn, sql string) (out [][]string, err error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	for _, r := range results {
		for _, row := range r.Rows {
			text := make([]string, len(row))
			for i, b := range row {
				text[i] = string(b)
			}
			out = append(out, text)
		}
	}
	return out, nil
}

// inspecting are the parameters of a connection that looks at everything: no
// trigger on events is run by it, and no name means anything but what it should.
var inspecting = map[string]string{"search_path": "pg_catalog", "session_replication_role": "replica", "default_transaction_read_only": "off"}

// database looks at one. All of it is in one transaction, which changes nothing
// in the end: amcheck need not be installed. What fails is undone, and so are
// the locks of what does not, of which there are not enough for all tables.
func (p *prover) database(ctx context.Context, name string) error {
	conn, err := p.connect(ctx, name, inspecting)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	if _, err := conn.Exec(ctx, "BEGIN").ReadAll(); err != nil {
		return err
	}
	i := &inspection{p: p, conn: conn, d: ProofDatabase{Name: name}}
	if err := i.amcheck(ctx); err != nil {
		return err
	}
	if err := i.rows(ctx); err != nil {
		return err
	}
	p.proof.Databases = append(p.proof.Databases, i.d)
	_, err = conn.Exec(ctx, "ROLLBACK").ReadAll()
	return err
}

// An inspection looks at one database.
type inspection struct {
	p    *prover
	conn *pgconn.PgConn
	d    ProofDatabase
}

// try runs a query whose failing is a failure of the data. What it returns is
// nil then.
func (i *inspection) try(ctx context.Context, check, object, sql string) ([][]string, error) {
	if _, err := i.conn.Exec(ctx, "SAVEPOINT one").ReadAll(); err != nil {
		return nil, err
	}
	rows, failed := textRows(ctx, i.conn, sql)
	if e, ok := errors.AsType[*pgconn.PgError](failed); ok && !ends(e) {
		i.p.fail(ProofFailure{Check: check, Database: i.d.Name, Object: object, What: e.Message})
	} else if failed != nil {
		return nil, failed
	}
	_, err := i.conn.Exec(ctx, "ROLLBACK TO one").ReadAll()
	return rows, err
}

// ends reports whether an error is not about data, but of a server that is
// ending, or has no room.
func ends(e *pgconn.PgError) bool {
	class := e.Code[:min(2, len(e.Code))]
	return class == "57" || class == "53" || class == "08"
}

// amcheck checks tables and indexes, those of the system too.
func (i *inspection) amcheck(ctx context.Context) error {
	if i.p.c.Amcheck == "none" {
		i.p.notDone("amcheck: it was not asked for (ProofConfig.Amcheck)")
		return nil
	}
	there, err := textRows(ctx, i.conn, `SELECT (SELECT nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'amcheck'),
		EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck')`)
	if err != nil {
		return err
	}
	schema := there[0][0]
	switch {
	case schema != "":
	case there[0][1] != "t":
		i.p.notDone("amcheck: the server has no such extension")
		return nil
	default:
		schema = "holdfast_proof"
		if _, err := i.conn.Exec(ctx, "CREATE SCHEMA holdfast_proof; CREATE EXTENSION amcheck SCHEMA holdfast_proof").ReadAll(); err != nil {
			return fmt.Errorf("amcheck: %w", err)
		}
	}
	schema = pgx.Identifier{schema}.Sanitize()
	relations, err := textRows(ctx, i.conn, `SELECT c.oid, c.oid::regclass, a.amname = 'btree' FROM pg_class c JOIN pg_am a ON a.oid = c.relam LEFT JOIN pg_index x ON x.indexrelid = c.oid
		WHERE c.relpersistence <> 't' AND (a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') OR a.amname = 'btree' AND c.relkind = 'i' AND x.indisvalid AND x.indisready) ORDER BY c.oid`)
	if err != nil {
		return err
	}
	for _, r := range relations {
		if r[2] == "t" {
			if _, err := i.try(ctx, "amcheck", r[1], fmt.Sprintf("SELECT %s.bt_index_check(%s::oid::regclass, %v)", schema, r[0], i.p.c.Amcheck == "full")); err != nil {
				return err
			}
			i.d.Indexes++
			continue
		}
		bad, err := i.try(ctx, "amcheck", r[1], fmt.Sprintf("SELECT blkno, msg FROM %s.verify_heapam(%s::oid::regclass, check_toast => true) LIMIT 10", schema, r[0]))
		if err != nil {
			return err
		}
		for _, b := range bad {
			i.p.fail(ProofFailure{Check: "amcheck", Database: i.d.Name, Object: r[1], What: fmt.Sprintf("block %s: %s", b[0], b[1])})
		}
		i.d.Heaps++
	}
	return nil
}

// rows counts those of every table that is not the system's.
func (i *inspection) rows(ctx context.Context) error {
	if i.p.c.Rows == "none" {
		i.p.notDone("rows: they were not to be counted (ProofConfig.Rows)")
		return nil
	}
	tables, err := textRows(ctx, i.conn, `SELECT nspname, relname, reltuples::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
		WHERE (relkind = 'r' OR relkind = 'm' AND relispopulated) AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'holdfast_proof') ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	for _, t := range tables {
		table, count := ProofTable{Name: t[0] + "." + t[1]}, t[2]
		if i.p.c.Rows == "exact" {
			n, err := i.try(ctx, "rows", table.Name, "SELECT count(*) FROM ONLY "+pgx.Identifier{t[0], t[1]}.Sanitize())
			if err != nil {
				return err
			}
			if n == nil {
				continue
			}
			count = n[0][0]
		}
		if table.Rows, err = strconv.ParseInt(count, 10, 64); err != nil {
			return err
		}
		i.d.Tables = append(i.d.Tables, table)
	}
	return nil
}

// checkWatermark looks for the row that the backup wrote.
func (p *prover) checkWatermark(ctx context.Context, databases []string) error {
	w := p.note.Watermark
	switch {
	case w == nil:
		p.proof.Watermark = "the backup wrote none"
		p.notDone("watermark: the backup wrote none (Config.Watermark)")
		return nil
	case w.Missing != "":
		p.proof.Watermark = "the backup could write none"
		p.notDone("watermark: the backup could write none: " + w.Missing)
		return nil
	}
	f := ProofFailure{Check: "watermark", Database: w.Database, Object: "holdfast.watermark", What: "the database is not there"}
	if slices.Contains(databases, w.Database) {
		conn, err := p.connect(ctx, w.Database, inspecting)
		if err != nil {
			return err
		}
		defer hangUp(conn)
		rows, err := textRows(ctx, conn, "SELECT at >= "+literal(stamp(w.At))+", to_char(at AT TIME ZONE 'UTC', "+moment+") FROM holdfast.watermark WHERE name = "+literal(w.Name))
		e, ok := errors.AsType[*pgconn.PgError](err)
		switch {
		case ok && !ends(e):
			f.What = e.Message
		case err != nil:
			return err
		case len(rows) == 1 && rows[0][0] == "t":
			p.proof.Watermark = fmt.Sprintf("%s, in database %q: of the backup at %s or later", rows[0][1], w.Database, stamp(w.At))
			return nil
		case len(rows) == 1:
			f.What = fmt.Sprintf("it is of %s, and the backup wrote one at %s", rows[0][1], stamp(w.At))
		default:
			f.What = fmt.Sprintf("it has no row %q", w.Name)
		}
	}
	p.proof.Watermark = "not found"
	p.fail(f)
	return nil
}

// ask runs a query of the user, which can change nothing.
func (p *prover) ask(ctx context.Context, q Query) error {
	database, want := q.Database, q.Want
	if database == "" {
		database = "postgres"
	}
	if want == "" {
		want = "t"
	}
	f := ProofFailure{Check: "query", Database: database, Object: strings.Join(strings.Fields(q.SQL), " ")}
	conn, err := p.connect(ctx, database, map[string]string{"default_transaction_read_only": "on"})
	var rows [][]string
	if err == nil {
		defer hangUp(conn)
		rows, err = textRows(ctx, conn, q.SQL)
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && (!ends(e) || e.Code == "57014"):
		f.What = e.Message
	case err != nil:
		return err
	case len(rows) != 1 || len(rows[0]) != 1:
		f.What = fmt.Sprintf("it yields %d rows, want one value", len(rows))
	case rows[0][0] != want:
		f.What = fmt.Sprintf("it yields %.80q, want %q", rows[0][0], want)
	default:
		p.proof.Queries++
		return nil
	}
	p.fail(f)
	return nil
}
