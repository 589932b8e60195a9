package copy

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
)

// shape is a table with a key, and what happens to it while its snapshot is lost.
type shape struct {
	ddl, fill, change string
	key               []string
}

var shapes = map[string]shape{
	"integers": {
		ddl:  `CREATE TABLE t (id int PRIMARY KEY, v text) WITH (fillfactor = 100)`,
		fill: `INSERT INTO t SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 20000) i`,
		change: `UPDATE t SET v = 'changed' || id WHERE id % 97 = 0; DELETE FROM t WHERE id % 101 = 0;
			INSERT INTO t SELECT i, 'new' FROM generate_series(30000, 30500) i; UPDATE t SET id = -id WHERE id % 103 = 0;
			UPDATE t SET v = v || '.' WHERE id IN (5, 19990); UPDATE t SET v = v || '.' WHERE id IN (5, 19990)`,
		key: []string{"id"},
	},
	"two columns, one of odd texts": {
		ddl:  `CREATE TABLE t (v text, "K 1" text COLLATE "C", k2 bytea, PRIMARY KEY (k2, "K 1"))`,
		fill: `INSERT INTO t SELECT repeat('x', 100), E'a"b\\c {,}''NULL ünï' || i, decode(md5(i::text), 'hex') FROM generate_series(1, 8000) i`,
		change: `UPDATE t SET v = 'u' WHERE "K 1" LIKE '%7'; UPDATE t SET "K 1" = '' WHERE "K 1" LIKE '%123';
			UPDATE t SET "K 1" = 'NULL' WHERE "K 1" LIKE '%124'; DELETE FROM t WHERE "K 1" LIKE '%55'`,
		key: []string{"K 1", "k2"},
	},
	"wide keys and values out of line": {
		ddl: `CREATE TABLE t (k text PRIMARY KEY, v text, n int); ALTER TABLE t ALTER v SET STORAGE EXTERNAL`,
		fill: `INSERT INTO t SELECT i || repeat(md5(i::text), 30), CASE WHEN i % 50 = 0 THEN repeat(i::text, 2000) ELSE 'short' END, i FROM generate_series(1, 3000) i;
			DELETE FROM t WHERE n % 10 = 9`,
		change: `UPDATE t SET n = -n WHERE n % 50 = 0; UPDATE t SET k = 'moved ' || k WHERE n % 33 = 0; INSERT INTO t SELECT 'late' || i, repeat('y', 9000), i FROM generate_series(1, 20) i`,
		key:    []string{"k"},
	},
	"numbers that are equal and not alike": {
		ddl:    `CREATE TABLE t (k numeric, d float8, v text); ALTER TABLE t ADD PRIMARY KEY (k, d)`,
		fill:   `INSERT INTO t SELECT i + 0.5, 1 / i::float8, repeat('z', 100) FROM generate_series(1, 9000) i`,
		change: `UPDATE t SET k = round(k, 4) WHERE k < 200; UPDATE t SET k = round(k, 2), v = 'again' WHERE k < 100; UPDATE t SET d = 'NaN' WHERE k BETWEEN 300 AND 310; UPDATE t SET v = 'NaN' WHERE d = 'NaN'`,
		key:    []string{"k", "d"},
	},
	"identity full": {
		ddl:    `CREATE TABLE t (id bigint NOT NULL, u uuid NOT NULL UNIQUE, v text); ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t ALTER v SET STORAGE EXTERNAL`,
		fill:   `INSERT INTO t SELECT i, md5(i::text)::uuid, CASE WHEN i % 100 = 0 THEN repeat('o', 3000) ELSE repeat('w', 100) END FROM generate_series(1, 9000) i`,
		change: `UPDATE t SET id = 0 WHERE id % 100 = 0; UPDATE t SET u = md5('x' || id)::uuid WHERE id % 77 = 0 AND id > 0; DELETE FROM t WHERE id % 91 = 0 AND id > 0`,
		key:    []string{"u"},
	},
	"a domain, an enum, a date": {
		ddl: `CREATE DOMAIN code AS varchar(20) CHECK (VALUE <> 'forbidden'); CREATE TYPE color AS ENUM ('red', 'blue one');
			CREATE TABLE t (c code, e color, at timestamptz, v text, PRIMARY KEY (c, e, at)); ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey`,
		fill:   `INSERT INTO t SELECT 'c' || i, CASE WHEN i % 2 = 0 THEN 'red'::color ELSE 'blue one' END, timestamptz '2024-03-31 01:30+00' + i * interval '1.000001 s', repeat('q', 100) FROM generate_series(1, 9000) i`,
		change: `UPDATE t SET e = 'red' WHERE c LIKE '%11'; UPDATE t SET v = 'v' WHERE c LIKE '%12'; DELETE FROM t WHERE c LIKE '%13'; INSERT INTO t VALUES ('last', 'red', 'infinity', 'x'), ('first', 'red', '0044-03-15 BC', 'x')`,
		key:    []string{"c", "e", "at"},
	},
	"types whose owner says what a cast from text gives": {
		ddl: `CREATE TYPE color AS ENUM ('red', 'cast'); CREATE FUNCTION to_color(text) RETURNS color LANGUAGE sql IMMUTABLE AS $$ SELECT 'cast'::public.color $$;
			CREATE TYPE span AS RANGE (subtype = int4); CREATE FUNCTION to_span(text) RETURNS span LANGUAGE sql IMMUTABLE AS $$ SELECT '[7,8)'::public.span $$;
			CREATE FUNCTION to_ints(text) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$ SELECT '{7}'::int[] $$;
			CREATE CAST (text AS color) WITH FUNCTION to_color(text) AS IMPLICIT; CREATE CAST (text AS span) WITH FUNCTION to_span(text) AS IMPLICIT;
			CREATE DOMAIN tint AS color; CREATE TABLE t (e tint, s span, a int[], v text, PRIMARY KEY (e, s, a))`,
		fill:   `INSERT INTO t SELECT 'red', span(i, i + 1), ARRAY[i, NULL], repeat('q', 100) FROM generate_series(1, 9000) i`,
		change: `UPDATE t SET v = 'v' WHERE a[1] % 97 = 0; DELETE FROM t WHERE a[1] % 101 = 0; UPDATE t SET a = a || 5, s = 'empty' WHERE a[1] = 500`,
		key:    []string{"e", "s", "a"},
	},
	"blanks, a leaf and a network": {
		ddl: `CREATE TABLE root (k char(12), a inet, v text, PRIMARY KEY (k, a)) PARTITION BY LIST (k); CREATE TABLE t PARTITION OF root DEFAULT;
			CREATE TABLE other PARTITION OF root FOR VALUES IN ('other')`,
		fill:   `INSERT INTO root SELECT 'k' || i, ('10.0.' || i % 200 || '.1')::inet, repeat('b', 100) FROM generate_series(1, 9000) i`,
		change: `UPDATE root SET v = '' WHERE k LIKE 'k77%'; UPDATE root SET k = 'other' WHERE k = 'k5'; UPDATE root SET a = '10.0.0.0/8' WHERE k LIKE 'k88%'`,
		key:    []string{"k", "a"},
	},
}

