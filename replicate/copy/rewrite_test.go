package copy

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

// gateAfter makes the first insert of a chunk record beyond n wait for an advisory lock that the
// returned connection holds, so that a test can act between two chunks.
func (f *fixture) gateAfter(n int) *pgx.Conn {
	gate := pgtest.Conn(f.t, f.targetDSN)
	pgtest.Exec(f.t, gate, "SELECT pg_advisory_lock(42)")
	pgtest.Exec(f.t, f.target, `CREATE FUNCTION crossfade.gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF (SELECT count(*) FROM crossfade.chunk) >= `+strconv.Itoa(n)+` THEN
				PERFORM pg_catalog.pg_advisory_xact_lock_shared(42);
			END IF; RETURN NEW; END $$;
		CREATE TRIGGER gate BEFORE INSERT ON crossfade.chunk FOR EACH ROW EXECUTE FUNCTION crossfade.gate()`)
	return gate
}

func (f *fixture) awaitGate() {
	eventually(f.t, func() bool {
		return pgtest.Value(f.t, f.target, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") != "0"
	})
}

func TestRewriteBetweenChunksRestartsTheRelation(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"truncate":    "TRUNCATE big; INSERT INTO big SELECT i, 'after' FROM generate_series(1, 1000) i",
		"alter type":  "ALTER TABLE big ALTER id TYPE bigint",
		"vacuum full": "VACUUM FULL big",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bigDDL)
			f.fillBig(20_000)
			pgtest.Exec(t, f.source, "DELETE FROM big WHERE id % 3 = 0")
			gate := f.gateAfter(2)
			stop := watch(func(context.Context) {
				f.awaitGate()
				pgtest.Exec(t, f.source, sql)
				pgtest.Exec(t, gate, "SELECT pg_advisory_unlock(42)")
			})
			cfg := f.config(false)
			cfg.Jobs = 1
			c := f.copier(cfg)
			err := c.Run(f.context())
			stop()
			require.NoError(t, err)
			require.Equal(t, 1, c.Progress().Restarts)
			f.requireEqual("big")
			require.Equal(t, pgtest.Value(t, f.source, "SELECT count(*) FROM big"), pgtest.Value(t, f.target, "SELECT sum(rows) FROM crossfade.chunk"))
			require.Equal(t, c.Progress().BytesTotal, c.Progress().BytesDone)
		})
	}
}

// A snapshot taken before a rewrite reads the table as empty, so that a rewrite
// between the snapshot and the first look at the table must be seen as well.
func TestRewriteBeforeTheFirstChunkIsSeen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(3000)
	cfg := f.config(false)
	h, err := snapshot.Export(f.context(), cfg.Source)
	require.NoError(t, err)
	defer h.Close()
	pgtest.Exec(t, f.source, "ALTER TABLE big ALTER id TYPE bigint")
	cfg.Snapshot = h
	c := f.copier(cfg)
	require.NoError(t, c.Run(f.context()))
	require.Equal(t, 1, c.Progress().Restarts)
	f.requireEqual("big")
}

// Rows are read by names. Whether these lead to the table and the columns that were
// asked for is not seen by a table's file.
func TestRowsOfATableThatHasTheNameOfAnotherAreNotTaken(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"table":  `ALTER TABLE "A a" RENAME TO c; ALTER TABLE b RENAME TO "A a"; ALTER TABLE c RENAME TO b`,
		"column": `ALTER TABLE "A a" RENAME "V" TO c; ALTER TABLE "A a" RENAME w TO "V"; ALTER TABLE "A a" RENAME c TO w`,
	} {
		for _, batched := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, batched %t", name, batched), func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, `CREATE TABLE "A a" (id int PRIMARY KEY, "V" text, w text); CREATE TABLE b (id int PRIMARY KEY, "V" text, w text); CREATE TABLE none ()`)
				pgtest.Exec(t, f.source, `INSERT INTO "A a" VALUES (1, 'v of a', 'w of a'); INSERT INTO b VALUES (2, 'v of b', 'w of b')`)
				used := func() { // it is no table that never held a row
					if !batched {
						pgtest.Exec(t, f.target, `INSERT INTO "A a" VALUES (0); INSERT INTO b VALUES (0); DELETE FROM "A a"; DELETE FROM b`)
					}
				}
				used()
				cfg := f.config(false)
				cfg.MaxRestarts = 3
				require.NoError(t, f.copier(cfg).Run(f.context()))
				f.requireEqual(`"A a"`)

				pgtest.Exec(t, f.target, `TRUNCATE crossfade.relation, crossfade.chunk, "A a", b`)
				used()
				h, err := snapshot.Export(f.context(), cfg.Source)
				require.NoError(t, err)
				defer h.Close()
				cfg.Snapshot = h
				pgtest.Exec(t, f.source, sql)
				require.ErrorIs(t, f.copier(cfg).Run(f.context()), errRewritten)
				require.NotContains(t, pgtest.Value(t, f.target, `SELECT coalesce(string_agg(x::text, ''), '') FROM "A a" x`), "of b")
				require.NotContains(t, pgtest.Value(t, f.target, `SELECT coalesce(string_agg("V", ''), '') FROM "A a"`), "w of a")
			})
		}
	}
}

