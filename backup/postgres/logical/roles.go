package logical

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A cluster is what databases share. It is read and made by SQL of this
// package rather than by pg_dumpall, whose script only psql can run: with all
// that a script can tell psql to do on this host, and without a choice of which
// roles to make.
type cluster struct {
	Roles       []role       `json:"roles"`
	Members     []membership `json:"members"`
	Tablespaces []tablespace `json:"tablespaces"` // to be read by people
}

type role struct {
	Name        string        `json:"name"`
	Superuser   bool          `json:"superuser,omitempty"`
	Inherit     bool          `json:"inherit,omitempty"`
	CreateRole  bool          `json:"create_role,omitempty"`
	CreateDB    bool          `json:"create_db,omitempty"`
	Login       bool          `json:"login,omitempty"`
	Replication bool          `json:"replication,omitempty"`
	BypassRLS   bool          `json:"bypass_rls,omitempty"`
	Connections int           `json:"connections"` // limit
	Until       string        `json:"until,omitempty"`
	Comment     string        `json:"comment,omitempty"`
	Settings    []roleSetting `json:"settings,omitempty"`
}

type membership struct {
	Role    string `json:"role"`
	Member  string `json:"member"`
	Admin   bool   `json:"admin,omitempty"`
	Inherit *bool  `json:"inherit,omitempty"` // from 16 on
	Set     *bool  `json:"set,omitempty"`
}

type tablespace struct {
	Name     string `json:"name"`
	Location string `json:"location"`
}

// readCluster reads what every role may read: no passwords.
func readCluster(ctx context.Context, q *pgx.Conn) (c cluster, err error) {
	rows, err := q.Query(ctx, `
		SELECT rolname::text, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit,
			coalesce(to_char(rolvaliduntil AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US"+00"'), ''), coalesce(shobj_description(oid, 'pg_authid'), '')
		FROM pg_catalog.pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname COLLATE "C"`)
	if err != nil {
		return c, err
	}
	c.Roles, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (r role, err error) {
		err = row.Scan(&r.Name, &r.Superuser, &r.Inherit, &r.CreateRole, &r.CreateDB, &r.Login, &r.Replication, &r.BypassRLS, &r.Connections, &r.Until, &r.Comment)
		return r, err
	})
	if err != nil {
		return c, err
	}
	settings, err := query[roleSetting](ctx, q, `
		SELECT r.rolname::text, split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
		FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c
		WHERE s.setdatabase = 0 ORDER BY 1, 2`)
	for _, s := range settings {
		if i := slices.IndexFunc(c.Roles, func(r role) bool { return r.Name == s.Role }); i >= 0 {
			c.Roles[i].Settings = append(c.Roles[i].Settings, s)
		}
	}
	if err != nil {
		return c, err
	}
	if c.Members, err = query[membership](ctx, q, `
		SELECT r.rolname::text, m.rolname::text, bool_or(a.admin_option), bool_or((j->>'inherit_option')::boolean), bool_or((j->>'set_option')::boolean)
		FROM pg_catalog.pg_auth_members a JOIN pg_catalog.pg_roles r ON r.oid = a.roleid JOIN pg_catalog.pg_roles m ON m.oid = a.member,
			LATERAL (SELECT to_jsonb(a) AS j) x
		WHERE m.rolname !~ '^pg_' GROUP BY 1, 2 ORDER BY 1, 2`); err != nil {
		return c, err
	}
	c.Tablespaces, err = query[tablespace](ctx, q, `SELECT spcname::text, pg_tablespace_location(oid) FROM pg_catalog.pg_tablespace WHERE spcname !~ '^pg_' ORDER BY 1`)
	return c, err
}

// missing are those of names that are no roles of this server.
func missing(ctx context.Context, q *pgx.Conn, names []string) ([]string, error) {
	return query[string](ctx, q, `SELECT n FROM unnest($1::text[]) n WHERE n NOT IN (SELECT rolname::text FROM pg_catalog.pg_roles) ORDER BY 1`, names)
}

