package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

func TestTreesThatTheTargetRoutesOtherwise(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	require.Empty(t, f.Ask(t, Partitions))
	pgtest.Exec(t, f.Source, `CREATE TABLE byday (d date) PARTITION BY RANGE (d); CREATE TABLE byday_0 PARTITION OF byday DEFAULT; CREATE UNIQUE INDEX byday_0_d ON byday_0 (d)`)
	require.Empty(t, f.Ask(t, Partitions), "routed alike")

	pgtest.Exec(t, f.Source, `CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE tree (id int, m mood, UNIQUE (id, m)) PARTITION BY HASH (m);
		CREATE TABLE tree_0 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE tree_1 PARTITION OF tree FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	found := f.Ask(t, Partitions)
	require.Equal(t, []preflighttest.Seen{{answer.Info, "partitions_rerouted", "public.tree"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "TRUNCATE")

	pgtest.Exec(t, f.Source, `CREATE UNIQUE INDEX only_here ON tree_1 (id)`)
	pgtest.Exec(t, f.SourceAdmin, `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; CREATE TABLE public.other (m public.mood, id int) PARTITION BY HASH (m);
		CREATE FOREIGN TABLE public.other_0 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 0) SERVER far; CREATE TABLE public.other_1 PARTITION OF public.other FOR VALUES WITH (MODULUS 2, REMAINDER 1)`)
	found = f.Ask(t, Partitions)
	require.ElementsMatch(t, []preflighttest.Seen{{answer.Info, "partitions_rerouted", "public.other"}, {answer.Blocker, "partition_foreign", "public.other_0"},
		{answer.Info, "partitions_rerouted", "public.tree"}, {answer.Blocker, "partition_unique", "public.tree_1"}}, preflighttest.Short(found))
	require.Contains(t, found[len(found)-1].Remedy, `DROP INDEX "public"."only_here"`)
}
