package logical

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-go/holdfast/provider"
)

// A conninfo is a connection string, taken apart. Programs and pgx are given
// the same settings; the name of a database is always a value in quotes, so it
// is never taken for a connection string itself.
type conninfo []setting

type setting struct{ key, value string }

// Keywords that libpq and pgx both know, those that only libpq needs, and those
// whose value is a secret. Others would mean one thing to the programs and
// another to this package.
var (
	shared = []string{"host", "port", "user", "dbname", "passfile", "connect_timeout", "sslmode", "sslkey", "sslcert", "sslcertmode",
		"sslrootcert", "sslnegotiation", "sslsni", "krbsrvname", "target_session_attrs", "service", "channel_binding", "require_auth",
		"application_name", "options"}
	libpqOnly = []string{"keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode",
		"sslcompression", "fallback_application_name"}
	secret = []string{"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}
)

// parseConninfo takes a connection string apart. No error repeats what was in
// it: that could be a password.
func parseConninfo(s string) (c conninfo, err error) {
	scheme, rest, isURL := strings.Cut(s, "://")
	if isURL && (scheme == "postgres" || scheme == "postgresql") {
		c, err = parseURL(rest)
	} else {
		c, err = parseWords(s)
	}
	if err != nil {
		return nil, err
	}
	for _, s := range c {
		switch {
		case slices.Contains(secret, s.key):
			return nil, fmt.Errorf("it holds a %s, which would be seen by others; put it into a passfile (~/.pgpass, or passfile=FILE), a service file or PGPASSWORD", s.key)
		case !slices.Contains(shared, s.key) && !slices.Contains(libpqOnly, s.key):
			return nil, fmt.Errorf("keyword %.40q is unknown, or is not supported", s.key)
		case strings.ContainsRune(s.value, 0):
			return nil, fmt.Errorf("keyword %s: there is a zero in its value", s.key)
		}
	}
	return c, nil
}

// parseWords reads "key=value key='value'".
func parseWords(s string) (c conninfo, err error) {
	const space = " \t\n\r\f\v"
	for s = strings.TrimLeft(s, space); s != ""; s = strings.TrimLeft(s, space) {
		key, rest, ok := strings.Cut(s, "=")
		key = strings.TrimRight(key, space)
		if !ok || key == "" || strings.ContainsAny(key, space+"'\\") {
			return nil, errors.New(`want "host=NAME user=NAME ..." or a URL "postgresql://..."`)
		}
		s = strings.TrimLeft(rest, space)
		var value strings.Builder
		quoted := strings.HasPrefix(s, "'")
		if quoted {
			s = s[1:]
		}
		closed := !quoted
		for s != "" {
			ch := s[0]
			if quoted && ch == '\'' || !quoted && strings.IndexByte(space, ch) >= 0 {
				if quoted {
					s, closed = s[1:], true
				}
				break
			}
			if ch == '\\' && len(s) > 1 {
				s = s[1:]
			}
			value.WriteByte(s[0])
			s = s[1:]
		}
		if !closed {
			return nil, fmt.Errorf("keyword %.40q: a quote is not closed", key)
		}
		c = c.with(key, value.String())
	}
	return c, nil
}

// parseURL reads what follows the scheme.
func parseURL(s string) (c conninfo, err error) {
	bad := errors.New(`it is no URL of the form "postgresql://USER@HOST:PORT/DATABASE?KEYWORD=VALUE"`)
	set := func(key, escaped string) {
		value, uerr := url.PathUnescape(escaped)
		if uerr != nil {
			err = bad
		} else if value != "" {
			c = c.with(key, value)
		}
	}
	s, query, _ := strings.Cut(s, "?")
	authority, path, _ := strings.Cut(s, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		set("user", user)
		set("password", password)
		authority = authority[i+1:]
	}
	var hosts, ports []string
	for one := range strings.SplitSeq(authority, ",") {
		host, port := one, ""
		if i := strings.LastIndexByte(one, ':'); i > strings.LastIndexByte(one, ']') {
			host, port = one[:i], one[i+1:]
		}
		hosts, ports = append(hosts, strings.Trim(host, "[]")), append(ports, port)
	}
	set("host", strings.Trim(strings.Join(hosts, ","), ","))
	if joined := strings.Join(ports, ","); strings.Trim(joined, ",") != "" {
		set("port", joined)
	}
	set("dbname", path)
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			set(key, value)
		} else if pair != "" {
			err = bad
		}
	}
	return c, err
}

func (c conninfo) get(key string) string {
	for _, s := range c {
		if s.key == key {
			return s.value
		}
	}
	return ""
}

// with returns c with another value of a key.
func (c conninfo) with(key, value string) conninfo {
	out := slices.DeleteFunc(slices.Clone(c), func(s setting) bool { return s.key == key })
	return append(out, setting{key, value})
}

// String is c as libpq reads it.
func (c conninfo) String() string {
	escape := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var b strings.Builder
	for i, s := range c {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.key + "='" + escape.Replace(s.value) + "'")
	}
	return b.String()
}

// dial connects to a database. Nothing in the session is found by a search path
// that others can write to, and it does not end because it waits.
func (c conninfo) dial(ctx context.Context, database string) (*pgx.Conn, error) {
	ours := slices.DeleteFunc(slices.Clone(c), func(s setting) bool { return slices.Contains(libpqOnly, s.key) })
	config, err := pgx.ParseConfig(ours.with("dbname", "postgres").String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	config.Database = database
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.RuntimeParams["client_encoding"] = "UTF8"
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "holdfast"
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", classed(err))
	}
	_, err = conn.Exec(ctx, `SELECT pg_catalog.set_config(name, CASE name WHEN 'search_path' THEN '' WHEN 'row_security' THEN 'off' ELSE '0' END, false)
		FROM pg_catalog.pg_settings WHERE name IN ('search_path', 'row_security', 'statement_timeout', 'lock_timeout',
			'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')`)
	if err != nil {
		hangUp(conn)
		return nil, fmt.Errorf("connect: %w", classed(err))
	}
	return conn, nil
}

// hangUp closes a connection, also after ctx has ended.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn.Close(ctx)
}

// home is the database to be in while others are created and renamed: not the
// one called name.
func (c conninfo) home(name string) string {
	home := c.get("dbname")
	if home == "" {
		home = "postgres"
	}
	if home == name {
		home = "template1"
		if name == home {
			home = "postgres"
		}
	}
	return home
}

// Codes of PostgreSQL's errors, from its Appendix A.
const (
	codePrivilege = "42501"
	codePassword  = "28P01"
	codeAuth      = "28000"
	codeNoDB      = "3D000"
	codeNoTable   = "42P01"
	codeDuplicate = "42P04"
	codeInUse     = "55006"
)

func hasCode(err error, codes ...string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && slices.Contains(codes, pg.Code)
}

// classed joins an error of the server with the one by which callers know its
// kind.
func classed(err error) error {
	switch {
	case hasCode(err, codePrivilege, codePassword, codeAuth):
		return errors.Join(err, fs.ErrPermission)
	case hasCode(err, codeNoDB):
		return errors.Join(err, provider.ErrNotFound)
	case hasCode(err, codeDuplicate):
		return errors.Join(err, provider.ErrConflict)
	}
	return err
}

// ident writes a name in SQL, text a string.
func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
func text(s string) string {
	if strings.Contains(s, `\`) {
		return ` E'` + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(s) + `'`
	}
	return `'` + strings.ReplaceAll(s, `'`, `''`) + `'`
}
