package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

// tableRight is a table of the source and what our role may do with it.
type tableRight struct {
	Schema, Table, Owner string
	Owned, Readable      bool
	OwnerSuper           bool
}

// ownerSuper is whether a superuser owns a relation.
const ownerSuper = `(SELECT o.rolsuper FROM pg_roles o WHERE o.oid = c.relowner)`

// OnSource asks whether the source's role may do with its tables and schemas what the migration
// does.
func OnSource(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	role, err := inquiry.CurrentRole(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	tables, err := inquiry.List[tableRight](ctx, p.Source, "rights on tables", `
		SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
			pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), `+ownerSuper+
		inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		ORDER BY 1, 2`, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	found, err := closedSources(ctx, p, role.Name)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		found = append(found, tableFindings(p.Options.Mode, role.Name, t)...)
	}
	if p.Options.Mode == inquiry.Run {
		found = append(found, lacking(role)...)
	}
	return found, nil
}

// closedSources names the schemas that our role may not look into, each once, whatever is in
// it. What membership of a table's owner will open, which is asked for, is not named.
func closedSources(ctx context.Context, p *inquiry.Pair, role string) ([]answer.Finding, error) {
	closed, err := inquiry.List[struct{ Name string }](ctx, p.Source, "rights on schemas", `
		SELECT n.nspname::text`+inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND NOT has_schema_privilege(n.oid, 'USAGE')
		GROUP BY 1 HAVING NOT bool_or($2 AND c.relkind <> 'S' AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT `+ownerSuper+` AND has_schema_privilege(c.relowner, n.oid, 'USAGE'))
		ORDER BY 1`, p.Options.Scope.Relations(), p.Options.Mode == inquiry.Run)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, s := range closed {
		sql := fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", pg.QuoteIdent(s.Name), pg.QuoteIdent(role))
		found = append(found, answer.Finding{
			Code: "schema_not_usable", Severity: answer.Blocker, Object: s.Name,
			Detail: fmt.Sprintf("role %s may not look into this schema of the source", role),
			Remedy: sql, SQL: sql, On: answer.Source,
		})
	}
	return found, nil
}

func tableFindings(mode inquiry.Mode, role string, t tableRight) []answer.Finding {
	name := pg.Name{Schema: t.Schema, Name: t.Table}
	switch {
	case mode == inquiry.Run && !t.Owned:
		sql := fmt.Sprintf("GRANT %s TO %s", pg.QuoteIdent(t.Owner), pg.QuoteIdent(role))
		if t.OwnerSuper { // whose membership would be every right there is
			sql = fmt.Sprintf("ALTER TABLE %s OWNER TO %s", name, pg.QuoteIdent(role))
		}
		return []answer.Finding{{
			Code: "table_not_owned", Severity: answer.Blocker, Object: name.Display(),
			Detail: fmt.Sprintf("belongs to %s; role %s can neither publish it nor fence it", t.Owner, role),
			Remedy: sql, SQL: sql, On: answer.Source,
		}}
	case !t.Readable:
		return []answer.Finding{{
			Code: "table_not_readable", Severity: answer.Blocker, Object: name.Display(),
			Detail: fmt.Sprintf("role %s may not read it", role),
			Remedy: fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s", name, pg.QuoteIdent(role)),
			On:     answer.Source, SQL: fmt.Sprintf("GRANT SELECT ON TABLE %s TO %s", name, pg.QuoteIdent(role)),
		}}
	}
	return nil
}