func TestWhatChangedSinceALostSnapshotIsFetchedAgain(t *testing.T) {
	t.Parallel()
	for name, s := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, s.ddl)
			pgtest.Exec(t, f.source, s.fill)
			open := pgtest.Conn(t, f.sourceDSN) // of neither snapshot
			cfg := f.followed(map[string][]string{"t": s.key, "other": s.key})
			before := f.interrupted(cfg, 4)
			pgtest.Exec(t, f.source, s.change)
			pgtest.Exec(t, open, "BEGIN; DELETE FROM ONLY t WHERE ctid = (SELECT min(ctid) FROM ONLY t)")
			next := f.another(cfg)
			pgtest.Exec(t, open, "COMMIT")
			pgtest.Exec(t, f.source, "DELETE FROM ONLY t WHERE ctid = (SELECT max(ctid) FROM ONLY t)") // after the second
			slotAt := f.slotAt(cfg)

			c := f.copier(next)
			var copied []Copied
			c.cfg.OnCopied = func(x Copied) { copied = append(copied, x) }
			require.NoError(t, c.Run(f.context()))
			f.requireEqualUnder(next.Snapshot, "t")
			f.requireKept(before)
			p := c.Progress()
			require.Equal(t, 1, p.Repaired)
			require.Zero(t, p.Restarts)
			require.Positive(t, p.RepairedKeys)
			require.Equal(t, pgtest.Value(t, f.target, "SELECT count(*) FROM ONLY t"), fmt.Sprint(p.RowsDone-f.count("other")))
			require.Equal(t, pgtest.Value(t, f.target, "SELECT count(*) FROM ONLY t"), pgtest.Value(t, f.target, "SELECT rows FROM crossfade.relation WHERE rel = 't'"))
			require.Equal(t, next.Snapshot.Text(), pgtest.Value(t, f.target, "SELECT snapshot FROM crossfade.relation WHERE rel = 't'"))
			require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.delta"))
			require.Equal(t, slotAt, f.slotAt(cfg), "the slot is not moved")
			for _, x := range copied {
				require.Equal(t, next.Snapshot.Text(), x.Snapshot)
			}
		})
	}
}

