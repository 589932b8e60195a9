package database

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// LargeObjects says what becomes of the source's large objects, which no stream carries.
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
		f.Remedy = "stop the applications from changing large objects until the cutover, or move them into bytea columns; so that every change is seen: GRANT SELECT ON pg_catalog.pg_largeobject TO " +
			pg.QuoteIdent(p.Source.Config().User) + " on the source"
	default:
		return nil, nil
	}
	return []answer.Finding{f}, nil
}
