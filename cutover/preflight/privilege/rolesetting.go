package privilege

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// roleSetting is a setting that sessions of our role get in our database. Its value
// is compared and never shown.
type roleSetting struct {
	Name, Value string
	Everybody   bool // it is set for all roles in all databases
	InDatabase  bool // it is set for the database, or for the role in it
	OfRole      bool
	Role, DB    uint32 // whose it is, as pg_db_role_setting has it
}

// roleSettings reads them, the one that wins of each: of the role in the database
// before of the role, before of the database, before of all.
func roleSettings(ctx context.Context, conn *pgx.Conn) ([]roleSetting, error) {
	return inquiry.List[roleSetting](ctx, conn, "settings of role and database", `
		SELECT DISTINCT ON (1) split_part(s, '=', 1), substr(s, strpos(s, '=') + 1),
			r.setrole = 0 AND r.setdatabase = 0, r.setdatabase <> 0, r.setrole <> 0, r.setrole, r.setdatabase
		FROM pg_db_role_setting r, unnest(r.setconfig) s
		WHERE r.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
			AND r.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user))
		ORDER BY 1, r.setrole = 0, r.setdatabase = 0`)
}

// refusedSettings returns which of the settings our role may not set for a role or a database of
// the target: settings of superusers, and since 15 settings that the server does not know.
func refusedSettings(ctx context.Context, conn *pgx.Conn, names []string) (map[string]bool, error) {
	refused, err := inquiry.Column[string](ctx, conn, "settings that may be set", `
		SELECT n FROM unnest($1::text[]) n LEFT JOIN pg_settings s ON lower(s.name) = lower(n)
		WHERE NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
			AND coalesce(s.context IN ('superuser', 'superuser-backend'),
				strpos(n, '.') = 0 OR current_setting('server_version_num')::int >= 150000)`, names)
	return lists.Set(refused), err
}

// RoleSettings names what ALTER ROLE and ALTER DATABASE have set at the source
// and what will not be set at the target. The rest is carried over.
func RoleSettings(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	here, err := roleSettings(ctx, p.Source)
	if err != nil || len(here) == 0 {
		return nil, err
	}
	there, err := roleSettings(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	target, err := inquiry.CurrentRole(ctx, p.Target)
	if err != nil {
		return nil, err
	}
	names := lists.Map(here, func(s roleSetting) string { return s.Name })
	refused, err := refusedSettings(ctx, p.Target, names)
	if err != nil {
		return nil, err
	}
	if p.Options.Mode == inquiry.Run { // which compares roles: package loginrole
		ofRole := func(s roleSetting) bool { return s.OfRole }
		here, there = slices.DeleteFunc(here, ofRole), slices.DeleteFunc(there, ofRole)
	}
	has := lists.By(there, func(s roleSetting) string { return s.Name })
	var found []answer.Finding
	for _, s := range here {
		own, ok := has[s.Name]
		why := ""
		switch {
		case ok && own.Value == s.Value:
		case refused[s.Name]:
			why = "the target's role may not set it"
		case ok && own.OfRole && (!s.OfRole || !s.InDatabase):
			why = "the target's role has a value of its own, which stays"
		case s.Everybody:
			why = "it is set for all roles, which is not carried over"
		case s.InDatabase && !p.Options.Scope.Everything():
			why = "settings of the database are not carried over with a part of it"
		}
		if why == "" {
			continue
		}
		detail := "ALTER ROLE or ALTER DATABASE sets it on the source, and not in the same way on the target: " + why
		if p.Options.Mode == inquiry.Run {
			detail += "; sessions of the proxy get the source's value if it changes results, other sessions do not"
		}
		found = append(found, answer.Finding{
			Code: "role_setting_differs", Severity: answer.Warning, Object: s.Name, Detail: detail,
			Remedy: "execute on the target, as a role that may, what this query prints on the source: " + settingLike(p, s, target),
		})
	}
	return found, nil
}

// listSettings are lists of names, which ALTER ROLE takes in the form in which they are kept; other
// values are literals.
var listSettings = []string{"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries"}

// settingLike is a query for the source that gives the statement for the target, so that the value,
// which may be a secret, is in no report. In a copy it is set where nothing wins over it; a run
// carries over what is of roles, and compares what is of databases here.
func settingLike(p *inquiry.Pair, s roleSetting, target inquiry.Role) string {
	whose := fmt.Sprintf("ROLE %s IN DATABASE %s", pg.QuoteIdent(target.Name), pg.QuoteIdent(target.Database))
	if p.Options.Mode == inquiry.Run {
		whose = "DATABASE " + pg.QuoteIdent(target.Database)
	}
	value := "substr(s, strpos(s, '=') + 1)"
	if !slices.Contains(listSettings, s.Name) {
		value = "quote_literal(" + value + ")"
	}
	return fmt.Sprintf("SELECT %s || %s FROM pg_db_role_setting, unnest(setconfig) s WHERE setrole = %d AND setdatabase = %d AND split_part(s, '=', 1) = %s",
		pg.QuoteLiteral(fmt.Sprintf("ALTER %s SET %s TO ", whose, s.Name)), value, s.Role, s.DB, pg.QuoteLiteral(s.Name))
}