// count is the number of rows of a table on the target, 0 if there is none.
func (f *fixture) count(table string) int64 {
	var n int64
	if err := f.target.QueryRow(f.t.Context(), "SELECT count(*) FROM ONLY public."+table).Scan(&n); err != nil {
		require.True(f.t, pg.IsCode(err, pg.CodeUndefinedTable), "%v", err)
	}
	return n
}

func (f *fixture) slotAt(cfg Config) string {
	return pgtest.Value(f.t, f.source, "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1", cfg.Stream.Slot)
}

// startsOver are the reasons for which nothing of a relation is kept.
func TestWhatCannotBeRepairedIsCopiedAgain(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]shape{
		"no key":          {ddl: `CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL`, change: `UPDATE t SET v = 'x' WHERE id = 1`},
		"many changes":    {change: `UPDATE t SET v = 'x' WHERE id % 4 = 0`, key: []string{"id"}},
		"truncate":        {change: `TRUNCATE t; INSERT INTO t VALUES (1, 'x')`, key: []string{"id"}},
		"vacuum full":     {change: `VACUUM FULL t`, key: []string{"id"}},
		"rewrite":         {change: `ALTER TABLE t ALTER id TYPE bigint`, key: []string{"id"}},
		"key of reg type": {ddl: `CREATE TABLE t (id int, r regtype DEFAULT 'int4', v text, PRIMARY KEY (id, r))`, change: `UPDATE t SET v = 'x' WHERE id = 1`, key: []string{"id", "r"}},
		"key exchanged": {ddl: `CREATE TABLE t (id int PRIMARY KEY, k serial UNIQUE, v text)`, key: []string{"id"},
			change: `ALTER TABLE t REPLICA IDENTITY USING INDEX t_k_key; UPDATE t SET v = 'x' WHERE id = 1`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s.ddl == "" {
				s.ddl = `CREATE TABLE t (id int PRIMARY KEY, v text)`
			}
			f := newFixture(t, s.ddl+`; CREATE TABLE other (id int PRIMARY KEY, v text)`)
			pgtest.Exec(t, f.source, `INSERT INTO t (id, v) SELECT i, repeat('x', 100) FROM generate_series(1, 9000) i;
				INSERT INTO other SELECT i, repeat('x', 100) FROM generate_series(1, 9100) i`)
			cfg := f.followed(map[string][]string{"t": s.key, "other": {"id"}})
			before := f.interrupted(cfg, 26) // all of other and some of t
			f.requireState(cfg.Tables[1], stateCopied)
			kept := map[string]string{}
			for chunk, by := range before {
				if chunk[:len(fmt.Sprint(cfg.Tables[1].OID))] == fmt.Sprint(cfg.Tables[1].OID) {
					kept[chunk] = by
				}
			}
			require.Less(t, len(kept), len(before))
			pgtest.Exec(t, f.source, s.change)
			next := f.another(cfg)
			c := f.copier(next)
			require.NoError(t, c.Run(f.context()))
			f.requireEqualUnder(next.Snapshot, "t")
			f.requireKept(kept)
			p := c.Progress()
			require.Equal(t, 1, p.Restarts)
			require.Zero(t, p.Repaired)
			require.Equal(t, "1 0", pgtest.Value(t, f.target, "SELECT restarts || ' ' || repairs FROM crossfade.relation WHERE rel = 't'"))
			require.NotEqual(t, next.Snapshot.Text(), pgtest.Value(t, f.target, "SELECT snapshot FROM crossfade.relation WHERE rel = 'other'"))
		})
	}
}

