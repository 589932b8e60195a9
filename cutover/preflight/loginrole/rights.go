package loginrole

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// rights compares what two roles may do.
func (c *comparison) rights(r, t login, lets bool) {
	severity := answer.Warning
	if lets {
		severity = answer.Blocker
	}
	var gains, losses []string
	grave := false // a loss that refuses
	for _, a := range []struct {
		name        string
		here, there bool
	}{{"SUPERUSER", r.Super, t.Super}, {"BYPASSRLS", r.BypassRLS, t.BypassRLS}, {"REPLICATION", r.Replication, t.Replication}, {"CREATEROLE", r.CreateRole, t.CreateRole}, {"CREATEDB", r.CreateDB, t.CreateDB}} {
		switch {
		case !a.here && a.there && !r.Super:
			gains = append(gains, a.name)
		case a.here && !a.there && a.name != "SUPERUSER" && !t.Super:
			losses = append(losses, a.name)
			grave = grave || a.name == "BYPASSRLS" && c.guarded > 0
		}
	}
	if r.Super && !t.Super {
		c.judge(c.superuser(r))
	}
	if !r.Super && !t.Super {
		more, less := c.memberships(r, t)
		for _, g := range more {
			gains = append(gains, "membership in "+g)
		}
		for _, g := range less {
			losses = append(losses, "membership in "+g)
			grave = grave || !strings.HasPrefix(g, "pg_")
		}
	}
	if len(gains) > 0 {
		detail := "has on the target, but not on the source: "
		if t.Name != r.Name {
			detail = fmt.Sprintf("is role %s on the target, which has what this role does not have on the source: ", t.Name)
		}
		if slices.Contains(gains, "BYPASSRLS") && c.guarded > 0 {
			gains[slices.Index(gains, "BYPASSRLS")] = fmt.Sprintf("BYPASSRLS (it would see every row of %d tables whose policies hide some)", c.guarded)
		}
		f := answer.Finding{Code: "login_gains", Severity: severity, Object: r.Name, Detail: detail + strings.Join(gains, ", ")}
		c.judge(c.without(f, r, t))
	}
	if len(losses) > 0 {
		s := answer.Warning
		switch {
		case grave:
			s = severity
		case r.Name == c.mover && len(losses) == 1 && losses[0] == "REPLICATION":
			s = answer.Info
		}
		f := answer.Finding{Code: "login_loses", Severity: s, Object: r.Name, On: answer.Target, SQL: c.given(r, t, losses),
			Detail: "has on the source, but not on the target: " + strings.Join(losses, ", ")}
		f.Remedy = answer.OneLine(f.SQL) + " on the target, by a role that may; or accept it with " + acceptRights(r.Name)
		c.judge(f)
	}
	c.limits(r, t, severity)
}

// databaseOwner has the owner of the database at hand as its only member, and came with
// PostgreSQL 14: it says nothing that the ownership does not.
const databaseOwner = "pg_database_owner"

// memberships compares what the two are members of, by the names of the target.
func (c *comparison) memberships(r, t login) (more, less []string) {
	translated := func(names []string) []string {
		return lists.Pick(names, func(n string) (string, bool) { return c.becomes(n), c.platform == nil || !c.platform(n) })
	}
	for _, x := range []struct {
		here, there []string
		how         string
	}{{translated(r.Member), t.Member, ""}, {translated(r.Uses), t.Uses, inherited}} {
		for _, n := range x.there {
			if n != databaseOwner && n != r.Name && !slices.Contains(x.here, n) && !slices.Contains(more, n) {
				more = append(more, n+x.how)
			}
		}
		for _, n := range x.here {
			if n != databaseOwner && n != t.Name && !slices.Contains(x.there, n) && !slices.Contains(less, n) {
				less = append(less, n+x.how)
			}
		}
	}
	return more, less
}

