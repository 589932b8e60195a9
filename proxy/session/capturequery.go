package session

import "strings"

// captureName is the name of our own prepared statement while it exists.
const captureName = "_crossfade_capture"

// Parameters of captureQuery, and their types.
//
//	$1 text[]  names of custom settings to look at
//	$2 text    name of our own statement, left out
//	$3 oid[]   types to look up
//	$4 text[]  settings to return whatever their origin
//	$5 bytea   text to convert to the encoding of the database, or NULL
//	$6 name    encoding of $5
var captureTypes = []uint32{1009, 25, 1028, 1009, 17, 19}

// captureQuery returns everything that a session carries and its server knows,
// as rows (kind, a, b, c, d, n). Names and texts are in the database's own
// encoding (raw), so that no client_encoding can bend or refuse them. Whatever
// is named is named with its schema, operators and types too: the client owns
// the search_path. It sets nothing, locks nothing and leaves nothing behind.
var captureQuery = buildCapture()

func buildCapture() string {
	none := "NULL::pg_catalog.bytea"
	row := func(kind, a, b, c, d, n, rest string) string {
		return "(SELECT '" + kind + "'::pg_catalog.text, " + a + ", " + b + ", " + c + ", " + d + "::pg_catalog.text, " + n + "::pg_catalog.int8" + rest + ")"
	}
	return strings.Join([]string{
		row("me", raw("session_user"), raw("pg_catalog.current_setting('role')"), none,
			"pg_catalog.getdatabaseencoding()", "pg_catalog.pg_backend_pid()", ""),
		row("setting", raw("name"), raw("setting"), raw("reset_val"), "pg_catalog.concat(source, '/', context)", "0",
			" FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) ANY (ARRAY['session', 'client']::pg_catalog.text[])"+
				" OR name OPERATOR(pg_catalog.=) ANY ($4) OR name OPERATOR(pg_catalog.=) 'client_encoding'"),
		row("custom", raw("k"), raw("v"), none, "''", "0",
			" FROM (SELECT k, pg_catalog.current_setting(k, true) AS v FROM pg_catalog.unnest($1) AS k) AS x WHERE v IS NOT NULL"),
		row("statement", raw("name"), raw("statement"), none, "from_sql", "pg_catalog.cardinality(parameter_types)",
			" FROM pg_catalog.pg_prepared_statements WHERE name OPERATOR(pg_catalog.<>) $2"),
		row("parameter", raw("p.name"), raw("ns.nspname"), raw("t.typname"), "u.o", "u.n",
			" FROM pg_catalog.pg_prepared_statements AS p, pg_catalog.unnest(p.parameter_types::pg_catalog.oid[]) WITH ORDINALITY AS u(o, n),"+
				" pg_catalog.pg_type AS t, pg_catalog.pg_namespace AS ns"+
				" WHERE p.name OPERATOR(pg_catalog.<>) $2 AND t.oid OPERATOR(pg_catalog.=) u.o AND ns.oid OPERATOR(pg_catalog.=) t.typnamespace"),
		row("type", raw("ns.nspname"), raw("t.typname"), none, "''", "t.oid",
			" FROM pg_catalog.pg_type AS t, pg_catalog.pg_namespace AS ns"+
				" WHERE t.oid OPERATOR(pg_catalog.=) ANY ($3) AND ns.oid OPERATOR(pg_catalog.=) t.typnamespace"),
		row("text", "pg_catalog.convert($5, $6, pg_catalog.getdatabaseencoding())", none, none, "''", "0",
			" WHERE $5 IS NOT NULL"),
		row("cursor", raw("name"), none, none, "''", "0", " FROM pg_catalog.pg_cursors WHERE is_holdable"),
		row("channel", raw("c"), none, none, "''", "0", " FROM pg_catalog.pg_listening_channels() AS c"),
		row("lock", none, none, none, "pg_catalog.concat(classid, '/', objid, '/', objsubid, '/', mode)", "0",
			" FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted"+
				" AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"),
		row("temp", raw("relname"), none, none, "'relation'", "0",
			" FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"+
				" AND relkind OPERATOR(pg_catalog.<>) 'i'::pg_catalog.\"char\" LIMIT 4"),
		row("temp", raw("proname"), none, none, "'function'", "0",
			" FROM pg_catalog.pg_proc WHERE pronamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 4"),
		row("temp", raw("typname"), none, none, "'type'", "0",
			" FROM pg_catalog.pg_type WHERE typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"+
				" AND typrelid OPERATOR(pg_catalog.=) 0::pg_catalog.oid AND typelem OPERATOR(pg_catalog.=) 0::pg_catalog.oid LIMIT 4"),
		row("temp", raw("pg_catalog.pg_describe_object(classid, objid, 0)"), none, none, "'other'", "0",
			" FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"+
				" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() AND classid OPERATOR(pg_catalog.<>) ALL ("+
				"ARRAY['pg_catalog.pg_class', 'pg_catalog.pg_proc', 'pg_catalog.pg_type']::pg_catalog.regclass[]) LIMIT 4"),
	}, " UNION ALL ")
}

// raw is the text of an expression as bytes in the database's encoding.
func raw(expr string) string {
	return "pg_catalog.convert_to(" + expr + "::pg_catalog.text, pg_catalog.getdatabaseencoding())"
}
