package preflight

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/pg"
)

// roleSetting is a setting that sessions of our role get in our database. Its value
// is compared and never shown.
type roleSetting struct{ Name, Value string }

// roleSettings reads them, the one that wins of each: of the role in the database
// before of the role, before of the database, before of all.
func roleSettings(ctx context.Context, conn *pgx.Conn) ([]roleSetting, error) {
	return list[roleSetting](ctx, conn, "settings of role and database", `
		SELECT DISTINCT ON (1) split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)
		FROM pg_db_role_setting r, unnest(r.setconfig) s
		WHERE r.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
			AND r.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
		ORDER BY 1, r.setrole = 0, r.setdatabase = 0`)
}

// checkRoleSettings names what ALTER ROLE and ALTER DATABASE have set at the source
// and not at the target. A dump of a database holds neither.
func (p *Preflight) checkRoleSettings(ctx context.Context) ([]Finding, error) {
	here, err := roleSettings(ctx, p.source)
	if err != nil || len(here) == 0 {
		return nil, err
	}
	there, err := roleSettings(ctx, p.target)
	if err != nil {
		return nil, err
	}
	target, err := currentRole(ctx, p.target)
	if err != nil {
		return nil, err
	}
	has := map[roleSetting]bool{}
	for _, s := range there {
		has[s] = true
	}
	detail := "ALTER ROLE or ALTER DATABASE sets it at the source and not at the target; sessions of the proxy get it where it changes results, others do not"
	if p.opts.Mode == Copy {
		detail = "ALTER ROLE or ALTER DATABASE sets it at the source and not at the target"
	}
	var found []Finding
	for _, s := range here {
		if !has[s] {
			found = append(found, Finding{
				Code: "role_setting_differs", Severity: Warning, Object: s.Name, Detail: detail,
				Remedy: fmt.Sprintf("ALTER ROLE %s SET %s at the target, to what it is at the source", pg.QuoteIdent(target.Name), s.Name),
			})
		}
	}
	return found, nil
}
