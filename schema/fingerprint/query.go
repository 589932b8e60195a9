package fingerprint

import "crossfade/schema/catalog"

// Kinds of objects that Drift treats apart.
const (
	kindTable      = "table"
	kindView       = "view"
	kindExtension  = "extension"
	kindConstraint = "constraint"
)

// partSeparator stands between a relation's name and that of its part.
const partSeparator = " / "

// fingerprintQuery gives the objects of one kind: name, definition, printed. No field is NULL.
type fingerprintQuery struct{ kind, sql string }

const (
	// relationName is the name of pg_class c as PostgreSQL quotes it.
	relationName = `pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)`
	// userRelation is a condition on pg_class c with its schema n.
	userRelation = ` AND c.relpersistence <> 't' AND ` + catalog.UserSchema + ` AND ` + catalog.OfNoExtension
	// fromRelation reads pg_class c with its schema n; the rest is the condition on relkind.
	fromRelation = ` FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE true` + userRelation
)

// notMember is a condition: no extension owns the object of this catalog and oid.
func notMember(class, oid string) string {
	return ` AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.` + class + `'::pg_catalog.regclass
		AND e.objid = ` + oid + ` AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')`
}

// fingerprintQueries lists the queries for a server of this major version.
func fingerprintQueries(major int, opts Options) []fingerprintQuery {
	identity, security, keys := `a.attidentity::text`, `c.relrowsecurity::text, c.relforcerowsecurity::text`, `('c', 'p', 'u', 'x', 'f')`
	if opts.Deferred {
		identity = `CASE a.attidentity WHEN '' THEN '' ELSE 'identity' END`
		security, keys = `''`, `('c', 'p', 'u', 'x')`
	}
	queries := []fingerprintQuery{
		{"schema", `SELECT pg_catalog.quote_ident(n.nspname), '', '' FROM pg_catalog.pg_namespace n
			WHERE n.nspname <> 'public' AND ` + catalog.UserSchema + notMember("pg_namespace", "n.oid")},
		{kindExtension, `SELECT pg_catalog.quote_ident(x.extname), '', '' FROM pg_catalog.pg_extension x`},
		{kindTable, tablesFingerprint(security)},
		{"column", columnsFingerprint(identity)},
		{"index", indexesFingerprint},
		{kindConstraint, constraintsFingerprint(keys)},
		{"sequence", sequencesFingerprint},
		{kindView, viewsFingerprint},
		{"function", functionsFingerprint(major)},
		{"type", typesFingerprint},
		{"domain", domainsFingerprint(opts.Deferred)},
		{"policy", policiesFingerprint},
		{"statistics", statisticsFingerprint},
	}
	if !opts.Deferred {
		queries = append(queries, fingerprintQuery{"trigger", triggersFingerprint(major)}, fingerprintQuery{"rule", rulesFingerprint})
	}
	return queries
}

// The queries of the fingerprint. Each gives name, definition and printed.

func tablesFingerprint(security string) string {
	return `SELECT ` + relationName + `,
		pg_catalog.concat_ws(' ', c.relkind, 'identity', c.relreplident,
			(SELECT ic.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
				WHERE i.indrelid = c.oid AND i.indisreplident),
			'security', ` + security + `,
			(SELECT pg_catalog.string_agg(o, ',' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) o),
			(SELECT 'of ' || pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::text, ', ' ORDER BY i.inhseqno)
				FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
			pg_catalog.pg_get_expr(c.relpartbound, c.oid),
			CASE c.relkind WHEN 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END), ''` +
		fromRelation + ` AND c.relkind IN ('r', 'p', 'f')`
}

// A partition's own identity kind differs between versions, since 17 hands it down from the root.
func columnsFingerprint(identity string) string {
	return `SELECT ` + relationName + ` || '` + partSeparator + `' || pg_catalog.quote_ident(a.attname),
		pg_catalog.concat_ws(' ', pg_catalog.format_type(a.atttypid, a.atttypmod),
			CASE WHEN c.relkind IN ('r', 'p', 'f') AND a.attnotnull THEN 'not null' END,
			CASE WHEN NOT c.relispartition THEN ` + identity + ` END, a.attgenerated,
			CASE WHEN a.attcollation <> t.typcollation THEN (SELECT 'collate ' || pg_catalog.quote_ident(l.collname)
				FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation) END,
			CASE WHEN d.oid IS NOT NULL THEN 'default' END,
			pg_catalog.row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), a.attislocal::text, a.attinhcount),
		coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
	FROM pg_catalog.pg_attribute a
	JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
	JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c')` + userRelation
}

