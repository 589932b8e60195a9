package slot_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/slot"
)

// inventory gives the rows by the table's name, and "" for the publication's own.
func inventory(t *testing.T, conn *pgx.Conn) map[string]string {
	t.Helper()
	inv, err := slot.TakeInventory(t.Context(), conn, "p", true)
	require.NoError(t, err)
	rows := map[string]string{"": inv.Row}
	for _, m := range inv.Tables {
		rows[m.Table.Name] = m.Row
	}
	return rows
}

func TestAPublicationThatWasChangedAndChangedBackHasOtherRows(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	conn := pgtest.Conn(t, dsn)
	pgtest.Exec(t, conn, `SET search_path = public; CREATE TABLE a (id int PRIMARY KEY, "B b" text, g int GENERATED ALWAYS AS (id) STORED); ALTER TABLE a ADD c int; ALTER TABLE a DROP c; CREATE TABLE b (id int PRIMARY KEY)`)
	require.NoError(t, slot.EnsurePublication(t.Context(), conn, slot.PublicationConfig{Name: "p", Tables: names("a", "b")}))
	inv, err := slot.TakeInventory(t.Context(), conn, "p", true)
	require.NoError(t, err)
	require.Equal(t, []string{"id", "B b"}, inv.Tables[0].Columns)
	before := inventory(t, conn)

	pgtest.Exec(t, conn, `ALTER TABLE a RENAME TO x; ALTER TABLE x RENAME TO a; ALTER TABLE a REPLICA IDENTITY FULL; ALTER TABLE a REPLICA IDENTITY DEFAULT; INSERT INTO a VALUES (1)`)
	admin := pgtest.Conn(t, pgtest.Shared(t, pgtest.Source).AdminDSN(dsn.Database()))
	pgtest.Exec(t, admin, "VACUUM FREEZE pg_publication")
	pgtest.Exec(t, admin, "VACUUM FREEZE pg_publication_rel")
	pgtest.Exec(t, admin, "VACUUM FULL pg_publication")
	pgtest.Exec(t, admin, "VACUUM FULL pg_publication_rel")
	require.Equal(t, before, inventory(t, conn), "nothing was changed")

	for _, c := range []struct {
		sql     []string
		changed []string
	}{
		{[]string{"ALTER PUBLICATION p DROP TABLE a", "ALTER PUBLICATION p ADD TABLE ONLY a"}, []string{"a"}},
		{[]string{"ALTER PUBLICATION p SET TABLE b", "ALTER PUBLICATION p SET TABLE ONLY a, b"}, []string{"a"}},
		{[]string{"ALTER PUBLICATION p SET (publish = 'insert')", "ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')"}, []string{""}},
		{[]string{"ALTER PUBLICATION p SET (publish_via_partition_root)", "ALTER PUBLICATION p SET (publish_via_partition_root = false)"}, []string{""}},
		{[]string{"ALTER PUBLICATION p RENAME TO q", "ALTER PUBLICATION q RENAME TO p"}, []string{""}},
		{[]string{"DROP PUBLICATION p", "CREATE PUBLICATION p FOR TABLE ONLY a, b"}, []string{"", "a", "b"}},
	} {
		for _, sql := range c.sql {
			pgtest.Exec(t, conn, sql)
		}
		after := inventory(t, conn)
		var changed []string
		for name := range before {
			if before[name] != after[name] {
				changed = append(changed, name)
			}
		}
		slices.Sort(changed)
		require.Equal(t, c.changed, changed, "%s", c.sql)
		before = after
	}
	// All within one transaction, of which nobody sees anything but the end.
	pgtest.Exec(t, conn, "BEGIN; ALTER PUBLICATION p DROP TABLE a; INSERT INTO a VALUES (2); ALTER PUBLICATION p ADD TABLE a; COMMIT")
	require.NotEqual(t, before["a"], inventory(t, conn)["a"])
	pgtest.Exec(t, conn, "DROP PUBLICATION p")
	require.Empty(t, inventory(t, conn)[""])
}

func TestTablesThatAPublicationKeepsFromBeingUpdatedAreTakenOut(t *testing.T) {
	t.Parallel()
	conn := pgtest.Conn(t, pgtest.Database(t, pgtest.Shared(t, pgtest.Source)))
	all := []string{"deferrable", "filtered", "full", "keyless", "listed", "nothing", "plain", "unindexed"}
	for _, name := range all {
		pgtest.Exec(t, conn, "CREATE TABLE public."+name+" (id int CONSTRAINT "+name+"_pk PRIMARY KEY, n int NOT NULL)")
		pgtest.Exec(t, conn, "INSERT INTO public."+name+" VALUES (1, 1)")
	}
	pgtest.Exec(t, conn, `CREATE UNIQUE INDEX un ON public.unindexed (n); ALTER TABLE public.unindexed REPLICA IDENTITY USING INDEX un`)
	require.NoError(t, slot.EnsurePublication(t.Context(), conn, slot.PublicationConfig{Name: "p", Tables: names(all...)}))
	harmed := func() (harmed []string) {
		list, err := slot.Harmed(t.Context(), conn, "p")
		require.NoError(t, err)
		for _, h := range list {
			harmed = append(harmed, h.Table.Name)
		}
		return harmed
	}
	require.Empty(t, harmed())
	pgtest.Exec(t, conn, `ALTER TABLE public.nothing REPLICA IDENTITY NOTHING; DROP INDEX public.un; ALTER TABLE public.keyless DROP CONSTRAINT keyless_pk;
		ALTER TABLE public.full REPLICA IDENTITY FULL; ALTER TABLE public.full DROP CONSTRAINT full_pk;
		ALTER TABLE public.deferrable DROP CONSTRAINT deferrable_pk; ALTER TABLE public.deferrable ADD PRIMARY KEY (id) DEFERRABLE;
		ALTER PUBLICATION p DROP TABLE public.filtered, public.listed; ALTER PUBLICATION p ADD TABLE public.filtered WHERE (n > 1), public.listed (n)`)
	require.Equal(t, []string{"deferrable", "filtered", "keyless", "listed", "nothing", "unindexed"}, harmed())
	for _, name := range harmed() {
		_, err := conn.Exec(t.Context(), "UPDATE public."+name+" SET n = 1 WHERE id = 1")
		require.Error(t, err, "the application's UPDATE fails")
		table := pg.Name{Schema: "public", Name: name}
		require.NoError(t, slot.TakeOut(t.Context(), conn, "p", table, slot.DefaultLockTimeout))
		require.NoError(t, slot.TakeOut(t.Context(), conn, "p", table, slot.DefaultLockTimeout))
		pgtest.Exec(t, conn, "UPDATE public."+name+" SET n = 2; DELETE FROM public."+name)
	}
	require.Empty(t, harmed())
	pgtest.Exec(t, conn, "UPDATE public.full SET n = 2; UPDATE public.plain SET n = 2")
	require.Equal(t, names("full", "plain"), published(t, conn, "p"))
}