// Each copier is ended at another point: in its chunks, after the deletion, after
// some of the keys. The changes of all the time in between add up.
func TestSnapshotsLostAgainAndAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	pgtest.Exec(t, f.source, `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 30000) i`)
	cfg := f.followed(map[string][]string{"t": {"id"}})
	change := func(round int) {
		pgtest.Exec(t, f.source, fmt.Sprintf(`UPDATE t SET v = v || '%[1]d' WHERE id %% 1000 = %[1]d; UPDATE t SET id = id + 1000000 WHERE id %% 1000 = 1%[1]d;
			DELETE FROM t WHERE id %% 1000 = 2%[1]d; INSERT INTO t SELECT 50000 * %[1]d + i, 'new' FROM generate_series(1, 1000) i`, round))
	}
	kept := f.interrupted(cfg, 4)
	change(1)
	second := f.another(cfg)
	for chunk, by := range f.interruptedAt(second, "NEW.lo > 300", "crossfade.chunk", "INSERT") {
		kept[chunk] = by
	}
	require.Greater(t, len(kept), 4)
	change(2)
	third := f.another(cfg)
	for chunk, by := range f.interruptedAt(third, "NEW.repaired > ''", "crossfade.relation", "UPDATE") { // deleted, nothing fetched
		kept[chunk] = by
	}
	require.Equal(t, `\x`, pgtest.Value(t, f.target, "SELECT repaired FROM crossfade.relation"))
	require.NotEqual(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.delta"))
	change(3)
	fourth := f.another(cfg)
	require.Equal(t, kept, f.landed())
	for range f.interruptedAt(fourth, "NEW.state = 'copied'", "crossfade.relation", "UPDATE") { // all fetched
	}
	change(4)
	last := f.another(cfg)
	c := f.copier(last)
	require.NoError(t, c.Run(f.context()))
	f.requireEqualUnder(last.Snapshot, "t")
	f.requireKept(kept)
	require.Zero(t, c.Progress().Restarts)
	require.Equal(t, pgtest.Value(t, f.target, "SELECT count(*) FROM t"), pgtest.Value(t, f.target, "SELECT rows FROM crossfade.relation"))
}

// The snapshot of a repair goes while the repair is at work: it begins again under
// another, and the table does not.
func TestARepairLosesItsSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	pgtest.Exec(t, f.source, `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i`)
	cfg := f.followed(map[string][]string{"t": {"id"}})
	kept := f.interrupted(cfg, 4)
	pgtest.Exec(t, f.source, `UPDATE t SET v = 'changed' WHERE id % 100 = 1; DELETE FROM t WHERE id % 100 = 2`)
	next := f.another(cfg)
	gate, drop := f.stand("NEW.repaired = ''", "crossfade.relation", "UPDATE")
	stop := watch(func(context.Context) {
		f.awaitGate()
		next.Snapshot.Close()
		pgtest.Exec(t, gate, "SELECT pg_advisory_unlock(43)")
	})
	c := f.copier(next)
	err := c.Run(f.context())
	stop()
	require.NoError(t, err)
	drop()
	f.requireEqual("t")
	f.requireKept(kept)
	require.Zero(t, c.Progress().Restarts)
	require.Equal(t, 1, c.Progress().Repaired)
}

// A transaction may be older than others that the lost snapshot has seen, and still not be in it.
func TestATransactionThatWasOpenAtTheLostSnapshot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	pgtest.Exec(t, f.source, `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 9000) i`)
	cfg := f.followed(map[string][]string{"t": {"id"}})
	cfg.Snapshot.Close() // that of a slot waits for what is open
	slow := pgtest.Conn(t, f.sourceDSN)
	pgtest.Exec(t, slow, "BEGIN; UPDATE t SET v = 'slow' WHERE id = 100; DELETE FROM t WHERE id = 101")
	pgtest.Exec(t, f.source, "UPDATE t SET v = 'fast' WHERE id = 102")
	first := f.another(cfg)
	require.NotEmpty(t, first.Snapshot.Snapshot().Xip)
	f.interrupted(first, 4)
	pgtest.Exec(t, slow, "COMMIT")
	next := f.another(cfg)
	c := f.copier(next)
	require.NoError(t, c.Run(f.context()))
	f.requireEqualUnder(next.Snapshot, "t")
	require.EqualValues(t, 2, c.Progress().RepairedKeys)
}

