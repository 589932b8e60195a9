package database

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// UnloggedTables names tables that no stream carries, and that Neon empties.
func UnloggedTables(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	type table struct{ Schema, Name string }
	tables, err := inquiry.List[table](ctx, p.Source, "unlogged tables", `
		SELECT n.nspname::text, c.relname::text`+inquiry.FromTakenRelations+`AND c.relkind = 'r' AND c.relpersistence = 'u' ORDER BY 1, 2`, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, t := range tables {
		name := pg.Name{Schema: t.Schema, Name: t.Name}
		detail := "is unlogged: its changes are in no stream, so they are not followed"
		if p.Options.Mode == inquiry.Copy {
			detail = "is unlogged: Neon empties it whenever the compute restarts"
		}
		found = append(found, answer.Finding{
			Code: "unlogged_table", Severity: answer.Warning, Object: name.Display(),
			Detail: detail,
			Remedy: fmt.Sprintf("ALTER TABLE %s SET LOGGED, if its rows matter", name),
			On:     answer.Source, SQL: fmt.Sprintf("ALTER TABLE %s SET LOGGED", name),
		})
	}
	return found, nil
}
