package fingerprint

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"crossfade/internal/base/lists"
	"crossfade/internal/base/pg"
	"crossfade/schema/catalog"
)

// Digest is what tells cheaply that a database is defined as it was, or not: a
// change that was taken back shows as well, since the versions of the catalog's
// rows are in it. Two digests are compared only if they are of one database.
type Digest struct {
	// Definitions is of every catalog from which pg_dump writes a schema, and of the
	// names of the roles in them, without temporary objects and what is ours.
	Definitions string
	// Storage is of the files that tables are in: TRUNCATE, VACUUM FULL, CLUSTER and
	// every rewriting ALTER TABLE change it.
	Storage string
	// Roles covers the attributes, memberships and settings of all roles of the cluster, without
	// passwords.
	Roles string
}

// TakeDigest reads the catalogs in one statement, in the caller's transaction where
// one is open, and takes no lock on a table of the application. It takes some
// milliseconds for a few hundred tables.
func TakeDigest(ctx context.Context, conn *pgx.Conn) (Digest, error) {
	var d Digest
	err := conn.QueryRow(ctx, digestQuery).Scan(&d.Definitions, &d.Storage, &d.Roles)
	return d, pg.Wrap(err, "take digest of the catalogs")
}

// versioned is a catalog whose rows count with the transaction that wrote them.
type versioned struct {
	catalog string
	key     string // of type oid; two rows of one key and one transaction need not be told apart
	only    string // condition
}

// inRelation keeps rows that belong to a relation that is neither temporary nor ours.
func inRelation(column string) string { return column + " IN (SELECT oid FROM rel)" }

// inSchema keeps rows whose schema is neither temporary nor ours.
func inSchema(column string) string { return column + " NOT IN (SELECT oid FROM skipped)" }

// versionedCatalogs are the catalogs that pg_dump reads, and which of their rows and columns count.
// Indexes are rebuilt, and temporary tables come and go, without a change of a definition.
var versionedCatalogs = []versioned{
	{"pg_namespace", "oid", inSchema("x.oid")},
	{"pg_attribute", "attrelid", "x.attnum > 0 AND " + inRelation("x.attrelid")},
	{"pg_attrdef", "adrelid", inRelation("x.adrelid")},
	{"pg_constraint", "oid", inSchema("x.connamespace") + " AND (x.conrelid = 0 OR " + inRelation("x.conrelid") + ")"},
	{"pg_index", "indexrelid", inRelation("x.indrelid")},
	{"pg_inherits", "inhrelid", inRelation("x.inhrelid")},
	{"pg_partitioned_table", "partrelid", inRelation("x.partrelid")},
	{"pg_sequence", "seqrelid", inRelation("x.seqrelid")},
	{"pg_type", "oid", inSchema("x.typnamespace")},
	{"pg_enum", "oid", "true"},
	{"pg_range", "rngtypid", "true"},
	{"pg_proc", "oid", inSchema("x.pronamespace")},
	{"pg_aggregate", "aggfnoid", "true"},
	{"pg_operator", "oid", "true"},
	{"pg_opclass", "oid", "true"},
	{"pg_opfamily", "oid", "true"},
	{"pg_amop", "oid", "true"},
	{"pg_amproc", "oid", "true"},
	{"pg_am", "oid", "true"},
	{"pg_cast", "oid", "true"},
	{"pg_collation", "oid", "true"},
	{"pg_conversion", "oid", "true"},
	{"pg_language", "oid", "true"},
	{"pg_transform", "oid", "true"},
	{"pg_trigger", "oid", "NOT x.tgisinternal AND x.tgname <> '" + catalog.OwnTrigger + "' AND " + inRelation("x.tgrelid")},
	{"pg_rewrite", "oid", inRelation("x.ev_class")},
	{"pg_policy", "oid", inRelation("x.polrelid")},
	{"pg_event_trigger", "oid", "true"},
	{"pg_statistic_ext", "oid", inRelation("x.stxrelid")},
	{"pg_description", "objoid", "true"},
	{"pg_seclabel", "objoid", "true"},
	{"pg_init_privs", "objoid", "true"},
	{"pg_default_acl", "oid", "true"},
	{"pg_extension", "oid", "true"},
	{"pg_foreign_data_wrapper", "oid", "true"},
	{"pg_foreign_server", "oid", "true"},
	{"pg_foreign_table", "ftrelid", "true"},
	{"pg_ts_config", "oid", "true"},
	{"pg_ts_config_map", "mapcfg", "true"},
	{"pg_ts_dict", "oid", "true"},
	{"pg_ts_parser", "oid", "true"},
	{"pg_ts_template", "oid", "true"},
	{"pg_db_role_setting", "setrole", "x.setdatabase = (SELECT oid FROM here)"},
	{"pg_shdescription", "objoid", "x.classoid = 'pg_catalog.pg_database'::regclass AND x.objoid = (SELECT oid FROM here)"},
	{"pg_shseclabel", "objoid", "x.classoid = 'pg_catalog.pg_database'::regclass AND x.objoid = (SELECT oid FROM here)"},
}

