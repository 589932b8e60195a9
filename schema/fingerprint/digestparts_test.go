package fingerprint

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/pairtest"
)

// Each catalog that the digest reads is seen to change by a statement that writes into it.
func TestEveryCatalogOfTheDigestCounts(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	conn := pgtest.Conn(t, p.Admin)
	take := func() Digest {
		t.Helper()
		d, err := TakeDigest(t.Context(), conn)
		require.NoError(t, err)
		return d
	}
	db := p.Source.Database()
	pgtest.Exec(t, conn, `CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY, v text); CREATE TABLE app.child (id int NOT NULL, v text); CREATE SEQUENCE app.s;
		CREATE DOMAIN app.d AS text; CREATE TYPE app.mood AS ENUM ('a'); CREATE TYPE app.pair AS (a int, b int); CREATE VIEW app.v AS SELECT id FROM app.t;
		CREATE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'; CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE FUNCTION app.told() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE FUNCTION app.same(app.pair, app.pair) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';
		CREATE FOREIGN DATA WRAPPER fw; CREATE SERVER fs FOREIGN DATA WRAPPER fw; CREATE USER MAPPING FOR `+p.Reader+` SERVER fs; CREATE EXTENSION lo SCHEMA app;
		CREATE OPERATOR FAMILY app.fam USING btree; CREATE TEXT SEARCH CONFIGURATION app.words (COPY = pg_catalog.simple); ALTER TABLE app.t OWNER TO `+p.Reader)
	seen := map[string]bool{"pg_seclabel": true, "pg_shseclabel": true} // no provider of labels comes with PostgreSQL
	for _, c := range []struct{ catalog, sql string }{
		{"pg_namespace", "ALTER SCHEMA app OWNER TO " + p.Reader},
		{"pg_attribute", "ALTER TABLE app.t ALTER COLUMN v SET STATISTICS 7"},
		{"pg_attrdef", "ALTER TABLE app.t ALTER COLUMN v SET DEFAULT 'x'"},
		{"pg_attrdef", "ALTER TABLE app.t ALTER COLUMN v SET DEFAULT 'y'"},
		{"pg_constraint", "ALTER TABLE app.t ADD CONSTRAINT c CHECK (id > 0) NOT VALID"},
		{"pg_constraint", "ALTER TABLE app.t VALIDATE CONSTRAINT c"},
		{"pg_index", "CREATE INDEX i ON app.t (v)"},
		{"pg_inherits", "ALTER TABLE app.child ADD CONSTRAINT c CHECK (id > 0), INHERIT app.t"},
		{"pg_partitioned_table", "CREATE TABLE app.parts (id int) PARTITION BY RANGE (id)"},
		{"pg_sequence", "ALTER SEQUENCE app.s INCREMENT 5"},
		{"pg_type", "ALTER DOMAIN app.d SET NOT NULL"},
		{"pg_enum", "ALTER TYPE app.mood RENAME VALUE 'a' TO 'b'"},
		{"pg_range", "CREATE TYPE app.r AS RANGE (subtype = int)"},
		{"pg_proc", "CREATE OR REPLACE FUNCTION app.f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2'"},
		{"pg_aggregate", "CREATE AGGREGATE app.sum(int) (sfunc = int4pl, stype = int)"},
		{"pg_operator", "CREATE OPERATOR app.=== (leftarg = app.pair, rightarg = app.pair, function = app.same)"},
		{"pg_opclass", "CREATE OPERATOR CLASS app.ops FOR TYPE app.mood USING hash AS STORAGE app.mood"},
		{"pg_opfamily", "ALTER OPERATOR FAMILY app.fam USING btree RENAME TO family"},
		{"pg_amop", "ALTER OPERATOR FAMILY app.family USING btree ADD OPERATOR 1 <(int, int)"},
		{"pg_amproc", "ALTER OPERATOR FAMILY app.family USING btree ADD FUNCTION 1 btint4cmp(int, int)"},
		{"pg_am", "CREATE ACCESS METHOD heap_" + db + " TYPE TABLE HANDLER heap_tableam_handler"},
		{"pg_cast", "CREATE CAST (app.pair AS app.mood) WITH INOUT"},
		{"pg_collation", `CREATE COLLATION app.c FROM "C"`},
		{"pg_conversion", "CREATE CONVERSION app.conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8"},
		{"pg_language", "CREATE LANGUAGE other HANDLER plpgsql_call_handler"},
		{"pg_transform", "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal))"},
		{"pg_trigger", "CREATE TRIGGER touch BEFORE INSERT ON app.t FOR EACH ROW EXECUTE FUNCTION app.touch()"},
		{"pg_trigger", "ALTER TABLE app.t DISABLE TRIGGER touch"},
		{"pg_rewrite", "CREATE RULE r AS ON DELETE TO app.t DO INSTEAD NOTHING"},
		{"pg_policy", "CREATE POLICY p ON app.t USING (true)"},
		{"pg_policy", "ALTER POLICY p ON app.t USING (id > 1)"},
		{"pg_event_trigger", "CREATE EVENT TRIGGER told_" + db + " ON sql_drop EXECUTE FUNCTION app.told()"},
		{"pg_statistic_ext", "CREATE STATISTICS app.st ON id, v FROM app.t"},
		{"pg_description", "COMMENT ON TABLE app.t IS 'x'"},
		{"pg_init_privs", "CREATE EXTENSION pg_buffercache SCHEMA app"},
		{"pg_default_acl", "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC"},
		{"pg_extension", "ALTER EXTENSION lo SET SCHEMA public"},
		{"pg_foreign_data_wrapper", "ALTER FOREIGN DATA WRAPPER fw OPTIONS (a 'b')"},
		{"pg_foreign_server", "ALTER SERVER fs OPTIONS (a 'b')"},
		{"pg_foreign_table", "CREATE FOREIGN TABLE app.far (id int) SERVER fs"},
		{"pg_foreign_table", "ALTER FOREIGN TABLE app.far OPTIONS (a 'b')"},
		{"pg_ts_config", "ALTER TEXT SEARCH CONFIGURATION app.words RENAME TO more"},
		{"pg_ts_config_map", "ALTER TEXT SEARCH CONFIGURATION app.more DROP MAPPING FOR email"},
		{"pg_ts_dict", "CREATE TEXT SEARCH DICTIONARY app.dict (TEMPLATE = pg_catalog.simple)"},
		{"pg_ts_parser", "CREATE TEXT SEARCH PARSER app.par (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype)"},
		{"pg_ts_template", "CREATE TEXT SEARCH TEMPLATE app.tmpl (lexize = dsimple_lexize)"},
		{"pg_db_role_setting", "ALTER DATABASE " + db + " SET work_mem = '5MB'"},
		{"pg_shdescription", "COMMENT ON DATABASE " + db + " IS 'x'"},
		{"pg_class", "ALTER TABLE app.t SET (fillfactor = 50)"},
		{"pg_database", "GRANT CONNECT ON DATABASE " + db + " TO " + p.Reader},
		{"pg_user_mappings", "ALTER USER MAPPING FOR " + p.Reader + " SERVER fs OPTIONS (user 'b')"},
		{"pg_depend", "ALTER SEQUENCE app.s OWNED BY app.child.id"},
		{"names of roles", "ALTER ROLE " + p.Reader + " RENAME TO y" + p.Reader},
		{"names of roles", "ALTER ROLE y" + p.Reader + " RENAME TO " + p.Reader},
	} {
		before := take()
		pgtest.Exec(t, conn, c.sql)
		require.Contains(t, before.Changed(take()), c.catalog, c.sql)
		seen[c.catalog] = true
	}
	for _, c := range versionedCatalogs {
		require.True(t, seen[c.catalog], "no statement shows that %s counts", c.catalog)
	}
	for _, c := range writtenCatalogs {
		require.True(t, seen[c.name], "no statement shows that %s counts", c.name)
	}
}
