package privilege

import (
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/pg"
)

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

// noCreate is the same for both sides: Crossfade keeps its state in a schema of its own.
func noCreate(side answer.Side, r inquiry.Role) answer.Finding {
	sql := fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", pg.QuoteIdent(r.Database), pg.QuoteIdent(r.Name))
	return answer.Finding{
		Code: "no_create_on_" + string(side), Severity: answer.Blocker, Object: r.Name,
		Detail: fmt.Sprintf("may not create schemas in database %s of the %s", r.Database, side),
		Remedy: sql, SQL: sql, On: side,
	}
}
