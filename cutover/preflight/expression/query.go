package expression

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/cutover/preflight/inquiry"
	"crossfade/internal/base/lists"
)

// evaluated is an expression of the source that calls functions which are not PostgreSQL's
// own, and that the target evaluates over rows while these are moved.
type evaluated struct {
	Kind        string // index, statistics, generated column, partition key, constraint or materialised view
	Name        string // of the object, as it is written in SQL
	Table       uint32 // its relation
	Relation    string // as it is written in FROM
	Expr        string // over a row of Relation; of a materialised view its query
	Column      string // of a generated column
	Functions   []uint32
	Partitioned bool   // the relation is
	Nulls       string // a row of nulls, in the place of Relation
	Owner       string // of the relation
	Trusted     bool   // what the owner has written may be executed by the role of the check
}

// The kinds of evaluated.
const (
	ofIndex      = "index"
	ofStatistics = "statistics"
	ofGenerated  = "generated column"
	ofPartition  = "partition key"
	ofConstraint = "constraint"
	ofMatView    = "materialised view"
	ofDomain     = "domain"
)

// restricted reports whether PostgreSQL 17 and later evaluate the expression under a search_path of
// their own while they make or fill the object (release notes of 17, migration: REFRESH, CREATE
// INDEX, ANALYZE and their like).
func (e evaluated) restricted() bool {
	return e.Kind == ofIndex || e.Kind == ofStatistics || e.Kind == ofMatView
}

// calledFunctions are the functions that objects call by name or by operator, an aggregate
// by those that it is made of: where (class, object, column) is the referrer of pg_depend.
const calledFunctions = `
WITH RECURSIVE named AS (
	SELECT d.classid, d.objid, d.objsubid, d.refobjid AS func FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass
	UNION SELECT d.classid, d.objid, d.objsubid, o.oprcode FROM pg_depend d JOIN pg_operator o ON o.oid = d.refobjid WHERE d.refclassid = 'pg_operator'::regclass
), calls AS (
	SELECT classid, objid, objsubid, func FROM named
	UNION SELECT n.classid, n.objid, n.objsubid, a.aggtransfn FROM named n JOIN pg_aggregate a ON a.aggfnoid = n.func
	UNION SELECT n.classid, n.objid, n.objsubid, a.aggfinalfn FROM named n JOIN pg_aggregate a ON a.aggfnoid = n.func
), own AS (
	SELECT k.classid, k.objid, k.objsubid, k.func FROM calls k JOIN pg_proc p ON p.oid = k.func
	WHERE p.pronamespace <> 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'w')
), below AS (
	SELECT c.oid AS root, r.oid AS rule FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid WHERE c.relkind = 'm'
	UNION SELECT b.root, r.oid FROM below b JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = b.rule AND d.refclassid = 'pg_class'::regclass
		JOIN pg_class v ON v.oid = d.refobjid AND v.relkind = 'v' JOIN pg_rewrite r ON r.ev_class = v.oid
)`

// trusts says whether the present role may execute an owner's functions: the role is the owner
// itself, which executes them with each write, or the owner has all rights anyway. Executing
// functions of any other owner would give that owner the rights of the present role.
func trusts(owner string) string {
	return "EXISTS (SELECT FROM pg_roles o WHERE o.oid = " + owner + " AND (o.rolname = current_user OR o.rolsuper))"
}

