package preflight

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/database"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// The source sorts by rules of a language, the target by bytes, so that capitals come
// before all other letters.
func TestBoundsThatTheTargetCannotHave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	name := "english_" + f.SourceDSN.Database()
	pgtest.DatabaseAs(t, pgtest.Shared(t, pgtest.Source), name, f.SourceDSN.User(), "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'")
	f.SourceDSN = f.SourceDSN.WithDatabase(name)
	source := pgtest.Conn(t, f.SourceDSN)
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(name)), "GRANT CREATE ON SCHEMA public TO PUBLIC")

	pgtest.Exec(t, source, `CREATE TABLE names (id int, name varchar(20), at timestamptz) PARTITION BY RANGE (name);
		CREATE TABLE names_a PARTITION OF names FOR VALUES FROM (MINVALUE) TO ('b'); CREATE TABLE names_b PARTITION OF names FOR VALUES FROM ('b') TO ('X');
		CREATE TABLE names_x PARTITION OF names FOR VALUES FROM ('X') TO (MAXVALUE);
		CREATE TABLE fixed (name text COLLATE "C") PARTITION BY RANGE (name); CREATE TABLE fixed_0 PARTITION OF fixed FOR VALUES FROM ('B') TO ('a');
		CREATE TABLE lists (name text) PARTITION BY LIST (name); CREATE TABLE lists_0 PARTITION OF lists FOR VALUES IN ('a', 'B')`)
	found := f.Ask(t, database.Partitions)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "partition_bounds", "public.names_b"}, {answer.Blocker, "partition_bounds", "public.names_x"}, {answer.Info, "partitions_rerouted", "public.names"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "FROM ('b') TO ('X')")
	require.Contains(t, found[0].Detail, "empty range bound")
	require.Contains(t, found[1].Detail, "overlap")
	require.True(t, strings.Contains(found[0].Detail, "en-US") && strings.Contains(found[0].Detail, "bytes"), found[0].Detail)

	// Bounds that the target can have, but not all rows.
	pgtest.Exec(t, source, `DROP TABLE names_b, names_x`)
	require.Equal(t, []preflighttest.Seen{{answer.Warning, "partition_gap", "public.names"}, {answer.Info, "partitions_rerouted", "public.names"}}, preflighttest.Short(f.Ask(t, database.Partitions)))
	pgtest.Exec(t, source, `CREATE TABLE names_rest PARTITION OF names DEFAULT`)
	require.Equal(t, []preflighttest.Seen{{answer.Info, "partitions_rerouted", "public.names"}}, preflighttest.Short(f.Ask(t, database.Partitions)))

	// Each is told once, and its statement helps.
	f.SourceAdmin = pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(name))
	pgtest.Exec(t, source, "ALTER TABLE public.names ADD PRIMARY KEY (id, name)") // so that partitions have one
	as := "SET ROLE " + f.SourceDSN.User() + "; "
	f.removes(t, situation{code: "partition_gap", source: as + "DROP TABLE public.names_rest; RESET ROLE", typed: typedIn(source, "CREATE TABLE .* DEFAULT")})
	f.removes(t, situation{code: "partition_bounds", source: as + "CREATE TABLE public.names_b PARTITION OF public.names FOR VALUES FROM ('b') TO ('X'); RESET ROLE", left: []string{"no_create_on_target", "schema_not_writable"}, typed: func(t *testing.T, found ...answer.Finding) {
		sql := printed(t, found[0].Remedy, "CREATE DATABASE .* ICU_LOCALE '[^']*'")
		pgtest.Exec(t, f.TargetAdmin, sql)
		other := printed(t, sql, `DATABASE "([^"]*)"`)
		t.Cleanup(func() { pgtest.DropMade(t, pgtest.Shared(t, pgtest.Target), other) })
		f.TargetDSN = f.TargetDSN.WithDatabase(other)
	}})
	require.Equal(t, "0", pgtest.Value(t, f.Target, `SELECT count(*) FROM pg_class WHERE relname LIKE 'crossfade%'`))
}
