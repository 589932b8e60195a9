package changes

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
	"crossfade/schema/archive"
	"crossfade/schema/catalog"
)

// MissingValues reads, by table and column, what rows have that are older than a column which
// was added with a default: the server keeps that one value, as the default gave it then
// (attmissingval), and NULL stands nowhere in it. The session's settings say how it is written.
func MissingValues(ctx context.Context, conn *pgx.Conn) (map[pg.Name]map[string]string, error) {
	rows, _ := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text, a.attname::text, (a.attmissingval::text::text[])[1]
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
		WHERE a.atthasmissing AND NOT a.attisdropped AND t.typdelim = ',' AND (a.attmissingval::text::text[])[1] IS NOT NULL AND `+catalog.UserSchema)
	out := map[pg.Name]map[string]string{}
	var table pg.Name
	var column, value string
	_, err := pgx.ForEachRow(rows, []any{&table.Schema, &table.Name, &column, &value}, func() error {
		if out[table] == nil {
			out[table] = map[string]string{}
		}
		out[table][column] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read values of added columns: %w", err)
	}
	return out, nil
}

// constantDefault is a default that gives the same value whenever it is evaluated.
var constantDefault = regexp.MustCompile(`(?is)^default\s+(-?[0-9][0-9.e+-]*|true|false|E?'(?:[^']|'')*')(::[^(']*(\([0-9, ]+\))?[^(']*)?$`)

// addedSQL adds a column so that the rows that are there have the value that those of the
// source have, where its default would give another one by now; plain is the statement that
// takes the default as it is.
func addedSQL(e *archive.Entry, column, item, value, plain string) string {
	c, table := clausesOf(item), tableName(e)
	if c.rest || c.byDefault == "" || table == "" || constantDefault.MatchString(c.byDefault) {
		return plain
	}
	alter := "ALTER TABLE " + table + " "
	return alter + "ADD COLUMN " + strings.Replace(item, c.byDefault, "DEFAULT "+pg.QuoteLiteral(value), 1) + "; " +
		alter + "ALTER COLUMN " + pg.QuoteIdent(column) + " SET " + c.byDefault + ";"
}
