package preflight

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Parts of queries. Sessions of ours have pg_catalog alone in their search
// path, so names need no qualification.
const (
	// userSchema keeps n, a pg_namespace, to the user's schemas. The schemas of
	// the Neon service are not copied in either direction.
	userSchema = ` n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'crossfade', 'neon', 'neon_migration') `

	// notOfExtension keeps c, a pg_class, to what no extension brings along.
	notOfExtension = ` NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') `

	// onlyTaken keeps c, a pg_class, to what is copied; the argument $1 is null for all of it.
	onlyTaken = ` ($1::oid[] IS NULL OR c.oid = ANY ($1)) `

	// fromTakenRelations is fromUserRelations with onlyTaken.
	fromTakenRelations = fromUserRelations + ` AND` + onlyTaken

	// fromUserRelations joins the first two.
	fromUserRelations = ` FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE` + userSchema + `AND` + notOfExtension
)

// list runs a query and returns its rows as structs, by position. what names
// the query in an error.
func list[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) ([]T, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	return found, nil
}

// one runs a query for its only row.
func one[T any](ctx context.Context, conn *pgx.Conn, what, sql string, args ...any) (T, error) {
	var none T
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return none, fmt.Errorf("read %s: %w", what, err)
	}
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
	if err != nil {
		return none, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}

// setting reads one server setting; "" where the server does not know it.
func setting(ctx context.Context, conn *pgx.Conn, name string) (string, error) {
	v, err := one[struct{ Value string }](ctx, conn, "setting "+name, `SELECT coalesce(current_setting($1, true), '')`, name)
	return v.Value, err
}

// version reads server_version_num.
func version(ctx context.Context, conn *pgx.Conn) (int, error) {
	v, err := one[struct{ Num int }](ctx, conn, "server version", `SELECT current_setting('server_version_num')::int`)
	return v.Num, err
}