// indexesFingerprint leaves out indexes that could not be built, as pg_dump does.
const indexesFingerprint = `SELECT ` + relationName + `,
		pg_catalog.concat_ws(' ', tc.relname, m.amname, i.indisunique::text, i.indisprimary::text, i.indimmediate::text, i.indisvalid::text,
			i.indisclustered::text, i.indnatts::text, i.indnkeyatts::text, (i.indpred IS NOT NULL)::text,
			ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indexrelid ORDER BY a.attnum)::text,
			i.indoption::text, (SELECT pg_catalog.string_agg(o, ',' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) o),
			(SELECT 'of ' || h.inhparent::pg_catalog.regclass::text FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)),
		pg_catalog.pg_get_indexdef(i.indexrelid)
	FROM pg_catalog.pg_index i
	JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid AND tc.relkind IN ('r', 'p', 'm')
	JOIN pg_catalog.pg_am m ON m.oid = c.relam
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE (i.indisvalid AND i.indisready OR tc.relkind = 'p')` + userRelation

// The columns of primary keys and unique constraints are compared with their indexes. Inherited
// foreign keys are left out: until its root has one, a partition's key is its own. NOT NULL
// constraints, which have rows of their own since 18, are compared with the columns.
func constraintsFingerprint(kinds string) string {
	return `SELECT ` + relationName + ` || '` + partSeparator + `' || pg_catalog.quote_ident(k.conname),
		pg_catalog.concat_ws(' ', k.contype, k.convalidated::text, k.condeferrable::text, k.condeferred::text,
			CASE WHEN k.contype = 'c' THEN k.connoinherit::text END,
			CASE k.contype WHEN 'f' THEN pg_catalog.pg_get_constraintdef(k.oid)
				WHEN 'c' THEN ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
					WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) ORDER BY 1)::text
				ELSE (SELECT ic.relname::text FROM pg_catalog.pg_class ic WHERE ic.oid = k.conindid) END),
		CASE WHEN k.contype IN ('c', 'x') THEN pg_catalog.pg_get_constraintdef(k.oid) ELSE '' END
	FROM pg_catalog.pg_constraint k
	JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE k.contype IN ` + kinds + ` AND NOT (k.contype = 'f' AND k.conparentid <> 0)` + userRelation
}

const sequencesFingerprint = `SELECT ` + relationName + `,
		pg_catalog.concat_ws(' ', pg_catalog.format_type(s.seqtypid, NULL), s.seqstart::text, s.seqincrement::text, s.seqmin::text,
			s.seqmax::text, s.seqcache::text, s.seqcycle::text,
			(SELECT d.refobjid::pg_catalog.regclass::text || '.' || a.attname FROM pg_catalog.pg_depend d
				JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
				WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
				AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i'))), ''
	FROM pg_catalog.pg_sequence s
	JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE true` + userRelation

const viewsFingerprint = `SELECT ` + relationName + `,
		pg_catalog.concat_ws(' ', c.relkind, (SELECT pg_catalog.string_agg(o, ',' ORDER BY o) FROM pg_catalog.unnest(c.reloptions) o)),
		pg_catalog.md5(pg_catalog.pg_get_viewdef(c.oid))` + fromRelation + ` AND c.relkind IN ('v', 'm')`

// functionsFingerprint digests a function's source and attributes. The body of an SQL-standard
// function (14) is kept parsed, and so printed. What a type brings along is left out: a range has
// more such functions from 14 on. A procedure's arguments are written with IN from then on.
func functionsFingerprint(major int) string {
	body := `''`
	if major >= 14 {
		body = `coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), '')`
	}
	return `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(p.proname) || '(' ||
			pg_catalog.regexp_replace(pg_catalog.pg_get_function_identity_arguments(p.oid), CASE p.prokind WHEN 'p' THEN '(^|, )IN ' ELSE '^$' END, '\1', 'g') || ')',
		pg_catalog.md5(pg_catalog.concat_ws('|', p.prokind, p.prosrc, p.probin, l.lanname, p.provolatile, p.proisstrict::text, p.prosecdef::text,
			p.proleakproof::text, p.proparallel, p.procost::text, p.prorows::text, p.proconfig::text, pg_catalog.pg_get_function_result(p.oid))),
		pg_catalog.md5(pg_catalog.concat_ws('|', pg_catalog.pg_get_function_arguments(p.oid), ` + body + `,
			(SELECT pg_catalog.concat_ws(' ', g.aggtransfn, g.aggfinalfn, g.aggcombinefn, pg_catalog.format_type(g.aggtranstype, NULL), g.agginitval)
				FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = p.oid)))
	FROM pg_catalog.pg_proc p
	JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
	JOIN pg_catalog.pg_language l ON l.oid = p.prolang
	WHERE ` + catalog.UserSchema + notMember("pg_proc", "p.oid") + ` AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'i')`
}