// create makes the roles that are missing, all or none.
func (c cluster) create(ctx context.Context, q *pgx.Conn, settings bool) ([]string, error) {
	var names []string
	for _, r := range c.Roles {
		names = append(names, r.Name)
	}
	made, err := missing(ctx, q, names)
	if err != nil || len(made) == 0 {
		return nil, err
	}
	tx, err := q.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, statement := range c.statements(made, settings, q.PgConn().ParameterStatus("server_version")) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return nil, fmt.Errorf("%s: %w", statement, classed(err))
		}
	}
	return made, tx.Commit(ctx)
}

// statements make roles and what they are members of.
func (c cluster) statements(made []string, settings bool, version string) (all []string) {
	for _, r := range c.Roles {
		if !slices.Contains(made, r.Name) {
			continue
		}
		all = append(all, "CREATE ROLE "+ident(r.Name)+" WITH"+r.attributes())
		if r.Comment != "" {
			all = append(all, "COMMENT ON ROLE "+ident(r.Name)+" IS "+text(r.Comment))
		}
		for _, s := range r.Settings {
			if settings {
				all = append(all, "ALTER ROLE "+ident(r.Name)+" SET "+s.assignment())
			}
		}
	}
	major, _ := strconv.Atoi(strings.FieldsFunc(version+".", func(r rune) bool { return r < '0' || r > '9' })[0])
	for _, m := range c.Members {
		if !slices.Contains(made, m.Member) {
			continue
		}
		s := "GRANT " + ident(m.Role) + " TO " + ident(m.Member)
		var with []string
		if m.Admin {
			with = append(with, "ADMIN TRUE")
		}
		if major >= 16 && m.Inherit != nil && m.Set != nil {
			with = append(with, fmt.Sprintf("INHERIT %t", *m.Inherit), fmt.Sprintf("SET %t", *m.Set))
		} else if m.Admin {
			with = []string{"ADMIN OPTION"}
		}
		if len(with) > 0 {
			s += " WITH " + strings.Join(with, ", ")
		}
		all = append(all, s)
	}
	return all
}

func (r role) attributes() string {
	var b strings.Builder
	for _, a := range []struct {
		has  bool
		name string
	}{{r.Superuser, "SUPERUSER"}, {r.Inherit, "INHERIT"}, {r.CreateRole, "CREATEROLE"}, {r.CreateDB, "CREATEDB"}, {r.Login, "LOGIN"},
		{r.Replication, "REPLICATION"}, {r.BypassRLS, "BYPASSRLS"}} {
		b.WriteByte(' ')
		if !a.has {
			b.WriteString("NO")
		}
		b.WriteString(a.name)
	}
	fmt.Fprintf(&b, " CONNECTION LIMIT %d", r.Connections)
	if r.Until != "" {
		b.WriteString(" VALID UNTIL " + text(r.Until))
	}
	return b.String()
}

// listSettings have lists of names as values, each of which is a string of its
// own in SQL (GUC_LIST_QUOTE in PostgreSQL's sources).
var listSettings = []string{"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces",
	"unix_socket_directories"}

// assignment is what follows SET.
func (s roleSetting) assignment() string {
	value := text(s.Value)
	if slices.Contains(listSettings, strings.ToLower(s.Name)) {
		var names []string
		for _, n := range splitList(s.Value) {
			names = append(names, text(n))
		}
		if value = strings.Join(names, ", "); value == "" {
			value = "''"
		}
	}
	return ident(s.Name) + " TO " + value
}

// splitList takes `"$user", public` apart.
func splitList(s string) (names []string) {
	var b strings.Builder
	quoted, some := false, false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '"' && quoted && i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case ch == '"':
			quoted, some = !quoted, true
		case ch == ',' && !quoted:
			names = append(names, b.String())
			b.Reset()
			some = false
		case ch == ' ' && !quoted:
		default:
			b.WriteByte(ch)
			some = true
		}
	}
	if some {
		names = append(names, b.String())
	}
	return names
}
