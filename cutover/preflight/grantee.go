package preflight

import (
	"context"
	"fmt"

	"crossfade/internal/pg"
)

// grantees are the roles of the source that privileges, policies, user mappings and
// default privileges name, each with one object that does. What belongs to an
// extension is not asked: its script sets the privileges.
const grantees = `
WITH rights (grantee, object, right_only) AS (
	SELECT (aclexplode(a.attacl)).grantee, n.nspname || '.' || c.relname, true
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
	WHERE` + userSchema + `AND` + notOfExtension + `
	UNION ALL
	SELECT (aclexplode(c.relacl)).grantee, n.nspname || '.' || c.relname, true
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + userSchema + `AND` + notOfExtension + `
	UNION ALL
	SELECT (aclexplode(p.proacl)).grantee, n.nspname || '.' || p.proname, true
	FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
	WHERE` + userSchema + `AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
	UNION ALL
	SELECT (aclexplode(t.typacl)).grantee, n.nspname || '.' || t.typname, true
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE` + userSchema + `AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
	UNION ALL
	SELECT (aclexplode(n.nspacl)).grantee, n.nspname, true FROM pg_namespace n WHERE` + userSchema + `
	UNION ALL
	SELECT (aclexplode(lanacl)).grantee, lanname, true FROM pg_language
	UNION ALL
	SELECT (aclexplode(fdwacl)).grantee, fdwname, true FROM pg_foreign_data_wrapper
	UNION ALL
	SELECT (aclexplode(srvacl)).grantee, srvname, true FROM pg_foreign_server
	UNION ALL
	SELECT unnest(polroles), polrelid::regclass::text, false FROM pg_policy
	UNION ALL
	SELECT umuser, srvname, false FROM pg_user_mappings
)
SELECT r.rolname::text, min(object), bool_and(right_only)
FROM rights JOIN pg_roles r ON r.oid = rights.grantee
WHERE r.rolname !~ '^pg_'
GROUP BY 1 ORDER BY 1`

// checkGrantees names the roles that the schema asks for and the target lacks.
func (p *Preflight) checkGrantees(ctx context.Context) ([]Finding, error) {
	if p.opts.Scope.DataOnly {
		return nil, nil
	}
	if p.opts.Scope.MakeRoles {
		return p.checkCreateRole(ctx)
	}
	type grantee struct {
		Name, Object string
		RightOnly    bool
	}
	used, err := list[grantee](ctx, p.source, "roles that the schema names", grantees)
	if err != nil || len(used) == 0 {
		return nil, err
	}
	self, err := currentRole(ctx, p.source)
	if err != nil {
		return nil, err
	}
	type role struct{ Name string }
	there, err := list[role](ctx, p.target, "roles of the target", `SELECT rolname::text FROM pg_roles`)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{self.Name: true} // becomes the role of --target
	for _, r := range there {
		have[r.Name] = true
	}
	var found []Finding
	for _, u := range used {
		if have[u.Name] || p.opts.PlatformRole(u.Name) || u.RightOnly && p.opts.Scope.NoACL {
			continue
		}
		f := Finding{
			Code: "role_missing", Severity: Blocker, Object: u.Name,
			Detail: fmt.Sprintf("the target has no role of this name, which privileges or policies of the source name, such as those of %s", u.Object),
			Remedy: "CREATE ROLE " + pg.QuoteIdent(u.Name) + " on the target, or have all roles made with --roles, or leave privileges out with --no-acl",
		}
		found = append(found, f)
	}
	return p.ofObjects(found), nil
}

// checkCreateRole asks whether the target's role may make roles.
func (p *Preflight) checkCreateRole(ctx context.Context) ([]Finding, error) {
	r, err := one[struct {
		Name string
		May  bool
	}](ctx, p.target, "rights of the role", `SELECT rolname::text, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user`)
	if err != nil || r.May {
		return nil, err
	}
	return []Finding{{
		Code: "no_createrole", Severity: Blocker, Object: r.Name,
		Detail: "may not make roles on the target, which --roles asks for",
		Remedy: "ALTER ROLE " + pg.QuoteIdent(r.Name) + " CREATEROLE by a role that may, or leave --roles out",
	}}, nil
}
