// Package unconvertible searches a table for rows that cannot be written in the encoding of another
// database, and says where the first one is and how to correct it.
//
// The server converts, not we: what it accepts is what a COPY of it will accept.
package unconvertible

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// Rows are rows of a table that cannot be written in another encoding.
type Rows struct {
	Table  pg.Name
	Count  int64
	At     string // where the first one is, as its ctid
	Key    string // its primary key, such as (7); "" where it has none, or that is what cannot be written
	Column string // the first column of it that cannot be
	From   string // the encoding of the database
}

// Remedy says how to correct the first of the rows.
func (u Rows) Remedy() string {
	at := pg.QuoteLiteral(u.At)
	if u.From != "SQL_ASCII" { // in which the server does not know what the bytes mean
		return fmt.Sprintf("correct the value on the source: SELECT * FROM %s WHERE ctid = %s", u.Table, at)
	}
	return "write it as UTF8 on the source, from the encoding that its bytes are in, such as LATIN1: " + u.Statement()
}

// Statement is the one of Remedy, "" where none corrects the row.
func (u Rows) Statement() string {
	if u.From != "SQL_ASCII" {
		return ""
	}
	column := pg.QuoteIdent(u.Column)
	return fmt.Sprintf("UPDATE %s SET %s = convert_from(convert(convert_to(%s, 'SQL_ASCII'), 'LATIN1', 'UTF8'), 'SQL_ASCII') WHERE ctid = %s", u.Table, column, column, pg.QuoteLiteral(u.At))
}

// Row describes the first of the rows.
func (u Rows) Row() string {
	where := "the row at ctid " + u.At
	if u.Key != "" {
		where = "the row with key " + u.Key
	}
	return where + ", column " + u.Column
}

// foundUnconvertible is the code with which the look through a table ends early; it is
// none of the server's.
const foundUnconvertible = "XFADE"

// Find scans a table for rows that the server cannot convert to encoding, such as UTF8. It reads
// the whole table, and returns nil if there is none. conn is a session of Connect's, and remains
// the caller's.
func Find(ctx context.Context, conn *pgx.Conn, table pg.Name, encoding string) (*Rows, error) {
	columns, key, err := columnsOf(ctx, conn, table)
	if err != nil || len(columns) == 0 {
		return nil, err
	}
	if err := convert(ctx, conn, table, columns, encoding, "true"); !unconvertible(err) {
		return nil, wrapSearch(table, err)
	}
	body := `DECLARE
	r record;
	n bigint := 0;
	first text;
	b bytea;
BEGIN
	FOR r IN SELECT t.ctid::text AS at, ` + rowText(columns) + ` AS v FROM ONLY ` + table.String() + ` t LOOP
		BEGIN
			b := pg_catalog.convert_to(r.v, ` + pg.QuoteLiteral(encoding) + `);
		EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
			n := n + 1;
			first := coalesce(first, r.at);
		END;
	END LOOP;
	IF n > 0 THEN
		RAISE EXCEPTION USING ERRCODE = '` + foundUnconvertible + `', MESSAGE = n || ' ' || first;
	END IF;
END`
	_, err = conn.PgConn().Exec(ctx, "DO "+pg.QuoteLiteral(body)).ReadAll()
	var said *pgconn.PgError
	if err == nil || !errors.As(err, &said) || said.Code != foundUnconvertible {
		return nil, wrapSearch(table, err) // without an error: someone has corrected them meanwhile
	}
	n, at, _ := strings.Cut(said.Message, " ")
	u := &Rows{Table: table, At: at}
	if u.Count, err = strconv.ParseInt(n, 10, 64); err != nil {
		return nil, wrapSearch(table, err)
	}
	here := "t.ctid = " + pg.QuoteLiteral(at) + "::pg_catalog.tid"
	for _, c := range columns {
		if unconvertible(convert(ctx, conn, table, []string{c}, encoding, here)) {
			u.Column = c
			break
		}
	}
	if err := conn.QueryRow(ctx, `SELECT pg_catalog.getdatabaseencoding()::pg_catalog.text`).Scan(&u.From); err != nil {
		return nil, wrapSearch(table, err)
	}
	if len(key) > 0 && convert(ctx, conn, table, key, encoding, here) == nil {
		err = conn.QueryRow(ctx, "SELECT "+rowText(key)+" FROM ONLY "+table.String()+" t WHERE "+here).Scan(&u.Key)
		if errors.Is(err, pgx.ErrNoRows) {
			err = nil
		}
	}
	return u, wrapSearch(table, err)
}

func wrapSearch(table pg.Name, err error) error {
	return pg.Wrap(err, "look for rows of %s that cannot be converted", table.Display())
}

// unconvertible reports whether an error says that bytes are not valid in the
// encoding that they are to be in.
func unconvertible(err error) bool {
	return pg.IsCode(err, pg.CodeInvalidBytes, pg.CodeUntranslatable)
}

// convert has the server write rows in encoding, and throws the result away.
func convert(ctx context.Context, conn *pgx.Conn, table pg.Name, columns []string, encoding, where string) error {
	_, err := conn.PgConn().Exec(ctx, "SELECT pg_catalog.count(pg_catalog.convert_to("+rowText(columns)+", "+pg.QuoteLiteral(encoding)+")) FROM ONLY "+table.String()+" t WHERE "+where).ReadAll()
	return err
}

// rowText is the output of a row's type, for which no cast can be defined.
func rowText(columns []string) string {
	quoted := lists.Map(columns, func(c string) string { return "t." + pg.QuoteIdent(c) })
	return "ROW(" + strings.Join(quoted, ", ") + ")::pg_catalog.text"
}

// columnsOf reads the columns of a table, and those of its primary key.
func columnsOf(ctx context.Context, conn *pgx.Conn, table pg.Name) (columns, key []string, err error) {
	err = conn.QueryRow(ctx, `SELECT coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum), '{}'),
			coalesce(pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum) FILTER (WHERE a.attnum = ANY (i.indkey::pg_catalog.int2[])), '{}')
		FROM pg_catalog.pg_attribute a LEFT JOIN pg_catalog.pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
		WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, table.String()).Scan(&columns, &key)
	return columns, key, wrapSearch(table, err)
}
