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
	"crossfade/schema/archive"
	"crossfade/schema/finding"
	"crossfade/schema/plan"
)

// script is what is sent to the target for one entry.
type script struct {
	entry    *archive.Entry
	part     plan.Part
	sql      string
	path     string            // search_path under which it is executed, "" for none
	half     bool              // it is the index of a constraint that is still to be added
	findings []finding.Finding // of statements that were left out beforehand
}

// item is the key of the script's row in crossfade.item: the dump id, negative
// for an index whose entry is not done with it.
func (s script) item() int {
	if s.half {
		return -s.entry.ID
	}
	return s.entry.ID
}

// script makes the statements of an entry.
func (r *restorer) script(e *archive.Entry) script {
	s := script{entry: e, part: r.part}
	s.sql, s.findings = plan.Definition(e, r.cfg.Rewrite)
	if plan.Evaluates(e) {
		s.path = r.cfg.Path
	}
	return s
}

// run executes scripts, with the rows of crossfade.item that say so, in one
// transaction and one round trip.
func run(ctx context.Context, conn *pgx.Conn, scripts ...script) error {
	var b strings.Builder
	b.WriteString("BEGIN;\n")
	items := make([]string, len(scripts))
	for i, s := range scripts {
		if s.path != "" {
			b.WriteString("SET LOCAL search_path = " + s.path + ";\n")
		}
		// The line break ends a comment that the definition may end in.
		b.WriteString(s.sql + "\n;\n")
		if s.path != "" {
			b.WriteString("SET LOCAL search_path = '';\n")
		}
		items[i] = plan.ItemRow(s.item(), s.entry, s.part)
	}
	b.WriteString(plan.RecordItems(items...) + ";\n")
	b.WriteString("COMMIT;")
	_, err := conn.PgConn().Exec(ctx, b.String()).ReadAll()
	if err != nil && conn.PgConn().TxStatus() != 'I' && !conn.IsClosed() {
		if _, back := conn.PgConn().Exec(ctx, "ROLLBACK").ReadAll(); back != nil {
			return fmt.Errorf("roll back after %w: %w", err, back)
		}
	}
	return err
}

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
	before, err := pg.SelectMap(ctx, conn, func(name, value *string) []any { return []any{name, value} },
		`SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY ($1)`, names)
	if err == nil {
		err = set(ctx, conn, sessionSettings)
	}
	if err != nil {
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
