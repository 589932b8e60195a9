package database

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/cutover/preflight/answer"
	"crossfade/cutover/preflight/preflighttest"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// Who has exchanged the two sides is not told to use another database alone.
func TestSidesThatAreProbablySwappedAreReported(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Target, "CREATE TABLE a (id int PRIMARY KEY)")
	found := f.Ask(t, TargetEmpty)
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_not_empty", "public.a"}}, preflighttest.Short(found))
	require.Contains(t, found[0].Detail, "the source's has nothing")
	require.Contains(t, found[0].Remedy, "--source and --target are exchanged")
	f.Source, f.Target, f.SourceDSN, f.TargetDSN = f.Target, f.Source, f.TargetDSN, f.SourceDSN // as it says
	require.Empty(t, f.Ask(t, TargetEmpty))
	pgtest.Exec(t, f.Target, "CREATE TABLE b (id int PRIMARY KEY)")
	require.NotContains(t, f.Ask(t, TargetEmpty)[0].Remedy, "exchanged", "both have something")
}

func TestTargetEmpty(t *testing.T) {
	t.Parallel()
	f := preflighttest.New(t)
	pgtest.Exec(t, f.Source, "CREATE TABLE a (id int PRIMARY KEY)")
	pgtest.Exec(t, f.TargetAdmin, "CREATE EXTENSION pg_stat_statements SCHEMA public")
	require.Empty(t, f.Ask(t, TargetEmpty), "what an extension brings is no user's")

	pgtest.Exec(t, f.Target, "CREATE SCHEMA crossfade CREATE TABLE relation (relid oid PRIMARY KEY); CREATE TABLE a (id int PRIMARY KEY)")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_not_empty", "public.a"}}, preflighttest.Short(f.Ask(t, TargetEmpty)))
	require.Empty(t, f.Ask(t, TargetEmpty, preflighttest.Resume), "a run that goes on has made them")

	pgtest.Exec(t, f.Target, "CREATE VIEW stranger AS SELECT 1 AS one")
	require.Equal(t, []preflighttest.Seen{{answer.Blocker, "target_not_empty", "public.stranger"}}, preflighttest.Short(f.Ask(t, TargetEmpty, preflighttest.Resume)))

	pgtest.Exec(t, f.Target, "DROP VIEW stranger; CREATE TYPE mood AS ENUM ('calm'); CREATE FUNCTION feel(mood) RETURNS int LANGUAGE sql AS 'SELECT 1'")
	found := f.Ask(t, TargetEmpty, preflighttest.Resume)
	require.Contains(t, found[0].Detail, "public.feel(public.mood), public.mood")
	require.NotContains(t, found[0].Detail, "public.a", "neither the table nor its row type")

	pgtest.Exec(t, f.Target, "DO $$BEGIN FOR n IN 1..9 LOOP EXECUTE format('CREATE TABLE many_%s (id int)', n); END LOOP; END$$")
	found = f.Ask(t, TargetEmpty, preflighttest.Resume)
	require.Contains(t, found[0].Detail, "and 6 more")
}
