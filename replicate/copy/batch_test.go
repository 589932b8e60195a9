package copy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
)

// emptied reports whether the copy has given the table a file of its own, which
// is what lets the server take frozen rows.
func (f *fixture) emptied(table string) bool {
	return pgtest.Value(f.t, f.target, "SELECT relfilenode <> oid FROM pg_class WHERE oid = $1::text::regclass", table) == "true"
}

func TestSmallTablesShareTransactionsAndAreFrozen(t *testing.T) {
	t.Parallel()
	for name, binary := range map[string]bool{"text": false, "binary": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, oddDDL)
			pgtest.Exec(t, f.source, oddRows)
			pgtest.Exec(t, f.target, `CREATE TABLE crossfade.seen (xid bigint); CREATE FUNCTION crossfade.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
				INSERT INTO crossfade.seen VALUES (pg_catalog.txid_current()); RETURN NULL; END $$;
				CREATE TRIGGER see AFTER INSERT ON crossfade.chunk FOR EACH STATEMENT EXECUTE FUNCTION crossfade.see()`)
			cfg := f.config(binary)
			cfg.ChunkBytes, cfg.Jobs = 0, 1
			var copied []string
			cfg.OnCopied = func(c Copied) { copied = append(copied, c.Table.Name.Display()) }
			c := f.copier(cfg)
			require.NoError(t, c.Run(f.context()))
			for _, table := range oddTables {
				f.requireEqual(table)
				require.True(t, f.emptied(table), "the rows of %s are not frozen", table)
			}
			p := c.Progress()
			require.Equal(t, p.TablesTotal, p.TablesDone)
			require.Equal(t, p.BytesTotal, p.BytesDone)
			require.EqualValues(t, 12+2+1+2+1+1+20, p.RowsDone)
			require.Len(t, copied, len(oddTables))
			require.Equal(t, fmt.Sprint(p.Relayed), pgtest.Value(t, f.target, "SELECT sum(bytes) FROM crossfade.chunk"))
			require.Equal(t, fmt.Sprint(p.Relayed), pgtest.Value(t, f.target, "SELECT sum(bytes) FROM crossfade.relation"))
			require.Equal(t, "2", pgtest.Value(t, f.target, "SELECT count(DISTINCT xid) FROM crossfade.seen"), "two batches for one job")
		})
	}
}

func TestTableWithRowsOfOthersIsNeverEmptied(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE a (id int); CREATE TABLE b (id int); CREATE TABLE big (id int, t text)`)
	pgtest.Exec(t, f.source, "INSERT INTO a VALUES (1); INSERT INTO b VALUES (2); INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(1, 3000) i")
	for _, table := range []string{"b", "big"} {
		pgtest.Exec(t, f.target, "INSERT INTO "+table+" (id) VALUES (77)")
	}
	cfg := f.config(true)
	cfg.ChunkBytes = 0
	require.NoError(t, f.copier(cfg).Run(f.context()))
	f.requireEqual("a")
	require.Equal(t, "2", pgtest.Value(t, f.target, "SELECT count(*) FROM b"), "its own row and ours")
	require.Equal(t, "3001", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
}

func TestBatchThatFailsIsCopiedOneByOne(t *testing.T) {
	t.Parallel()
	var ddl, rows strings.Builder
	for i := range 10 {
		fmt.Fprintf(&ddl, "CREATE TABLE t%d (id int, t text);", i)
		fmt.Fprintf(&rows, "INSERT INTO t%d SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i;", i)
	}
	f := newFixture(t, ddl.String())
	pgtest.Exec(t, f.source, rows.String())
	pgtest.Exec(t, f.target, "ALTER TABLE t7 ADD CONSTRAINT odd CHECK (id <> 900)")
	cfg := f.config(true)
	cfg.ChunkBytes, cfg.Jobs = 0, 1
	err := f.copier(cfg).Run(f.context())
	require.ErrorContains(t, err, "copy public.t7: blocks 0 to the end: write to target")
	require.ErrorContains(t, err, `violates check constraint "odd"`)
	pgtest.Exec(t, f.target, "ALTER TABLE t7 DROP CONSTRAINT odd")
	c := f.copier(cfg)
	require.NoError(t, c.Run(f.context()))
	require.EqualValues(t, 10_000, c.Progress().RowsDone)
	for i := range 10 {
		f.requireEqual(fmt.Sprintf("t%d", i))
	}
}
