package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
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
	closed, err := inquiry.Column[string](ctx, p.Source, "rights on schemas", `
		SELECT n.nspname::text`+inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't' AND NOT has_schema_privilege(n.oid, 'USAGE')
		GROUP BY 1 HAVING NOT bool_or($2 AND c.relkind <> 'S' AND NOT pg_has_role(c.relowner, 'USAGE') AND NOT `+ownerSuper+` AND has_schema_privilege(c.relowner, n.oid, 'USAGE'))
		ORDER BY 1`, p.Options.Scope.Relations(), p.Options.Mode == inquiry.Run)
	return lists.Map(closed, func(schema string) answer.Finding {
		sql := fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", pg.QuoteIdent(schema), pg.QuoteIdent(role))
		return answer.Finding{
			Code: "schema_not_usable", Severity: answer.Blocker, Object: schema,
			Detail: fmt.Sprintf("role %s may not look into this schema of the source", role),
			Remedy: sql, SQL: sql, On: answer.Source,
		}
	}), err
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

// lacking is what a role lacks that runs a migration on the source.
func lacking(r inquiry.Role) []answer.Finding {
	var found []answer.Finding
	role := pg.QuoteIdent(r.Name)
	if !r.Create {
		found = append(found, noCreate(answer.Source, r))
	}
	if !r.Monitor {
		found = append(found, answer.Finding{
			Code: "no_pg_monitor", Severity: answer.Blocker, Object: r.Name,
			Detail: "cannot see other sessions, so that writers that bypass the proxy would not be found",
			Remedy: "GRANT pg_monitor TO " + role,
			On:     answer.Source, SQL: "GRANT pg_monitor TO " + role,
		})
	}
	if !r.Signaler {
		found = append(found, answer.Finding{
			Code: "no_pg_signal_backend", Severity: answer.Warning, Object: r.Name,
			Detail: "cannot end sessions of other roles that were left by a proxy that died",
			Remedy: "GRANT pg_signal_backend TO " + role,
			On:     answer.Source, SQL: "GRANT pg_signal_backend TO " + role,
		})
	}
	return found
}

// noCreate is the same for both sides: Crossfade keeps its state in a schema of its own.
func noCreate(side answer.Side, r inquiry.Role) answer.Finding {
	sql := fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", pg.QuoteIdent(r.Database), pg.QuoteIdent(r.Name))
	return answer.Finding{
		Code: "no_create_on_" + string(side), Severity: answer.Blocker, Object: r.Name,
		Detail: fmt.Sprintf("may not create schemas in database %s of the %s", r.Database, side),
		Remedy: sql, SQL: sql, On: side,
	}
}

// OnSequences names sequences that the source's role may not read.
func OnSequences(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	role, err := inquiry.CurrentRole(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	type sequence struct{ Schema, Name string }
	unreadable, err := inquiry.List[sequence](ctx, p.Source, "rights on sequences", `
		SELECT n.nspname::text, c.relname::text`+inquiry.FromTakenRelations+`AND c.relkind = 'S' AND c.relpersistence <> 't'
			AND NOT CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'SELECT') ELSE true END
		ORDER BY 1, 2`, p.Options.Scope.WithRows())
	return lists.Map(unreadable, func(s sequence) answer.Finding {
		name := pg.Name{Schema: s.Schema, Name: s.Name}
		return answer.Finding{
			Code: "sequence_not_readable", Severity: answer.Blocker, Object: name.Display(),
			Detail: fmt.Sprintf("role %s may not read this sequence, which would then hand out used numbers after the move", role.Name),
			Remedy: fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s", name, pg.QuoteIdent(role.Name)),
			On:     answer.Source, SQL: fmt.Sprintf("GRANT SELECT ON SEQUENCE %s TO %s", name, pg.QuoteIdent(role.Name)),
		}
	}), err
}

// protected is a table whose policies filter some roles.
type protected struct {
	Schema, Table string
	Owned, Forced bool
}

// RowSecurity names tables whose policies would hide rows from the role of either side.
func RowSecurity(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	tables, err := inquiry.List[protected](ctx, p.Source, "tables with row security", `
		SELECT n.nspname::text, c.relname::text, pg_has_role(c.relowner, 'USAGE'), c.relforcerowsecurity`+
		inquiry.FromTakenRelations+`AND c.relkind IN ('r', 'p') AND c.relrowsecurity ORDER BY 1, 2`, p.Options.Scope.WithRows())
	if err != nil || len(tables) == 0 {
		return nil, err
	}
	source, target, err := inquiry.Both(ctx, p, inquiry.CurrentRole)
	if err != nil {
		return nil, err
	}
	var found []answer.Finding
	for _, t := range tables {
		// At the target our role will own every table, so only FORCE filters it.
		if filtered(source, t.Owned, t.Forced) {
			found = append(found, rowSecurityFinding(answer.Source, source.Name, t))
		}
		if filtered(target, true, t.Forced) {
			found = append(found, rowSecurityFinding(answer.Target, target.Name, t))
		}
	}
	return found, nil
}

// filtered tells whether policies apply to the role (PostgreSQL documentation
// 5.9: not to superusers, to roles with BYPASSRLS, and to the owner unless
// forced).
func filtered(r inquiry.Role, owned, forced bool) bool {
	return !r.Super && !r.BypassRLS && (!owned || forced)
}

func rowSecurityFinding(side answer.Side, role string, t protected) answer.Finding {
	return answer.Finding{
		Code: "row_security", Severity: answer.Blocker, Object: pg.Name{Schema: t.Schema, Name: t.Table}.Display(),
		Detail: fmt.Sprintf("its policies would hide rows from role %s of the %s", role, side),
		Remedy: fmt.Sprintf("ALTER ROLE %s BYPASSRLS (on the %s)", pg.QuoteIdent(role), side),
		On:     side, SQL: fmt.Sprintf("ALTER ROLE %s BYPASSRLS", pg.QuoteIdent(role)),
	}
}

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
	used, err := inquiry.Column[string](ctx, p.Source, "schemas of the source", `SELECT DISTINCT n.nspname::text`+inquiry.FromTakenRelations, p.Options.Scope.Relations())
	if err != nil {
		return nil, err
	}
	return inquiry.Column[string](ctx, p.Target, "schemas of the target", `
		SELECT nspname::text FROM pg_namespace
		WHERE nspname = ANY ($1::text[]) AND NOT (has_schema_privilege(oid, 'CREATE') AND has_schema_privilege(oid, 'USAGE'))
		ORDER BY 1`, used)
}
