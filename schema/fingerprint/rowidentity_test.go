package fingerprint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
)

// Statements after which the catalog may look as before, or as the other side's,
// while the rows are others; and those that do rows no harm.
func TestRowsKeptTellsWhatThePictureHides(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	conn := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, conn, `CREATE TYPE public.mood AS ENUM ('a', 'b', 'c'); CREATE TYPE public.two AS (x int, y int)`)
	for _, c := range []struct{ name, sql, says string }{
		{"upper case", "ALTER TABLE public.t ALTER v TYPE text USING upper(v)", "column v was altered and the table was rewritten"},
		{"another type", "ALTER TABLE public.t ALTER n TYPE bigint", "column n was altered"},
		{"made again", "ALTER TABLE public.t DROP v, ADD v text", "column v is not the one that it was"},
		{"names exchanged", "ALTER TABLE public.t RENAME v TO z; ALTER TABLE public.t RENAME w TO v; ALTER TABLE public.t RENAME z TO w", "is not the one that it was"},
		{"exchanged and back", "ALTER TABLE public.t RENAME v TO z; ALTER TABLE public.t RENAME w TO v; ALTER TABLE public.t RENAME v TO w; ALTER TABLE public.t RENAME z TO v", "columns v, w were altered and look as before"},
		{"random", "ALTER TABLE public.t ADD c int DEFAULT (random() * 100)::int", "column c was added with a value that was computed for each row"},
		{"serial", "ALTER TABLE public.t ADD c serial", "column c was added with a value"},
		{"identity", "ALTER TABLE public.t ADD c int GENERATED ALWAYS AS IDENTITY", "column c was added with a value"},
		{"made, dropped, made", "ALTER TABLE public.t ADD c int; ALTER TABLE public.t DROP c; ALTER TABLE public.t ADD c int", "column c was made after another new one was dropped"},
		{"renamed to a dropped one", "ALTER TABLE public.t DROP v; ALTER TABLE public.t RENAME w TO v", "column v is not the one that it was"},
		{"labels exchanged", "ALTER TYPE public.mood RENAME VALUE 'a' TO 'z'; ALTER TYPE public.mood RENAME VALUE 'b' TO 'a'; ALTER TYPE public.mood RENAME VALUE 'z' TO 'b'", "is not the one that it was"},
		{"label again", "ALTER TYPE public.mood RENAME VALUE 'a' TO 'z'; ALTER TYPE public.mood ADD VALUE 'a'", "is not the one that it was"},
		{"attribute again", "ALTER TYPE public.two DROP ATTRIBUTE y, ADD ATTRIBUTE y int", "attribute y is not the one"},

		{"vacuum", "VACUUM FULL public.t", ""}, {"truncated", "TRUNCATE public.t", ""}, {"reindexed", "REINDEX TABLE public.t", ""}, {"clustered", "CLUSTER public.t USING t_pkey", ""},
		{"column", "ALTER TABLE public.t ADD c int", ""}, {"column with a value", "ALTER TABLE public.t ADD c int DEFAULT 5", ""},
		{"default later", "ALTER TABLE public.t ADD c int; ALTER TABLE public.t ALTER c SET DEFAULT random() * 100", ""},
		{"generated", "ALTER TABLE public.t ADD c int GENERATED ALWAYS AS (n + 1) STORED", ""}, {"dropped", "ALTER TABLE public.t DROP v", ""}, {"renamed", "ALTER TABLE public.t RENAME v TO z", ""},
		{"not null", "ALTER TABLE public.t ALTER n SET NOT NULL, ALTER w SET NOT NULL", ""}, {"longer", "ALTER TABLE public.t ALTER s TYPE varchar(20)", ""},
		{"one altered and back", "ALTER TABLE public.t ALTER v SET STATISTICS 5; ALTER TABLE public.t ALTER v SET STATISTICS -1", ""},
		{"label", "ALTER TYPE public.mood RENAME VALUE 'a' TO 'z'", ""}, {"new label", "ALTER TYPE public.mood ADD VALUE 'd'", ""}, {"attribute", "ALTER TYPE public.two ADD ATTRIBUTE z int", ""},
	} {
		pgtest.Exec(t, conn, `DROP TYPE IF EXISTS public.mood, public.two CASCADE; DROP TABLE IF EXISTS public.t`)
		pgtest.Exec(t, conn, `CREATE TYPE public.mood AS ENUM ('a', 'b', 'c'); CREATE TYPE public.two AS (x int, y int)`)
		pgtest.Exec(t, conn, `CREATE TABLE public.t (id int PRIMARY KEY, v text, w text, n int, s varchar(10))`)
		pgtest.Exec(t, conn, `INSERT INTO public.t VALUES (1, 'a', 'b', 7, 's')`)
		was, err := fingerprint.ReadRowIdentities(t.Context(), conn)
		require.NoError(t, err)
		require.Len(t, was, 3)
		pgtest.Exec(t, conn, c.sql)
		now, err := fingerprint.ReadRowIdentities(t.Context(), conn)
		require.NoError(t, err)
		said := ""
		for oid, r := range was {
			why, next := fingerprint.RowsKept(r, now[oid])
			said += why
			if why == "" {
				again, _ := fingerprint.RowsKept(next, now[oid])
				require.Empty(t, again, c.name)
			}
		}
		if c.says == "" {
			require.Empty(t, said, c.name)
		} else {
			require.Contains(t, said, c.says, c.name)
		}
	}
}

// A column that was altered, and a table that was rewritten later, are no harm where someone has
// looked in between.
func TestRowsKeptGoesOnFromWhatWasSeen(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	conn := pgtest.Conn(t, p.Source)
	pgtest.Exec(t, conn, `CREATE TABLE public.t (id int, v text)`)
	look := func() fingerprint.RowIdentity {
		t.Helper()
		all, err := fingerprint.ReadRowIdentities(t.Context(), conn)
		require.NoError(t, err)
		require.Len(t, all, 1)
		for _, r := range all {
			return r
		}
		return fingerprint.RowIdentity{}
	}
	first := look()
	pgtest.Exec(t, conn, "ALTER TABLE public.t ALTER v SET NOT NULL, ADD c int DEFAULT 5")
	why, second := fingerprint.RowsKept(first, look())
	require.Empty(t, why)
	pgtest.Exec(t, conn, "TRUNCATE public.t")
	why, third := fingerprint.RowsKept(second, look())
	require.Empty(t, why)
	why, _ = fingerprint.RowsKept(first, look())
	require.NotEmpty(t, why, "without that nothing is excluded")

	other := pgtest.Conn(t, p.Target)
	for sql, says := range map[string]string{"ADD c int DEFAULT 5": "", "ADD c int": "have 5 on the source and NULL on the target", "ADD c int DEFAULT 6": "have 5 on the source and 6 on the target"} {
		pgtest.Exec(t, other, `DROP TABLE IF EXISTS public.t; CREATE TABLE public.t (id int, v text)`)
		all, err := fingerprint.ReadRowIdentities(t.Context(), other)
		require.NoError(t, err)
		was := all[fingerprint.IdentityNames(all)["r public.t"]]
		pgtest.Exec(t, other, "ALTER TABLE public.t "+sql)
		all, err = fingerprint.ReadRowIdentities(t.Context(), other)
		require.NoError(t, err)
		why, now := fingerprint.RowsKept(was, all[fingerprint.IdentityNames(all)["r public.t"]])
		require.Empty(t, why)
		require.Contains(t, fingerprint.AddedAlike(third, now), says)
		require.Equal(t, says == "", fingerprint.AddedAlike(third, now) == "")
	}
}
