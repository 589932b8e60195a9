package verify

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"crossfade/internal/base/pg"
	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/replicate/snapshot"
)

type fixture struct {
	t        *testing.T
	from, to pg.DSN
	source   *pgx.Conn
	target   *pgx.Conn
	cfg      Config
}

const ddl = `SET search_path = public;
	CREATE TABLE keyed (id int, part text, v text, f float8, g int GENERATED ALWAYS AS (id + 1) STORED, PRIMARY KEY (id, part));
	CREATE TABLE keyless (v text);
	CREATE TABLE empty (id int PRIMARY KEY);
	CREATE TABLE nothing ();
	CREATE SCHEMA "Ü"; CREATE TABLE "Ü"."a ""b" ("SELECT" int PRIMARY KEY);`

const rows = `INSERT INTO public.keyed SELECT i, 'p', md5(i::text), i / 3.0 FROM generate_series(1, 20000) i;
	INSERT INTO public.keyed VALUES (-1, 'odd', NULL, 'NaN'), (-2, 'odd', '', '-0'), (-3, 'odd', E'a\tb', 'Infinity');
	INSERT INTO public.keyless SELECT 'value ' || i % 100 FROM generate_series(1, 5000) i;
	INSERT INTO public.nothing DEFAULT VALUES; INSERT INTO "Ü"."a ""b" VALUES (1)`

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t}
	f.from = pgtest.Database(t, pgtest.Shared(t, pgtest.Source))
	f.to = pgtest.Database(t, pgtest.Shared(t, pgtest.Target))
	f.source, f.target = pgtest.Conn(t, f.from), pgtest.Conn(t, f.to)
	for _, c := range []*pgx.Conn{f.source, f.target} {
		pgtest.Exec(t, c, ddl)
		pgtest.Exec(t, c, rows)
	}
	public := func(name string) pg.Name { return pg.Name{Schema: "public", Name: name} }
	f.cfg = Config{ChunkBytes: 64 << 10, Tables: []Table{
		{Name: public("keyed"), Columns: []string{"id", "part", "v", "f", "g"}, Key: []string{"id", "part"}},
		{Name: public("keyless"), Columns: []string{"v"}},
		{Name: public("empty"), Columns: []string{"id"}, Key: []string{"id"}},
		{Name: public("nothing")},
		{Name: pg.Name{Schema: "Ü", Name: `a "b`}, Columns: []string{"SELECT"}, Key: []string{"SELECT"}},
	}}
	return f
}

func (f *fixture) connect(dsn pg.DSN) snapshot.Connect {
	return func(ctx context.Context) (*pgx.Conn, error) { return pg.Connect(ctx, dsn, pg.WithName("verify")) }
}

func (f *fixture) freeze() *Frozen {
	frozen, err := Freeze(f.t.Context(), f.connect(f.from), f.connect(f.to))
	require.NoError(f.t, err)
	f.t.Cleanup(frozen.Close)
	return frozen
}

func (f *fixture) run(frozen *Frozen) Report {
	v, err := New(f.cfg)
	require.NoError(f.t, err)
	ctx, cancel := context.WithTimeout(f.t.Context(), pgtest.Timeout)
	defer cancel()
	r, err := v.Run(ctx, frozen)
	require.NoError(f.t, err)
	for _, table := range r.Tables {
		require.NotEmpty(f.t, table.Verdict, table.Name)
	}
	return r
}

func TestEqualSidesAreEqual(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The rows need not lie in the same order or in the same blocks.
	pgtest.Exec(t, f.target, "DELETE FROM public.keyed WHERE id < 3000; INSERT INTO public.keyed SELECT i, 'p', md5(i::text), i / 3.0 FROM generate_series(1, 2999) i")
	pgtest.Exec(t, f.target, "INSERT INTO public.keyed VALUES (-1, 'odd', NULL, 'NaN'), (-2, 'odd', '', '-0'), (-3, 'odd', E'a\tb', 'Infinity')")
	pgtest.Exec(t, f.target, "ALTER DATABASE "+pg.QuoteIdent(f.to.Database())+" SET extra_float_digits = 0")
	frozen := f.freeze()
	// What is written after the snapshots does not count.
	pgtest.Exec(t, f.target, "UPDATE public.keyed SET v = 'later' WHERE id = 7; DELETE FROM public.keyless")
	r := f.run(frozen)
	require.True(t, r.OK(), "%+v", r)
	require.EqualValues(t, 20003, r.Tables[0].FromRows)
	require.EqualValues(t, 20003, r.Tables[0].ToRows)
	var rows int64
	for _, table := range r.Tables {
		rows += table.FromRows + table.ToRows
	}
	require.EqualValues(t, 2*(20003+5000+0+1+1), rows)
}

