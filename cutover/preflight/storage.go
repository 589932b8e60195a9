package preflight

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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

func LargeObjects(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	objects, err := inquiry.One[struct{ Count int64 }](ctx, p.Source, "large objects", `SELECT count(*) FROM pg_largeobject_metadata`)
	if err != nil || objects.Count == 0 || p.Options.Scope.SchemaOnly {
		return nil, err
	}
	if !p.Options.LargeObjects && !p.Options.Scope.Everything() { // pg_dump leaves them out as well
		return nil, nil
	}
	f := answer.Finding{Code: "large_objects", Severity: answer.Blocker, Object: "pg_largeobject"}
	switch {
	case !p.Options.LargeObjects:
		f.Detail = fmt.Sprintf("the source has %d large objects, which are copied only with --large-objects and never followed", objects.Count)
		f.Remedy = "give --large-objects, move them into bytea columns, or remove those that nothing uses with vacuumlo"
	case p.Options.Mode == inquiry.Run:
		f.Severity = answer.Warning
		f.Detail = fmt.Sprintf("the source has %d large objects, which are copied as they are then: no stream carries what changes in them, and a change refuses the cutover", objects.Count)
		f.Remedy = "have the applications leave large objects alone until the cutover, or move them into bytea columns; so that every change is seen: GRANT SELECT ON pg_catalog.pg_largeobject TO " +
			pg.QuoteIdent(p.Source.Config().User) + " on the source"
	default:
		return nil, nil
	}
	return []answer.Finding{f}, nil
}
