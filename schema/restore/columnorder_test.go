package restore_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"crossfade/internal/lab/pgcluster/pgtest"
	"crossfade/schema/archive"
	"crossfade/schema/fingerprint"
	"crossfade/schema/pairtest"
	"crossfade/schema/plan"
	"crossfade/schema/restore"
)

// inherited has tables whose columns stand otherwise than in the order of pg_dump,
// which writes the parents' columns first.
const inherited = `
	CREATE SCHEMA a;
	CREATE TYPE a.mood AS ENUM ('calm', 'glad');
	CREATE DOMAIN a.short AS varchar(7);
	-- a column that the parent got later
	CREATE TABLE a.p (p1 integer NOT NULL);
	CREATE TABLE a.c (c1 integer DEFAULT 7, CHECK (c1 < 1000)) INHERITS (a.p);
	ALTER TABLE a.p ADD p2 integer DEFAULT 5;
	ALTER TABLE a.c ADD c2 integer;
	-- dropped ones between
	ALTER TABLE a.c ADD gone text; ALTER TABLE a.c DROP gone;
	ALTER TABLE a.p ADD p3 text COLLATE "C" NOT NULL DEFAULT 'x' CHECK (p3 <> '');
	-- a grandchild, with a default of its own for an inherited column
	CREATE TABLE a.g (g1 a.mood[], g2 a.short) INHERITS (a.c);
	ALTER TABLE a.p ADD p4 numeric(7, 2);
	ALTER TABLE a.g ALTER p2 SET DEFAULT 9;
	-- made apart and attached: every column is local and inherited
	CREATE TABLE a."Apart" ("own" text, p4 numeric(7, 2), p3 text COLLATE "C" NOT NULL CONSTRAINT p_p3_check CHECK (p3 <> ''), p2 integer, p1 integer NOT NULL, last int);
	ALTER TABLE a."Apart" INHERIT a.p;
	-- two parents, with another one's column in between
	CREATE TABLE a.q (q1 integer, p2 integer);
	CREATE TABLE a.two (two1 text) INHERITS (a.q, a.p);
	ALTER TABLE a.q ADD q2 varchar(3);
	ALTER TABLE a.p ADD p5 integer;
	-- nothing of its own, yet another order
	CREATE TABLE a.x (x1 int); CREATE TABLE a.y (y1 int);
	CREATE TABLE a.bare () INHERITS (a.x, a.y);
	ALTER TABLE a.x ADD x2 int;
	-- generated columns, storage and identity
	CREATE TABLE a.gp (v integer, w text); ALTER TABLE a.gp ALTER w SET STORAGE EXTERNAL;
	CREATE TABLE a.gc (own integer) INHERITS (a.gp);
	ALTER TABLE a.gp ADD twice integer GENERATED ALWAYS AS (v * 2) STORED, ADD z text;
	ALTER TABLE a.gp ALTER z SET STORAGE MAIN;
	CREATE TABLE a.ip (i integer GENERATED ALWAYS AS IDENTITY);
	CREATE TABLE a.ic (own integer) INHERITS (a.ip);
	ALTER TABLE a.ip ADD late date;
	-- leaves in another order than their root's, which ATTACH leaves as they are
	CREATE TABLE a.root (k integer, v text, w integer) PARTITION BY LIST (k);
	CREATE TABLE a.leaf (w integer, gone int, v text, k integer); ALTER TABLE a.leaf DROP gone;
	ALTER TABLE a.root ATTACH PARTITION a.leaf FOR VALUES IN (1);
	CREATE TABLE a.late PARTITION OF a.root FOR VALUES IN (2);
	ALTER TABLE a.root ADD x date DEFAULT '2020-01-01';
	-- types and views have an order too
	CREATE TYPE a.pair AS (x integer, y text); ALTER TYPE a.pair ADD ATTRIBUTE z date; ALTER TYPE a.pair DROP ATTRIBUTE x;
	CREATE VIEW a.v AS SELECT c2, p1 FROM a.c; CREATE OR REPLACE VIEW a.v AS SELECT c2, p1, c1 FROM a.c;
	CREATE TABLE a.typed OF a.pair;
`

// columnsOf prints what a statement of a session depends on: the live columns of every
// relation in their order, with what they have of inheritance.
func columnsOf(t *testing.T, conn *pgx.Conn) string {
	t.Helper()
	return pgtest.Value(t, conn, `SELECT string_agg(r, E'\n' ORDER BY r) FROM (
		SELECT concat_ws(' ', c.relname, string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attislocal, a.attinhcount, a.attnotnull,
			a.attstorage, a.attcollation::regcollation, a.attgenerated, a.attidentity, pg_get_expr(d.adbin, d.adrelid)), ', ' ORDER BY a.attnum)) AS r
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE c.relnamespace = 'a'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped GROUP BY c.relname) x`)
}