func TestOneDifferenceIsFoundAndNamed(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		sql   string
		table int
		want  []Difference
	}{
		"changed":           {"UPDATE public.keyed SET v = v || ' ' WHERE id = 12345", 0, []Difference{{"(12345,p)", "changed"}}},
		"null for empty":    {"UPDATE public.keyed SET v = '' WHERE id = -1", 0, []Difference{{"(-1,odd)", "changed"}}},
		"sign of zero":      {"UPDATE public.keyed SET f = 0 WHERE id = -2", 0, []Difference{{"(-2,odd)", "changed"}}},
		"missing":           {"DELETE FROM public.keyed WHERE id = 777", 0, []Difference{{"(777,p)", "missing"}}},
		"extra":             {"INSERT INTO public.keyed VALUES (0, 'new')", 0, []Difference{{"(0,new)", "extra"}}},
		"key":               {"UPDATE public.keyed SET id = 99999 WHERE id = 5", 0, []Difference{{"(5,p)", "missing"}, {"(99999,p)", "extra"}}},
		"first of empty":    {"INSERT INTO public.empty VALUES (1)", 2, []Difference{{"(1)", "extra"}}},
		"without columns":   {"INSERT INTO public.nothing DEFAULT VALUES", 3, nil},
		"quoted names":      {`UPDATE "Ü"."a ""b" SET "SELECT" = 2`, 4, []Difference{{"(1)", "missing"}, {"(2)", "extra"}}},
		"keyless doubled":   {"INSERT INTO public.keyless VALUES ('value 1')", 1, nil},
		"keyless swapped":   {"UPDATE public.keyless SET v = 'value 2' WHERE ctid = (SELECT min(ctid) FROM public.keyless WHERE v = 'value 1')", 1, nil},
		"doubled, key gone": {"ALTER TABLE public.keyed DROP CONSTRAINT keyed_pkey; INSERT INTO public.keyed SELECT id, part, v, f FROM public.keyed WHERE id = 40", 0, []Difference{{"(40,p)", "repeated"}}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.target, c.sql)
			r := f.run(f.freeze())
			for i, table := range r.Tables {
				want := Equal
				if i == c.table {
					want = Different
				}
				require.Equal(t, want, table.Verdict, "%+v", table)
			}
			require.False(t, r.OK())
			got := r.Tables[c.table]
			require.NotEmpty(t, got.Reason)
			if c.want != nil {
				require.Equal(t, c.want, got.Keys)
			} else {
				require.NotEmpty(t, got.Keys)
			}
		})
	}
}

func TestRewrittenIsNotProvable(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"truncate":    "TRUNCATE public.keyed",
		"alter type":  "ALTER TABLE public.keyed ALTER v TYPE varchar(50) COLLATE \"C\", ALTER f TYPE numeric",
		"drop":        "DROP TABLE public.keyed",
		"rename":      "ALTER TABLE public.keyed RENAME TO other",
		"column gone": "ALTER TABLE public.keyed DROP COLUMN v",
		"vacuum full": "VACUUM FULL public.keyed",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			frozen := f.freeze()
			pgtest.Exec(t, f.target, sql)
			r := f.run(frozen)
			require.Equal(t, NotProvable, r.Tables[0].Verdict, "%+v", r.Tables[0])
			require.Contains(t, r.Tables[0].Reason, "at the target")
			require.False(t, r.OK())
			for _, other := range r.Tables[1:] {
				require.Equal(t, Equal, other.Verdict, "%+v", other)
			}
		})
	}
}

func TestTableThatIsNotThereIsDifferent(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	pgtest.Exec(t, f.target, "DROP TABLE public.empty")
	r := f.run(f.freeze())
	require.Equal(t, Different, r.Tables[2].Verdict)
	require.Equal(t, "the table does not exist at the target", r.Tables[2].Reason)
}

func TestSampleIsBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.cfg.Sample = 3
	pgtest.Exec(t, f.target, "UPDATE public.keyed SET v = 'x'")
	r := f.run(f.freeze())
	require.Equal(t, Different, r.Tables[0].Verdict)
	require.Len(t, r.Tables[0].Keys, 3)
}

func TestLostSnapshotAndCancelEndTheComparison(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	v, err := New(f.cfg)
	require.NoError(t, err)
	frozen := f.freeze()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = v.Run(ctx, frozen)
	require.ErrorIs(t, err, context.Canceled)
	frozen.To.Close()
	_, err = v.Run(t.Context(), frozen)
	require.ErrorIs(t, err, snapshot.ErrLost)
}