// limits compares CONNECTION LIMIT, VALID UNTIL, CONNECT and settings.
func (c *comparison) limits(r, t login, severity answer.Severity) {
	role := pg.QuoteIdent(t.Name)
	if r.Limit != t.Limit && !t.Super {
		c.judge(answer.Finding{Code: "login_limit", Severity: severity, Object: r.Name,
			Detail: fmt.Sprintf("has CONNECTION LIMIT %d on the source, and as role %s of the target %d", r.Limit, t.Name, t.Limit),
			Remedy: fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d on the target, or accept it with %s", role, r.Limit, acceptRights(r.Name)),
			On:     answer.Target, SQL: fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", role, r.Limit)})
	}
	if t.ValidUntil != "" && (r.ValidUntil == "" || t.ValidUntil < r.ValidUntil) { // the source's own is kept by the proxy
		until := "infinity"
		if r.ValidUntil != "" {
			until = r.ValidUntil + "+00" // wherever the one is who types it
		}
		c.judge(answer.Finding{Code: "login_valid_until", Severity: severity, Object: r.Name,
			Detail: fmt.Sprintf("can log in to the source for longer than role %s of the target, whose password is valid until %s (UTC)", t.Name, t.ValidUntil),
			Remedy: fmt.Sprintf("ALTER ROLE %s VALID UNTIL '%s' on the target", role, until),
			On:     answer.Target, SQL: fmt.Sprintf("ALTER ROLE %s VALID UNTIL '%s'", role, until)})
	}
	if !t.Connect {
		c.judge(answer.Finding{Code: "login_connect", Severity: severity, Object: r.Name,
			Detail: fmt.Sprintf("may connect to the source's database, and role %s not to the target's", t.Name),
			Remedy: "GRANT CONNECT ON DATABASE " + pg.QuoteIdent(c.database) + " TO " + role + " on the target",
			On:     answer.Target, SQL: "GRANT CONNECT ON DATABASE " + pg.QuoteIdent(c.database) + " TO " + role})
	}
	var differ []string
	for _, s := range r.Settings {
		if !slices.Contains(t.Settings, s) {
			name, _, _ := strings.Cut(s, "=")
			differ = append(differ, name)
		}
	}
	if len(differ) > 0 {
		c.judge(answer.Finding{Code: "login_settings", Severity: answer.Warning, Object: r.Name,
			Detail: fmt.Sprintf("settings that ALTER ROLE gives it on the source are not the same for role %s of the target: %s; sessions of the proxy get those that change results", t.Name, strings.Join(differ, ", ")),
			Remedy: "type on the target what this prints on the source: " + settingsQuery(r.Name, t.Name, differ)})
	}
}

// byIdentity lists what in a catalog depends on the name of the current role: with another name the
// result is another one. What belongs to extensions is left out. For functions the source text is
// searched, for everything else what the server prints.
const byIdentity = `
SELECT o.kind, o.name FROM (
	SELECT 'policy' AS kind, n.nspname || '.' || c.relname || ' ' || p.polname AS name,
		concat(pg_get_expr(p.polqual, p.polrelid), ' ', pg_get_expr(p.polwithcheck, p.polrelid)) AS text
	FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `
	UNION ALL
	SELECT 'default', n.nspname || '.' || c.relname || '.' || a.attname, pg_get_expr(d.adbin, d.adrelid)
	FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_namespace n ON n.oid = c.relnamespace
	JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `
	UNION ALL
	SELECT 'constraint', n.nspname || '.' || k.conname, pg_get_constraintdef(k.oid)
	FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace LEFT JOIN pg_class c ON c.oid = k.conrelid WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND k.contype = 'c'
	UNION ALL
	SELECT 'view', n.nspname || '.' || c.relname, pg_get_viewdef(c.oid)
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND c.relkind IN ('v', 'm')
	UNION ALL
	SELECT 'rule', n.nspname || '.' || c.relname || ' ' || r.rulename, pg_get_ruledef(r.oid)
	FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND r.rulename <> '_RETURN'
	UNION ALL
	SELECT 'trigger', n.nspname || '.' || c.relname || ' ' || t.tgname, pg_get_triggerdef(t.oid)
	FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND NOT t.tgisinternal AND t.tgqual IS NOT NULL
	UNION ALL
	SELECT 'function', n.nspname || '.' || f.proname || '(' || pg_get_function_identity_arguments(f.oid) || ')', concat(f.prosrc, pg_get_function_sqlbody(f.oid))
	FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace WHERE` + inquiry.UserSchema + `AND f.prokind <> 'a'
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
) o
WHERE o.text ~* '\m(current_user|session_user|current_role|system_user|pg_has_role)\M' OR o.kind <> 'function' AND o.text ~ '\mUSER\M'
ORDER BY 1, 2`

// maxIdentities bounds how many objects a finding names.
const maxIdentities = 5

// identityFindings names roles that are others on the target though the catalog decides by names.
func identityFindings(ctx context.Context, source *pgx.Conn, renamed map[string]string) ([]answer.Finding, error) {
	type object struct{ Kind, Name string }
	num, err := inquiry.Version(ctx, source)
	if err != nil {
		return nil, err
	}
	sql := byIdentity
	if num < 140000 { // no bodies in SQL
		sql = strings.ReplaceAll(sql, "pg_get_function_sqlbody(f.oid)", "''")
	}
	objects, err := inquiry.List[object](ctx, source, "what decides by the name of a role", sql)
	if err != nil {
		return nil, err
	}
	schemas, err := inquiry.Column[string](ctx, source, "schemas", `SELECT n.nspname::text FROM pg_namespace n WHERE`+inquiry.UserSchema)
	if err != nil {
		return nil, err
	}
	what := lists.Map(objects, func(o object) string { return o.Kind + " " + o.Name })
	var found []answer.Finding
	for _, from := range slices.Sorted(maps.Keys(renamed)) {
		to := renamed[from]
		depends := slices.Clone(what)
		for _, s := range schemas {
			if s == from || s == to {
				depends = append(depends, `"$user" of search_path, by schema `+s)
			}
		}
		if len(depends) == 0 {
			continue
		}
		if more := len(depends) - maxIdentities; more > 0 {
			depends = append(depends[:maxIdentities], fmt.Sprintf("and %d more", more))
		}
		found = append(found, answer.Finding{Code: "login_identity", Severity: answer.Blocker, Object: from,
			Detail: fmt.Sprintf("is role %s on the target, and what the catalog decides by the role's name changes: %s", to, strings.Join(depends, ", ")),
			Remedy: ownName + "; or accept it with " + acceptRights(from)})
	}
	return found, nil
}
