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
)

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
	type schema struct{ Name string }
	schemas, err := inquiry.List[schema](ctx, source, "schemas", `SELECT n.nspname::text FROM pg_namespace n WHERE`+inquiry.UserSchema)
	if err != nil {
		return nil, err
	}
	what := lists.Map(objects, func(o object) string { return o.Kind + " " + o.Name })
	var found []answer.Finding
	for _, from := range sortedKeys(renamed) {
		to := renamed[from]
		depends := slices.Clone(what)
		for _, s := range schemas {
			if s.Name == from || s.Name == to {
				depends = append(depends, `"$user" of search_path, by schema `+s.Name)
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

func sortedKeys[T any](m map[string]T) []string {
	keys := slices.AppendSeq(make([]string, 0, len(m)), maps.Keys(m))
	slices.Sort(keys)
	return keys
}
