package migration

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/app/dbconn"
	"crossfade/internal/base/journal"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
	"crossfade/schema/plan"
)

// markPath is what the journal keeps the source's search_path by.
const markPath = "search_path of the source"

// sourcePath is the search_path under which expressions that call users' functions are
// evaluated on the target: that of the source's role in its database, as it was when the schema
// was dumped, since bodies of functions have names that are found by way of it. It is "" where
// nothing would be evaluated.
func (m *Schema) sourcePath(ctx context.Context, target *pgx.Conn, plan *plan.Plan, db *catalog.Database) (string, error) {
	if !plan.CallsFunctions() && len(db.MatViews) == 0 {
		return "", nil
	}
	path, err := journal.LoadMark(ctx, target, markPath)
	if err != nil || path != "" {
		return path, err
	}
	source, err := pg.Connect(ctx, m.task.Source, pg.WithName("settings"), pg.WithOwnSearchPath())
	if err != nil {
		return "", err
	}
	defer dbconn.CloseNow(source)
	err = source.QueryRow(ctx, `SELECT coalesce(pg_catalog.string_agg(pg_catalog.quote_ident(s), ', ' ORDER BY i), '')
		FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) WITH ORDINALITY AS x (s, i)`).Scan(&path)
	if err != nil {
		return "", fmt.Errorf("read the source's search_path: %w", err)
	}
	if path == "" {
		return "", nil
	}
	return path, journal.SaveMark(ctx, target, markPath, path)
}

// connectRead opens a session at the source that rows are read by. Whatever plans a read of a table
// evaluates its index expressions.
func (m *Schema) connectRead(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.task.Source, append(m.RowOptions(), pg.WithName("copy"))...)
}

// connectRows opens a session at the target that rows are written by.
func (m *Schema) connectRows(ctx context.Context) (*pgx.Conn, error) {
	return pg.Connect(ctx, m.task.Target, append(m.RowOptions(), pg.WithName("copy"), pg.WithKey(m.task.Identity.Target.Key))...)
}

// RowOptions are what sessions have in addition that read or write rows.
func (m *Schema) RowOptions() []pg.Option {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == "" {
		return nil
	}
	return []pg.Option{pg.WithParam("search_path", m.path)}
}

func (m *Schema) SearchPath() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.path
}
