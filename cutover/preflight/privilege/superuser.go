package privilege

import (
	"context"
	"fmt"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
)

// takenSchema keeps n, a pg_namespace, to the schemas of $1, null for all of the user's.
const takenSchema = inquiry.UserSchema + `AND ($1::oid[] IS NULL OR n.oid = ANY ($1)) `

// needSuperuser lists what only a superuser can make, as kind and name. What belongs to an
// extension is made by the extension's script. $2 is whether what is in no schema is taken along.
const needSuperuser = `
SELECT o.kind, o.name FROM (
	SELECT CASE WHEN t.typisdefined THEN 'base type' ELSE 'shell type' END AS kind, n.nspname || '.' || t.typname AS name, 'pg_type'::regclass AS class, t.oid
	FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
	WHERE` + takenSchema + `AND (t.typtype = 'p' AND NOT t.typisdefined OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
	UNION ALL
	SELECT 'operator class', n.nspname || '.' || c.opcname || ' using ' || m.amname, 'pg_opclass'::regclass, c.oid
	FROM pg_opclass c JOIN pg_namespace n ON n.oid = c.opcnamespace JOIN pg_am m ON m.oid = c.opcmethod WHERE` + takenSchema + `
	UNION ALL
	SELECT 'operator family', n.nspname || '.' || f.opfname || ' using ' || m.amname, 'pg_opfamily'::regclass, f.oid
	FROM pg_opfamily f JOIN pg_namespace n ON n.oid = f.opfnamespace JOIN pg_am m ON m.oid = f.opfmethod WHERE` + takenSchema + `
	UNION ALL
	SELECT 'access method', m.amname, 'pg_am'::regclass, m.oid FROM pg_am m WHERE m.oid >= 16384 AND $2
	UNION ALL
	SELECT 'text search parser', n.nspname || '.' || s.prsname, 'pg_ts_parser'::regclass, s.oid
	FROM pg_ts_parser s JOIN pg_namespace n ON n.oid = s.prsnamespace WHERE` + takenSchema + `
	UNION ALL
	SELECT 'text search template', n.nspname || '.' || s.tmplname, 'pg_ts_template'::regclass, s.oid
	FROM pg_ts_template s JOIN pg_namespace n ON n.oid = s.tmplnamespace WHERE` + takenSchema + `
	UNION ALL
	SELECT 'foreign data wrapper', w.fdwname, 'pg_foreign_data_wrapper'::regclass, w.oid FROM pg_foreign_data_wrapper w WHERE $2
	UNION ALL
	SELECT 'language', l.lanname, 'pg_language'::regclass, l.oid FROM pg_language l WHERE l.oid >= 16384 AND $2
	UNION ALL
	SELECT 'transform', format_type(f.trftype, NULL) || ' for ' || l.lanname, 'pg_transform'::regclass, f.oid
	FROM pg_transform f JOIN pg_language l ON l.oid = f.trflang WHERE $2
	UNION ALL
	SELECT 'cast without function', format_type(c.castsource, NULL) || ' as ' || format_type(c.casttarget, NULL), 'pg_cast'::regclass, c.oid
	FROM pg_cast c WHERE c.oid >= 16384 AND $2 AND c.castmethod = 'b'
	UNION ALL
	SELECT CASE WHEN p.proleakproof THEN 'leakproof function' ELSE 'function in ' || l.lanname END,
		n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'pg_proc'::regclass, p.oid
	FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
	WHERE` + takenSchema + `AND p.prokind <> 'a' AND (NOT l.lanpltrusted AND l.lanname <> 'plpgsql' OR p.proleakproof)
	UNION ALL
	SELECT 'aggregate with internal state', n.nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', 'pg_proc'::regclass, p.oid
	FROM pg_aggregate g JOIN pg_proc p ON p.oid = g.aggfnoid JOIN pg_namespace n ON n.oid = p.pronamespace
	WHERE` + takenSchema + `AND g.aggtranstype = 'internal'::regtype
) o
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'i'))
ORDER BY 1, 2`

// SuperuserObjects names what the target's role cannot make. On Neon no role can.
func SuperuserObjects(ctx context.Context, p *inquiry.Pair) ([]answer.Finding, error) {
	if p.Options.Scope.DataOnly {
		return nil, nil
	}
	role, err := inquiry.CurrentRole(ctx, p.Target)
	if err != nil || role.Super {
		return nil, err
	}
	type object struct{ Kind, Name string }
	objects, err := inquiry.List[object](ctx, p.Source, "objects that need a superuser", needSuperuser, p.Options.Scope.Schemas(), p.Options.Scope.Everything())
	return lists.Map(objects, func(o object) answer.Finding {
		remedy := "drop it on the source"
		if p.Options.Mode == inquiry.Copy {
			remedy += ", or leave its schema out with --exclude-schema"
		}
		return answer.Finding{
			Code: "needs_superuser", Severity: answer.Blocker, Object: o.Name,
			Detail: fmt.Sprintf("is a %s, which only a superuser can make; role %s of the target is none", o.Kind, role.Name),
			Remedy: remedy,
		}
	}), err
}
