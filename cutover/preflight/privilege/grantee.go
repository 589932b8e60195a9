package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
)

// grantees are the roles of the source that privileges, policies, user mappings and
// default privileges name, each with one object that does. What belongs to an
// extension is not asked: its script sets the privileges. Nor are privileges that an
// object has from its birth, as its owner's, or from initdb, as those of public before
// 15: pg_dump leaves them out. It names an owner who has lost some of them.
const grantees = `
WITH named (class, oid, sub, acl, born, object) AS (
	SELECT 'pg_class'::regclass, c.oid, a.attnum::int, a.attacl, NULL::aclitem[], n.nspname || '.' || c.relname
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
	WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND` + inquiry.OnlyTaken + `
	UNION ALL
	SELECT 'pg_class'::regclass, c.oid, 0, c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner), n.nspname || '.' || c.relname
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND` + inquiry.OnlyTaken + `
	UNION ALL
	SELECT 'pg_proc'::regclass, p.oid, 0, p.proacl, acldefault('f', p.proowner), n.nspname || '.' || p.proname
	FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
	WHERE` + inquiry.UserSchema + `AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
	UNION ALL
	SELECT 'pg_type'::regclass, t.oid, 0, t.typacl, acldefault('T', t.typowner), n.nspname || '.' || t.typname
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE` + inquiry.UserSchema + `AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
	UNION ALL
	SELECT 'pg_namespace'::regclass, n.oid, 0, n.nspacl, acldefault('n', n.nspowner), n.nspname FROM pg_namespace n WHERE` + inquiry.UserSchema + `AND ($2::oid[] IS NULL OR n.oid = ANY ($2)) 
	UNION ALL
	SELECT 'pg_language'::regclass, oid, 0, lanacl, acldefault('l', lanowner), lanname FROM pg_language WHERE $3
	UNION ALL
	SELECT 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwacl, acldefault('F', fdwowner), fdwname FROM pg_foreign_data_wrapper WHERE $3
	UNION ALL
	SELECT 'pg_foreign_server'::regclass, oid, 0, srvacl, acldefault('S', srvowner), srvname FROM pg_foreign_server WHERE $3
), rights (grantee, object, right_only) AS (
	SELECT x.grantee, a.object, true FROM named a CROSS JOIN LATERAL (
		(SELECT grantee, privilege_type, is_grantable FROM aclexplode(a.born)
		EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(a.acl))
		UNION ALL
		(SELECT grantee, privilege_type, is_grantable FROM aclexplode(a.acl)
		EXCEPT SELECT grantee, privilege_type, is_grantable FROM aclexplode(a.born)
		EXCEPT SELECT e.grantee, e.privilege_type, e.is_grantable FROM pg_init_privs i CROSS JOIN LATERAL aclexplode(i.initprivs) e
			WHERE i.objoid = a.oid AND i.classoid = a.class AND i.objsubid = a.sub)) x
	WHERE a.acl IS NOT NULL
	UNION ALL
	SELECT unnest(polroles), polrelid::regclass::text, false FROM pg_policy WHERE $1::oid[] IS NULL OR polrelid = ANY ($1)
	UNION ALL
	SELECT umuser, srvname, false FROM pg_user_mappings WHERE $3
)
SELECT r.rolname::text, min(object), bool_and(right_only)
FROM rights JOIN pg_roles r ON r.oid = rights.grantee
WHERE r.rolname !~ '^pg_'
GROUP BY 1 ORDER BY 1`

// Grantees names the roles that the schema asks for and the target lacks.
func Grantees(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.DataOnly {
		return nil, nil
	}
	if p.Options.Scope.MakeRoles {
		return noCreateRole(ctx, p)
	}
	if p.Options.Mode == inquiry.Run { // which makes the roles: package loginrole
		return nil, nil
	}
	type grantee struct {
		Name, Object string
		RightOnly    bool
	}
	used, err := inquiry.List[grantee](ctx, p.Source, "roles that the schema names", grantees, p.Options.Scope.Relations(), p.Options.Scope.Schemas(), p.Options.Scope.Everything())
	if err != nil || len(used) == 0 {
		return nil, err
	}
	self, err := inquiry.CurrentRole(ctx, p.Source)
	if err != nil {
		return nil, err
	}
	there, err := inquiry.Column[string](ctx, p.Target, "roles of the target", `SELECT rolname::text FROM pg_roles`)
	if err != nil {
		return nil, err
	}
	have := lists.Set(append(there, self.Name)) // which becomes the role of --target
	var found []answer.Finding
	for _, u := range used {
		if have[u.Name] || p.Options.PlatformRole(u.Name) || u.RightOnly && p.Options.Scope.NoACL {
			continue
		}
		found = append(found, answer.Finding{
			Code: "role_missing", Severity: answer.Blocker, Object: u.Name,
			Detail: fmt.Sprintf("the target has no role of this name, which privileges or policies of the source name, such as those of %s", u.Object),
			Remedy: "CREATE ROLE " + pg.QuoteIdent(u.Name) + " on the target, or have all roles made with --roles, or leave privileges out with --no-acl",
			On:     answer.Target, SQL: "CREATE ROLE " + pg.QuoteIdent(u.Name),
		})
	}
	return found, nil
}

// noCreateRole asks whether the target's role may make roles.
func noCreateRole(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	r, err := inquiry.One[struct {
		Name string
		May  bool
	}](ctx, p.Target, "rights of the role", `SELECT rolname::text, rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user`)
	if err != nil || r.May {
		return nil, err
	}
	return []answer.Finding{{
		Code: "no_createrole", Severity: answer.Blocker, Object: r.Name,
		Detail: "may not make roles on the target, which --roles asks for",
		Remedy: "ALTER ROLE " + pg.QuoteIdent(r.Name) + " CREATEROLE by a role that may, or leave --roles out",
		On:     answer.Target, SQL: "ALTER ROLE " + pg.QuoteIdent(r.Name) + " CREATEROLE",
	}}, nil
}
