package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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
