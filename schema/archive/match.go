package archive

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
)

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