func TestEndlessRewritesEndTheCopy(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	f.fillBig(1000)
	cfg := f.config(false)
	cfg.MaxRestarts = 3
	// Each time the relation is begun, its record waits at the target for a lock of its
	// own, while the source rewrites the table: what was known of it is true no more.
	pgtest.Exec(t, f.target, `CREATE SEQUENCE crossfade.turn; CREATE FUNCTION crossfade.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_catalog.pg_advisory_xact_lock_shared(42 + pg_catalog.nextval('crossfade.turn')); RETURN NEW; END $$;
		CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON crossfade.relation FOR EACH ROW WHEN (NEW.state = 'copying') EXECUTE FUNCTION crossfade.slow()`)
	gate := pgtest.Conn(t, f.targetDSN)
	pgtest.Exec(t, gate, "SELECT pg_advisory_lock(42 + n) FROM generate_series(1, 4) n")
	rewriting := pgtest.Conn(t, f.sourceDSN)
	stop := watch(func(context.Context) {
		for n := 1; n <= 4; n++ {
			f.awaitGate()
			pgtest.Exec(t, rewriting, "VACUUM FULL public.big")
			pgtest.Exec(t, gate, "SELECT pg_advisory_unlock(42 + $1)", n)
		}
	})
	cfg.ChunkBytes = 1 << 30
	err := f.copier(cfg).Run(f.context())
	stop()
	require.ErrorIs(t, err, errRewritten)
	require.ErrorContains(t, err, "begun again 3 times")
}

func TestResumeByANewCopier(t *testing.T) {
	t.Parallel()
	for name, sameSnapshot := range map[string]bool{"same snapshot": true, "snapshot gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, bigDDL+`; CREATE TABLE bigger (id int, t text)`)
			pgtest.Exec(t, f.source, "INSERT INTO bigger SELECT i, repeat('x', 200) FROM generate_series(1, 5000) i")
			f.fillBig(4000)
			cfg := f.config(false)
			cfg.Jobs, cfg.ChunkBytes = 1, 256<<10
			h, err := snapshot.Export(f.context(), cfg.Source)
			require.NoError(t, err)
			defer func() { h.Close() }()
			cfg.Snapshot = h
			gate := f.gateAfter(6) // within the second table
			ctx, cancel := context.WithCancel(f.context())
			stop := watch(func(context.Context) {
				f.awaitGate()
				cancel()
			})
			err = f.copier(cfg).Run(ctx)
			stop()
			require.ErrorIs(t, err, context.Canceled)
			pgtest.Exec(t, gate, "SELECT pg_advisory_unlock(42)")
			f.requireState(cfg.Tables[1], stateCopied)
			f.requireState(cfg.Tables[0], stateCopying)
			first := pgtest.Value(t, f.target, "SELECT snapshot FROM crossfade.relation WHERE state = 'copied'")

			if !sameSnapshot {
				h.Close()
				pgtest.Exec(t, f.source, "UPDATE big SET t = 'later' WHERE id < 100; UPDATE bigger SET t = 'not for the copy' WHERE id = 1")
				h, err = snapshot.Export(f.context(), cfg.Source)
				require.NoError(t, err)
				cfg.Snapshot = h
			}
			pgtest.Exec(t, f.target, "CREATE TABLE truncated (at timestamptz DEFAULT now()); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.truncated DEFAULT VALUES; RETURN NULL; END $$; CREATE TRIGGER note AFTER TRUNCATE ON big EXECUTE FUNCTION note()")
			var copied []Copied
			cfg.OnCopied = func(c Copied) { copied = append(copied, c) }
			c := f.copier(cfg)
			require.NoError(t, c.Run(f.context()))
			f.requireEqual("big")
			require.Equal(t, 2, c.Progress().TablesDone)
			require.Equal(t, c.Progress().BytesTotal, c.Progress().BytesDone)
			require.EqualValues(t, 9000, c.Progress().RowsDone)
			require.Equal(t, first, pgtest.Value(t, f.target, "SELECT snapshot FROM crossfade.relation WHERE rel = 'bigger'"))
			require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM bigger WHERE t LIKE 'not%'"), "a copied table was touched again")
			truncated := pgtest.Value(t, f.target, "SELECT count(*) FROM truncated")
			if sameSnapshot {
				require.Equal(t, "0", truncated, "finished chunks of a living snapshot stay")
			} else {
				require.Equal(t, "1", truncated)
			}
			require.Len(t, copied, 2)
			require.True(t, copied[0].Earlier)
			require.Equal(t, Copied{Table: cfg.Tables[0], Snapshot: h.Text(), Rows: 4000}, copied[1])
		})
	}
}

func TestQueuedExclusiveLockOnTheSourceGoesFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t, bigDDL)
	// More than the buffers of two sockets hold.
	pgtest.Exec(t, f.source, "INSERT INTO big SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 60000) i")
	// The target holds up the first of two chunks, for as long as it is let.
	lock := pgtest.Conn(t, f.targetDSN)
	pgtest.Exec(t, lock, "BEGIN; LOCK TABLE public.big IN ACCESS EXCLUSIVE MODE")
	app := pgtest.Conn(t, f.sourceDSN, pg.WithParam("lock_timeout", "20s")) // a copy that keeps its lock is an error
	cfg := f.config(false)
	cfg.Jobs, cfg.ChunkBytes = 1, 36<<20
	c := f.copier(cfg)
	var waited time.Duration
	stop := watch(func(context.Context) {
		eventually(t, func() bool {
			return pgtest.Value(t, f.source, "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation = 'public.big'::regclass AND mode = 'AccessShareLock' AND granted AND wait_event = 'ClientWrite'") != "0"
		})
		start := time.Now()
		pgtest.Exec(t, app, "ALTER TABLE public.big ADD COLUMN more int")
		waited = time.Since(start)
		pgtest.Exec(t, lock, "COMMIT")
	})
	err := c.Run(f.context())
	stop()
	require.NoError(t, err)
	require.Positive(t, c.Progress().Retries)
	t.Logf("ALTER TABLE waited %s", waited)
	require.Equal(t, "60000", pgtest.Value(t, f.target, "SELECT count(*) FROM big"))
}
