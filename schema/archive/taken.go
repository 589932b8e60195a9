package archive

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

// Taken is what a filter takes along of a database, by the numbers of the objects
// there. It is what pg_dump would take.
type Taken struct {
	Everything  bool     // also what is in no schema, such as extensions, casts and event triggers
	Schemas     []uint32 // whose functions, types and the like are taken; never nil
	Relations   []uint32 // tables, views and sequences; never nil
	WithoutRows []uint32 // tables and sequences among them whose rows are not; never nil
}

// takenSchemas are the schemas selected by pg_dump's switches -n and -N, whose patterns match the
// schema's name, or database and schema.
const takenSchemas = `
SELECT n.oid FROM pg_catalog.pg_namespace n
WHERE n.nspname OPERATOR(pg_catalog.!~) '^pg_' AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' AND n.nspname OPERATOR(pg_catalog.<>) '` + catalog.OwnSchema + `'
	AND (coalesce(pg_catalog.cardinality($1::pg_catalog.text[]), 0) OPERATOR(pg_catalog.=) 0 OR EXISTS (
		SELECT FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (nsp, db)
		WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default"
			AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default")))
	AND NOT EXISTS (
		SELECT FROM ROWS FROM (pg_catalog.unnest($3::pg_catalog.text[]), pg_catalog.unnest($4::pg_catalog.text[])) AS p (nsp, db)
		WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default"
			AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default"))
ORDER BY 1`

// takenRelations are those of the schemas $1 or, if $2 is not null, the relations $2; without those
// in $3. A sequence that a selected table owns is included; one of an identity column only with its
// table.
const takenRelations = `
WITH picked AS (
	SELECT c.oid FROM pg_catalog.pg_class c
	WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p') AND c.relpersistence <> 't'
		AND CASE WHEN $2::pg_catalog.oid[] IS NULL THEN c.relnamespace = ANY ($1::pg_catalog.oid[]) ELSE c.oid = ANY ($2::pg_catalog.oid[]) END
		AND c.oid <> ALL (coalesce($3::pg_catalog.oid[], '{}'))
), owned AS (
	SELECT d.objid AS oid, d.refobjid AS owner, d.deptype FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
	WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = d.classid AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
)
SELECT oid FROM picked WHERE NOT EXISTS (SELECT FROM owned o WHERE o.oid = picked.oid AND o.deptype = 'i' AND NOT o.owner IN (SELECT oid FROM picked))
UNION SELECT o.oid FROM owned o JOIN picked p ON p.oid = o.owner
ORDER BY 1`

// Take reads what the filter takes along. It opens a session of its own, whose search path is the
// one that pg_dump has. It returns nil for a filter that lets everything pass.
func (f Filter) Take(ctx context.Context, source pg.DSN) (*Taken, error) {
	if f.IsZero() {
		return nil, nil
	}
	conn, err := pg.Connect(ctx, source, pg.WithName("patterns"), pg.WithOwnSearchPath())
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	t := &Taken{Everything: !f.Includes(), Schemas: []uint32{}}
	if len(f.IncludeTables) == 0 { // with it no schema is taken, whatever its patterns
		include, includeDB := schemaPatterns(f.IncludeSchemas)
		exclude, excludeDB := schemaPatterns(f.ExcludeSchemas)
		if t.Schemas, err = oids(ctx, conn, takenSchemas, include, includeDB, exclude, excludeDB); err != nil {
			return nil, err
		}
	}
	var only []uint32 // nil: those of the schemas
	if len(f.IncludeTables) > 0 {
		if only, err = matching(ctx, conn, f.IncludeTables); err != nil {
			return nil, err
		}
	}
	without, err := matching(ctx, conn, f.ExcludeTables)
	if err != nil {
		return nil, err
	}
	if t.Relations, err = oids(ctx, conn, takenRelations, t.Schemas, only, without); err != nil {
		return nil, err
	}
	t.WithoutRows, err = matching(ctx, conn, f.ExcludeTablesData)
	return t, err
}

// schemaPatterns are the expressions for names of schemas, and of the databases before them.
func schemaPatterns(patterns []string) (schemas, databases []string) {
	schemas, databases = []string{}, []string{}
	for _, text := range patterns {
		database, schema, _ := parsePattern(text).table()
		schemas, databases = append(schemas, schema), append(databases, database)
	}
	return schemas, databases
}

// matching are the relations that patterns pick, never nil.
func matching(ctx context.Context, conn *pgx.Conn, patterns []string) ([]uint32, error) {
	out := []uint32{}
	if len(patterns) == 0 {
		return out, nil
	}
	found, err := matchTables(ctx, conn, patterns)
	for oid := range found {
		out = append(out, oid)
	}
	return out, err
}

func oids(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]uint32, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("match patterns: %w", err)
	}
	found, err := pgx.AppendRows([]uint32{}, rows, pgx.RowTo[uint32])
	return found, pg.Wrap(err, "match patterns")
}

// matchQuery finds tables by patterns as pg_dump's expand_table_name_patterns
// does: a pattern without a schema is for what the search path shows.
const matchQuery = `
SELECT DISTINCT c.oid
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace,
ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])) AS p (nsp, rel, db)
WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')
	AND c.relname::pg_catalog.text OPERATOR(pg_catalog.~) p.rel COLLATE pg_catalog."default"
	AND CASE p.nsp WHEN '' THEN pg_catalog.pg_table_is_visible(c.oid)
		ELSE n.nspname::pg_catalog.text OPERATOR(pg_catalog.~) p.nsp COLLATE pg_catalog."default" END
	AND (p.db OPERATOR(pg_catalog.=) '' OR pg_catalog.current_database()::pg_catalog.text OPERATOR(pg_catalog.~) p.db COLLATE pg_catalog."default")`

// matchTables returns the oids of the relations that patterns pick, by the search path
// of the session.
func matchTables(ctx context.Context, conn *pgx.Conn, patterns []string) (map[uint32]bool, error) {
	n := len(patterns)
	nsp, rel, db := make([]string, n), make([]string, n), make([]string, n)
	for i, text := range patterns {
		nsp[i], rel[i], db[i] = parsePattern(text).table()
	}
	rows, _ := conn.Query(ctx, matchQuery, nsp, rel, db)
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, fmt.Errorf("match patterns: %w", err)
	}
	return lists.Set(oids), nil
}
