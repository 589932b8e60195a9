package preflight

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/base/pg"
)

func (p *Preflight) checkTargetPrivileges(ctx context.Context) ([]answer.Finding, error) {
	role, err := currentRole(ctx, p.target)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	if !role.Create {
		found = append(found, noCreate(answer.Target, role))
	}
	closed, err := p.closedSchemas(ctx)
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
func (p *Preflight) closedSchemas(ctx context.Context) ([]string, error) {
	type name struct{ Name string }
	used, err := list[name](ctx, p.source, "schemas of the source", `SELECT DISTINCT n.nspname::text`+fromTakenRelations, p.opts.Scope.relations())
	if err != nil {
		return nil, err
	}
	names := make([]string, len(used))
	for i, u := range used {
		names[i] = u.Name
	}
	closed, err := list[name](ctx, p.target, "schemas of the target", `
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