// interruptedAt runs a copy and ends it where a write of ours waits. The snapshot is gone then.
func (f *fixture) interruptedAt(cfg Config, when, table, event string) map[string]string {
	f.t.Helper()
	gate, drop := f.stand(when, table, event)
	ctx, cancel := context.WithCancel(f.context())
	stop := watch(func(context.Context) {
		f.awaitGate()
		cancel()
	})
	err := f.copier(cfg).Run(ctx)
	stop()
	require.ErrorIs(f.t, err, context.Canceled)
	cfg.Snapshot.Close()
	pgtest.Exec(f.t, gate, "SELECT pg_advisory_unlock(43)")
	drop()
	return f.landed()
}

// stand makes writes of ours on the target wait while gate holds the advisory lock 43,
// which it does at first.
func (f *fixture) stand(when, table, event string) (gate *pgx.Conn, drop func()) {
	f.t.Helper()
	gate = pgtest.Conn(f.t, f.targetDSN)
	pgtest.Exec(f.t, gate, "SELECT pg_advisory_lock(43)")
	pgtest.Exec(f.t, f.target, `CREATE FUNCTION crossfade.stand() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			PERFORM pg_catalog.pg_advisory_xact_lock_shared(43); RETURN NEW; END $$;
		CREATE TRIGGER stand BEFORE `+event+` ON `+table+` FOR EACH ROW WHEN (`+when+`) EXECUTE FUNCTION crossfade.stand()`)
	return gate, func() { pgtest.Exec(f.t, f.target, "DROP TRIGGER stand ON "+table+"; DROP FUNCTION crossfade.stand()") }
}

// A chunk of the last copier that is still at work when the next one begins lands
// before that one looks, or not at all.
func TestAChunkOfADeadCopierIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := newFixture(t, `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	pgtest.Exec(t, f.source, `INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 9000) i`)
	cfg := f.followed(map[string][]string{"t": {"id"}})
	before := f.interrupted(cfg, 4)
	var attempt, oid string
	require.NoError(t, f.target.QueryRow(f.context(), "SELECT attempt::text, relid::text FROM crossfade.relation").Scan(&attempt, &oid))
	dead := pgtest.Conn(t, f.targetDSN)
	lo := pgtest.Value(t, f.target, "SELECT max(hi) FROM crossfade.chunk")
	pgtest.Exec(t, dead, `BEGIN; SELECT 1 FROM crossfade.relation WHERE attempt = `+attempt+` FOR SHARE`)
	copied, err := dead.Exec(f.context(), "SELECT 1")
	require.NoError(t, err, copied)
	rows, err := f.source.Query(f.context(), fmt.Sprintf("SELECT id, v FROM t WHERE ctid >= '(%s,0)' AND ctid < '(%s,0)'::tid", lo, lo+"9"))
	require.NoError(t, err)
	var all [][]any
	for rows.Next() {
		v, err := rows.Values()
		require.NoError(t, err)
		all = append(all, v)
	}
	n, err := dead.CopyFrom(f.context(), pgx.Identifier{"public", "t"}, []string{"id", "v"}, pgx.CopyFromRows(all))
	require.NoError(t, err)
	pgtest.Exec(t, dead, fmt.Sprintf("INSERT INTO crossfade.chunk VALUES (%s, %s, %s, (SELECT snapshot FROM crossfade.relation), %d, 0, %s)", oid, lo, lo+"9", n, attempt))
	next := f.another(cfg)
	stop := watch(func(context.Context) {
		eventually(t, func() bool {
			return pgtest.Value(t, f.target, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
		})
		pgtest.Exec(t, dead, "COMMIT")
	})
	c := f.copier(next)
	err = c.Run(f.context())
	stop()
	require.NoError(t, err)
	f.requireEqualUnder(next.Snapshot, "t")
	f.requireKept(before)
	_, err = dead.Exec(f.context(), "SELECT 1 FROM crossfade.relation WHERE attempt = $1", attempt)
	require.NoError(t, err)
	require.Equal(t, "0", pgtest.Value(t, f.target, "SELECT count(*) FROM crossfade.relation WHERE attempt = $1::int", attempt))
}
