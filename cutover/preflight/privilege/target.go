package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// OnTarget asks whether the target's role may make what is to be made there.
func OnTarget(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	role, err := inquiry.CurrentRole(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	if !role.Create {
		found = append(found, noCreate(answer.Target, role))
	}
	closed, err := closedSchemas(ctx, p)
	if err != nil {
		return nil, err
	}
	for _, schema := range closed {
		found = append(found, answer.Finding{
			Code: "schema_not_writable", Severity: answer.Blocker, Object: schema,
			Detail: fmt.Sprintf("role %s may not create in this schema of the target", role.Name),
			Remedy: fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s", pg.QuoteIdent(schema), pg.QuoteIdent(role.Name)),
			On:     answer.Target, SQL: fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s", pg.QuoteIdent(schema), pg.QuoteIdent(role.Name)),
		})
	}
	return found, nil
}

// closedSchemas returns the schemas with objects at the source that exist at
// the target too, where our role may not create in them.
func closedSchemas(ctx context.Context, p *inquiry.Pair) ([]string, error) {
	type name struct{ Name string }
	used, err := inquiry.List[name](ctx, p.Source, "schemas of the source", `SELECT DISTINCT n.nspname::text`+inquiry.FromTakenRelations, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	names := make([]string, len(used))
	for i, u := range used {
		names[i] = u.Name
	}
	closed, err := inquiry.List[name](ctx, p.Target, "schemas of the target", `
		SELECT nspname::text FROM pg_namespace
		WHERE nspname = ANY ($1::text[]) AND NOT (has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE'))
		ORDER BY 1`, names)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(closed))
	for i, c := range closed {
		out[i] = c.Name
	}
	return out, nil
}
