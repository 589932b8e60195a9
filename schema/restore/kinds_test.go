package restore_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/plan"
	"crossfade/schema/schematest"
)

// kindsOfPgDump are the kinds of entries that pg_dump writes into an archive of a schema (pg_dump.c
// and pg_backup_archiver.c of 15; later versions add none but STATISTICS DATA). SECURITY LABEL is
// missing: it needs a label provider, which no package of PostgreSQL has.
var kindsOfPgDump = []string{"ACCESS METHOD", "ACL", "AGGREGATE", "CAST", "CHECK CONSTRAINT", "COLLATION", "COMMENT", "CONSTRAINT", "CONVERSION",
	"DATABASE", "DATABASE PROPERTIES", "DEFAULT", "DEFAULT ACL", "DOMAIN", "ENCODING", "EVENT TRIGGER", "EXTENSION", "FK CONSTRAINT",
	"FOREIGN DATA WRAPPER", "FOREIGN TABLE", "FUNCTION", "INDEX", "INDEX ATTACH", "MATERIALIZED VIEW", "OPERATOR", "OPERATOR CLASS",
	"OPERATOR FAMILY", "POLICY", "PROCEDURAL LANGUAGE", "PROCEDURE", "ROW SECURITY", "RULE", "SCHEMA", "SEARCHPATH", "SEQUENCE",
	"SEQUENCE OWNED BY", "SERVER", "SHELL TYPE", "STATISTICS", "STDSTRINGS", "TABLE", "TABLE ATTACH", "TEXT SEARCH CONFIGURATION",
	"TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER", "TEXT SEARCH TEMPLATE", "TRANSFORM", "TRIGGER", "TYPE", "USER MAPPING", "VIEW"}

func TestEverythingHasEveryKind(t *testing.T) {
	t.Parallel()
	e := schematest.Load(t, pgtest.Shared(t, pgtest.Source), schematest.Superuser, schematest.Tablespace, schematest.LargeObjects)
	data, err := archive.Dump(t.Context(), archive.DumpConfig{DSN: e.DSN})
	require.NoError(t, err)
	a, err := plan.ParseArchive(data)
	require.NoError(t, err)
	have := map[string]int{}
	for _, entry := range a.Entries {
		have[entry.Kind]++
	}
	for _, kind := range kindsOfPgDump {
		require.Positive(t, have[kind], "%s is missing: %v", kind, have)
	}
	for kind := range have {
		require.Contains(t, kindsOfPgDump, kind, "pg_dump writes a kind that is not in the list")
	}
}