// evaluatedExpressions lists all but those of domains, of relations that pass OnlyTaken.
var evaluatedExpressions = calledFunctions + `
, found AS (
	SELECT 'index' AS kind, i.indexrelid AS id, i.indrelid AS rel, k.e AS expr, '' AS col,
		ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_class'::regclass AND o.objid = i.indexrelid ORDER BY 1) AS funcs
	FROM pg_index i CROSS JOIN LATERAL (
		SELECT CASE WHEN i.indpred IS NULL THEN x.e ELSE 'CASE WHEN ' || pg_get_expr(i.indpred, i.indrelid) || ' THEN ' || x.e || ' END' END AS e
		FROM (SELECT pg_get_indexdef(i.indexrelid, n, false) AS e FROM generate_series(1, i.indnkeyatts) n WHERE i.indkey[n - 1] = 0
			UNION ALL SELECT 'true' WHERE i.indpred IS NOT NULL) x) k
	WHERE (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = i.indexrelid)
	UNION ALL
	SELECT 'generated column', a.oid, a.adrelid, pg_get_expr(a.adbin, a.adrelid), c.attname::text,
		ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_attrdef'::regclass AND o.objid = a.oid
			OR o.classid = 'pg_class'::regclass AND o.objid = a.adrelid AND o.objsubid = a.adnum ORDER BY 1)
	FROM pg_attrdef a JOIN pg_attribute c ON c.attrelid = a.adrelid AND c.attnum = a.adnum WHERE c.attgenerated = 's' AND c.attinhcount = 0
	UNION ALL
	SELECT 'partition key', t.partrelid, t.partrelid, pg_get_expr(t.partexprs, t.partrelid), '',
		ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_class'::regclass AND o.objid = t.partrelid AND o.objsubid = 0 ORDER BY 1)
	FROM pg_partitioned_table t WHERE t.partexprs IS NOT NULL
	UNION ALL
	SELECT 'constraint', k.oid, k.conrelid, pg_get_expr(k.conbin, k.conrelid), k.conname::text,
		ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_constraint'::regclass AND o.objid = k.oid ORDER BY 1)
	FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0 AND k.coninhcount = 0
	UNION ALL
	SELECT 'materialised view', c.oid, c.oid, pg_get_viewdef(c.oid), '',
		ARRAY(SELECT DISTINCT o.func FROM below b JOIN own o ON o.classid = 'pg_rewrite'::regclass AND o.objid = b.rule WHERE b.root = c.oid ORDER BY 1)
	FROM pg_class c WHERE c.relkind = 'm' AND c.relispopulated
	{statistics}
)
SELECT f.kind, CASE f.kind WHEN 'index' THEN f.id::regclass::text WHEN 'statistics' THEN (SELECT format('%I.%I', sn.nspname, s.stxname) FROM pg_statistic_ext s JOIN pg_namespace sn ON sn.oid = s.stxnamespace WHERE s.oid = f.id)
		WHEN 'generated column' THEN format('%s.%I', f.rel::regclass, f.col) WHEN 'constraint' THEN format('%I of table %s', f.col, f.rel::regclass) ELSE f.rel::regclass::text END,
	f.rel, f.rel::regclass::text, f.expr, f.col, f.funcs, c.relkind = 'p',
	(SELECT '(SELECT ' || string_agg(format('NULL::%s AS %I', CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) ELSE format_type(a.atttypid, a.atttypmod) END, a.attname), ', ' ORDER BY a.attnum)
		|| ') ' || quote_ident(c.relname) FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
	pg_get_userbyid(c.relowner)::text, ` + trusts("c.relowner") + `
FROM found f JOIN pg_class c ON c.oid = f.rel JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.cardinality(f.funcs) > 0 AND f.expr IS NOT NULL AND` + inquiry.UserSchema + `AND` + inquiry.NotOfExtension + `AND` + inquiry.OnlyTaken + `
ORDER BY f.kind, 2, f.expr`

// evaluatedStatistics is for servers that have statistics of expressions.
const evaluatedStatistics = `
	UNION ALL
	SELECT 'statistics', s.oid, s.stxrelid, x.e, '',
		ARRAY(SELECT DISTINCT o.func FROM own o WHERE o.classid = 'pg_statistic_ext'::regclass AND o.objid = s.oid ORDER BY 1)
	FROM pg_statistic_ext s CROSS JOIN LATERAL unnest(pg_get_statisticsobjdef_expressions(s.oid)) x (e) WHERE s.stxexprs IS NOT NULL`

const statisticsOfExpressions = 140000

// readExpressions lists them.
func readExpressions(ctx context.Context, p *inquiry.Pair, major int) ([]evaluated, error) {
	more := ""
	if major >= statisticsOfExpressions {
		more = evaluatedStatistics
	}
	return inquiry.List[evaluated](ctx, p.Source, "expressions", strings.Replace(evaluatedExpressions, "{statistics}", more, 1), p.Options.Scope.Relations())
}

// called is a function that an expression calls.
type called struct {
	OID             uint32
	Signature, Name string
	Schema          string // quoted
	Set             bool   // it has a search_path of its own
	Extension       string // that it belongs to, quoted; "" for none
}

func calledOnes(ctx context.Context, source *pgx.Conn, all []uint32) (map[uint32]called, error) {
	found, err := inquiry.List[called](ctx, source, "functions of expressions", `
		SELECT p.oid, p.oid::regprocedure::text, p.proname::text, quote_ident(n.nspname),
			EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\_path=%'),
			coalesce((SELECT quote_ident(e.extname) FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
				WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'), '')
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = ANY ($1)`, lists.NotNil(all))
	return lists.By(found, func(f called) uint32 { return f.OID }), err
}
