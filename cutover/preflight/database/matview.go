package database

import (
	"context"
	"fmt"
	"strings"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// MaterialisedViews reports what happens to the contents of materialised views, which are the
// results of their queries: no stream carries their rows, and no rows can be written into one.
func MaterialisedViews(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.SchemaOnly || p.Options.Scope.DataOnly {
		return nil, nil
	}
	type view struct {
		Schema, Name string
		Read, Use    bool
	}
	views, err := inquiry.List[view](ctx, p.Source, "materialised views", `
		SELECT n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'SELECT'), has_schema_privilege(n.oid, 'USAGE')`+inquiry.FromTakenRelations+`
		AND c.relkind = 'm' AND c.relispopulated ORDER BY 1, 2`, p.Options.Scope.WithRows())
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, v := range views {
		name := pg.Name{Schema: v.Schema, Name: v.Name}
		f := answer.Finding{Code: "matview", Severity: answer.Info, Object: name.Display(),
			Detail: "is filled on the target by its query: rows that the query does not give any more, since the view was not refreshed for long, are not carried over",
			Remedy: fmt.Sprintf("REFRESH MATERIALIZED VIEW %s on the source before the copy, where both sides shall have the same rows", name)}
		if p.Options.Mode == inquiry.Run {
			f.Detail = "is filled on the target by its query, again whenever it is refreshed on the source, and never after the switch; its rows are compared, and status names a view whose rows are others, since it was not refreshed for long or its query gives others each time"
			f.Remedy = fmt.Sprintf("REFRESH MATERIALIZED VIEW %s on the source while the run follows, where status names it", name)
		}
		if p.Options.Mode == inquiry.Run && (!v.Read || !v.Use) {
			role := pg.QuoteIdent(p.Source.Config().User)
			var sql []string
			if !v.Use {
				sql = append(sql, "GRANT USAGE ON SCHEMA "+pg.QuoteIdent(v.Schema)+" TO "+role)
			}
			if !v.Read {
				sql = append(sql, "GRANT SELECT ON "+name.String()+" TO "+role)
			}
			f = answer.Finding{Code: "matview_not_compared", Severity: answer.Warning, Object: name.Display(),
				Detail: f.Detail + "; the role of --source may not read this one, so that its rows are not compared",
				Remedy: strings.Join(sql, "; "),
				On:     answer.Source, SQL: strings.Join(sql, "; ")}
		}
		found = append(found, f)
	}
	return found, nil
}