func TestKilledReaderReadsAgain(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	// The target's reads of one table block until the session was killed once.
	pgtest.Exec(t, f.target, "BEGIN; LOCK TABLE public.keyed IN ACCESS EXCLUSIVE MODE")
	killer := pgtest.Conn(t, f.to)
	done := make(chan struct{})
	frozen := f.freeze()
	go func() {
		defer close(done)
		for pgtest.Value(t, killer, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'crossfade verify' AND wait_event_type = 'Lock'`) == "0" {
			continue
		}
		pgtest.Exec(t, f.target, "COMMIT")
	}()
	r := f.run(frozen)
	<-done
	require.True(t, r.OK(), "%+v", r)
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	table := Table{Name: pg.Name{Schema: "s", Name: "t"}}
	_, err := New(Config{Tables: []Table{table, table}})
	require.ErrorContains(t, err, "s.t")
	_, err = New(Config{Jobs: -1})
	require.ErrorContains(t, err, "negative")
}

// PostgreSQL evaluates the expressions of a table's indexes when it plans a read of it, and bodies
// of functions find names by way of the search_path. That is no table that was dropped.
func TestATableWhoseIndexNeedsTheSearchPathIsCompared(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, c := range []*pgx.Conn{f.source, f.target} {
		pgtest.Exec(t, c, `CREATE SCHEMA app; SET search_path = app; CREATE TABLE kinds (kind text, factor int);
			CREATE FUNCTION factor(k text) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT factor FROM kinds WHERE kind = k $$;
			CREATE TABLE indexed (id int PRIMARY KEY, kind text); CREATE INDEX ON indexed (factor(kind)); INSERT INTO indexed SELECT g, 'a' FROM generate_series(1, 3000) g`)
	}
	f.cfg.Tables = []Table{{Name: pg.Name{Schema: "app", Name: "indexed"}, Columns: []string{"id", "kind"}, Key: []string{"id"}}}
	f.cfg.SearchPath = "app"
	frozen := f.freeze()
	require.Equal(t, Equal, f.run(frozen).Tables[0].Verdict)
	frozen.Close()
	pgtest.Exec(t, f.target, "UPDATE app.indexed SET kind = 'b' WHERE id = 7")
	r := f.run(f.freeze()).Tables[0]
	require.Equal(t, Different, r.Verdict, r.Reason)
	require.Len(t, r.Keys, 1)
}

// Casts to text that someone defined for numbers do not tell differences away, nor make any.
func TestCastsOfUsersAreNotUsed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, db := range []struct {
		kind pgtest.Kind
		name string
	}{{pgtest.Source, f.from.Database()}, {pgtest.Target, f.to.Database()}} {
		pgtest.Exec(t, pgtest.Conn(t, pgtest.Shared(t, db.kind).AdminDSN(db.name)), `
			CREATE FUNCTION public.zero(bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '0' $$;
			CREATE FUNCTION public.zero(numeric) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '0' $$;
			CREATE FUNCTION public.zero(float8) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '0' $$;
			CREATE CAST (bigint AS text) WITH FUNCTION public.zero(bigint) AS IMPLICIT;
			CREATE CAST (numeric AS text) WITH FUNCTION public.zero(numeric) AS IMPLICIT;
			CREATE CAST (float8 AS text) WITH FUNCTION public.zero(float8) AS IMPLICIT`)
	}
	pgtest.Exec(t, f.target, "UPDATE public.keyed SET f = 0 WHERE id = 5; UPDATE public.keyless SET v = 'value 2' WHERE ctid = (SELECT min(ctid) FROM public.keyless WHERE v = 'value 1')")
	r := f.run(f.freeze())
	require.Equal(t, []Difference{{"(5,p)", "changed"}}, r.Tables[0].Keys)
	require.Equal(t, Different, r.Tables[1].Verdict)
	require.Len(t, r.Tables[1].Keys, 2)
}

// A row of a tree may be in another leaf of the other side.
func TestATreeIsComparedAsOne(t *testing.T) {
	t.Parallel()
	const tree = `CREATE TABLE public.tree (id int PRIMARY KEY, v text, f float8) PARTITION BY RANGE (id);
		CREATE TABLE public.tree_0 PARTITION OF public.tree FOR VALUES FROM (0) TO (%s); CREATE TABLE public.tree_1 (f float8, v text, id int NOT NULL);
		ALTER TABLE public.tree ATTACH PARTITION public.tree_1 FOR VALUES FROM (%[1]s) TO (MAXVALUE);
		INSERT INTO public.tree SELECT i, md5(i::text), i / 7.0 FROM generate_series(1, 9000) i`
	public := func(name string) pg.Name { return pg.Name{Schema: "public", Name: name} }
	for name, c := range map[string]struct {
		sql  string
		want []Difference
	}{
		"equal":   {"", nil},
		"changed": {"UPDATE public.tree SET v = '' WHERE id = 4000", []Difference{{"(4000)", "changed"}}},
		"gone":    {"DELETE FROM public.tree WHERE id = 10", []Difference{{"(10)", "missing"}}},
		"leaf":    {"DROP TABLE public.tree_0", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			pgtest.Exec(t, f.source, fmt.Sprintf(tree, "3000"))
			pgtest.Exec(t, f.target, fmt.Sprintf(tree, "5000"))
			f.cfg.Tables = []Table{{Name: public("tree"), Leaves: []pg.Name{public("tree_0"), public("tree_1")}, Columns: []string{"id", "v", "f"}, Key: []string{"id"}}}
			if c.sql != "" {
				pgtest.Exec(t, f.target, c.sql)
			}
			r := f.run(f.freeze())
			require.Equal(t, c.sql == "", r.OK(), "%+v", r)
			require.Equal(t, c.want, r.Tables[0].Keys)
			if name == "leaf" {
				require.Equal(t, "partition public.tree_0 does not exist at the target", r.Tables[0].Reason)
				return
			}
			require.EqualValues(t, 9000, r.Tables[0].FromRows)
		})
	}
}
