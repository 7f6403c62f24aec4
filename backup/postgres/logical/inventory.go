package logical

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/backup"
)

// A point has an item "globals", JSON of a cluster, and for each database
// "databases/NAME/dump", what pg_dump wrote, described by a meta, and
// "databases/NAME/inventory", JSON of an inventory.
const (
	globalsPath   = "globals"
	databases     = "databases/"
	format        = 1
	maxJSON       = 64 << 20 // of what is read back
	maxDatabases  = 10_000
	oldestServer  = 13
	snapshotTries = 5
)

// itemPath is where a database is kept.
func itemPath(database, what string) string {
	return databases + strings.ReplaceAll(url.PathEscape(database), ".", "%2E") + "/" + what
}

// meta describes a dump.
type meta struct {
	Format   int       `json:"format"`
	Database string    `json:"database"`
	Encoding string    `json:"encoding"`
	Server   int       `json:"server"` // as server_version_num: 150018
	Tool     string    `json:"tool"`   // of pg_dump: "15.18"
	Taken    time.Time `json:"taken"`  // of the snapshot, by the server's clock
}

// An inventory is what was in a database in the snapshot of its dump, and what
// pg_dump leaves out of it.
type inventory struct {
	Properties  properties       `json:"properties"`
	Tables      []table          `json:"tables"`  // in order
	Objects     map[string]int64 `json:"objects"` // kind to number
	Roles       []string         `json:"roles"`   // that own something or have privileges
	Tablespaces []string         `json:"tablespaces"`
	Extensions  []string         `json:"extensions"`
}

type table struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
	Rows   int64  `json:"rows"`
}

// properties are those of a database itself.
type properties struct {
	Owner       string        `json:"owner"`
	Encoding    string        `json:"encoding"`
	Provider    string        `json:"provider"` // of locales: "c", "i", "b"
	Collate     string        `json:"collate"`
	Ctype       string        `json:"ctype"`
	Locale      string        `json:"locale,omitempty"`
	ICURules    string        `json:"icu_rules,omitempty"`
	Connections int           `json:"connections"` // limit
	Template    bool          `json:"template,omitempty"`
	Comment     string        `json:"comment,omitempty"`
	Tablespace  string        `json:"tablespace"`
	Privileges  []privilege   `json:"privileges"` // nil: those that every database has
	Settings    []roleSetting `json:"settings,omitempty"`
}

type privilege struct {
	Role      string `json:"role"` // empty: PUBLIC
	Privilege string `json:"privilege"`
	Grantable bool   `json:"grantable,omitempty"`
}

// A roleSetting is a setting of a database, of a role, or of a role in a
// database.
type roleSetting struct {
	Role  string `json:"role,omitempty"`
	Name  string `json:"name"`
	Value string `json:"value"`
}

// readProperties reads those of the database of this connection.
func readProperties(ctx context.Context, q *pgx.Conn) (p properties, err error) {
	var plain bool
	err = q.QueryRow(ctx, `
		SELECT pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), coalesce(j->>'datlocprovider', 'c'), d.datcollate::text, d.datctype::text,
			coalesce(j->>'datlocale', j->>'daticulocale', ''), coalesce(j->>'daticurules', ''), d.datconnlimit, d.datistemplate,
			coalesce(shobj_description(d.oid, 'pg_database'), ''), s.spcname::text, d.datacl IS NULL
		FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace s ON s.oid = d.dattablespace, LATERAL (SELECT to_jsonb(d) - 'datacl' AS j) x
		WHERE d.datname = current_database()`).Scan(&p.Owner, &p.Encoding, &p.Provider, &p.Collate, &p.Ctype,
		&p.Locale, &p.ICURules, &p.Connections, &p.Template, &p.Comment, &p.Tablespace, &plain)
	if err != nil {
		return p, err
	}
	if !plain {
		p.Privileges, err = query[privilege](ctx, q, `
			SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable
			FROM pg_catalog.pg_database d, aclexplode(d.datacl) a WHERE d.datname = current_database() ORDER BY 1, 2`)
		if p.Privileges == nil {
			p.Privileges = []privilege{}
		}
	}
	if err == nil {
		p.Settings, err = query[roleSetting](ctx, q, `
			SELECT coalesce(r.rolname::text, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
			FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
			WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
				AND (s.setrole = 0 OR r.oid IS NOT NULL) ORDER BY 1, 2`)
	}
	return p, err
}

