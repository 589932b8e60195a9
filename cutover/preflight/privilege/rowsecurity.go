package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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
	source, err := inquiry.CurrentRole(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	target, err := inquiry.CurrentRole(ctx, p.Target)
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