func TestColumnsStandInTheSourcesOrder(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	source, target := pgtest.Conn(t, p.Source), pgtest.Conn(t, p.Target)
	pgtest.Exec(t, source, inherited)
	admin := pgtest.Conn(t, p.Admin)
	pgtest.Exec(t, admin, `CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none;
		CREATE FOREIGN TABLE a.away (own text OPTIONS (k 'v')) INHERITS (a.p) SERVER nowhere; ALTER TABLE a.p ADD p6 int; ALTER FOREIGN TABLE a.away OWNER TO `+p.Source.User())
	there := pgtest.Conn(t, pgtest.Shared(t, pgtest.Target).AdminDSN(p.Target.Database()))
	pgtest.Exec(t, there, `CREATE FOREIGN DATA WRAPPER none; CREATE SERVER nowhere FOREIGN DATA WRAPPER none; GRANT USAGE ON FOREIGN SERVER nowhere TO `+p.Target.User())
	planned, db := p.Plan(t)
	_, err := restore.Restore(t.Context(), planned, plan.PreData, restore.Config{Conns: pairtest.Conns(t, p, 3), Rewrite: plan.Rewrite{Roles: p.Roles, Disordered: db.Disordered, Major: 15}, Log: zerolog.Nop(),
		Only: func(e *archive.Entry) bool {
			return !strings.Contains(e.Kind+e.Tag, "FOREIGN DATA WRAPPER") && !strings.Contains(e.Kind+e.Tag, "SERVER")
		}})
	require.NoError(t, err)
	p.Restore(t, planned, plan.AfterCopy, 2)
	p.Restore(t, planned, plan.Decision, 1)
	pgtest.Exec(t, there, `REVOKE USAGE ON FOREIGN SERVER nowhere FROM `+p.Target.User())

	require.Equal(t, columnsOf(t, source), columnsOf(t, target))
	require.Equal(t, "0", pgtest.Value(t, target, `SELECT count(*) FROM pg_class WHERE relnamespace = 'crossfade'::regnamespace AND relname LIKE 'order%'`), "nothing is left of the way there")

	without := func(s string) string { return strings.ReplaceAll(s, p.Source.User(), p.Target.User()) }
	require.Equal(t, without(pairtest.DumpText(t, p.Source, nil)), pairtest.DumpText(t, p.Target, nil))
	a, err := fingerprint.Take(t.Context(), source, fingerprint.Options{})
	require.NoError(t, err)
	b, err := fingerprint.Take(t.Context(), target, fingerprint.Options{})
	require.NoError(t, err)
	require.Empty(t, fingerprint.Drift(a, b))
	// What a parent loses its children lose, as on the source.
	for _, conn := range []*pgx.Conn{source, target} {
		pgtest.Exec(t, conn, "ALTER TABLE a.p DROP p2")
	}
	require.Equal(t, columnsOf(t, source), columnsOf(t, target))
}

func TestAnotherOrderOfColumnsIsDrift(t *testing.T) {
	t.Parallel()
	p := pairtest.New(t)
	for i, conn := range []*pgx.Conn{pgtest.Conn(t, p.Source), pgtest.Conn(t, p.Target)} {
		pgtest.Exec(t, conn, []string{"CREATE TABLE public.t (a int, b int); CREATE TYPE public.y AS (a int, b int); CREATE TABLE public.p (x int); CREATE TABLE public.c () INHERITS (public.p)",
			"CREATE TABLE public.t (b int, a int); CREATE TYPE public.y AS (b int, a int); CREATE TABLE public.p (x int); CREATE TABLE public.c (x int) INHERITS (public.p)"}[i])
	}
	a, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Source), fingerprint.Options{Deferred: true})
	require.NoError(t, err)
	b, err := fingerprint.Take(t.Context(), pgtest.Conn(t, p.Target), fingerprint.Options{Deferred: true})
	require.NoError(t, err)
	var names []string
	for _, d := range fingerprint.Drift(a, b) {
		names = append(names, d.Kind+" "+d.Name)
	}
	require.Equal(t, []string{"column public.c / x", "column public.t / a", "column public.t / b", "column public.y / a", "column public.y / b"}, names)
}