// userSchemas are those that pg_dump dumps, and ownObjects leaves what belongs
// to an extension, which makes it itself.
const userSchemas = `n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'`

func ownObjects(class, oid string) string {
	return `NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.` + class + `'::regclass AND x.objid = ` + oid + ` AND x.deptype = 'e')`
}

// tables lists those with rows of their own, without their number; -1 is of an
// unlogged one, of which a standby has no rows, and a dump of it neither.
func tables(ctx context.Context, q *pgx.Conn) ([]table, error) {
	return query[table](ctx, q, `
		SELECT n.nspname::text, c.relname::text, CASE WHEN c.relpersistence = 'u' AND pg_is_in_recovery() THEN -1 ELSE 0 END::bigint FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND c.relpersistence IN ('p', 'u') AND `+userSchemas+`
			AND `+ownObjects("pg_class", "c.oid")+` ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`)
}

func (t table) String() string { return ident(t.Schema) + "." + ident(t.Name) }

// count fills in how many rows each table has, and returns how many objects
// there are of each kind.
func count(ctx context.Context, q *pgx.Conn, all []table) (objects map[string]int64, err error) {
	for i := range all {
		if all[i].Rows < 0 {
			all[i].Rows = 0
			continue
		}
		if err := q.QueryRow(ctx, `SELECT count(*) FROM ONLY `+all[i].String()).Scan(&all[i].Rows); err != nil {
			return nil, fmt.Errorf("count rows of %s: %w", all[i], classed(err))
		}
	}
	type number struct {
		Kind string
		N    int64
	}
	found, err := query[number](ctx, q, `
		SELECT CASE c.relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables' WHEN 'v' THEN 'views' WHEN 'm' THEN 'materialized views'
			WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'foreign tables' ELSE 'indexes' END, count(*)
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'i', 'I') AND `+userSchemas+` AND `+ownObjects("pg_class", "c.oid")+`
			AND `+ownObjects("pg_class", "(SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = c.oid)")+` GROUP BY 1
		UNION ALL SELECT 'functions', count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
			WHERE `+userSchemas+` AND `+ownObjects("pg_proc", "p.oid")+`
		UNION ALL SELECT 'triggers', count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
			JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE NOT t.tgisinternal AND `+userSchemas+`
			AND `+ownObjects("pg_class", "c.oid")+`
		UNION ALL SELECT 'large objects', count(*) FROM pg_catalog.pg_largeobject_metadata`)
	objects = map[string]int64{}
	for _, f := range found {
		objects[f.Kind] = f.N
	}
	return objects, err
}

// needs reads what the database needs of a cluster: roles, tablespaces and
// extensions. What the first superuser owns is in no catalogue of dependencies.
func (v *inventory) needs(ctx context.Context, q *pgx.Conn) (err error) {
	v.Roles, err = query[string](ctx, q, `
		SELECT r.rolname::text FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' AND (
			r.oid IN (SELECT s.refobjid FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.datname = current_database()
				WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND (s.dbid = d.oid
					OR s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::regclass AND s.objid = d.oid))
			OR r.oid IN (SELECT relowner FROM pg_catalog.pg_class WHERE oid >= 16384 UNION SELECT proowner FROM pg_catalog.pg_proc WHERE oid >= 16384
				UNION SELECT nspowner FROM pg_catalog.pg_namespace WHERE oid >= 16384 UNION SELECT typowner FROM pg_catalog.pg_type WHERE oid >= 16384
				UNION SELECT lomowner FROM pg_catalog.pg_largeobject_metadata
				UNION SELECT datdba FROM pg_catalog.pg_database WHERE datname = current_database())) ORDER BY 1`)
	if err == nil {
		v.Tablespaces, err = query[string](ctx, q, `
			SELECT DISTINCT s.spcname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace
			WHERE s.spcname !~ '^pg_' ORDER BY 1`)
	}
	if err == nil {
		v.Extensions, err = query[string](ctx, q, `SELECT extname::text FROM pg_catalog.pg_extension ORDER BY 1`)
	}
	return err
}

