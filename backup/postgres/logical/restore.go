package logical

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-go/holdfast/backup"
	"github.com/holdfast-go/holdfast/provider"
)

// Restore implements [backup.Target].
func (t *Target) Restore(ctx context.Context, v *backup.View, d backup.Destination) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	o, err := parseOptions(d)
	if err != nil {
		return err
	}
	r := &restorer{t: t, v: v, conn: t.conn}
	if d.Location != "" {
		if r.conn, err = parseConninfo(d.Location); err != nil {
			return fmt.Errorf("destination: Location: %w", err)
		}
	}
	if len(r.conn) == 0 {
		return errors.New("destination: Location is empty, want a connection string, as there is none in Config.Conn")
	}
	if r.held, r.globals, err = o.choose(ctx, v); err != nil {
		return err
	}
	r.o = o
	if err = decode(ctx, v, r.held.inventory, &r.inv); err == nil {
		err = r.run(ctx)
	}
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err != nil {
		return failed("restore", o.database, err)
	}
	return nil
}

// A restorer restores one database.
type restorer struct {
	t       *Target
	v       *backup.View
	conn    conninfo
	o       options
	held    held
	globals backup.Item
	inv     inventory

	home     *pgx.Conn
	tool     program
	older    bool   // the server, than the program
	replaced uint32 // OID of the database that has the name; 0: none has
	fresh    string // name of the new one, until it has its own
	number   uint32 // its OID
	flags    []string
}

// run does nothing to the server before it knows that it may.
func (r *restorer) run(ctx context.Context) (err error) {
	if r.tool, err = r.t.program(ctx, "pg_restore"); err != nil {
		return err
	}
	if r.home, err = r.conn.dial(ctx, r.conn.home(r.o.database)); err != nil {
		return err
	}
	defer func() { hangUp(r.home) }()
	if err := r.versions(ctx); err != nil {
		return err
	}
	if err := alone(ctx, r.home, r.o.database); err != nil {
		return err
	}
	if r.replaced, err = number(ctx, r.home, r.o.database); err != nil {
		return err
	}
	if r.replaced != 0 && !r.o.overwrite {
		return fmt.Errorf("there is a database of this name; with overwrite=true it would be replaced: %w", provider.ErrConflict)
	}
	if err := r.fits(ctx); err != nil {
		return err
	}
	gone, err := leftovers(ctx, r.home, r.o.database)
	if len(gone) > 0 {
		r.t.c.Logger.Info("dropped what earlier restores had left behind", "database", r.o.database, "dropped", gone)
	}
	if err != nil {
		return err
	}
	r.fresh = ourName(r.o.database, isNew)
	if err := r.steps(ctx); err != nil {
		return errors.Join(err, r.undo(ctx))
	}
	return nil
}

// versions refuses what PostgreSQL does not support.
func (r *restorer) versions(ctx context.Context) error {
	server, err := serverVersion(ctx, r.home)
	if err != nil {
		return err
	}
	r.older = server/10000 < r.tool.major
	of, _, _ := strings.Cut(r.held.meta.Tool, ".")
	made, err := strconv.Atoi(of)
	switch {
	case err != nil:
		return fmt.Errorf("the dump was made by a pg_dump of version %.40q, which is none", r.held.meta.Tool)
	case r.tool.major < made:
		return fmt.Errorf("%s is of version %s, and the dump was made by version %s: install the client programs of PostgreSQL %d, and name their directory in Config.Bin: %w",
			r.tool.path, r.tool.version, r.held.meta.Tool, made, errors.ErrUnsupported)
	case server/10000 < r.held.meta.Server/10000:
		return fmt.Errorf("the server is of version %d, and the dump of one of %d: restore into one of %d or later: %w",
			server/10000, r.held.meta.Server/10000, r.held.meta.Server/10000, errors.ErrUnsupported)
	}
	return nil
}

// fits looks whether all is there that the database needs, and makes roles.
func (r *restorer) fits(ctx context.Context) error {
	lacking, err := query[string](ctx, r.home, `SELECT n FROM unnest($1::text[]) n WHERE n NOT IN (SELECT name::text FROM pg_catalog.pg_available_extensions) ORDER BY 1`, r.inv.Extensions)
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		return fmt.Errorf("the server lacks the extensions %q: install them there first: %w", lacking, provider.ErrNotFound)
	}
	spaces, err := query[string](ctx, r.home, `SELECT n FROM unnest($1::text[]) n WHERE n NOT IN (SELECT spcname::text FROM pg_catalog.pg_tablespace)`,
		append(slices.Clone(r.inv.Tablespaces), r.inv.Properties.Tablespace))
	if err != nil {
		return err
	}
	if len(spaces) > 0 {
		r.flags = append(r.flags, "--no-tablespaces")
		r.inv.Properties.Tablespace = "pg_default"
		r.t.c.Logger.Warn("tablespaces are missing, and everything goes into the default one", "database", r.o.database, "missing", spaces)
	}
	return r.roles(ctx)
}

