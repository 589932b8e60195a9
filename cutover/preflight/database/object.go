package database

import (
	"context"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Objects returns the names of what users have made in a database, as they keep a target from being
// empty.
func Objects(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	return userObjects(ctx, conn, inquiry.Scope{})
}

// userObjects returns the names of what the user made: relations, functions and
// types. What a relation, a type or an extension brings along is left out.
func userObjects(ctx context.Context, conn *pgx.Conn, scope inquiry.Scope) ([]string, error) {
	type object struct{ Schema, Name string }
	objects, err := inquiry.List[object](ctx, conn, "objects of the database", `
		SELECT nsp, name FROM (
			SELECT n.nspname::text AS nsp, c.relname::text AS name, CASE c.relkind WHEN 'S' THEN 2 ELSE 1 END AS sort`+
		inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
			UNION ALL
			SELECT n.nspname::text, p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 3
			FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE`+inquiry.UserSchema+`AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('e', 'i'))
			UNION ALL
			SELECT n.nspname::text, t.typname::text, 4
			FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
			WHERE`+inquiry.UserSchema+`AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND (t.typtype IN ('d', 'e', 'r') OR t.typtype = 'c' AND c.relkind = 'c')
				AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype IN ('e', 'i'))
		) o ORDER BY sort, nsp, name`, scope.Relations(), scope.Schemas())
	if err != nil {
		return nil, err
	}
	return lists.Map(objects, func(o object) string { return pg.Name{Schema: o.Schema, Name: o.Name}.Display() }), nil
}
