package restore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/pg"
)

// sessionSettings are the settings under which pg_restore executes an archive. Names in an archive
// are qualified, so nothing may be found through the search_path.
var sessionSettings = map[string]string{
	"search_path":                 "",
	"check_function_bodies":       "off",
	"standard_conforming_strings": "on",
	"client_encoding":             "UTF8",
	"client_min_messages":         "warning",
	"default_tablespace":          "",
	"row_security":                "off",
	"xmloption":                   "content",
}

// prepareSession puts a session into the state in which entries are executed.
// back restores it; it does nothing on a connection that is lost.
func prepareSession(ctx context.Context, conn *pgx.Conn) (back func(), err error) {
	if conn.PgConn().TxStatus() != 'I' {
		return nil, errors.New("prepare session: it is in a transaction")
	}
	names := slices.AppendSeq(make([]string, 0, len(sessionSettings)), maps.Keys(sessionSettings))
	rows, _ := conn.Query(ctx, `SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY ($1)`, names)
	before := map[string]string{}
	var name, value string
	if _, err := pgx.ForEachRow(rows, []any{&name, &value}, func() error { before[name] = value; return nil }); err != nil {
		return nil, fmt.Errorf("prepare session: %w", err)
	}
	if err := set(ctx, conn, sessionSettings); err != nil {
		return nil, fmt.Errorf("prepare session: %w", err)
	}
	return func() {
		if !conn.IsClosed() {
			_ = set(context.WithoutCancel(ctx), conn, before) // a session that is gone needs none
		}
	}, nil
}

func set(ctx context.Context, conn *pgx.Conn, settings map[string]string) error {
	var b strings.Builder
	for name, value := range settings {
		b.WriteString("SELECT pg_catalog.set_config(" + pg.QuoteLiteral(name) + ", " + pg.QuoteLiteral(value) + ", false);\n")
	}
	return pg.Exec(ctx, conn, b.String())
}