func (r *restorer) roles(ctx context.Context) error {
	switch r.o.roles {
	case "none":
		r.flags = append(r.flags, "--no-owner", "--no-privileges")
	case "create":
		var c cluster
		if err := decode(ctx, r.v, r.globals, &c); err != nil {
			return err
		}
		made, err := c.create(ctx, r.home, !r.o.withoutSettings)
		if err != nil {
			return fmt.Errorf("create roles: %w", err)
		}
		if len(made) > 0 {
			r.t.c.Logger.Info("created roles, without passwords", "database", r.o.database, "roles", made)
		}
		fallthrough
	case "require":
		lacking, err := missing(ctx, r.home, r.inv.Roles)
		if err != nil {
			return err
		}
		if len(lacking) > 0 {
			return fmt.Errorf("the server lacks the roles %q, which own something or have privileges: create them, or restore with roles=create or roles=none: %w", lacking, provider.ErrNotFound)
		}
	}
	return nil
}

// steps make the new database and put it in its place.
func (r *restorer) steps(ctx context.Context) error {
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{{"create", r.create}, {"load", r.load}, {"verify", r.verify}, {"finish", r.finish}, {"swap", r.swap}, {"drop", r.dropOld}} {
		if err := r.t.step(s.name); err != nil {
			return err
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// create makes it, for nobody else to connect to.
func (r *restorer) create(ctx context.Context) error {
	if _, err := r.home.Exec(ctx, r.inv.Properties.create(r.fresh, r.o.roles != "none")); err != nil {
		return classed(err)
	}
	var err error
	if r.number, err = number(ctx, r.home, r.fresh); err == nil {
		_, err = r.home.Exec(ctx, "REVOKE ALL ON DATABASE "+ident(r.fresh)+" FROM PUBLIC")
	}
	return err
}

// load runs pg_restore.
func (r *restorer) load(ctx context.Context) error {
	r.v.Expect(1, r.held.dump.Size)
	content, err := r.v.Open(ctx, r.held.dump)
	if err != nil {
		return err
	}
	defer content.Close()
	source := &source{r: content}
	args := append([]string{"--format=custom", "--no-password", "--dbname=" + r.conn.with("dbname", r.fresh).String()}, r.flags...)
	said := &complaints{name: "pg_restore"}
	if !r.older {
		args = append(args, "--exit-on-error")
	}
	if r.o.jobs > 1 {
		file, err := r.spool(source)
		if file != "" {
			defer os.Remove(file)
		}
		if err != nil {
			return err
		}
		args = append(args, "--jobs="+strconv.Itoa(r.o.jobs), file)
	}
	cmd := r.t.command(ctx, r.tool.path, args...)
	cmd.Stderr = said
	if r.o.jobs == 1 {
		cmd.Stdin = source
	}
	err = cmd.Run()
	if source.err != nil && ctx.Err() == nil {
		return source.err // whatever the program made of half a dump
	}
	if err != nil && (ctx.Err() != nil || !r.older || !said.onlyHarmless(err)) {
		return said.explain(ctx, err)
	}
	r.v.Wrote(1, r.held.dump.Size)
	return nil
}

// A source remembers why it could not be read.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrClosedPipe) {
		s.err = err
	}
	return n, err
}

// spool puts the dump into a file that only its owner reads.
func (r *restorer) spool(from io.Reader) (name string, err error) {
	f, err := os.CreateTemp(r.t.c.Spool, ".holdfast-*.dump") // mode 0600
	if err != nil {
		return "", fmt.Errorf("spool: %w", err)
	}
	_, err = io.Copy(f, from)
	if err = errors.Join(err, f.Close()); err != nil {
		err = fmt.Errorf("spool: %w", err)
	}
	return f.Name(), err
}

// verify compares what was restored with what was recorded, and gathers
// statistics, without which the first queries would crawl.
func (r *restorer) verify(ctx context.Context) error {
	q, err := r.conn.dial(ctx, r.fresh)
	if err != nil {
		return err
	}
	defer hangUp(q)
	all, err := tables(ctx, q)
	if err != nil {
		return err
	}
	objects, err := count(ctx, q, all)
	if err != nil {
		return err
	}
	if err := r.inv.differences(all, objects); err != nil {
		return fmt.Errorf("what was restored is not what was dumped: %w: %w", provider.ErrCorrupt, err)
	}
	if _, err := q.Exec(ctx, "ANALYZE"); err != nil {
		return fmt.Errorf("analyze: %w", classed(err))
	}
	return nil
}

// finish gives it the properties that it had. In one transaction, so that none
// can be seen with half of its privileges.
func (r *restorer) finish(ctx context.Context) error {
	tx, err := r.home.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for _, statement := range r.inv.Properties.finish(r.fresh, r.o) {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, classed(err))
		}
	}
	return tx.Commit(ctx)
}

// undo drops the new database, unless it is in its place already. It works on
// when ctx has ended, and over a new connection.
func (r *restorer) undo(ctx context.Context) error {
	if r.fresh == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*patience)
	defer cancel()
	q, err := r.conn.dial(ctx, r.conn.home(r.o.database))
	if err == nil {
		defer hangUp(q)
		err = drop(ctx, q, r.fresh, " WITH (FORCE)")
	}
	if err != nil {
		return fmt.Errorf("%q is left behind, and is dropped by the next restore into %q: %w", r.fresh, r.o.database, err)
	}
	return nil
}
