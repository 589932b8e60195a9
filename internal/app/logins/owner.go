package logins

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	return o, pg.Wrap(err, "read the owner of the database")
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
	to := cmp.Or(l.cfg.SchemaRoles()[here.Owner], here.Owner)
	known := slices.Contains(roles.Names(), here.Owner)
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
		if err := l.give(ctx, target, to, sql, "ALTER DATABASE "+pg.QuoteIdent(there.Name)+" OWNER TO "+pg.QuoteIdent(there.Owner)); err != nil {
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
		if err := l.give(ctx, target, to, public, "ALTER SCHEMA public OWNER TO "+pg.QuoteIdent(there.Public)); err != nil {
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

// give makes a role the owner of something. The role of the session becomes a member of it before,
// whose rights it inherits.
func (l *logins) give(ctx context.Context, target *pgx.Conn, role, sql, undo string) error {
	why, err := plan.MayOwn(ctx, target, role)
	if err != nil {
		return err
	}
	if why != "" {
		l.log.Debug().Str("role", role).Str("why", why).Msg("not a member of the role")
	}
	return journal.ChangeWithUndo(ctx, target, sql, undo)
}

func (l *logins) isThere(ctx context.Context, target *pgx.Conn, role string) bool {
	var there bool
	err := target.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)`, role).Scan(&there)
	return err == nil && there
}

// refusalOf is what a server says, without the statement and the code.
func refusalOf(err error) string {
	if said, ok := errors.AsType[*pgconn.PgError](err); ok {
		return said.Message
	}
	return err.Error()
}

// HandOver gives roles that the run has made the passwords that their applications use, if these
// are known, and lists in notes the roles whose password the operator has to set. The proxy uses
// the new passwords from here on.
func (l *logins) HandOver(ctx context.Context, target *pgx.Conn) (notes []string, err error) {
	p, err := l.passwordsOf(ctx, target)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	made := maps.Clone(l.made)
	l.mu.Unlock()
	var same, own []string
	for _, role := range slices.Sorted(maps.Keys(made)) {
		if made[role] == "" {
			continue
		}
		password, known := l.plain(role)
		if known {
			known, err = l.replace(ctx, target, p, role, password)
			if err != nil {
				return nil, err
			}
		}
		if known {
			same = append(same, role)
		} else {
			own = append(own, "ALTER ROLE "+pg.QuoteIdent(role)+" PASSWORD '…'")
		}
	}
	if len(same) > 0 {
		notes = append(notes, "these roles have the same passwords on the target as on the source: "+strings.Join(same, ", "))
	}
	if len(own) > 0 {
		notes = append(notes, "only crossfade run knows the passwords that these roles have on the target, until crossfade clean: give a role a password when its applications connect to the target directly; from then on the proxy cannot log in as it any more: "+strings.Join(own, "; "))
	}
	return notes, nil
}

// replace gives a role a password; done is false where the target refuses it, as Neon does
// with one that is too simple.
func (l *logins) replace(ctx context.Context, target *pgx.Conn, p *passwords, role, password string) (done bool, err error) {
	err = p.set(ctx, target, role, password)
	switch {
	case pg.Code(err) != "":
		return false, nil
	case err != nil:
		return false, fmt.Errorf("give role %s its password: %w", role, err)
	}
	l.mu.Lock()
	l.made[role] = password
	l.mu.Unlock()
	return true, nil
}

// Bounds of the rest of a statement that the target has refused.
const (
	refusalRest     = 30 * time.Second
	mostRefusalRest = 10 * time.Minute
)

// refusals are what the target has refused to do about roles: each rests twice as long after each
// try, or until the role of --target may do something else. They are not safe for concurrent use.
type refusals map[string]denial

type denial struct {
	may   string // what the role of --target might do then
	until time.Time
	rest  time.Duration
}

// rests reports whether what was refused is to be left alone now.
func (r refusals) rests(what, may string, now time.Time) bool {
	x, ok := r[what]
	return ok && x.may == may && now.Before(x.until)
}

// note keeps that the target refuses it.
func (r refusals) note(what, may string, now time.Time) {
	rest := refusalRest
	if x, ok := r[what]; ok && x.may == may {
		rest = min(2*x.rest, mostRefusalRest)
	}
	r[what] = denial{may, now.Add(rest), rest}
}