// differences says in what a restored database is not what was recorded.
func (v inventory) differences(all []table, objects map[string]int64) error {
	var errs []error
	name := func(t table) string { return t.String() }
	have := map[string]int64{}
	for _, t := range all {
		have[name(t)] = t.Rows
	}
	for _, t := range v.Tables {
		switch rows, ok := have[name(t)]; {
		case !ok:
			errs = append(errs, fmt.Errorf("table %s is missing", name(t)))
		case rows != t.Rows:
			errs = append(errs, fmt.Errorf("table %s has %d rows, and had %d", name(t), rows, t.Rows))
		}
		delete(have, name(t))
	}
	for _, extra := range slices.Sorted(maps.Keys(have)) {
		errs = append(errs, fmt.Errorf("table %s was not there", extra))
	}
	kinds := maps.Clone(objects)
	maps.Copy(kinds, v.Objects)
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if objects[kind] != v.Objects[kind] {
			errs = append(errs, fmt.Errorf("there are %d %s, and were %d", objects[kind], kind, v.Objects[kind]))
		}
	}
	if len(errs) > 20 {
		errs = append(errs[:20], fmt.Errorf("and %d differences more", len(errs)-20))
	}
	return errors.Join(errs...)
}

// query collects rows: of structs by the order of their fields, or of single
// values.
func query[T any](ctx context.Context, q *pgx.Conn, sql string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	var t T
	scan := pgx.RowTo[T]
	if _, ok := any(t).(string); !ok {
		scan = pgx.RowToStructByPos[T]
	}
	return pgx.CollectRows(rows, scan)
}

// A held is a database of a point.
type held struct {
	meta            meta
	dump, inventory backup.Item
}

// contents lists the databases of a point. A point that holds anything else was
// not made by this package, and is refused.
func contents(ctx context.Context, v *backup.View) ([]held, backup.Item, error) {
	var all []held
	var globals backup.Item
	found := map[string]backup.Item{}
	for it, err := range v.Items(ctx) {
		if err != nil {
			return nil, globals, err
		}
		if found[it.Path] = it; len(found) > 2*maxDatabases {
			return nil, globals, fmt.Errorf("the point has more than %d databases", maxDatabases)
		}
	}
	globals, shared := found[globalsPath]
	delete(found, globalsPath)
	for path, it := range found {
		if !strings.HasSuffix(path, "/dump") {
			continue
		}
		h := held{dump: it}
		if json.Unmarshal(it.Meta, &h.meta) != nil || validName(h.meta.Database) != nil || itemPath(h.meta.Database, "dump") != path {
			return nil, globals, fmt.Errorf("item %.200q is not described as this package does", path)
		}
		if h.meta.Format != format {
			return nil, globals, fmt.Errorf("item %.200q is of format %d, want %d: it was made by another version of this package", path, h.meta.Format, format)
		}
		var ok bool
		if h.inventory, ok = found[itemPath(h.meta.Database, "inventory")]; !ok {
			return nil, globals, fmt.Errorf("item %.200q has no inventory", path)
		}
		delete(found, path)
		delete(found, h.inventory.Path)
		all = append(all, h)
	}
	for path := range found {
		return nil, globals, fmt.Errorf("item %.200q was not made by this package", path)
	}
	if !shared {
		return nil, globals, errors.New("the point is of no cluster: it has no item " + globalsPath)
	}
	slices.SortFunc(all, func(a, b held) int { return strings.Compare(a.meta.Database, b.meta.Database) })
	return all, globals, nil
}

// decode reads JSON of a point.
func decode(ctx context.Context, v *backup.View, it backup.Item, into any) error {
	if it.Size > maxJSON {
		return fmt.Errorf("item %.200q has %d bytes, more than this package makes", it.Path, it.Size)
	}
	r, err := v.Open(ctx, it)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("item %.200q: %w", it.Path, err)
	}
	return nil
}