var typesFingerprint = `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname),
		pg_catalog.concat_ws(' ', t.typtype,
			(SELECT pg_catalog.string_agg(pg_catalog.quote_literal(l.enumlabel), ',' ORDER BY l.enumsortorder)
				FROM pg_catalog.pg_enum l WHERE l.enumtypid = t.oid),
			(SELECT pg_catalog.format_type(g.rngsubtype, NULL) FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid)), ''
	FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
	WHERE (t.typtype IN ('e', 'r') OR t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
			OR t.typtype = 'c' AND EXISTS (SELECT FROM pg_catalog.pg_class r WHERE r.oid = t.typrelid AND r.relkind = 'c'))
		AND ` + catalog.UserSchema + notMember("pg_type", "t.oid")

// domainsFingerprint leaves out constraints where some may come later.
func domainsFingerprint(deferred bool) string {
	of := `pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'`
	if deferred {
		of += ` AND false`
	}
	return `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname),
		pg_catalog.concat_ws(' ', pg_catalog.format_type(t.typbasetype, t.typtypmod), t.typnotnull::text,
			(SELECT pg_catalog.string_agg(pg_catalog.concat(k.conname, ' ', k.convalidated), ',' ORDER BY k.conname) FROM ` + of + `)),
		pg_catalog.concat_ws(' ', t.typdefault,
			(SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ',' ORDER BY k.conname) FROM ` + of + `))
	FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
	WHERE t.typtype = 'd' AND ` + catalog.UserSchema + notMember("pg_type", "t.oid")
}

const policiesFingerprint = `SELECT ` + relationName + ` || '` + partSeparator + `' || pg_catalog.quote_ident(y.polname),
		pg_catalog.concat_ws(' ', y.polcmd, y.polpermissive::text, (y.polqual IS NOT NULL)::text, (y.polwithcheck IS NOT NULL)::text),
		pg_catalog.concat_ws(' / ', pg_catalog.pg_get_expr(y.polqual, y.polrelid), pg_catalog.pg_get_expr(y.polwithcheck, y.polrelid))
	FROM pg_catalog.pg_policy y
	JOIN pg_catalog.pg_class c ON c.oid = y.polrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE true` + userRelation

const statisticsFingerprint = `SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(s.stxname),
		pg_catalog.concat_ws(' ', c.relname, s.stxkind::text), pg_catalog.pg_get_statisticsobjdef(s.oid)
	FROM pg_catalog.pg_statistic_ext s
	JOIN pg_catalog.pg_class c ON c.oid = s.stxrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = s.stxnamespace
	WHERE true` + userRelation

// triggersFingerprint leaves out the copies that partitions get of a root's
// trigger, which 12 marks as internal.
func triggersFingerprint(major int) string {
	own := ``
	if major >= 13 {
		own = ` AND g.tgparentid = 0`
	}
	return `SELECT ` + relationName + ` || '` + partSeparator + `' || pg_catalog.quote_ident(g.tgname),
		pg_catalog.concat_ws(' ', g.tgenabled, g.tgtype::text, g.tgfoid::pg_catalog.regprocedure::text), pg_catalog.pg_get_triggerdef(g.oid)
	FROM pg_catalog.pg_trigger g
	JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE NOT g.tgisinternal AND g.tgname <> '` + catalog.OwnTrigger + `'` + own + userRelation
}

const rulesFingerprint = `SELECT ` + relationName + ` || '` + partSeparator + `' || pg_catalog.quote_ident(w.rulename),
		pg_catalog.concat_ws(' ', w.ev_enabled, w.ev_type, w.is_instead::text), pg_catalog.pg_get_ruledef(w.oid)
	FROM pg_catalog.pg_rewrite w
	JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
	JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE w.rulename <> '_RETURN'` + userRelation
