package preflight

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestTreesThatTheTargetRoutesOtherwise(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	require.Empty(t, f.ask(t, "partitions"))
	pgtest.Exec(t, f.source, `CREATE TABLE byday (d date) PARTITION BY RANGE (d); CREATE TABLE byday_0 PARTITION OF byday DEFAULT; CREATE UNIQUE INDEX byday_0_d ON byday_0 (d)`)
	require.Empty(t, f.ask(t, "partitions"), "routed alike")

	pgtest.Exec(t, f.source, `CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE tree (id int, m mood, UNIQUE (id, m)) PARTITION BY HASH (m);
		CREATE TABLE tree_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE tree_1 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	found := f.ask(t, "partitions")
	require.Equal(t, []seen{{answer.Info, "partitions_rerouted", "public.tree"}}, short(found))
	require.Contains(t, found[0].Detail, "TRUNCATE")

	pgtest.Exec(t, f.source, `CREATE UNIQUE INDEX only_here ON tree_1 (id)`)
	pgtest.Exec(t, f.sourceAdmin, `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; CREATE TABLE public.other (m public.mood, id int) PARTITION BY HASH (m);
		CREATE FOREIGN TABLE public.other_0 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 0) SERVER far; CREATE TABLE public.other_1 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	found = f.ask(t, "partitions")
	require.ElementsMatch(t, []seen{{answer.Info, "partitions_rerouted", "public.other"}, {answer.Blocker, "partition_foreign", "public.other_0"},
		{answer.Info, "partitions_rerouted", "public.tree"}, {answer.Blocker, "partition_unique", "public.tree_1"}}, short(found))
	require.Contains(t, found[len(found)-1].Remedy, `DROP INDEX "public"."only_here"`)
}

// The source sorts by rules of a language, the target by bytes, so that capitals come
// before all other letters.
func TestBoundsThatTheTargetCannotHave(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	name := "english_" + f.sourceDSN.Database()
	pgtest.DatabaseAs(t, pgtest.Shared(t, pgtest.Source), name, f.sourceDSN.User(), "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ENCODING 'UTF8'")
	f.sourceDSN = f.sourceDSN.WithDatabase(name)
	source := pgtest.Conn(t, f.sourceDSN)
	pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(name)), "GRANT CREATE ON SCHEMA public TO PUBLIC")

	pgtest.Exec(t, source, `CREATE TABLE names (id int, name varchar(20), at timestamptz) PARTITION BY RANGE (name);
		CREATE TABLE names_a PARTITION OF names FOR VALUES FROM (MINVALUE) TO ('b'); CREATE TABLE names_b PARTITION OF names FOR VALUES FROM ('b') TO ('X');
		CREATE TABLE names_x PARTITION OF names FOR VALUES FROM ('X') TO (MAXVALUE);
		CREATE TABLE fixed (name text COLLATE "C") PARTITION BY RANGE (name); CREATE TABLE fixed_0 PARTITION OF fixed FOR VALUES FROM ('B') TO ('a');
		CREATE TABLE lists (name text) PARTITION BY LIST (name); CREATE TABLE lists_0 PARTITION OF lists FOR VALUES IN ('a', 'B')`)
	found := f.ask(t, "partitions")
	require.Equal(t, []seen{{answer.Blocker, "partition_bounds", "public.names_b"}, {answer.Blocker, "partition_bounds", "public.names_x"}, {answer.Info, "partitions_rerouted", "public.names"}}, short(found))
	require.Contains(t, found[0].Detail, "FROM ('b') TO ('X')")
	require.Contains(t, found[0].Detail, "empty range bound")
	require.Contains(t, found[1].Detail, "overlap")
	require.True(t, strings.Contains(found[0].Detail, "en-US") && strings.Contains(found[0].Detail, "bytes"), found[0].Detail)

	// Bounds that the target can have, but not all rows.
	pgtest.Exec(t, source, `DROP TABLE names_b, names_x`)
	require.Equal(t, []seen{{answer.Warning, "partition_gap", "public.names"}, {answer.Info, "partitions_rerouted", "public.names"}}, short(f.ask(t, "partitions")))
	pgtest.Exec(t, source, `CREATE TABLE names_rest PARTITION OF names DEFAULT`)
	require.Equal(t, []seen{{answer.Info, "partitions_rerouted", "public.names"}}, short(f.ask(t, "partitions")))

	// Each is told once, and its statement helps.
	f.sourceAdmin = pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(name))
	pgtest.Exec(t, source, "ALTER TABLE public.names ADD PRIMARY KEY (id, name)") // so that partitions have one
	as := "SET ROLE " + f.sourceDSN.User() + "; "
	f.removes(t, situation{code: "partition_gap", source: as + "DROP TABLE public.names_rest; RESET ROLE", typed: typedIn(source, "CREATE TABLE .* DEFAULT")})
	f.removes(t, situation{code: "partition_bounds", source: as + "CREATE TABLE public.names_b PARTITION OF public.names FOR VALUES FROM ('b') TO ('X'); RESET ROLE", left: []string{"no_create_on_target", "schema_not_writable"}, typed: func(t *testing.T, found ...answer.Finding) {
		sql := printed(t, found[0].Remedy, "CREATE DATABASE .* ICU_LOCALE '[^']*'")
		pgtest.Exec(t, f.targetAdmin, sql)
		other := printed(t, sql, `DATABASE "([^"]*)"`)
		t.Cleanup(func() { pgtest.DropMade(t, pgtest.Shared(t, pgtest.Target), other) })
		f.targetDSN = f.targetDSN.WithDatabase(other)
	}})
	require.Equal(t, "0", pgtest.Value(t, f.target, `SELECT count(*) FROM pg_class WHERE relname LIKE 'crossfade%'`))
}
