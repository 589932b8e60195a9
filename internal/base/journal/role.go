package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"crossfade/internal/base/pg"
)

// Role is what the source has on one of its roles for logins. It is kept on the
// target, for the time after the source is gone.
type Role struct {
	Name     string
	CanLogin bool
	// Connect says that it may connect to the database that is moved.
	Connect bool
	// ValidUntil is when the password's time is over; zero means never.
	ValidUntil time.Time
	Secret     string // pg_authid.rolpassword, "" where there is none or it may not be read
}

// Format keeps the secret out of logs and error texts.
func (r Role) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "role %q", r.Name) }

// ReadRoles reads the roles of the source. readable says whether their secrets could be read: a
// superuser may, and a role that was granted it.
func ReadRoles(ctx context.Context, conn *pgx.Conn) (roles []Role, readable bool, err error) {
	err = conn.QueryRow(ctx, `SELECT pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'rolpassword', 'SELECT')
		AND pg_catalog.has_column_privilege('pg_catalog.pg_authid', 'oid', 'SELECT')`).Scan(&readable)
	if err == nil && readable {
		roles, err = queryRoles(ctx, conn, `SELECT r.rolname::text, r.rolcanlogin, pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'), r.rolvaliduntil, coalesce(a.rolpassword, '')
			FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_authid a ON a.oid = r.oid`)
		if pg.IsCode(err, pg.CodeInsufficientPrivilege) { // a service that hides it in ways of its own
			readable, err = false, nil
		}
	}
	if err == nil && !readable {
		roles, err = queryRoles(ctx, conn, `SELECT r.rolname::text, r.rolcanlogin, pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT'), r.rolvaliduntil, '' FROM pg_catalog.pg_roles r`)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the roles of the source: %w", err)
	}
	return roles, readable, nil
}

// SaveRoles keeps these roles on the target, and no others.
func SaveRoles(ctx context.Context, conn *pgx.Conn, roles []Role) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM crossfade.role`); err != nil {
			return err
		}
		names, can, connect, until, secrets := make([]string, len(roles)), make([]bool, len(roles)), make([]bool, len(roles)), make([]*time.Time, len(roles)), make([]string, len(roles))
		for i, r := range roles {
			names[i], can[i], connect[i], secrets[i] = r.Name, r.CanLogin, r.Connect, r.Secret
			if !r.ValidUntil.IsZero() {
				until[i] = &r.ValidUntil
			}
		}
		_, err := tx.Exec(ctx, `INSERT INTO crossfade.role (name, can_login, can_connect, valid_until, secret)
			SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::boolean[]), pg_catalog.unnest($3::boolean[]), pg_catalog.unnest($4::timestamptz[]), pg_catalog.unnest($5::text[]))`, names, can, connect, until, secrets)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep the roles of the source: %w", err)
	}
	return nil
}

// LoadRoles reads what SaveRoles kept.
func LoadRoles(ctx context.Context, conn *pgx.Conn) ([]Role, error) {
	roles, err := queryRoles(ctx, conn, `SELECT name, can_login, can_connect, valid_until, secret FROM crossfade.role`)
	if err != nil {
		return nil, fmt.Errorf("read the kept roles: %w", err)
	}
	return roles, nil
}

func queryRoles(ctx context.Context, conn *pgx.Conn, sql string) ([]Role, error) {
	rows, _ := conn.Query(ctx, sql+` ORDER BY 1`)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Role, error) {
		var r Role
		var until pgtype.Timestamptz
		if err := row.Scan(&r.Name, &r.CanLogin, &r.Connect, &until, &r.Secret); err != nil {
			return Role{}, err
		}
		switch {
		case !until.Valid || until.InfinityModifier == pgtype.Infinity:
		case until.InfinityModifier == pgtype.NegativeInfinity:
			r.ValidUntil = time.Unix(0, 0)
		default:
			r.ValidUntil = until.Time
		}
		return r, nil
	})
}
