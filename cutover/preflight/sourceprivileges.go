package preflight

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/base/pg"
)

// tableRight is a table of the source and what our role may do with it.
type tableRight struct {
	Schema, Table, Owner string
	Owned, Readable      bool
}

func (p *Preflight) checkSourcePrivileges(ctx context.Context) ([]answer.Finding, error) {
	role, err := currentRole(ctx, p.source)
	if err != nil {
		return nil, err
	}
	tables, err := list[tableRight](ctx, p.source, "rights on tables", `
		SELECT n.nspname::text, c.relname::text, pg_get_userbyid(c.relowner)::text,
			pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT')`+
		fromTakenRelations+`AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
		ORDER BY 1, 2`, p.opts.Scope.relations())
	if err != nil {
		return nil, err
	}
	found, err := p.closedSources(ctx, role.Name)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		found = append(found, tableFindings(p.opts.Mode, role.Name, t)...)
	}
	if p.opts.Mode == Run {
		found = append(found, role.findings()...)
	}
	return found, nil
}

// closedSources names the schemas that our role may not look into, each once, whatever is in
// it. What membership of a table's owner will open, which is asked for, is not named.
func (p *Preflight) closedSources(ctx context.Context, role string) ([]answer.Finding, error) {
	closed, err := list[struct{ Name string }](ctx, p.source, "rights on schemas", `
		SELECT n.nspname::text`+fromTakenRelations+`AND c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND NOT has_schema_privilege(n.oid, 'USAGE')
		GROUP BY 1 HAVING NOT bool_or($2 AND c.relkind <> 'S' AND NOT pg_has_role(c.relowner, 'USAGE') AND has_schema_privilege(c.relowner, n.oid, 'USAGE'))
		ORDER BY 1`, p.opts.Scope.relations(), p.opts.Mode == Run)
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

func tableFindings(mode Mode, role string, t tableRight) []answer.Finding {
	name := pg.Name{Schema: t.Schema, Name: t.Table}
	switch {
	case mode == Run && !t.Owned:
		return []answer.Finding{{
			Code: "table_not_owned", Severity: answer.Blocker, Object: name.Display(),
			Detail: fmt.Sprintf("belongs to %s; role %s can neither publish it nor fence it", t.Owner, role),
			Remedy: fmt.Sprintf("GRANT %s TO %s", pg.QuoteIdent(t.Owner), pg.QuoteIdent(role)),
			On:     answer.Source, SQL: fmt.Sprintf("GRANT %s TO %s", pg.QuoteIdent(t.Owner), pg.QuoteIdent(role)),
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

func (p *Preflight) checkSequencePrivileges(ctx context.Context) ([]answer.Finding, error) {
	role, err := currentRole(ctx, p.source)
	if err != nil {
		return nil, err
	}
	type sequence struct{ Schema, Name string }
	unreadable, err := list[sequence](ctx, p.source, "rights on sequences", `
		SELECT n.nspname::text, c.relname::text`+fromTakenRelations+`AND c.relkind = 'S' AND c.relpersistence <> 't'
			AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE true END
		ORDER BY 1, 2`, p.opts.Scope.withRows())
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, s := range unreadable {
		name := pg.Name{Schema: s.Schema, Name: s.Name}
		found = append(found, answer.Finding{
			Code: "sequence_not_readable", Severity: answer.Blocker, Object: name.Display(),
			Detail: fmt.Sprintf("role %s may not read it, and would hand out used numbers after the move", role.Name),
			Remedy: fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s", name, pg.QuoteIdent(role.Name)),
			On:     answer.Source, SQL: fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s", name, pg.QuoteIdent(role.Name)),
		})
	}
	return found, nil
}
