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
	// notOfExtension is a condition on pg_class c.
	notOfExtension = `NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
		AND e.objid = c.oid AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')`
	// fromRelation reads pg_class c with its schema n; the rest is the condition on relkind.
	fromRelation = ` FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relpersistence <> 't' AND ` + catalog.UserSchema + ` AND ` + notOfExtension
	// userRelation is a condition on pg_class c with its schema n, joined by the query.
	userRelation = ` AND c.relpersistence <> 't' AND ` + catalog.UserSchema + ` AND ` + notOfExtension
)

// notMember is a condition: no extension owns the object of this catalog and oid.
func notMember(class, oid string) string {
	return ` AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e WHERE e.classid = 'pg_catalog.` + class + `'::pg_catalog.regclass
		AND e.objid = ` + oid + ` AND e.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.deptype = 'e')`
}

// fingerprintQueries lists the queries for a server of this major version.
func fingerprintQueries(major int, opts Options) []fingerprintQuery {
	identity, security, keys := `a.attidentity::text`, `c.relrowsecurity::text`, `('c', 'p', 'u', 'x', 'f')`
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