// writtenCatalogs count by their content: rows of theirs are written for other
// reasons too, or have no version that everybody may read.
var writtenCatalogs = []struct{ name, rows string }{
	{"pg_class", `SELECT ROW(c.oid, c.relname, c.relnamespace, c.reltype, c.reloftype, c.relowner, c.relam, c.relpersistence, c.relkind, c.relnatts,
		c.relchecks, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relispartition, c.reloptions, c.relacl, pg_catalog.md5(c.relpartbound::text),
		(SELECT t.reloptions FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid)) AS r FROM pg_catalog.pg_class c WHERE ` + inRelation("c.oid")},
	{"pg_database", `SELECT ROW(d.datname, d.datdba, d.datacl, d.encoding, d.datcollate, d.datctype) AS r FROM pg_catalog.pg_database d WHERE d.oid = (SELECT oid FROM here)`},
	{"pg_user_mappings", `SELECT ROW(m.umid, m.srvid, m.umuser, m.umoptions) AS r FROM pg_catalog.pg_user_mappings m`},
	// Which sequence is a column's, and what belongs to an extension or depends on one.
	{"pg_depend", `SELECT ROW(d.classid, d.objid, d.refclassid, d.refobjid, d.refobjsubid, d.deptype) AS r FROM pg_catalog.pg_depend d
		WHERE d.deptype IN ('e', 'x') OR d.deptype IN ('a', 'i') AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
			AND d.refobjsubid > 0 AND d.objid IN (SELECT oid FROM rel WHERE relkind = 'S')`},
	// The names under which pg_dump writes who owns what and who may do what.
	{"names of roles", `SELECT ROW(a.oid, a.rolname) AS r FROM pg_catalog.pg_roles a WHERE a.oid IN (SELECT s.refobjid FROM pg_catalog.pg_shdepend s
		WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.dbid = (SELECT oid FROM here))`},
}

// digestQuery gives Definitions, Storage and Roles. Each part of the first is a
// catalog's name, its number of rows and the sum of their hashes.
var digestQuery = func() string {
	var parts []string
	for _, c := range versionedCatalogs {
		parts = append(parts, "SELECT '"+c.catalog+"' AS part, pg_catalog.count(*) AS n, pg_catalog.sum(pg_catalog.hashint8extended(x."+c.key+"::pg_catalog.oid::int8 << 32 | x.xmin::text::int8, 0)) AS h"+
			" FROM pg_catalog."+c.catalog+" x WHERE "+c.only)
	}
	for _, c := range writtenCatalogs {
		parts = append(parts, "SELECT '"+c.name+"', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(w.r::text, 0)) FROM ("+c.rows+") w")
	}
	return `WITH here AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
	skipped AS MATERIALIZED (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname ~ '^pg_(toast$|toast_temp_|temp_)' OR nspname = '` + catalog.OwnSchema + `'),
	rel AS MATERIALIZED (SELECT oid, relkind, relfilenode FROM pg_catalog.pg_class WHERE relpersistence <> 't' AND relnamespace NOT IN (SELECT oid FROM skipped)),
	parts AS (` + strings.Join(parts, "\nUNION ALL ") + `)
SELECT (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', part, n, h), '; ' ORDER BY part) FROM parts),
	(SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashint8extended(oid::int8 << 32 | relfilenode::int8, 0))) FROM rel WHERE relkind = 'r'),
	(SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(h)) FROM (
		SELECT pg_catalog.hashtextextended(a::text, 0) AS h FROM pg_catalog.pg_roles a
		UNION ALL SELECT pg_catalog.hashtextextended(m::text, 0) FROM pg_catalog.pg_auth_members m) roles)`
}()

// Changed names the catalogs in which two digests' definitions differ.
func (d Digest) Changed(other Digest) []string {
	before := lists.Set(strings.Split(d.Definitions, "; "))
	var out []string
	for _, part := range strings.Split(other.Definitions, "; ") {
		if !before[part] {
			name := part[:strings.LastIndexByte(part, ' ')]
			out = append(out, name[:strings.LastIndexByte(name, ' ')])
		}
	}
	return out
}
