package logins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
	"crossfade/schema/roles"
)

// databaseOwners are who owns a database and its schema public, by name. Public is "" where
// there is no such schema, and pg_database_owner by its own name.
type databaseOwners struct {
	Name, Owner, Public string
	Mine, MinePublic    bool // the role of the session may change the owner
}

func readDatabaseOwners(ctx context.Context, conn *pgx.Conn) (o databaseOwners, err error) {
	err = conn.QueryRow(ctx, `SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, coalesce(pg_catalog.pg_get_userbyid(n.nspowner)::text, ''),
			pg_catalog.pg_has_role(d.datdba, 'USAGE'), coalesce(pg_catalog.pg_has_role(n.nspowner, 'USAGE'), false)
		FROM pg_catalog.pg_database d LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'public'
		WHERE d.datname = pg_catalog.current_database()`).Scan(&o.Name, &o.Owner, &o.Public, &o.Mine, &o.MinePublic)
	if err != nil {
		return o, fmt.Errorf("read the owner of the database: %w", err)
	}
	return o, nil
}

// own gives the target's database the owner that the source's has, and with it the schema
// public, so that what the owner could make it can make there too. The role of --target
// stays able to do the same, as a member of the new owner.
func (l *logins) own(ctx context.Context, source, target *pgx.Conn, roles roles.Roles, may string) ([]finding.Finding, error) {
	here, err := readDatabaseOwners(ctx, source)
	if err != nil {
		return nil, err
	}
	there, err := readDatabaseOwners(ctx, target)
	if err != nil {
		return nil, err
	}
	to := here.Owner
	if mapped, ok := l.cfg.SchemaRoles()[to]; ok {
		to = mapped
	}
	known := false
	for _, r := range roles.Roles {
		known = known || r.Name == here.Owner
	}
	if l.cfg.NoOwner || !known || !l.isThere(ctx, target, to) {
		return nil, nil // its own objects, if it has any, are spoken of where owners are
	}
	var found []finding.Finding
	left := func(what, sql string, err error) error {
		if pg.Code(err) == "" {
			return err
		}
		l.denied.note(sql, may, time.Now())
		found = append(found, finding.Finding{Kind: "ROLE", Name: to, Harmless: true, SQLSTATE: pg.Code(err),
			Message: "does not become the owner of " + what + ", as it is on the source: " + refusalOf(err), Remedy: "by a role that may: " + sql})
		return nil
	}
	if sql := "ALTER DATABASE " + pg.QuoteIdent(there.Name) + " OWNER TO " + pg.QuoteIdent(to); there.Owner != to && !l.denied.rests(sql, may, time.Now()) {
		err := l.join(ctx, target, to)
		if err == nil {
			err = journal.ChangeWithUndo(ctx, target, sql, "ALTER DATABASE "+pg.QuoteIdent(there.Name)+" OWNER TO "+pg.QuoteIdent(there.Owner))
		}
		if err != nil {
			if err := left("the database", sql, err); err != nil {
				return nil, err
			}
			if err := l.grantDatabase(ctx, target, there.Name, to); err != nil {
				return found, err
			}
		}
	}
	public := "ALTER SCHEMA public OWNER TO " + pg.QuoteIdent(to)
	if (here.Public == here.Owner || here.Public == "pg_database_owner") && there.Public != "" && there.Public != to && there.Public != "pg_database_owner" && !l.denied.rests(public, may, time.Now()) {
		err := l.join(ctx, target, to)
		if err == nil {
			err = journal.ChangeWithUndo(ctx, target, public, "ALTER SCHEMA public OWNER TO "+pg.QuoteIdent(there.Public))
		}
		if err != nil {
			if err := left("schema public", public, err); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// grantDatabase gives a role what an owner of the database may do in it.
func (l *logins) grantDatabase(ctx context.Context, target *pgx.Conn, database, role string) error {
	d, r := pg.QuoteIdent(database), pg.QuoteIdent(role)
	err := journal.ChangeWithUndo(ctx, target, "GRANT ALL ON DATABASE "+d+" TO "+r, "REVOKE ALL ON DATABASE "+d+" FROM "+r)
	if pg.Code(err) != "" {
		return nil // it is compared, and named
	}
	return err
}

// join makes the role of the session a member of another one, whose rights it inherits.
func (l *logins) join(ctx context.Context, target *pgx.Conn, role string) error {
	why, err := plan.MayOwn(ctx, target, role)
	if err == nil && why != "" {
		l.log.Debug().Str("role", role).Str("why", why).Msg("not a member of the role")
	}
	return err
}

func (l *logins) isThere(ctx context.Context, target *pgx.Conn, role string) bool {
	var there bool
	err := target.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)`, role).Scan(&there)
	return err == nil && there
}

// refusalOf is what a server says, without the statement and the code.
func refusalOf(err error) string {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		return said.Message
	}
	return err.Error()
}
