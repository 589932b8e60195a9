package preflight

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/base/pg"
)

// roleRight is the role of a connection and what it may do in its database.
type roleRight struct {
	Name, Database            string
	Super, BypassRLS          bool
	Create, Monitor, Signaler bool
}

func currentRole(ctx context.Context, conn *pgx.Conn) (roleRight, error) {
	return one[roleRight](ctx, conn, "rights of the role", `
		SELECT current_user::text, current_database()::text, rolsuper, rolbypassrls,
			has_database_privilege(current_database(), 'CREATE'),
			pg_has_role('pg_monitor', 'USAGE'), pg_has_role('pg_signal_backend', 'USAGE')
		FROM pg_roles WHERE rolname = current_user`)
}

// findings are what a role lacks that runs a migration on the source.
func (r roleRight) findings() []answer.Finding {
	var found []answer.Finding
	role := pg.QuoteIdent(r.Name)
	if !r.Create {
		found = append(found, noCreate(answer.Source, r))
	}
	if !r.Monitor {
		found = append(found, answer.Finding{
			Code: "no_pg_monitor", Severity: answer.Blocker, Object: r.Name,
			Detail: "cannot see other sessions, and so not who writes to the source past the proxy",
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

// noCreate is the same for both sides: Crossfade keeps its state in a schema of
// its own.
func noCreate(side answer.Side, r roleRight) answer.Finding {
	sql := fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", pg.QuoteIdent(r.Database), pg.QuoteIdent(r.Name))
	return answer.Finding{
		Code: "no_create_on_" + string(side), Severity: answer.Blocker, Object: r.Name,
		Detail: fmt.Sprintf("may not create schemas in database %s of the %s", r.Database, side),
		Remedy: sql, SQL: sql, On: side,
	}
}
