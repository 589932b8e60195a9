package inquiry

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// Parts of queries. Sessions of ours have pg_catalog alone in their search
// path, so names need no qualification.
const (
	// UserSchema keeps n, a pg_namespace, to the user's schemas. The schemas of
	// the Neon service are not copied in either direction.
	UserSchema = ` n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade', 'neon', 'neon_migration') `

	// NotOfExtension keeps c, a pg_class, to what no extension brings along.
	NotOfExtension = ` NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') `

	// OnlyTaken keeps c, a pg_class, to what is copied; the argument $1 is null for all of it.
	OnlyTaken = ` ($1::oid[] IS NULL OR c.oid = ANY ($1)) `

	// FromTakenRelations is FromUserRelations with OnlyTaken.
	FromTakenRelations = FromUserRelations + ` AND` + OnlyTaken

	// FromUserRelations joins the first two.
	FromUserRelations = ` FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE` + UserSchema + `AND` + NotOfExtension
)

// MaxName is how many bytes of a name PostgreSQL keeps.
const MaxName = 63

// List runs a query and returns its rows as structs, by position. what names the query in an error.
func List[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) ([]T, error) {
	return all(ctx, conn, pgx.RowToStructByPos[T], what, sql, args)
}

// Column runs a query for its only column.
func Column[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) ([]T, error) {
	return all(ctx, conn, pgx.RowTo[T], what, sql, args)
}

func all[T any](ctx context.Context, conn *pgx.Conn, read pgx.RowToFunc[T], what, sql string, args []any) ([]T, error) {
	found, err := pg.Rows(ctx, conn, read, sql, args...)
	return found, pg.Wrap(err, "read %s", what)
}

// One runs a query for its only row.
func One[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) (T, error) {
	return only(ctx, conn, pgx.RowToStructByPos[T], what, sql, args)
}

// Value runs a query for its only value.
func Value[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) (T, error) {
	return only(ctx, conn, pgx.RowTo[T], what, sql, args)
}

func only[T any](ctx context.Context, conn *pgx.Conn, read pgx.RowToFunc[T], what, sql string, args []any) (v T, err error) {
	rows, _ := conn.Query(ctx, sql, args...)
	if v, err = pgx.CollectExactlyOneRow(rows, read); err != nil {
		var none T
		return none, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}

// Both reads the same from source and target.
func Both[T any](ctx context.Context, p *Pair, read func(context.Context, *pgx.Conn) (T, error)) (source, target T, err error) {
	if source, err = read(ctx, p.Source); err == nil {
		target, err = read(ctx, p.Target)
	}
	return source, target, err
}

// Setting reads one server setting; "" where the server does not know it.
func Setting(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	return Value[string](ctx, conn, "setting "+name, `SELECT coalesce(current_setting($1, true), '')`, name)
}

// Version reads server_version_num.
func Version(ctx context.Context, conn *pgx.Conn) (int, error) {
	return Value[int](ctx, conn, "server version", `SELECT current_setting('server_version_num')::int`)
}

// Role is the role of a connection and what it may do in its database.
type Role struct {
	Name, Database            string
	Super, BypassRLS          bool
	Create, Monitor, Signaler bool
}

// CurrentRole reads the role of a session.
func CurrentRole(ctx context.Context, conn *pgx.Conn) (Role, error) {
	return One[Role](ctx, conn, "rights of the role", `
		SELECT current_user::text, current_database()::text, rolsuper, rolbypassrls,
			has_database_privilege(current_database(), 'CREATE'),
			pg_has_role('pg_monitor', 'USAGE'), pg_has_role('pg_signal_backend', 'USAGE')
		FROM pg_roles WHERE rolname = current_user`)
}
